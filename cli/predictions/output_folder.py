"""The folder that `predict` fills: whose it is, where each output goes, and what is finished already.

    predict.json                    identity: checkpoint, classes, procedure
    labels/REL.png                  ids, (H, W) at the input's size
    overlays/REL.jpg | REL.mp4      for people
    logits/REL_logits.npz           or REL_probabilities.npz
    confidences/REL.png             the highest probability, (H, W) of 16 bits: x 65535, truncated
    scales/S/REL_attention.png      of a network of several scales S: (H, W) grey, 255 = this scale is all that counts;
    scales/S/REL_overlay.jpg        what it says at this scale alone
    classes.json                    shares of classes

REL is the input's path below the folder (or the part of a glob without wildcards) that was given, without its suffix.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from segstream.cli.predictions import overlay
from segstream.colors import Rgb
from segstream.model.checkpoint import stored_differences
from segstream.shards.codecs.images import encode
from segstream.shards.codecs.png import encode_label
from segstream.shards.errors import DataError, first_few
from segstream.shards.files import write_bytes, write_text

IDENTITY = "predict.json"
JPEG_QUALITY = 92
Dump = Literal["logits", "probabilities"]
Row = dict[str, Any]
"""Of `classes.json`: file, size_hw, classes (name -> share of the pixels, the largest first), frames, error."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input and the name its outputs share."""

    path: Path | str
    """The file; or, for people, where a sample of a shard set lies."""
    name: str
    """With forward slashes, without suffix."""
    read: Callable[[], Rgb] | None = None
    """Reads the sample, (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFolder:
    """One such folder, and which outputs are wanted besides labels."""

    root: Path
    with_overlays: bool
    dump: Dump | None
    scales: Sequence[float] = ()
    """Of the network, whose attention and predictions are wanted."""
    with_confidences: bool = False
    threshold: float = 0.0
    """Confidence below which a pixel's id is `IGNORE_INDEX`."""

    def label(self, name: str) -> Path:
        """Where an input's label goes."""
        return self.root / "labels" / f"{name}.png"

    def overlay(self, name: str, suffix: str = ".jpg") -> Path:
        """Where an input's overlay goes."""
        return self.root / "overlays" / f"{name}{suffix}"

    def scores(self, name: str) -> Path:
        """Where an input's scores go."""
        return self.root / "logits" / f"{name}_{self.dump}.npz"

    def confidence(self, name: str) -> Path:
        """Where an input's confidences go."""
        return self.root / "confidences" / f"{name}.png"

    def at_scale(self, name: str, scale: float) -> tuple[Path, Path]:
        """Where an input's attention and overlay at one scale go."""
        stem = self.root / "scales" / f"{scale:g}" / name
        return stem.with_name(f"{stem.name}_attention.png"), stem.with_name(f"{stem.name}_overlay.jpg")

    def finished(self, item: Item) -> bool:
        """Whether a picture has all outputs, none older than itself or than the folder's identity."""
        paths = [self.label(item.name)]
        paths += [self.overlay(item.name)] if self.with_overlays else []
        paths += [self.scores(item.name)] if self.dump else []
        paths += [self.confidence(item.name)] if self.with_confidences else []
        paths += [path for scale in self.scales for path in self.at_scale(item.name, scale)]
        return newer(paths, *([item.path] if isinstance(item.path, Path) else []), self.root / IDENTITY)


def row_of(item: Item, size_hw: tuple[int, int], counts: npt.NDArray[np.integer], classes: Sequence[str]) -> Row:
    """The row of an input; `counts` are pixels by class."""
    shares = {found.name: round(found.share, 6) for found in overlay.shares(counts, classes)}
    return {"file": str(item.path), "size_hw": list(size_hw), "classes": shares}


def row_of_label(item: Item, ids: npt.NDArray[np.integer], classes: Sequence[str]) -> Row:
    """The row of an input with this label; shares are of the pixels that have a class."""
    counts = np.bincount(ids.ravel(), minlength=len(classes))
    return row_of(item, ids.shape, counts[: len(classes)], classes)


