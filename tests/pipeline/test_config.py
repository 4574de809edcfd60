from fractions import Fraction

import pytest

from segstream.pipeline.config import AugmentConfig, ClassUniformConfig, DataConfig, LoaderConfig, shares
from segstream.shards.errors import DataError
from segstream.shards.schema import parse


def test_shares_are_exact_and_add_up_to_one():
    assert shares({"a": 1, "b": "1/3", "c": 0.1}) == {
        name: Fraction(n, 43) for name, n in (("a", 30), ("b", 10), ("c", 3))
    }
    assert shares({"a": 0.5, "b": "0.5"}) == {"a": Fraction(1, 2), "b": Fraction(1, 2)}
    assert sum(shares({str(i): w for i, w in enumerate((0.1, 0.7, 3, "2/7"))}).values()) == 1


@pytest.mark.parametrize("weight", [0, -1, "0", "much", "1/0", float("nan"), float("inf"), ""])
def test_a_weight_that_is_no_positive_number_is_named(weight):
    with pytest.raises(DataError, match=r"data\.mix\.coco: weight .* is no number above 0"):
        DataConfig(shards="s", mix={"coco": weight})


def test_values_from_yaml_become_the_same_configuration():
    values = {"shards": "data", "mix": {"a": 1, "b": "1/3", "c": 0.25}, "taxonomy": "native"}
    assert parse(DataConfig, values, at="recipe.data") == DataConfig(**values)
    assert DataConfig(shards="s3://b/p/", mix={"a": 1}, split="val").urls("a") == {"val": "s3://b/p/a/val"}
    assert parse(AugmentConfig, {"crop": [3, 5], "scale": [1, 2]}, at="x").crop_hw == (3, 5)
    assert parse(AugmentConfig, {"crop": 7, "short_side": None}, at="x").crop_hw == (7, 7)


def test_the_defaults_are_the_published_rule():
    rule = AugmentConfig()
    assert (rule.short_side, rule.crop_hw, rule.scale, rule.rotate_deg) == (1080, (713, 713), (0.5, 2.0), (-10.0, 10.0))
    assert (rule.rotate_p, rule.blur_p, rule.flip_p) == (0.5, 0.5, 0.5)
    assert (rule.color_jitter, rule.blur_sigma, rule.long_side, rule.fill) == (0, None, None, "mean")


def test_splits_and_sampling_have_a_short_form():
    for split in (["train", "val"], "train+val"):
        config = parse(DataConfig, {"shards": "s", "mix": {"a": 1, "b": 1}, "split": split}, at="x")
        assert (config.splits, config.urls("b")) == (("train", "val"), {"train": "s/b/train", "val": "s/b/val"})
    assert not config.sampling
    fields = {"share": 0.5, "only": {"val": ["sky"]}}
    every, one = (parse(DataConfig, SAMPLED | {"class_uniform": c}, at="x") for c in ({"share": 1}, {"bdd": fields}))
    assert every.sampling == dict.fromkeys(("ade", "bdd"), ClassUniformConfig(share=1.0))
    assert one.sampling == {"bdd": ClassUniformConfig(share=0.5, only={"val": ("sky",)})}


SAMPLED = {"shards": "s", "mix": {"ade": 1, "bdd": 2}, "split": "train+val"}


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (AugmentConfig, {"short_side": 0}, r"augment\.short_side: 0"),
        (AugmentConfig, {"crop": 0}, r"augment\.crop: 0"),
        (AugmentConfig, {"crop": (5, -1)}, r"augment\.crop: \(5, -1\)"),
        (AugmentConfig, {"scale": (2.0, 0.5)}, r"augment\.scale: \[2\.0, 0\.5\]; write \[low, high\]"),
        (AugmentConfig, {"scale": (0.0, 1.0)}, r"augment\.scale: .* above 0"),
        (AugmentConfig, {"rotate_deg": (0.0, float("nan"))}, r"augment\.rotate_deg"),
        (AugmentConfig, {"flip_p": 1.5}, r"augment\.flip_p: 1\.5"),
        (AugmentConfig, {"blur_p": -0.1}, r"augment\.blur_p"),
        (AugmentConfig, {"rotate_p": 2}, r"augment\.rotate_p"),
        (
            AugmentConfig,
            {"long_side": 2177},
            r"augment\.long_side: 2177, with a short_side; one of the two must be null",
        ),
        (AugmentConfig, {"long_side": 0, "short_side": None}, r"augment\.long_side: 0"),
        (AugmentConfig, {"blur_sigma": (0.0, 1.0)}, r"augment\.blur_sigma: \[0\.0, 1\.0\]; must be above 0"),
        (AugmentConfig, {"blur_sigma": (2.0, 1.0)}, r"augment\.blur_sigma: \[2\.0, 1\.0\]; write \[low, high\]"),
        (AugmentConfig, {"color_jitter": -0.1}, r"augment\.color_jitter: -0\.1"),
        (AugmentConfig, {"color_jitter": float("nan")}, r"augment\.color_jitter: nan"),
        (DataConfig, {"shards": "s", "mix": {}}, r"data\.mix: empty"),
        (DataConfig, {"shards": "s", "mix": {"a": 1}, "window": 0}, r"data\.window: 0"),
        (DataConfig, {"shards": "s", "mix": {"a": 1}, "taxonomy": "mine"}, r"data\.taxonomy: 'mine'"),
        (DataConfig, {"shards": "s", "mix": {"a": 1}, "split": ""}, r"data\.split: ''; name one split"),
        (DataConfig, {"shards": "s", "mix": {"a": 1}, "split": "train+train"}, r"several once each"),
        (DataConfig, SAMPLED | {"class_uniform": {"shar": 1}}, r"class_uniform\.shar: no dataset .* mean 'share'\?"),
        (
            DataConfig,
            SAMPLED | {"class_uniform": {"ade2": {"share": 1}}},
            r"\.ade2: no dataset of data\.mix; .*'ade'\?",
        ),
        (
            DataConfig,
            SAMPLED | {"class_uniform": {"share": 0}},
            r"data\.class_uniform, ade: share: 0.* must be above 0",
        ),
        (DataConfig, SAMPLED | {"class_uniform": {"share": 1.5}}, r"share: 1\.5; must be above 0, to 1"),
        (DataConfig, SAMPLED | {"class_uniform": {"ade": 0.5}}, r"class_uniform, ade: expected `key: value` pairs"),
        (
            DataConfig,
            SAMPLED | {"class_uniform": {"share": 0.5, "only": {"trein": ["a"]}}},
            r"only\.trein: no split of data\.split; did you mean 'train'\?",
        ),
        (
            DataConfig,
            SAMPLED | {"class_uniform": {"share": 0.5, "only": {"train": ["a"], "val": ["b"]}}},
            "no split is left for plain samples",
        ),
        (LoaderConfig, {"batch": 0}, r"loader\.batch: 0"),
        (LoaderConfig, {"batch": 1, "threads": -1}, r"loader\.threads: -1"),
        (LoaderConfig, {"batch": 1, "prefetch": 0}, r"loader\.prefetch: 0"),
        (LoaderConfig, {"batch": 1, "engine": "cuda"}, r"loader\.engine: 'cuda'; write one of auto, dali, opencv"),
    ],
)
def test_impossible_values_are_refused(config, values, message):
    with pytest.raises(DataError, match=message):
        config(**values)
