import pickle

import numpy as np
import pytest
import torch

from segstream.benchmarks.loader import NAME, PICTURES, Setting, StepByStep, draw_pictures, prepare
from segstream.benchmarks.reference_rule import step_by_step
from segstream.pipeline.config import AugmentConfig, DataConfig
from segstream.pipeline.geometry import draw
from segstream.pipeline.loader import Loader
from tests.pipeline import reference_rule
from tests.pipeline.fakes import textured


@pytest.mark.parametrize("slot", range(12))
def test_the_rule_is_the_rule(slot):
    rule = AugmentConfig(short_side=70, crop=(49, 61))
    image, label = textured(np.random.default_rng(slot), (60, 90), 20)
    drawn = draw(rule, seed=1, step=0, slot=slot, size_hw=(60, 90))
    image_crop, label_crop = step_by_step(image, label, drawn, 70)
    expected, expected_label = reference_rule.step_by_step(image, label, drawn, 70, centre=0)
    assert image_crop.shape == (49, 61, 3)
    np.testing.assert_allclose(image_crop, expected, atol=1e-3)
    assert (label_crop == expected_label).mean() > 0.999


def test_all_three_make_the_same_crops_of_the_stream(tmp_path, monkeypatch):
    """Also round after round: whoever is slower must not get easier samples."""
    small = Setting(name="small", source_hw=(48, 64), short_side=48, crop=33)
    asked = {"ours": [], "files": []}
    plain_batches, plain_image = Loader.batches, StepByStep._image

    def batches(self, start, stop):
        asked["ours"] += range(2 * start, 2 * stop)
        return plain_batches(self, start, stop)

    def image(self, number):
        asked["files"].append(number)
        return plain_image(self, number)

    with prepare(small, tmp_path, crops=4, batch=2, threads=1) as case:
        assert case.image_difference < 3
        assert case.label_agreement > 0.9
        monkeypatch.setattr(Loader, "batches", batches)
        monkeypatch.setattr(StepByStep, "_image", image)
        for _ in range(2):
            case.runs["ours"]()
            case.runs["decode_only"]()
            case.runs["decode_fast"]()
    first, second = [0, 1, 2, 3], [4, 5, 6, 7]
    assert asked == {"ours": first + second, "files": 2 * first + 2 * second}
    steps = StepByStep(
        DataConfig(shards=str(tmp_path / "shards"), mix={NAME: 1}, taxonomy="native"),
        AugmentConfig(short_side=48, crop=33),
        2,
    )
    assert np.array_equal(steps.decode(3), steps.decode_fast(3))
    raw, _ = steps.rule.crop(3, *steps.files(3))
    pixels, label = pickle.loads(pickle.dumps(steps))[3]  # as it travels to a worker: after use, without what it opened
    assert (pixels.shape, pixels.dtype) == ((3, 33, 33), torch.float32)
    assert (label.shape, label.dtype) == ((33, 33), torch.int64)
    back = pixels.numpy().transpose(1, 2, 0) * (58.395, 57.12, 57.375) + (123.675, 116.28, 103.53)
    np.testing.assert_allclose(back, raw, atol=1e-3)


def test_pictures_are_the_same_every_time(tmp_path):
    for folder in ("a", "b"):
        draw_pictures(tmp_path / folder, (40, 48))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").glob("*/*"))
    assert len(files) == 2 * PICTURES
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
