"""Your own data: any folder of images and one-channel label files, described by a short YAML.

    name: my-data
    licence: CC-BY 4.0
    splits:
      train: {images: images/train/*.jpg, labels: labels/train/*.png}
      val: {list: val.txt}          # lines of "image label"
    classes:                        # native ids are positions in this list
      - {name: sky, universal: sky}
      - {name: pole, universal: pole, id: 7}   # `id`: value in the label files, if not the position
    ignore: [11]                    # values that carry no class, besides 255

An image and a label belong together if the wildcards of the two globs stand for the same text.
"""

import contextlib
import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segstream.shards.codecs.labels import decode_palette, palette_of
from segstream.shards.datasets import layout
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found, Pair
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.format.keys import key_of
from segstream.shards.schema import Text, parse, read_yaml
from segstream.shards.taxonomy import IGNORE_INDEX, Taxonomy, build_remap, taxonomy_names, universal_ids

_MAX_ID = 65535  # of a 16-bit label file
_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClass:
    """One class of own data."""

    name: Text
    universal: str | tuple[str, ...] = ()
    """Universal class or classes it stands for; the first one is what its labels become in training."""
    id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSplit:
    """Where the files of a split are: two globs, or a list file."""

    images: str = ""
    labels: str = ""
    list: str = ""

    def __post_init__(self) -> None:
        if bool(self.list) == bool(self.images or self.labels) or bool(self.images) != bool(self.labels):
            raise DataError('give either `images` and `labels` (globs), or `list` (a file of "image label" lines)')


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnData:
    """The YAML."""

    name: str
    splits: dict[str, OwnSplit]
    classes: tuple[OwnClass, ...]
    licence: Text = "not stated"
    root: str = ""
    """Folder of all paths, relative to the YAML; --raw goes first."""
    ignore: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for word in (self.name, *self.splits):
            if not _NAME.fullmatch(word):
                raise DataError(f"name {word!r}: use letters, digits, - and _ only, it becomes a folder")
        if self.name in taxonomy_names():
            raise DataError(f"name {self.name!r} is taken by a published taxonomy; choose another")
        if not self.splits or not self.classes:
            raise DataError("needs at least one split and one class")
        if len(self.classes) > IGNORE_INDEX:
            raise DataError(f"classes: {len(self.classes)} of them; at most {IGNORE_INDEX} fit an 8-bit label")
        for what, values in (("class name", [c.name for c in self.classes]), ("label id", [*self.ids, *self.ignore])):
            if twice := [v for v, n in Counter(values).items() if n > 1]:
                raise DataError(f"{what} {twice[0]!r} is given twice; each may occur once in `classes` and `ignore`")
        if wrong := [i for i in (*self.ids, *self.ignore) if not 0 <= i <= _MAX_ID]:
            raise DataError(f"label id {wrong[0]} is outside 0 to {_MAX_ID}")

    @property
    def ids(self) -> tuple[int, ...]:
        """Values in the label files, by native id."""
        return tuple(i if c.id is None else c.id for i, c in enumerate(self.classes))


def load(path: Path) -> Dataset:
    """Read and check the YAML.

    Raises:
        DataError: what is wrong with it, with the field's name.
    """
    at = str(path)
    own = parse(OwnData, read_yaml(path), at=at)
    pairs = dict.fromkeys((IGNORE_INDEX, *own.ignore), IGNORE_INDEX) | {i: n for n, i in enumerate(own.ids)}
    return Dataset(
        name=own.name,
        role="extra",
        taxonomy=_taxonomy(own, at=at),
        splits=dict.fromkeys(own.splits),
        licence=own.licence,
        root=path.parent / own.root if own.root else None,
        remap=build_remap(f"{own.name} ({path.name})", own.name, pairs),
        find=functools.partial(_find_alike, own, at),
    )


