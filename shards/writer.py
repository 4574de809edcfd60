"""Encoded samples to one tar: atomic, the same bytes for the same samples, and an index row for each."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import webdataset as wds

from shards.files import writing
from shards.index import Row, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sample ready to be stored."""

    key: str
    size_hw: tuple[int, int]
    classes: tuple[int, ...]
    members: Mapping[str, bytes]
    """By file name suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What is known of a tar once it is written."""

    bytes: int
    sha256: str
    rows: tuple[Row, ...]


def write_shard(path: Path, samples: Iterable[Sample]) -> Written:
    """Write one tar and read back where each member lies.

    Nothing is written if there are no samples.

    Raises:
        DataError: the system refuses to write.
    """
    notes: list[tuple[Sample, dict[str, int]]] = []
    with writing(path) as file:
        stream = _HashingStream(file)
        with wds.TarWriter(stream, encoder=False, mtime=0) as tar:  # mtime defaults to now: no two runs would agree
            for sample in samples:
                tar.write({"__key__": sample.key, **sample.members})
                crcs = {suffix: zlib.crc32(data) for suffix, data in sample.members.items()}
                notes.append((Sample(key=sample.key, size_hw=sample.size_hw, classes=sample.classes, members={}), crcs))
        file.flush()
        with tarfile.open(file.name) as tar:
            places = {member.name: (member.offset_data, member.size) for member in tar}
    rows = tuple(
        Row(
            key=sample.key,
            size_hw=sample.size_hw,
            classes=sample.classes,
            members={suffix: Span(*places[f"{sample.key}.{suffix}"], crc) for suffix, crc in crcs.items()},
        )
        for sample, crcs in notes
    )
    return Written(bytes=stream.size, sha256=stream.sha256.hexdigest(), rows=rows)


class _HashingStream(io.RawIOBase):
    """Passes bytes on and keeps their SHA-256."""

    def __init__(self, file: BinaryIO):
        self.file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)
