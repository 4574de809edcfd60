"""Encoded samples to one tar: atomic, the same bytes for the same samples, and an index row for each."""

import hashlib
import io
import sys
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from segstream.shards.codecs.row_blocks import Blocks
from segstream.shards.files import RUN_AGAIN, writing
from segstream.shards.format.index import Entry, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSample:
    """A sample ready to be stored."""

    key: str
    size_hw: tuple[int, int]
    classes: tuple[int, ...]
    members: Mapping[str, bytes]
    """By file name suffix."""
    blocks: Mapping[str, Blocks] = field(default_factory=dict)
    """Of the members whose rows can be had in blocks."""


class Written(NamedTuple):
    """What is known of a tar once it is written."""

    bytes: int
    sha256: str
    samples: tuple[Entry, ...]


def write_shard(path: Path, samples: Iterable[ShardSample]) -> Written:
    """Write one tar and note where each member lies.

    Raises:
        DataError: the system refuses to write.
    """
    from webdataset import TarWriter  # imports torch, which takes seconds: whoever only reads need not wait for it

    entries = []
    with writing(path, advice=RUN_AGAIN) as file:
        stream = _HashingStream(file)
        with TarWriter(stream, encoder=False, mtime=0) as tar:  # a true time would make no two runs agree
            for sample in samples:
                members = {}
                for suffix, data in sorted(sample.members.items()):
                    tar.write({"__key__": sample.key, suffix: data})
                    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    offset = tar.tarstream.offset - padded
                    members[suffix] = Span(offset, len(data), zlib.crc32(data), sample.blocks.get(suffix))
                entries.append(Entry(key=sample.key, size_hw=sample.size_hw, classes=sample.classes, members=members))
    return Written(stream.size, stream.sha256.hexdigest(), tuple(entries))


def load_tar_writer() -> None:
    """Import webdataset without torch, which only its loaders use and which takes seconds.

    For a process of ours that has one thread, writes and ends: in it webdataset's loaders do not work.
    """
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
        import webdataset  # noqa: F401

        del sys.modules["torch"]


class _HashingStream(io.RawIOBase):
    """Passes bytes on and keeps their SHA-256."""

    def __init__(self, file: BinaryIO):
        self.file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.file.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)
