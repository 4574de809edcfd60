"""One shard's conversion, in whichever process: read, remap, encode, write, and know again what was already done."""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.codecs import images
from segstream.shards.codecs.png import encode_label
from segstream.shards.codecs.row_blocks import jpeg_blocks, label_blocks
from segstream.shards.convert.auto_labels import PREFIX, AutoLabels
from segstream.shards.convert.relabel import LEFT_OUT, outcome_of, relabel
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Pair
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.files import RUN_AGAIN, digest, write_bytes
from segstream.shards.format import index as indexes
from segstream.shards.format.left_out import BadFileError, LeftOut
from segstream.shards.format.manifest import ShardInfo
from segstream.shards.format.writer import ShardSample, Written, write_shard
from segstream.shards.taxonomy import IGNORE_INDEX, Remap, remap_label

_FLOAT_EXACT = 1 << 24  # OpenCV counts in float32, whole numbers up to here
_Files = dict[str, bytes | str]
"""A pair's files by path: their bytes, or why there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all shards of one conversion share."""

    dataset: Dataset
    split: str
    release: Release
    universal: Remap | None
    """Native ids -> universal ids; None leaves the `universal` member out."""
    relabel: bool
    """Write `universal-relabeled` as well, with the pairs' `edits`."""
    auto: AutoLabels | None
    """What takes the place of the release's labels."""
    short_side: int | None
    """Images are shrunk to be at most so high or wide (training)."""
    jpeg_quality: int | None
    """Of images as JPEG (training); None: the source's own pixels."""
    identity: str
    """Digest of everything above but `release`, of the tables' contents, and of the tool: part of the fingerprint."""


