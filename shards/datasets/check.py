"""Is a raw release all there, and the one that is meant? Told from names alone, before hours of conversion."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from segstream.shards.datasets.registry import Archive, Facts, Sign, dataset, is_own, registry
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found
from segstream.shards.errors import DataError, UsageError

_FIRST = 5  # missing paths that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCheck:
    """A split on disk beside the release's count."""

    split: str
    expected: int | None
    """Images of the complete release; None if not known beforehand."""
    images: int
    labels: int | None
    """Labels of those images; None where the dataset has images only."""
    missing_images: int
    """As far as the release's counts and lists tell, like `missing_labels`."""
    missing_labels: int
    first_missing: tuple[str, ...]
    problem: str | None
    """None: complete."""
    notes: tuple[str, ...] = ()
    """See `Found`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCheck:
    """What a raw folder holds of a dataset."""

    name: str
    raw: str
    splits: tuple[SplitCheck, ...]
    problems: tuple[str, ...] = ()
    """A wrong version, a wrong folder, archives that are still packed; each with what to do."""
    notes: tuple[str, ...] = ()
    """Worth knowing, but no obstacle."""
    ok: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ok", not self.problems and all(split.problem is None for split in self.splits))


def check_release(name: str, raw: Path | None = None) -> ReleaseCheck:
    """Compare a raw folder with what the release should hold; reads names and the release's own lists, no pictures.

    Raises:
        UsageError, DataError: as `dataset`.
    """
    data = dataset(name)
    root = raw or data.root
    if root is None:
        raise UsageError(f"{name}: says no `root`; give the folder of the data")
    where = Release(root)
    checks = (_check_split(data, where, split) for split in data.splits)
    splits = tuple(check for check in checks if check.images or check.split not in data.optional)
    if is_own(name):
        return ReleaseCheck(name=data.name, raw=str(root), splits=splits)
    facts = registry()[name]
    seen = {sign.says: sign.wrong for sign in facts.signs if _shows(where, sign)}
    problems = [says for says, wrong in seen.items() if wrong]
    for split in splits:
        if split.expected is not None and split.images > split.expected:
            more = f"{split.split}: {split.images - split.expected} images more than expected"
            problems.append(f"{more}; {facts.more}" if facts.more else more)
    images = sum(split.images for split in splits)
    if facts.total not in (None, images):
        problems.append(f"{images} images in all, expected {facts.total}; unpack every archive of the release here")
    if problems or any(split.problem for split in splits):
        problems += _elsewhere(where, facts) + _packed(where, facts)
    notes = tuple(says for says, wrong in seen.items() if not wrong)
    return ReleaseCheck(name=name, raw=str(root), splits=splits, problems=tuple(problems), notes=notes)


def tops(layout: Mapping[str, str]) -> tuple[str, ...]:
    """Names at the top of a raw root, by the layout's patterns; those for relabelling alone are left out."""
    names = []
    for first in (pattern.split("/")[0] for pattern, what in layout.items() if "--relabel" not in what):
        before, _, rest = first.partition("{")
        words, _, after = rest.partition("}")
        names += [f"{before}{word}{after}" for word in words.split(",")]  # `{a,b}c` -> `ac`, `bc`
    return tuple(dict.fromkeys(names))


def _check_split(data: Dataset, release: Release, split: str) -> SplitCheck:
    problem, found, there = None, Found(), set[str]()
    try:
        found = data.find(release, split)
        there = _present(release, [p for pair in found.pairs for p in (pair.image, pair.label) if p is not None])
    except DataError as error:
        problem = str(error)
    images = [pair.image for pair in found.pairs]
    labels = [pair.label for pair in found.pairs if pair.label is not None]
    lost = [path for path in images if path not in there]
    gone = [path for path in labels if path not in there]
    expected = data.splits[split] or 0
    more_images = expected - len(images) + len(lost)
    more_labels = 0 if found.absent else expected - len(labels) + len(gone) - len(found.orphans)
    labelled = data.remap is not None
    missing_images = max(more_images, len(lost) + len(found.absent) + len(found.orphans))
    missing_labels = max(more_labels, len(gone)) if labelled else 0
    if not problem and missing_images + missing_labels:
        unasked, kind = (" (their labels were not looked for)", "other ") if found.absent and labelled else ("", "")
        problem = f"{missing_images} images{unasked} and {missing_labels} {kind}labels are missing"
    return SplitCheck(
        split=split,
        expected=data.splits[split],
        images=len(images) - len(lost),
        labels=len(labels) - len(gone) if labelled else None,
        missing_images=missing_images,
        missing_labels=missing_labels,
        first_missing=(*gone, *lost, *found.absent, *(f"the image of {label}" for label in found.orphans))[:_FIRST],
        problem=problem or (None if images else "no images"),
        notes=found.notes,
    )


def _present(release: Release, paths: Iterable[str]) -> set[str]:
    """Those paths that exist; folders are listed, which is much faster than asking for each file."""
    asked = set(paths)
    folders = {path.rpartition("/")[0] for path in asked}
    return {f"{folder}/{name}" if folder else name for folder in folders for name in release.below(folder)} & asked


def _shows(release: Release, sign: Sign) -> bool:
    return all(_exists(release, path) for path in sign.has) and not any(_exists(release, path) for path in sign.lacks)


def _exists(release: Release, path: str) -> bool:
    if "*" not in path:
        return release.has(path) or release.has_folder(path)
    folder, _, _ = path.partition("*")[0].rpartition("/")
    pattern = path.removeprefix(f"{folder}/")
    return any(fnmatchcase(name, pattern) for name in release.below(folder))


def _elsewhere(release: Release, facts: Facts) -> list[str]:
    """The root is a folder too high or too low."""
    names = tops(facts.layout)
    if any(_exists(release, name) for name in names):
        return []
    root = release.root.absolute()
    inside = (place for pattern in ("*", "*/*") for place in sorted(root.glob(pattern)))
    for place in (*inside, root.parent, root.parents[1]):
        held = [name for name in names if os.path.exists(place / name)]  # noqa: PTH110 - asks where it may not look
        if held:
            return [f"{place} holds {held[0]}; give that folder"]
    return []


def _packed(release: Release, facts: Facts) -> list[str]:
    return [
        f"{path.relative_to(release.root)} lies here packed; {_advice(archive)}"
        for archive in facts.archives
        for path in sorted(release.root.glob(archive.name))
        if not archive.inside or not all(release.has_folder(target) for target in archive.unpack.values())
    ]


def _advice(archive: Archive) -> str:
    if not archive.unpack and archive.name.endswith(".zip"):
        return "it counts as unpacked; if files of it are missing, download it again"
    goal = f" so that {', '.join(sorted(archive.unpack.values()))} appears" if archive.unpack else ""
    return f"unpack it{goal} (again, if files are missing)"
