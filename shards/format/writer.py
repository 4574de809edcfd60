"""Encoded samples to one tar: atomic, the same bytes for the same samples, and an index row for each."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from segstream.shards.codecs.row_blocks import Blocks
from segstream.shards.files import RUN_AGAIN, writing
from segstream.shards.format.index import Row, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample ready to be stored."""

    key: str
    size_hw: tuple[int, int]
    classes: tuple[int, ...]
    members: Mapping[str, bytes]
    """By file name suffix."""
    blocks: Mapping[str, Blocks] = field(default_factory=dict)
    """Of the members whose rows can be had in blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What is known of a tar once it is written."""

    bytes: int
    sha256: str
    rows: tuple[Row, ...]


def write_shard(path: Path, samples: Iterable[Sample]) -> Written:
    """Write one tar and note where each member lies.

    Byte for byte what `webdataset.TarWriter(..., encoder=False, mtime=0)` writes. It is not used because importing
    it loads torch, which would cost every conversion and each of its workers more time than a small dataset takes.

    Raises:
        DataError: the system refuses to write.
    """
    rows = []
    with writing(path, advice=RUN_AGAIN) as file:
        stream = _HashingStream(file)
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            for sample in samples:
                members = {
                    suffix: _add(tar, f"{sample.key}.{suffix}", sample.members[suffix], sample.blocks.get(suffix))
                    for suffix in sorted(sample.members)
                }
                rows.append(Row(key=sample.key, size_hw=sample.size_hw, classes=sample.classes, members=members))
    return Written(bytes=stream.size, sha256=stream.sha256.hexdigest(), rows=tuple(rows))


def _add(tar: tarfile.TarFile, name: str, data: bytes, blocks: Blocks | None) -> Span:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o444, 0  # a true time would make no two runs agree
    info.uname = info.gname = "bigdata"
    tar.addfile(info, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return Span(tar.offset - padded, len(data), zlib.crc32(data), blocks)


class _HashingStream(io.RawIOBase):
    """Passes bytes on and keeps their SHA-256."""

    def __init__(self, file: BinaryIO):
        self.file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)
