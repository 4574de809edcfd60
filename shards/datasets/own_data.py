"""Your own data: any folder of images and one-channel label files, described by a short YAML.

    name: my-data
    licence: CC-BY 4.0
    splits:
      train: {images: images/train/*.jpg, labels: labels/train/*.png}
      val: {list: val.txt}          # lines of "image label"
    classes:                        # native ids are positions in this list
      - {name: sky, universal: sky}
      - {name: pole, universal: pole, id: 7}   # `id`: value in the label files, if not the position
    ignore: [11, -1]                # values that carry no class, besides 255

An image and a label belong together if the wildcards of the two globs stand for the same text. A file that both globs
match belongs to the narrower one: masks may lie beside their images.
"""

import codecs
import contextlib
import functools
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segstream.shards.codecs.formats import PICTURE_SUFFIXES, VIDEO_SUFFIXES, by_suffix, suffix_of
from segstream.shards.codecs.labels import decode_palette, palette_of
from segstream.shards.datasets import layout
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found, Pair
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.format.keys import key_of
from segstream.shards.schema import Text, parse, read_yaml
from segstream.shards.taxonomy import IGNORE_INDEX, Taxonomy, build_remap, taxonomy_names, universal_ids

_MAX_ID = 65535  # of a 16-bit label file
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
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
        if wrong := [i for i in self.ids if not 0 <= i <= _MAX_ID]:
            raise DataError(f"label id {wrong[0]} is outside 0 to {_MAX_ID}")
        if wrong := [i for i in self.ignore if not -(2**31) <= i < 2**32]:
            raise DataError(f"ignore: {wrong[0]} is no value of 32 bits")

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
    beyond = tuple(value for value in own.ignore if not 0 <= value <= _MAX_ID)
    pairs = dict.fromkeys({IGNORE_INDEX, *own.ignore} - {*beyond}, IGNORE_INDEX) | {i: n for n, i in enumerate(own.ids)}
    return Dataset(
        name=own.name,
        role="extra",
        taxonomy=_taxonomy(own, at=at),
        splits=dict.fromkeys(own.splits),
        licence=own.licence,
        root=path.parent / own.root if own.root else None,
        remap=replace(build_remap(f"{own.name} ({path.name})", own.name, pairs), beyond=beyond),
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
            palettes |= _palettes(release, _find(own, at, release, other))
    longest = max(palettes.values(), key=len, default=b"")
    if not all(longest.startswith(palette) for palette in palettes.values()):
        _check_used(release, sorted(palettes))
    return found


def _palettes(release: Release, found: Found) -> dict[str, bytes]:
    """The palettes of label files; those without, and those that conversion will refuse, left out."""
    palettes = {}
    for path in (pair.label for pair in found.pairs if pair.label):
        with contextlib.suppress(OSError, UnreadableError):
            palettes[path] = palette_of(release.read(path))
    return {path: palette for path, palette in palettes.items() if palette}


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
    if not os.path.isdir(release.root):  # noqa: PTH112 - False for a name that no system takes, too
        raise DataError(f"{release}: no such folder; give the folder of the data with --raw, or as `root` in {at}")
    files, where = own.splits[split], f"{at}.splits.{split}"
    if files.list:
        return _find_listed(release, files.list, where)
    images = _matches(release, files.images, f"{where}.images")
    labels = _matches(release, files.labels, f"{where}.labels")
    counted = f"{len(images)} images pairs with one of {len(labels)} labels"
    first = f"{next(iter(images.values()))}, {next(iter(labels.values()))}"
    both, wider = {*images.values()} & {*labels.values()}, max(images, labels, key=len)
    for texts in [texts for texts, path in wider.items() if path in both]:
        del wider[texts]
    if not images.keys() & labels.keys():
        advice = "the wildcards of both globs must stand for the same text, or use `list`"
        raise DataError(f"{where}: none of {counted} (first ones: {first}); {advice}")
    found = layout.pair(images, labels, files.images, files.labels)
    return replace(found, notes=_beside(own, release, files, where))


def _beside(own: OwnData, release: Release, files: OwnSplit, where: str) -> tuple[str, ...]:
    """Pictures and videos in the folders of a split that no glob of any split matches."""
    globs = [layout.pattern(glob) for split in own.splits.values() for glob in (split.images, split.labels) if glob]
    places = {layout.fixed_part(glob) for glob in (files.images, files.labels)}
    paths = sorted({place + path for place in places for path in release.below(place)})
    known = PICTURE_SUFFIXES | VIDEO_SUFFIXES
    left = [p for p in paths if suffix_of(p) in known and not any(glob.fullmatch(p) for glob in globs)]
    return (f"{where}: no glob matches {len(left)} other files there: {by_suffix(left)}",) if left else ()


def _find_listed(release: Release, path: str, where: str) -> Found:
    try:
        data = release.read(path)
        lines = data.decode("utf-16" if data[:2] in _UTF16 else "utf-8-sig", "surrogateescape").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}.list: {release}/{path} cannot be read ({error})") from error
    pairs, repeated = dict[str, Pair](), 0
    for number, line in enumerate(lines, 1):
        at = f"{release}/{path}, line {number}"
        words = line.split("\t") if "\t" in line else line.split()
        if not words:
            continue
        if len(words) != 2:
            what = f'{len(words)} words, expected "image label"'
            raise DataError(f"{at}: {what} (separate paths that hold spaces by a tab)")
        image, label = (_relative(release, word, at) for word in words)
        pair = Pair(key=key_of(image), image=image, label=label)
        repeated += image in pairs
        if (former := pairs.setdefault(image, pair)) != pair:
            raise DataError(f"{at}: {image} has the label {label} here and {former.label} above; name one of them")
    if not pairs:
        raise DataError(f"{where}.list: {release}/{path} names no images")
    twice = f"{where}.list: {repeated} lines of {release}/{path} name a pair again; each is taken once"
    return Found(pairs=tuple(pairs.values()), notes=(twice,) if repeated else ())


def _relative(release: Release, path: str, at: str) -> str:
    """A listed path below the data's folder; it may be absolute, begin with `/` for that folder, have backslashes."""
    path = path.replace("\\", "/") if "\\" in path and not release.has(path) else path
    if not path.startswith("/"):
        return path
    root = f"{os.path.abspath(release.root)}/"  # noqa: PTH100 - as it is spelt, links and all
    inside = path.removeprefix(root).lstrip("/")
    if not release.has(inside):
        raise DataError(f"{at}: {path} is absolute, and neither in {root} nor, taken as relative to it, a file there")
    return inside


def _matches(release: Release, glob: str, where: str) -> dict[tuple[str, ...], str]:
    if glob.startswith("/") or ".." in glob.split("/"):
        raise DataError(f"{where}: {glob!r} is not a glob relative to the data's folder")
    found = dict(layout.matches(release, glob))
    if not found:
        raise DataError(f"{where}: {glob!r} matches no file below {release}")
    return found
