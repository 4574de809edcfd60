import pytest

from segstream.recipe import load_recipe, recipe_names
from segstream.shards.errors import DataError, UsageError

BASE = """
data: {shards: data/shards, mix: {one: 1, two: 2}}
augment: {short_side: 64, crop: 33}
loader: {batch: 4}
model: {arch: hrnet-tiny, options: {init: kaiming}}
train: {steps: 10, lr: 0.1}
eval: {short_side: 64, crop: 33}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "_base.yaml").write_text(BASE)
    (tmp_path / "child.yaml").write_text("extends: _base.yaml\ndata: {mix: {three: 1}}\ntrain: {lr: 0.2}\n")
    return tmp_path


def test_a_recipe_takes_from_its_base_what_it_does_not_say(folder):
    recipe = load_recipe(str(folder / "child.yaml"))
    assert (recipe.name, recipe.train.lr, recipe.train.steps, recipe.augment.crop) == ("child", 0.2, 10, 33)
    assert list(recipe.data.mix) == ["three"]  # replaced, not added to


def test_overrides_reach_any_leaf_and_come_last(folder):
    recipe = load_recipe(str(folder / "child.yaml"), ["train.lr=1e-3", "seed=7", "augment.scale=[1.0, 1.5]"])
    assert (recipe.train.lr, recipe.seed, recipe.augment.scale) == (0.001, 7, (1.0, 1.5))


@pytest.mark.parametrize(
    ("override", "error", "text"),
    [
        ("train.lr", UsageError, "KEY=VALUE"),
        ("train.lrr=1", UsageError, "^train.lrr: unknown key; did you mean 'lr'"),
        ("train.steps=many", UsageError, "^train.steps: expected int, found 'many'"),
        ("train.steps=0", UsageError, "^train: steps: 0; must be at least 1"),
        ("seed.x=1", UsageError, "^seed: expected int"),
        ("name.x=[", UsageError, "not YAML"),
        ("validate.limit=0", UsageError, "validate: limit: 0; must be at least 1"),
        ("validate.pictures=99", UsageError, "pictures: 99; must be from 0 to 64"),
        ("validate.data=[a, a]", UsageError, "a set is named twice"),
        ("validate.every=5", UsageError, "validate.every: unknown key"),
        ("model.fresh=[last_layer]", UsageError, "without `weights` everything is"),
    ],
)
def test_a_wrong_override_is_named(folder, override, error, text):
    with pytest.raises(error, match=text.replace("[", r"\[")):
        load_recipe(str(folder / "child.yaml"), [override])


@pytest.mark.parametrize("overrides", [(), ("train.lr=1e-3",)])
def test_a_misspelt_key_names_file_and_nearest_key_and_is_not_blamed_on_the_command_line(folder, overrides):
    (folder / "bad.yaml").write_text("extends: _base.yaml\naugment: {shortside: 3}\n")
    message = r"bad\.yaml\.augment\.shortside: unknown key; did you mean 'short_side'"
    with pytest.raises(DataError, match=message) as caught:
        load_recipe(str(folder / "bad.yaml"), overrides)
    assert not isinstance(caught.value, UsageError)


def test_a_circle_of_bases_is_an_error(folder):
    (folder / "a.yaml").write_text("extends: b.yaml\n")
    (folder / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(UsageError, match="extends itself"):
        load_recipe(str(folder / "a.yaml"))


def test_an_unknown_recipe_gets_a_suggestion():
    with pytest.raises(UsageError, match="did you mean 'union-universal'"):
        load_recipe("union-univresal")


def test_the_demo_gives_every_model_the_same_budget():
    demo = [load_recipe(n) for n in recipe_names() if n.startswith(("union-", "single-")) and "-1m-" not in n]
    assert len(demo) == 6
    assert len({(r.train, r.loader, r.augment, r.model.arch, r.eval) for r in demo}) == 1
