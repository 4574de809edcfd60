from segstream.shards.synthetic import DATASETS, DEMO


def test_the_demos_datasets_are_drawn_unless_all_are_asked_for(here, tmp_path):
    few = ("--images", 0, "--val-images", 1, "--workers", 1)
    assert here("world", "--out", tmp_path / "demo", *few).code == 0
    assert {path.name for path in (tmp_path / "demo").iterdir()} == set(DEMO)
    assert here("world", "--out", tmp_path / "all", "--datasets", "all", *few).code == 0
    assert {path.name for path in (tmp_path / "all").iterdir()} == set(DATASETS)