class Planned(NamedTuple):
    """One shard to be made."""

    path: Path
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the manifest needs to know of a shard."""

    info: ShardInfo | None
    """None if not one of its samples could be used, so that it was not written."""
    index: indexes.ShardIndex
    """But for its samples, which may be many."""
    pixels: int
    """Of all samples."""
    alike: Set[tuple[str, int]]
    """Suffixes and CRC-32s of the members that are the same in all samples."""
    kept: bool
    """It was there already."""


@dataclass(slots=True)
class _Builder:
    """A shard at work, and what accumulates while its samples pass by."""

    setup: Setup
    left_out: list[LeftOut] = field(default_factory=list)
    outcomes: list[indexes.RelabelOutcome] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    counts: list[indexes.Counts] = field(default_factory=list)
    ignored: Counter[int] = field(default_factory=Counter)

    def samples(self, pairs: Sequence[Pair]) -> Iterator[ShardSample]:
        """Those of the pairs that can be used."""
        for pair in pairs:
            files = _files(self.setup, pair)
            self.sources.append(_identity(pair, files))
            try:
                yield self._sample(pair, files)
            except BadFileError as error:
                self.left_out.append(LeftOut(key=pair.key, path=error.path, reason=error.reason))
                if pair.edits:
                    self.outcomes.append(outcome_of(pair.edits, [LEFT_OUT] * len(pair.edits.records)))

    def _sample(self, pair: Pair, read: _Files) -> ShardSample:
        for path, data in read.items():
            if isinstance(data, str):
                raise BadFileError(path, data)
        files = {path: data for path, data in read.items() if isinstance(data, bytes)}
        try:
            picture = self.setup.dataset.read_image(files[pair.image])
            size_hw = images.fit(picture.size_hw, self.setup.short_side)
            suffix, member = _image_member(self.setup.jpeg_quality, files[pair.image], picture, size_hw)
        except UnreadableError as error:
            raise BadFileError(pair.image, str(error)) from error
        labels = self._labels(pair, pair.label, files, picture.size_hw, size_hw) if pair.label is not None else {}
        classes = self._count(labels)
        members = {suffix: member, "json": _json(self.setup, pair, picture.size_hw)}
        encoded = {f"{name}.png": encode_label(label) for name, label in labels.items()}
        blocks = {name: label_blocks(data) for name, data in encoded.items()}
        if suffix == "jpg" and (found := jpeg_blocks(member)):
            blocks["jpg"] = found
        return ShardSample(key=pair.key, size_hw=size_hw, classes=classes, members=members | encoded, blocks=blocks)

    def _labels(
        self, pair: Pair, path: str, files: Mapping[str, bytes], original: tuple[int, int], size_hw: tuple[int, int]
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """Label members by name, each (H, W) of the stored size."""
        dataset, universal = self.setup.dataset, self.setup.universal
        assert dataset.remap is not None
        try:
            auto = self.setup.auto
            released: Any = (
                auto.label(pair, files, dataset, original) if auto else dataset.read_label(files[path], pair)
            )
            whole = released if auto else remap_label(released, dataset.remap, where=path)
        except (UnreadableError, DataError) as error:
            raise BadFileError(path, str(error).removeprefix(f"{path}: ")) from error
        if whole.shape != original:
            raise BadFileError(path, f"label is {_by(whole.shape)}, {pair.image} is {_by(original)} (height x width)")
        native = whole if size_hw == original else images.resize_label(whole, size_hw)
        if dataset.taxonomy.kind == "own":
            wide: Any = released if released.itemsize < 4 else released.astype(np.float64)  # which OpenCV resizes
            stored = wide if size_hw == original else images.resize_label(wide, size_hw)
            values, pixels = np.unique(stored[native == IGNORE_INDEX], return_counts=True)
            self.ignored.update(dict(zip(map(int, values), pixels.tolist(), strict=True)))
        if universal is None:
            return {"native": native}
        labels = {"native": native, "universal": remap_label(native, universal, where=path)}
        if self.setup.relabel:
            labels["universal-relabeled"] = labels["universal"]
            if pair.edits:
                assert dataset.segments is not None
                before = remap_label(whole, universal, where=path)
                after, outcome = relabel(before, pair.edits, dataset.segments, files[pair.edits.file])
                self.outcomes.append(outcome)  # nothing after this leaves the sample out
                labels["universal-relabeled"] = after if size_hw == original else images.resize_label(after, size_hw)
        return labels

    def _count(self, labels: Mapping[str, npt.NDArray[np.uint8]]) -> tuple[int, ...]:
        """Add the pixels of a sample's labels; returns the native ids present, ascending."""
        pixels = {name: _histogram(label) for name, label in labels.items() if name != "universal"}
        universal = self.setup.universal
        if universal is not None and "native" in pixels:  # the same pixels by other names
            pixels["universal"] = np.zeros_like(pixels["native"])
            np.add.at(pixels["universal"], universal.table, pixels["native"])
        shown = {name: {i: (n, 1) for i, n in enumerate(p[:IGNORE_INDEX].tolist()) if n} for name, p in pixels.items()}
        self.counts.append(shown)
        return tuple(shown.get("native", ()))


