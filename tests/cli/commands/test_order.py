import json
from collections import Counter

from segstream.pipeline.loader import Loader
from segstream.pipeline.samples import Samples
from segstream.recipe import load_recipe
from segstream.shards.format.centroids import add_centroids
from segstream.shards.format.reader import open_shards
from tests.pipeline.test_class_uniform import COUNTS, write


def test_a_step_is_shown_as_the_loader_makes_it(here, place):
    done = here("order", place / "recipe.yaml", "loader.batch=6", "seed=3", "--step", 5, "--json")
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    recipe = load_recipe(str(place / "recipe.yaml"), ("loader.batch=6", "seed=3"))
    with Loader(recipe.data, recipe.augment, recipe.loader, seed=3) as loader:
        (batch,) = loader.batches(5, 6)
    rows = shown["samples"]
    assert [row["key"] for row in rows] == list(batch.keys)
    assert [row["dataset"] for row in rows] == [loader.datasets[i] for i in batch.dataset_ids]
    assert [row["run_slot"] for row in rows] == list(range(30, 36))
    assert shown["mix"] == {"ade20k-150": "1/2", "sunrgbd-37": "1/2"}
    samples = Samples(recipe.data, recipe.augment, seed=3, batch=6)
    for row in rows:
        made = samples.at(5, row["slot"])
        assert (row["draw"], row["epoch"], row["place"]) == (made.pick.draw, made.pick.epoch, made.pick.place)
        assert row["draw"] == 6 * row["epoch"] + row["place"]  # six images of each
        drawn = ((made.draw.scale, made.draw.angle_deg, made.draw.corner_px), (made.draw.flip, made.draw.blur))
        said = ((row["scale"], row["angle_deg"], tuple(row["corner_px"])), (row["flip"], row["blur"]))
        assert said == drawn
        with open_shards(place / "shards" / row["dataset"] / "train") as shards:
            names = [shard.name for shard in shards.manifest.shards]
            assert shards.index(names.index(row["shard"])).samples[row["position"]].key == row["key"]
    samples.close()


def test_a_sample_that_comes_for_a_class_says_which(here, place, tmp_path):
    write(tmp_path)
    for split in COUNTS:
        add_centroids(tmp_path / "shards/garden" / split)
    given = [f"data.shards={tmp_path}/shards", "data.mix={garden: 1}", "data.taxonomy=native", "loader.batch=19"]
    given += ["data.split=train+extra", "data.class_uniform={share: 0.9}"]
    done = here("order", place / "recipe.yaml", *given, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["samples"]
    assert Counter(row["class"] for row in rows) == {"ground": 4, "tree": 4, "thing": 4, None: 7}
    assert all((row["anchor_xy"] is None) == (row["centroid"] is None) == (row["class"] is None) for row in rows)
    assert {row["split"] for row in rows} == {"train", "extra"}
    for row in rows:  # files of both splits have the same names
        assert row["index"] - row["position"] == 13 * (row["split"] == "extra") + 4 * int(row["shard"][6:12])
    shown = here("order", place / "recipe.yaml", *given, "augment.color_jitter=0.2")
    told = shown.out
    assert told.count("for thing, centroid ") == 4
    assert told.count(", centroid ") == 12
    assert told.count("jitter") == told.count("train/shard-") + told.count("extra/shard-") == 19
    assert "classes have no centroid, plain samples come instead: kite" in shown.err
    assert "kite" in here("train", place / "recipe.yaml", *given, "--dry-run").err
    (tmp_path / "shards/garden/extra/centroids.json").unlink()
    for command in (("order",), ("train", "--dry-run"), ("train", "--run", tmp_path / "run")):
        refused = here(command[0], place / "recipe.yaml", *given, *command[1:])
        assert refused.code == 1
        assert f"run `segstream stats {tmp_path}/shards/garden/extra --centroids`" in refused.err
    joined = here("train", place / "recipe.yaml", "data.split=train+extra", "--dry-run").err
    assert joined.count("/extra; make them with `segstream shard ") == 2


def test_the_table_says_why(here, place):
    done = here("order", place / "recipe.yaml", "--step", 7)
    assert done.code == 0, done.err
    assert "step 7 is slots 14 to 15" in done.out
    assert "1/2 ade20k-150, 1/2 sunrgbd-37" in done.out
    assert here("order", place / "recipe.yaml", "--step", -1).code == 2