def _taxonomy(own: OwnData, *, at: str) -> Taxonomy:
    """The class list with its universal mapping; without any `universal` there is none ("native only").

    Of two classes that name one universal class, both train it, and the first one receives its predictions.

    Raises:
        DataError: a universal class that does not exist.
    """
    names = [(c.universal,) if isinstance(c.universal, str) else c.universal for c in own.classes]
    ids = [universal_ids(n, at=f"{at}.classes[{i}].universal") if n else () for i, n in enumerate(names)]
    receives: dict[int, int] = {}
    for native, universal in enumerate(ids):
        for u in universal:
            receives.setdefault(u, native)
    mapped = any(ids)
    return Taxonomy(
        name=own.name,
        kind="own",
        classes=tuple(c.name for c in own.classes),
        to_universal=tuple(u[0] if u else IGNORE_INDEX for u in ids) if mapped else None,
        from_universal=tuple(sorted(receives.items())) if mapped else None,
    )


def _find_alike(own: OwnData, at: str, release: Release, split: str) -> Found:
    """The pairs of a split, if an index means one colour in all label files of all splits that are there.

    Raises:
        DataError: it does not.
    """
    found = _find(own, at, release, split)
    palettes = _palettes(release, found)
    for other in own.splits.keys() - {split} if palettes else ():
        with contextlib.suppress(DataError):
            for palette, paths in _palettes(release, _find(own, at, release, other)).items():
                palettes[palette] += paths
    longest = max(palettes, key=len, default=b"")
    if not all(longest.startswith(palette) for palette in palettes):
        _check_used(release, sorted({path for paths in palettes.values() for path in paths}))
    return found


def _palettes(release: Release, found: Found) -> dict[bytes, list[str]]:
    """Label files by their palette; those without, and those that conversion will refuse, left out."""
    palettes = defaultdict[bytes, list[str]](list)
    for pair in found.pairs:
        with contextlib.suppress(OSError, UnreadableError):
            if pair.label and (palette := palette_of(release.read(pair.label))):
                palettes[palette].append(pair.label)
    return palettes


def _check_used(release: Release, paths: Iterable[str]) -> None:
    """Palettes may differ in entries that no pixel has."""
    seen: dict[int, tuple[list[int], str]] = {}
    for path in paths:
        with contextlib.suppress(OSError, UnreadableError):
            ids, palette = decode_palette(release.read(path))
            for i in np.unique(ids[ids < len(palette)]).tolist():
                colour, other = seen.setdefault(i, (palette[i].tolist(), path))
                if colour != palette[i].tolist():
                    raise DataError(
                        f"{release}: index {i} is the colour {colour} in {other} and {palette[i].tolist()} in {path}; "
                        f"labels are read by index: save all with one palette, or as one channel of ids"
                    )


def _find(own: OwnData, at: str, release: Release, split: str) -> Found:
    if not release.root.is_dir():
        raise DataError(f"{release}: no such folder; give the folder of the data with --raw, or as `root` in {at}")
    files, where = own.splits[split], f"{at}.splits.{split}"
    if files.list:
        return _find_listed(release, files.list, where)
    images = _matches(release, files.images, f"{where}.images")
    labels = _matches(release, files.labels, f"{where}.labels")
    if not images.keys() & labels.keys():
        raise DataError(
            f"{where}: none of {len(images)} images pairs with one of {len(labels)} labels (first ones: "
            f"{next(iter(images.values()))}, {next(iter(labels.values()))}); the wildcards of both globs must stand "
            f"for the same text, or use `list`"
        )
    return layout.pair(images, labels, files.images, files.labels)


def _find_listed(release: Release, path: str, where: str) -> Found:
    try:
        lines = release.read(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}.list: {release}/{path} cannot be read ({error}); check the path") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        words = line.split("\t") if "\t" in line else line.split()
        if not words:
            continue
        if len(words) != 2:
            raise DataError(
                f'{release}/{path}, line {number}: {len(words)} words, expected "image label" (separate paths that '
                f"hold spaces by a tab)"
            )
        pairs.append(Pair(key=key_of(words[0]), image=words[0], label=words[1]))
    if not pairs:
        raise DataError(f"{where}.list: {release}/{path} names no images")
    return Found(pairs=tuple(pairs))


def _matches(release: Release, glob: str, where: str) -> layout.Matches:
    if glob.startswith("/") or ".." in glob.split("/"):
        raise DataError(f"{where}: {glob!r} is not a glob relative to the data's folder")
    found = layout.matches(release, glob)
    if not found:
        raise DataError(f"{where}: {glob!r} matches no file below {release}; check the pattern and --raw")
    return found
