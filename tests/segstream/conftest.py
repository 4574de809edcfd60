from tests.segstream.recipes import toy_batches as toy_batches
