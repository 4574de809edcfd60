"""Where the files of a split lie: globs whose wildcards pair an image with its label, and lists of images.

An image and a label belong together if the wildcards of the two globs stand for the same text, and a suffix is
the same in capitals. Where the split cannot be told from the files, a list is carried in the dataset's folder (MSeg
data, CC-BY 4.0; see NOTICE): `SPLIT.txt`, or compressed as `SPLIT.txt.xz`, with the name of one image per line, without
its extension. KITTI's 200 labelled images were divided at random, SUN RGB-D's val is 475 of the official test images,
VOC's train is the SBD-augmented list, PASCAL Context has the lists of VOC 2010, ScanNet those of its benchmark.
"""

import functools
import lzma
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Found, Pair
from segstream.shards.errors import DataError
from segstream.shards.format.keys import key_of

_HERE = Path(__file__).parent
_WILDCARD = re.compile(r"(\*\*/|\*|\?)")
_REGEX = {"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}

Matches = Mapping[tuple[str, ...], str]
"""Files of a glob by the texts that its wildcards stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where a release's files lie, as `dataset.yaml` says it."""

    images: str = ""
    """Glob below the release's root; `{split}` stands for the release's own word for the split."""
    labels: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    """Split -> the release's own word for it, where that is another."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What else stands in braces in the globs -> the text it stands for."""
    other: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Split -> the fields, `split` among them, that are other texts for it."""


def folder_of(dataset: str) -> Path:
    """Where all that concerns one released dataset lies."""
    return _HERE / dataset.replace("-", "_")


@functools.cache
def split_list(dataset: str, part: str) -> tuple[str, ...] | None:
    """The lines of a list that the dataset's folder carries, in the order published; None if there is none."""
    path = folder_of(dataset) / f"{part}.txt"
    if path.is_file():
        return tuple(path.read_text("ascii").split())
    packed = path.with_name(f"{path.name}.xz")
    return tuple(lzma.decompress(packed.read_bytes()).decode("ascii").split()) if packed.is_file() else None


def find(release: Release, split: str, *, dataset: str, files: Files) -> Found:
    """The pairs of a split, as `dataset.yaml` and the carried lists say.

    Raises:
        DataError: a folder of the release is missing.
    """
    texts = {"split": files.words.get(split, split), **files.fields, **files.other.get(split, {})}
    images, labels = (glob.format_map(texts) for glob in (files.images, files.labels))
    names = split_list(dataset, split)
    return find_all(release, images, labels) if names is None else find_listed(release, names, images, labels)


def find_all(release: Release, images: str, labels: str) -> Found:
    """Pair all files of one glob with those of another.

    Raises:
        DataError: a folder of the release is missing.
    """
    for glob in (labels, images):
        folder(release, fixed_part(glob))
    return pair(matches(release, images), matches(release, labels), images, labels)


def find_listed(release: Release, names: Iterable[str], images: str, labels: str) -> Found:
    """Pair those images of a list that the release holds.

    Args:
        names: of the image files, below the glob's folder and without extension.

    Raises:
        DataError: a folder of the release is missing.
    """
    start, end, regex = fixed_part(images), images[images.rindex(".") :], pattern(images)
    for glob in (images, labels):
        folder(release, fixed_part(glob))
    pairs, absent = [], []
    for path in (f"{start}{name}{end}" for name in names):
        match = regex.fullmatch(path)
        if match and release.has(path):
            pairs.append(Pair(key=key_of(path.removeprefix(start)), image=path, label=_fill(labels, match.groups())))
        else:
            absent.append(path)
    return Found(pairs=tuple(pairs), absent=tuple(absent))


def pair(images: Matches, labels: Matches, image_glob: str, label_glob: str) -> Found:
    """Pair files whose wildcards stand for the same text; a label that is missing is named as it should be."""
    start = fixed_part(image_glob)
    pairs = tuple(
        Pair(key=key_of(path.removeprefix(start)), image=path, label=labels.get(texts) or _fill(label_glob, texts))
        for texts, path in images.items()
    )
    return Found(pairs=pairs, orphans=tuple(sorted(labels[texts] for texts in labels.keys() - images.keys())))


def matches(release: Release, glob: str) -> Matches:
    """The files of a glob.

    Raises:
        DataError: two of them differ in the letter case of their suffix only, which a glob does not tell apart.
    """
    start, regex = fixed_part(glob), pattern(glob)
    found: dict[tuple[str, ...], str] = {}
    for path in (start + path for path in release.below(start)):
        if (match := regex.fullmatch(path)) and (other := found.setdefault(match.groups(), path)) != path:
            raise DataError(f"{release}: {glob!r} means both {other} and {path}; move one of them out of the folder")
    return found


def fixed_part(glob: str) -> str:
    """The folders before the first wildcard: `images/train/*.jpg` -> `images/train/`."""
    return "".join(_WILDCARD.split(glob)[0].rpartition("/")[:2])


def folder(release: Release, path: str) -> str:
    """A folder that the release must hold.

    Raises:
        DataError: it does not.
    """
    path = path.rstrip("/")
    if release.has_folder(path):
        return path
    missing = f"{release}/{path}" if release.root.is_dir() else str(release)
    packed = f"unpack {', '.join(release.packed())}; " if release.packed() else ""
    advice = f"{packed}--raw must name the folder that holds {path}/ (see `segstream datasets NAME`)"
    raise DataError(f"{missing}: no such folder; {advice}")


def pattern(glob: str) -> re.Pattern[str]:
    """With one group for each wildcard; a suffix may be in capitals or not."""
    end = PurePosixPath(glob).suffix
    head, tail = (
        "".join(_REGEX.get(piece) or re.escape(piece) for piece in _WILDCARD.split(part))
        for part in (glob.removesuffix(end), end)
    )
    return re.compile(f"{head}(?i:{tail})")


def _fill(glob: str, texts: tuple[str, ...]) -> str:
    """The path a glob means when its wildcards stand for these texts."""
    left = iter(texts)
    return _WILDCARD.sub(lambda wildcard: next(left, wildcard.group()), glob)
