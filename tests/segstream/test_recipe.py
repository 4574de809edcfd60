import pytest

from segstream.recipe import load_recipe, read_recipe, recipe_names, resolve
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
        ("train.epochs={thre: 1}", UsageError, "train.epochs: 'thre' is not in data.mix; did you mean 'three'"),
        ("train.schedule=cosin", UsageError, "train.schedule: 'cosin' is not one of poly, cosine"),
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


@pytest.mark.parametrize(
    ("epochs", "steps", "epoch_steps"),
    [
        ("10", 10 * 18 // 4, 18 / 4),  # of all samples
        ("{one: 10}", 3 * 10 * 7 // 4, 3 * 7 / 4),  # one has a third of the slots
        ("{two: 2.5}", int(2.5 * 16.5) // 4, 16.5 / 4),
    ],
)
def test_epochs_become_steps_once_the_samples_are_counted(folder, epochs, steps, epoch_steps):
    recipe = load_recipe(str(folder / "_base.yaml"), [f"train.epochs={epochs}", "train.schedule_per=epoch"])
    with pytest.raises(DataError, match=r"train.epochs: how many steps they are is known with the data"):
        _ = recipe.steps
    settled = resolve(recipe, {"one": 7, "two": 11})
    assert (settled.steps, settled.train.epochs, settled.train.epoch_steps) == (steps, None, epoch_steps)
    assert resolve(recipe, {"three": 5}) == recipe
    with pytest.raises(DataError, match=r"_base: train.epochs: .* of 0 samples do not fill a batch of 4; ask for more"):
        resolve(recipe, {"one": 0, "two": 0})


def test_the_last_length_said_counts(folder):
    (folder / "child.yaml").write_text("extends: _base.yaml\ntrain: {epochs: {one: 4}}\n")
    (folder / "grandchild.yaml").write_text("extends: child.yaml\ntrain: {epochs: {two: 3}}\n")
    for name, overrides, length in (
        ("child", (), (None, None, {"one": 4})),
        ("grandchild", (), (None, None, {"two": 3})),
        ("grandchild", ["train.steps=5"], (5, None, None)),
        ("_base", ["train.crops=8", "train.epochs=2"], (None, None, 2)),
    ):
        train = read_recipe(str(folder / f"{name}.yaml"), overrides).train
        assert (train.steps, train.crops, train.epochs) == length


def test_a_long_side_takes_the_place_of_a_short_one_be_it_a_bases_or_the_default(folder):
    (folder / "long.yaml").write_text("extends: _base.yaml\naugment: {long_side: 90}\n")
    (folder / "alone.yaml").write_text(BASE.replace("augment: {short_side", "augment: {long_side"))
    (folder / "short.yaml").write_text("extends: long.yaml\naugment: {short_side: 48}\n")
    (folder / "both.yaml").write_text("extends: _base.yaml\naugment: {short_side: 48, long_side: 90}\n")
    for name, overrides, sides in (
        ("long", (), (None, 90)),
        ("alone", (), (None, 64)),
        ("short", (), (48, None)),
        ("short", ["augment.long_side=70"], (None, 70)),
        ("_base", ["augment.long_side=null"], (64, None)),
    ):
        augment = load_recipe(str(folder / f"{name}.yaml"), overrides).augment
        assert (augment.short_side, augment.long_side) == sides
    recipe = load_recipe(str(folder / "child.yaml"), ["eval.long_side=70", "validate.long_side=50"])
    assert (recipe.eval.short_side, recipe.eval.long_side, recipe.validate.long_side) == (None, 70, 50)
    with pytest.raises(DataError, match=r"augment.long_side: 90, with a short_side; one of the two must be null"):
        load_recipe(str(folder / "both.yaml"))
