"""Sampling by class and joined splits, from files on disk to the crops, against labels read by hand."""

import json
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.loader import Loader
from segstream.pipeline.samples import Samples
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError
from segstream.shards.format.centroids import add_centroids
from segstream.shards.format.reader import open_shards
from tests.pipeline.fakes import textured

COUNTS = {"train": 13, "extra": 6}
CLASSES = ["ground", "tree", "thing", "kite"]  # nowhere is there a kite; `thing` only in images 0 to 3
CUT = AugmentConfig(short_side=None, crop=(16, 20), scale=(0.8, 1.4), rotate_deg=(-15.0, 15.0), rotate_p=0.5, blur_p=0)
BOTH = ["train", "extra"]
SAMPLED = {"share": 0.9}


def write(folder, name="garden", classes=CLASSES, counts=COUNTS):
    """An own dataset of two splits, without centroids."""
    for seed, (split, count) in enumerate(counts.items()):
        for i in range(count):
            image, label = textured(np.random.default_rng((seed, i)), (40, 56), 3)
            label[(label == 2) & (i > 3)] = 255
            for part, array in (("images", image), ("labels", label)):
                (folder / "raw" / split / part).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / "raw" / split / part / f"{i:03d}.png"), array)
    splits = {split: {part: f"{split}/{part}/*.png" for part in ("images", "labels")} for split in counts}
    text = {"name": name, "root": str(folder / "raw"), "splits": splits, "ignore": [255]}
    text |= {"classes": [{"name": name} for name in classes]}
    (folder / "set.yaml").write_text(yaml.safe_dump(text))
    for split in counts:
        convert(str(folder / "set.yaml"), split=split, out=str(folder / "shards"), shard_samples=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("garden")
    write(folder)
    for split in COUNTS:
        add_centroids(folder / "shards/garden" / split)
    return folder


def config(root, **options):
    return DataConfig(shards=str(root / "shards"), mix={"garden": 1}, taxonomy="native", window=2, **options)


def planned(root, steps=19, batch=1, **options):
    samples = Samples(config(root, **options), CUT, seed=4, batch=batch)
    try:
        return samples, [samples.find(step, slot) for step in range(steps) for slot in range(batch)]
    finally:
        samples.close()


def test_a_sample_comes_for_a_class_that_it_shows_and_its_crop_holds_the_middle_of_it(root):
    samples, found = planned(root, 38, split=BOTH, class_uniform=SAMPLED)
    by_class = Counter(one.pick.class_id for one in found)
    assert by_class == {0: 8, 1: 8, 2: 8, None: 14}  # of 19 places int(19 x 0.9 / 4) each, two epochs
    assert len({one.pick.index for one in found if one.pick.class_id == 2}) > 2
    with open_shards(root / "shards/garden/train") as train, open_shards(root / "shards/garden/extra") as extra:
        for one in found:
            part, i = (train, one.pick.index) if one.pick.index < 13 else (extra, one.pick.index - 13)
            assert part.entry(i).key == one.key
            if one.pick.class_id is None:
                assert one.pick.anchor_xy is None
                continue
            label = cv2.imdecode(np.frombuffer(part.read(i, "native"), np.uint8), cv2.IMREAD_UNCHANGED)
            ys, xs = np.nonzero(label == one.pick.class_id)
            assert one.pick.anchor_xy == pytest.approx((xs.mean(), ys.mean()), abs=1e-4)
            matrix = np.array(one.draw.matrix)
            place = np.linalg.solve(matrix[:, :2], one.pick.anchor_xy - matrix[:, 2])
            on_canvas = np.clip(place + one.draw.corner_px[::-1], 0, np.array(one.draw.canvas_hw[::-1]) - 1)
            assert (np.abs(on_canvas - one.draw.corner_px[::-1] - (9.5, 7.5)) <= (10, 8)).all()
    line = samples.warnings[-1]
    assert line.endswith("sampled by class: 1 of 4 classes have no centroid, plain samples come instead: kite")


def test_a_share_too_small_for_a_place_of_every_class_is_said(root):
    samples, found = planned(root, 13, class_uniform={"garden": {"share": 0.2}})
    assert {one.pick.class_id for one in found} == {None}
    assert sorted(one.pick.index for one in found) == list(range(13))
    said = "a share of 0.2 of 13 samples is less than one for each of 4 classes: only plain samples come"
    assert f"{said}; a share of 1 gives 3 each" in samples.warnings[-1]


@pytest.mark.parametrize("split", ["train+extra", "extra+train"])
def test_a_split_may_give_samples_of_some_classes_and_nothing_else(root, split):
    only = SAMPLED | {"only": {"extra": ["tree"]}}
    samples, found = planned(root, 13 * 20, split=split, class_uniform=only)
    assert samples.counts == {"garden": 13}  # what an epoch counts
    seen = Counter((one.pick.class_id, one.pick.index >= 13) for one in found)
    assert {key for key, count in seen.items() if count} == {(c, False) for c in (0, 1, 2, None)} | {(1, True)}
    assert seen[1, True] + seen[1, False] == seen[0, False] == seen[2, False] == 20 * int(13 * 0.9 / 4)
    for one in found:
        assert one.shard == f"shard-{one.pick.shard % 4:06d}.tar"  # four of train, then two of extra
        with open_shards(root / "shards/garden" / ("train" if one.pick.index < 13 else "extra")) as shards:
            assert shards.entry(one.pick.index % 13).key == one.key
    plain, alone = samples.class_shares, planned(root, 1)[0].class_shares
    assert plain == alone
    assert len(samples.fingerprint["class_uniform"]["garden"]["centroids"]) == 2


def test_joined_splits_are_one_set_after_the_other(root):
    both, found = planned(root, 19, split="train+extra")
    assert {split: len(open_shards(root / f"shards/garden/{split}")) for split in COUNTS} == COUNTS
    assert sorted(one.pick.index for one in found) == list(range(19))
    keys = {one.pick.index: (one.key, one.shard, one.position) for one in found}
    expected = [
        (entry.key, info.name, position)
        for split in COUNTS
        for shards in [open_shards(root / f"shards/garden/{split}")]
        for n, info in enumerate(shards.manifest.shards)
        for position, entry in enumerate(shards.index(n).samples)
    ]
    assert [keys[i] for i in range(19)] == expected
    one, other = (planned(root, 1, split=split)[0].fingerprint for split in ("train", ["train"]))
    assert one == other
    assert one["split"] == "train"
    assert both.fingerprint["split"] == "train+extra"
    digests = [open_shards(root / f"shards/garden/{split}").manifest.digest for split in COUNTS]
    assert both.fingerprint["mix"][0]["manifest"] == "+".join(digests)
    pixels = np.array([planned(root, 1, split=split)[0].class_shares for split in ("train", "extra", BOTH)])
    assert (pixels.min(0) <= pixels[2]).all()
    assert (pixels[2] <= pixels.max(0)).all()


def test_sampling_is_part_of_what_a_run_is_only_where_it_is_used(root):
    plain, sampled = planned(root, 1)[0].fingerprint, planned(root, 1, class_uniform=SAMPLED)[0].fingerprint
    assert "class_uniform" not in plain
    with open_shards(root / "shards/garden/train") as shards:
        digest = shards.centroids_digest
    assert sampled.pop("class_uniform") == {"garden": {"share": 0.9, "only": {}, "centroids": {"train": digest}}}
    assert sampled == plain
    assert json.loads(json.dumps(sampled)) == sampled


def test_batches_are_those_of_any_number_of_processes_and_of_any_start(root):
    data, sizes = config(root, split=BOTH, class_uniform=SAMPLED), LoaderConfig(batch=6, threads=2)

    def batches(first, **ranks):
        with Loader(data, CUT, sizes, seed=2, **ranks) as loader:
            return [(b.keys, b.images.numpy(), b.labels.numpy()) for b in loader.batches(first, 7)]

    whole = batches(0)
    for late, ranks in ((3, [{}]), (0, [{"rank": r, "world_size": 2} for r in (0, 1)])):
        parts = [batches(late, **rank) for rank in ranks]
        for step, (keys, images, labels) in enumerate(whole[late:]):
            for rank, part in enumerate(parts):
                slots = slice(rank, None, len(parts))
                assert part[step][0] == keys[slots]
                assert (part[step][1] == images[slots]).all()
                assert (part[step][2] == labels[slots]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"split": BOTH, "class_uniform": SAMPLED | {"only": {"extra": ["treee"]}}},
            r"only\.extra: 'treee' is no class of the labels; did you mean 'tree'\?",
        ),
        ({"split": "train+val"}, r"data\.mix\.garden: no shards at .*garden/val; make them with .*--split val "),
    ],
)
def test_what_does_not_fit_the_sets_is_named(root, options, message):
    with pytest.raises(DataError, match=message):
        planned(root, 1, **options)


def test_sets_without_centroids_and_splits_of_other_classes_are_refused_in_one_line(tmp_path):
    write(tmp_path, counts={"train": 2})
    (tmp_path / "shards/garden/train/centroids.json").unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"garden/train.*missing; run `segstream stats .*garden/train --centroids`"):
        planned(tmp_path, 1, class_uniform=SAMPLED)
    assert planned(tmp_path, 1)[1][0].key  # nothing is asked of them otherwise
    write(tmp_path, classes=[*CLASSES, "cloud"], counts={"extra": 2})
    with pytest.raises(DataError, match=r"different classes \(train has 4 of garden, extra has 5 of"):
        planned(tmp_path, 1, split=BOTH)


def test_a_crop_is_made_as_it_was_planned(root):
    samples = Samples(config(root, class_uniform=SAMPLED), replace(CUT, blur_p=0.5), seed=4, batch=4)
    for slot in range(4):
        made, found = samples.at(3, slot), samples.find(3, slot)
        assert (made.key, made.pick, made.draw) == (found.key, found.pick, found.draw)
    samples.close()
