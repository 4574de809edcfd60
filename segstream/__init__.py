"""Train and judge semantic-segmentation models on composites of many datasets."""
