"""What a user gives to `predict`: files, folders, globs, lists and shard sets become items."""

import glob
import os
from functools import partial
from pathlib import Path

from segstream.cli.console import note
from segstream.cli.predictions.output_folder import Item, distinct, named
from segstream.pipeline.decode import decode_image
from segstream.shards.codecs.formats import PICTURE_SUFFIXES, VIDEO_SUFFIXES, by_suffix, suffix_of
from segstream.shards.codecs.images import Rgb
from segstream.shards.datasets.release import escapes, walk
from segstream.shards.errors import DataError, first_few, public
from segstream.shards.format.keys import unescape
from segstream.shards.format.manifest import NAME as MANIFEST
from segstream.shards.format.reader import ShardSet, open_shards


def is_set(source: str) -> bool:
    """Whether it names a shard set: any URL, or a folder with a manifest beside tars."""
    return "://" in source or ((Path(source) / MANIFEST).is_file() and any(Path(source).glob("*.tar")))


def of_set(url: str) -> tuple[list[Item], dict[str, str]]:
    """The samples of a shard set, named as their images were, and what to know the set by.

    Raises:
        DataError, UsageError: as `open_shards`; or two samples would write the same files.
    """
    shards = open_shards(url)
    keys = [entry.key for n in range(len(shards.shard_sizes)) for entry in shards.index(n).samples]
    names = (key if escapes(unescape(key)) else unescape(key) for key in keys)
    samples = enumerate(zip(keys, names, strict=True))
    items = [Item(f"{public(url)}/{key}", name, partial(_sample, shards, i)) for i, (key, name) in samples]
    return distinct(items), {"data": shards.manifest.digest}


def of_files(source: str, out: Path) -> list[Item]:
    """A video by itself, or the pictures of a file, a folder, a glob or a list.

    Args:
        out: where results go; what lies there is left out.

    Raises:
        DataError: there is none, a line of a list names none, or two would write the same files.
    """
    root = Path(source)
    if root.is_file() and suffix_of(source) == ".txt":
        return named(*_listed(root))
    if suffix_of(source) in VIDEO_SUFFIXES and not root.is_dir():
        return named([root], root.parent)
    *found, root = find_pictures(source)
    pictures, others = (
        [path for path in of_kind if out.resolve() not in path.resolve().parents]  # not our overlays
        for of_kind in found
    )
    if others:
        videos = "; name a video to segment it" if any(suffix_of(path) in VIDEO_SUFFIXES for path in others) else ""
        note(f"predict: left out {len(others)} files that are no pictures: {by_suffix(others)}{videos}")
    if not pictures:
        raise DataError(f"{source}: all of its pictures are in --out {out}; give another folder")
    return named(pictures, root)


def find_pictures(spec: str | Path) -> tuple[list[Path], list[Path], Path]:
    """Files that a user means: one file, a folder (searched to any depth, hidden files left out) or a glob.

    Returns:
        Sorted paths of pictures, at least one, and of the other files; and the folder below which they have their
        names. A file that is named is taken whatever its suffix; from folders and globs those of `PICTURE_SUFFIXES`,
        in any case.

    Raises:
        DataError: there is none.
    """
    root = Path(spec)
    if root.is_file():
        return [root], [], root.parent
    if root.is_dir():
        none = "there are no files"
        found = [root / path for path in walk(root) if not path.startswith(".") and "/." not in path]
    else:
        none = "nothing is there"
        globbed = map(Path, glob.glob(str(spec), recursive=True))  # noqa: PTH207 (Path has no absolute patterns)
        found = [path for path in globbed if not path.is_dir()]
        fixed = next((i for i, part in enumerate(root.parts) if glob.has_magic(part)), len(root.parts) - 1)
        root = Path(*root.parts[:fixed])  # without wildcards
    kinds = (True, False)
    pictures, others = (sorted(p for p in found if (suffix_of(p) in PICTURE_SUFFIXES) is kind) for kind in kinds)
    if not pictures:
        suffixes = " ".join(sorted(suffix[1:] for suffix in PICTURE_SUFFIXES))
        held = f"there are {by_suffix(others)}" if others else none
        raise DataError(f"{spec}: no picture ({suffixes}), {held}; name a file, a folder or a quoted glob")
    return pictures, others, root


def _listed(path: Path) -> tuple[list[Path], Path]:
    """The files of a list, and the folder below which they have their names: the list's own, or what they share."""
    try:
        lines = path.read_text("utf-8-sig", "surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    root = Path(os.path.abspath(path.parent))  # noqa: PTH100 - links stay
    found = {n: Path(os.path.abspath(root / line.strip())) for n, line in enumerate(lines, 1) if line.strip()}  # noqa: PTH100
    first = {file: n for n, file in reversed(found.items())}
    told = {n: "no file" if not os.path.isfile(file) else f"line {first[file]} again" for n, file in found.items()}  # noqa: PTH113
    wrong = [f"line {n}: {lines[n - 1]!r} is {what}" for n, what in told.items() if what != f"line {n} again"]
    if wrong or not found:
        raise DataError(f"{path}: {first_few(wrong) or 'no path in it'}; a line is a path, relative to the list")
    if not all(file.is_relative_to(root) for file in found.values()):
        root = Path(os.path.commonpath([file.parent for file in found.values()]))
    return list(found.values()), root


def _sample(shards: ShardSet, i: int) -> Rgb:
    return decode_image(shards.read(i, "image"), where=f"{shards.url}/{shards.entry(i).key}")