def claim(path: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Make a folder ours by a file that says what decides its contents.

    Returns:
        Whether outputs in it count as finished: they were made in the same way.

    Raises:
        DataError: they were made in another way, or the file cannot be read or written.
    """
    wrong = stored_differences(path, identity, advice="choose another --out, or delete the file")
    if wrong and not overwrite:
        raise DataError(f"{path}: made in another way: {first_few(wrong)}. Choose another --out, or --overwrite")
    if wrong != [] or overwrite:  # its time tells what an interrupted --overwrite has made since
        write_text(path, json.dumps(identity, indent=2) + "\n")
    return wrong is not None and not overwrite


def newer(paths: Sequence[Path], *than: Path) -> bool:
    """Whether all files exist and none is older than any of the others."""
    try:
        changed = max(path.stat().st_mtime_ns for path in than)
        return all(path.stat().st_mtime_ns >= changed for path in paths)
    except OSError:
        return False


def named(paths: Sequence[Path], root: Path) -> list[Item]:
    """Inputs with the names of their outputs.

    Raises:
        DataError: two inputs would write the same files.
    """
    return distinct([Item(path, path.relative_to(root).with_suffix("").as_posix()) for path in paths])


def distinct(items: list[Item]) -> list[Item]:
    """The items, whose names must differ; raises as `named`."""
    first: dict[str, Path | str] = {}
    for item in items:
        other = first.setdefault(item.name.lower(), item.path)  # some file systems do not tell letter case apart
        if other is not item.path:
            both = f"{other} and {item.path}"
            raise DataError(f"{both} would both become labels/{item.name}.png; give each its own --out")
    return items


def write_label(path: Path, ids: npt.NDArray[np.integer]) -> None:
    """A one-channel PNG of 8 or, for uint16, 16 bits.

    Raises:
        DataError: it cannot be written.
    """
    if ids.dtype == np.uint8:
        write_bytes(path, encode_label(ids.astype(np.uint8, copy=False)))
    else:
        write_bytes(path, cv2.imencode(".png", ids.astype(np.uint16))[1].tobytes())


def read_label(path: Path) -> npt.NDArray[np.integer]:
    """What `write_label` wrote.

    Raises:
        DataError: it cannot be read.
    """
    try:  # not imread: names that are not UTF-8 end the process
        ids = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error):  # OpenCV's: an empty file
        ids = None
    if ids is None or ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path}: not a label map of one channel; delete it, and run the command again")
    return ids.astype(np.uint16) if ids.dtype == np.uint16 else ids.astype(np.uint8)


def outputs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Ids and confidences by image: REL_pred.png and REL_conf.png, or what `predict --confidence` leaves.

    Raises:
        DataError: there are none.
    """
    predicted = (folder / "labels", ".png", folder / "confidences", ".png")
    for ids, ending, sure, other in ((folder, "_pred.png", folder, "_conf.png"), predicted):
        if names := [str(path.relative_to(ids)).removesuffix(ending) for path in sorted(ids.rglob(f"*{ending}"))]:
            return {name: (ids / f"{name}{ending}", sure / f"{name}{other}") for name in names}
    raise DataError(f"{folder}: no NAME_pred.png in it; name folders of logits to combine, or another --out")


def read_output(files: tuple[Path, Path]) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.uint16]]:
    """(H, W) ids and confidences.

    Raises:
        DataError: a file cannot be read, or they are not of one size.
    """
    pred, sure = map(read_label, files)
    if sure.dtype != np.uint16 or sure.shape != pred.shape:
        raise DataError(f"{files[1]}: {sure.dtype} of {sure.shape}, expected uint16 of {pred.shape}; make it again")
    return pred, sure.astype(np.uint16, copy=False)


def write_picture(path: Path, pixels: Rgb) -> None:
    """A JPEG for people.

    Raises:
        DataError: it cannot be written.
    """
    write_bytes(path, encode(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))


def write_scores(path: Path, scores: npt.NDArray[np.float32], kind: Dump) -> None:
    """A compressed npz with one array, `logits` or `probabilities`: (C, H, W) float16.

    Raises:
        DataError: it cannot be written.
    """
    file = io.BytesIO()
    np.savez_compressed(file, **{kind: scores.astype(np.float16)})  # type: ignore[arg-type]
    write_bytes(path, file.getvalue())
