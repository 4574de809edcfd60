"""Damaged releases of every dataset: each fault is an error or a listed skip that names the file, or no conversion."""

import itertools
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from segstream.shards.convert.convert import convert
from segstream.shards.datasets.registry import dataset
from segstream.shards.datasets.release import Release
from segstream.shards.errors import DataError
from segstream.shards.format.reader import open_shards
from segstream.shards.synthetic import DATASETS, draw
from tests.shards import trees
from tests.shards.damage import KINDS, Victim
from tests.shards.synthetic.truth import tiny

SHARED = {
    "coco-panoptic-133": ("annotations/panoptic_train2017.json", "annotations/panoptic_val2017.json"),
    "wilddash2-19": ("panoptic.json", "random_split/training.txt", "random_split/validation.txt"),
    "gta5-19": ("split.mat",),
    "mapillary-public65": ("config.json",),
    "mapillary-19": ("config.json",),
    "own": ("val.txt",),
}
FEW = (
    "ade20k-150", "coco-panoptic-133", "idd-39", "mapillary-public65", "pascal-context-60", "wilddash2-19", "bravo",
    "own",
)  # fmt: skip


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Whole releases by dataset, drawn when first asked for, with their files by role and their labels by key."""
    place, known = tmp_path_factory.mktemp("whole"), {}

    def release(name):
        if name not in known:
            with tiny():
                own_data(place / name) if name == "own" else draw(place, name, train=2, val=2, seed=4, workers=1)
            source, raw = dataset(called(name, place / name)), Release(place / name)
            drawn = [split for split in source.splits if split not in source.optional]
            found = {split: pairs for split in drawn if (pairs := source.find(raw, split).pairs)}
            pairs, splits = [pair for pairs in found.values() for pair in pairs], list(found)
            files = {"image": [p.image for p in pairs], "label": [p.label for p in pairs if p.label]}
            files["shared"] = SHARED.get(name, ())
            reports, labels = converted(name, place / name, place / "out" / name, splits)
            assert all(report.startswith("absent") for report in reports), reports
            known[name] = (place / name, files, splits, labels)
        return known[name]

    return release


def own_data(root):
    """Four pictures, two by globs and two by a list, with a YAML that describes them."""
    rng = np.random.default_rng(0)
    for n in range(4):
        trees.save(root / f"{'images' if n < 2 else 'more-images'}/a{n}.jpg", trees.picture(rng))
        label = trees.blocks(rng, [0, 2, 7, 255]).astype(np.uint8)
        trees.save(root / f"{'labels' if n < 2 else 'more-labels'}/a{n}.png", label)
    (root / "val.txt").write_text("".join(f"more-images/a{n}.jpg more-labels/a{n}.png\n" for n in (2, 3)))
    (root / "own.yaml").write_text(
        "name: own\nsplits: {train: {images: images/*.jpg, labels: labels/*.png}, val: {list: val.txt}}\n"
        "classes: [{name: a, universal: sky}, {name: b, id: 7}, {name: c, id: 2}]\n"
    )


def called(name, raw):
    return str(raw / "own.yaml") if name == "own" else name


def converted(name, raw, out, splits):
    """(everything that was said, native label files by split and key)"""
    reports, labels = [], {}
    for split in splits:
        try:
            summary = convert(
                dataset=called(name, raw), split=split, raw=raw, out=str(out), skip_bad=10**6, short_side=4000
            )
        except DataError as error:
            reports.append(str(error))
            continue
        reports += [f"{reject.path}: {reject.reason}" for reject in summary.skipped]
        reports += [f"absent: {path}" for path in summary.first_absent]
        with open_shards(summary.url) as shards:
            for i in range(len(shards)):
                member = "native" if "native" in shards.manifest.members else "image"
                labels[split, shards.entry(i).key] = shards.read(i, member)
    return reports, labels


def verdict(name, release, kind, victim_path, role, place, rng):
    """None if that damage does not apply; else what is wrong with the answer to it, empty if nothing."""
    whole, _, splits, labels = release
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place / "raw", symlinks=True)
    victim = Victim(name, place / "raw", victim_path, role, rng)
    words = KINDS[kind](victim)
    if words is None:
        return None
    try:
        reports, found = converted(name, place / "raw", place / "out", splits)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    told = any(word in report for word in words for report in reports)
    if several := [report for report in reports if "\n" in report]:
        return f"said on several lines: {several}"
    if wrong := [key for key, label in found.items() if labels.get(key) != label]:
        return f"silently wrong: {wrong}"
    return "" if told else f"not told; said only {reports}"


def campaign(releases, names, place, *, count, seed):
    """Damage so many times, every dataset and every kind in turn; returns the kinds there were, and what went wrong."""
    rng, kinds = random.Random(seed), list(KINDS)
    tried, faults, done = set(), [], 0
    for turn, (shift, name) in enumerate(itertools.cycle(itertools.product(range(len(kinds)), names))):
        assert turn < 20 * count + 20 * len(kinds) * len(names), "no damage applies any more"
        kind, release = kinds[(shift + turn) % len(kinds)], releases(name)
        files = {role: paths for role, paths in release[1].items() if paths}
        for role in rng.sample(list(files), len(files)):
            path = rng.choice(files[role])
            wrong = verdict(name, release, kind, path, role, place / "now", rng)
            if wrong is not None:
                tried.add(kind)
                done += 1
                faults += [f"{name}: {kind} of {path}: {wrong}"] * bool(wrong)
                break
        if done == count:
            return tried, faults
    raise AssertionError("unreachable")


@pytest.mark.parametrize(
    ("names", "count"),
    [(FEW, 50), pytest.param((*DATASETS, "own"), 1000, marks=(pytest.mark.soak, pytest.mark.timeout(3000)))],
)
def test_damages_are_told(releases, tmp_path: Path, names, count):
    tried, faults = campaign(releases, names, tmp_path, count=count, seed=1)
    assert not faults, f"{len(faults)} answered wrongly:\n" + "\n".join(faults)
    assert len(tried) > 14
