import json

from segstream.pipeline.loader import Loader
from segstream.pipeline.samples import Samples
from segstream.recipe import load_recipe
from segstream.shards.format.reader import open_shards


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


def test_the_table_says_why(here, place):
    done = here("order", place / "recipe.yaml", "--step", 7)
    assert done.code == 0, done.err
    assert "step 7 is slots 14 to 15" in done.out
    assert "1/2 ade20k-150, 1/2 sunrgbd-37" in done.out
    assert here("order", place / "recipe.yaml", "--step", -1).code == 2
