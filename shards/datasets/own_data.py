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

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segstream.shards.datasets.release import Raw
from segstream.shards.datasets.sources import Found, Pair, Source, read_ids
from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.format.keys import key_of
from segstream.shards.schema import parse, read_yaml
from segstream.shards.taxonomy import IGNORE_INDEX, Taxonomy, build_remap, taxonomy_names, universal_ids

_MAX_ID = 65535  # of a 16-bit label file
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_WILDCARD = re.compile(r"(\*\*/|\*|\?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClass:
    """One class of own data."""

    name: str
    universal: str | tuple[str, ...] = ()
    """Universal class or classes it stands for; the first one is what its labels become in training."""
    id: int | None = None

    @property
    def universal_names(self) -> tuple[str, ...]:
        """As a tuple, however it was written."""
        return (self.universal,) if isinstance(self.universal, str) else self.universal


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
    licence: str = "not stated"
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


def load(path: Path) -> OwnData:
    """Read and check the YAML.

    Raises:
        DataError: what is wrong with it, with the field's name.
    """
    own = parse(OwnData, read_yaml(path), at=str(path))
    taxonomy(own, at=str(path))
    return own


def taxonomy(own: OwnData, *, at: str) -> Taxonomy:
    """The class list with its universal mapping; without any `universal` there is none ("native only").

    Of two classes that name one universal class, both train it, and the first one receives its predictions.

    Raises:
        DataError: a universal class that does not exist.
    """
    ids = [
        universal_ids(c.universal_names, at=f"{at}.classes[{i}].universal") if c.universal_names else ()
        for i, c in enumerate(own.classes)
    ]
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


def source(own: OwnData, *, at: str) -> Source:
    """The source that the YAML describes; `at` names it in errors."""
    pairs = dict.fromkeys((IGNORE_INDEX, *own.ignore), IGNORE_INDEX) | {i: n for n, i in enumerate(own.ids)}
    return Source(
        native=taxonomy(own, at=at),
        release=build_remap(f"{own.name} ({Path(at).name})", own.name, pairs),
        find=functools.partial(_find, own, at),
        read_label=read_ids,
    )


def _find(own: OwnData, at: str, raw: Raw, split: str) -> Found:
    if split not in own.splits:
        raise UsageError(f"{at}: no split {split!r}; {did_you_mean(split, own.splits)}")
    if not raw.root.is_dir():
        raise DataError(f"{raw}: no such folder; give the folder of the data with --raw, or as `root` in {at}")
    files = own.splits[split]
    where = f"{at}.splits.{split}"
    return _from_list(raw, files.list, where) if files.list else _from_globs(raw, files, where)


def _from_globs(raw: Raw, files: OwnSplit, where: str) -> Found:
    images = _matches(raw, files.images, f"{where}.images")
    labels = _matches(raw, files.labels, f"{where}.labels")
    if not images.keys() & labels.keys():
        raise DataError(
            f"{where}: none of {len(images)} images pairs with one of {len(labels)} labels (first ones: "
            f"{next(iter(images.values()))}, {next(iter(labels.values()))}); the wildcards of both globs must stand "
            f"for the same text, or use `list`"
        )
    root = _fixed_part(files.images)
    pairs = [
        Pair(key=key_of(path.removeprefix(root)), image=path, label=labels.get(found) or _fill(files.labels, found))
        for found, path in images.items()
    ]
    return Found(pairs=tuple(pairs), orphans=tuple(labels[f] for f in sorted(labels.keys() - images.keys())))


def _from_list(raw: Raw, path: str, where: str) -> Found:
    try:
        lines = raw.read(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}.list: {raw}/{path} cannot be read ({error}); check the path") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        words = line.split("\t") if "\t" in line else line.split()
        if not words:
            continue
        if len(words) != 2:
            raise DataError(
                f'{raw}/{path}, line {number}: {len(words)} words, expected "image label" (separate paths that '
                f"hold spaces by a tab)"
            )
        pairs.append(Pair(key=key_of(words[0]), image=words[0], label=words[1]))
    if not pairs:
        raise DataError(f"{where}.list: {raw}/{path} names no images")
    return Found(pairs=tuple(pairs))


def _matches(raw: Raw, glob: str, where: str) -> dict[tuple[Any, ...], str]:
    """Files of a glob by the texts its wildcards stand for."""
    pattern = re.compile(_regex(glob))
    if not glob or glob.startswith("/") or ".." in glob.split("/"):
        raise DataError(f"{where}: {glob!r} is not a glob relative to the data's folder")
    fixed = _fixed_part(glob)
    paths = (fixed + path for path in raw.below(fixed))
    found = {match.groups(): path for path in paths if (match := pattern.fullmatch(path))}
    if not found:
        raise DataError(f"{where}: {glob!r} matches no file below {raw}; check the pattern and --raw")
    return found


def _regex(glob: str) -> str:
    """A glob as a regular expression with one group for each wildcard."""
    parts = {"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}
    return "".join(parts.get(piece) or re.escape(piece) for piece in _WILDCARD.split(glob))


def _fill(glob: str, texts: tuple[Any, ...]) -> str:
    """The path a glob means when its wildcards stand for these texts."""
    left = iter(texts)
    return _WILDCARD.sub(lambda wildcard: next(left, wildcard.group()), glob)


def _fixed_part(glob: str) -> str:
    """The folders before the first wildcard: `images/train/*.jpg` -> `images/train/`."""
    return "".join(_WILDCARD.split(glob)[0].rpartition("/")[:2])