def _histogram(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(256,) pixels by id."""
    if label.size >= _FLOAT_EXACT:
        return np.bincount(label.ravel(), minlength=256)
    return cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def shard_name(number: int) -> str:
    """File name of the shard with this number."""
    return f"shard-{number:06d}.tar"


def build_shard(setup: Setup, planned: Planned) -> Made:
    """Make one shard with its index, or keep the one that is there if it was made from the same things.

    A shard none of whose samples can be used is not written.

    Raises:
        DataError: the system refuses to write.
    """
    cv2.setNumThreads(1)  # shards are made side by side
    kept = _whole_shard(setup, planned)
    index = kept or _build(setup, planned)
    info = ShardInfo(
        name=index.shard,
        bytes=index.bytes,
        sha256=index.sha256,
        samples=len(index.samples),
        index_sha256=hashlib.sha256(indexes.dump_index(index)).hexdigest(),
    )
    members = [{(suffix, span.crc32) for suffix, span in entry.members.items()} for entry in index.samples]
    return Made(
        info=info if index.samples else None,
        index=replace(index, samples=()),
        pixels=sum(math.prod(entry.size_hw) for entry in index.samples),
        alike=members[0].intersection(*members[1:]) if members else set(),
        kept=kept is not None,
    )


def _build(setup: Setup, planned: Planned) -> indexes.ShardIndex:
    builder = _Builder(setup)
    samples = builder.samples(planned.pairs)
    first = next(samples, None)
    written = write_shard(planned.path, itertools.chain([first], samples)) if first else Written(0, "", ())
    index = indexes.ShardIndex(
        shard=planned.path.name,
        bytes=written.bytes,
        sha256=written.sha256,
        fingerprint=_fingerprint(setup, builder.sources),
        samples=written.samples,
        counts={**{name: {} for shown in builder.counts for name in shown}, **indexes.merge_counts(builder.counts)},
        left_out=tuple(builder.left_out),
        relabel=indexes.merge_outcomes(builder.outcomes) if setup.relabel else None,
        ignored=builder.ignored,
    )
    path = planned.path.with_name(indexes.index_name(index.shard))
    write_bytes(path, indexes.dump_index(index), advice=RUN_AGAIN, durable=True)
    return index


def _image_member(
    jpeg_quality: int | None, data: bytes, picture: images.Picture, size_hw: tuple[int, int]
) -> tuple[str, bytes]:
    """(suffix, bytes); the source's own bytes wherever they are what is wanted."""
    if jpeg_quality is None:
        return (picture.as_is, data) if picture.as_is else ("png", images.encode(".png", picture.pixels))
    if size_hw != picture.size_hw:
        return "jpg", images.encode_jpeg(images.resize_picture(picture.pixels, size_hw), jpeg_quality)
    return "jpg", data if picture.as_is == "jpg" else images.encode_jpeg(picture.pixels, jpeg_quality)


def _json(setup: Setup, pair: Pair, size_hw: tuple[int, ...]) -> bytes:
    content = {
        "dataset": setup.dataset.name,
        "split": setup.split,
        "licence": setup.dataset.licence,
        "image": pair.image,
        "label": pair.label,
        "original_size_hw": list(size_hw),
        **({"auto_label": setup.auto.paths(pair)[0]} if setup.auto else {}),
    }
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return text.encode("utf-8", "backslashreplace")  # of a name that is not UTF-8, JSON's own escapes


def _whole_shard(setup: Setup, planned: Planned) -> indexes.ShardIndex | None:
    """The index of a finished shard made from these very files and parameters, if there is one."""
    try:
        data = planned.path.with_name(indexes.index_name(planned.path.name)).read_bytes()
        index = indexes.load_index(data, where=planned.path.name)
        if indexes.dump_index(index) != data:
            return None
        if index.samples and (planned.path.stat().st_size != index.bytes or digest(planned.path) != index.sha256):
            return None
    except (OSError, DataError):
        return None  # whatever it is, it is made again
    sources = [_identity(pair, _files(setup, pair)) for pair in planned.pairs]
    return index if index.fingerprint == _fingerprint(setup, sources) else None


def _fingerprint(setup: Setup, sources: list[Any]) -> str:
    return hashlib.sha256(json.dumps([setup.identity, sources]).encode()).hexdigest()


def _identity(pair: Pair, files: _Files) -> Any:
    hashes = [hashlib.sha256(d).hexdigest() if isinstance(d, bytes) else d for d in files.values()]
    edits = [pair.edits.file, pair.edits.records] if pair.edits else []
    return [pair.key, pair.image, pair.label, *hashes, pair.extra, *edits]


def _files(setup: Setup, pair: Pair) -> _Files:
    auto = setup.auto
    label = None if auto and not auto.or_coarse else pair.label
    files = {path: _read(setup.release, path) for path in (pair.image, label) if path is not None}
    if auto:
        files |= {PREFIX + path: _read(Release(Path(auto.folder)), path) for path in auto.paths(pair)}
    if pair.edits and pair.edits.file not in files:
        files[pair.edits.file] = _read(pair.edits.release, pair.edits.file)
    return files


def _read(release: Release, path: str) -> bytes | str:
    """A source file's bytes, or why there are none."""
    try:
        return release.read(path)
    except FileNotFoundError:
        return "missing file"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[:2]))
