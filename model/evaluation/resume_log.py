"""What an unfinished evaluation has counted so far, so that the same command goes on where a killed one stopped.

A folder beside the result file, removed once that is written: `identity.json` says which evaluation it belongs to,
`rank-00000.jsonl` (one per process) holds a line per image: the CRC-32 of the rest, then where the image stands and its
confusion matrices, of which most entries are 0, as (flat index, pixels). A line that was cut off or damaged fails its
check and its image is counted again. Counts are integers, so their sum does not depend on who counted what or when.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segstream.model.checkpoint import differences
from segstream.model.evaluation.metrics import Confusion
from segstream.shards.errors import DataError, first_few
from segstream.shards.files import make_folder, sole_writer, write_text

IDENTITY = "identity.json"
Place = tuple[int, int]
"""(data set, sample), by their numbers in this evaluation."""


@contextlib.contextmanager
def claimed(folder: Path, identity: Mapping[str, Any], *, restart_changed: bool) -> Iterator[None]:
    """Hold a journal's folder for the block, made if need be: by one process of an evaluation.

    Args:
        identity: JSON-able; equal identities mean equal counts of every image.
        restart_changed: forget what another evaluation left here, instead of refusing.

    Raises:
        DataError: it belongs to another evaluation, another command is writing here, or it cannot be written.
    """
    make_folder(folder)
    with sole_writer(folder):
        found = _identity(folder)
        changed = [] if found is None else differences(found, identity)
        if changed and not restart_changed:
            raise DataError(
                f"{folder}: holds another, unfinished evaluation: {first_few(changed)}. Finish that one, "
                f"choose another --out, or start over with --restart-changed"
            )
        if changed or found is None:
            clear(folder)
            write_text(folder / IDENTITY, json.dumps(identity, indent=1) + "\n")
        yield


def clear(folder: Path) -> None:
    """Remove what a journal holds."""
    for file in (*folder.glob("rank-*.jsonl"), folder / IDENTITY):
        file.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a journal whose evaluation has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def read_journal(folder: Path, blanks: Sequence[Sequence[Confusion]]) -> dict[Place, list[Confusion]]:
    """The counts of all images that any process has finished.

    Args:
        blanks: by data set, matrices of zeros in the shapes of an image's counts.
    """
    found = {}
    for file in sorted(folder.glob("rank-*.jsonl")):
        for line in file.read_bytes().split(b"\n"):
            record = _checked(line)
            if record is not None:
                number, sample, counts = record
                found[number, sample] = [_dense(c, blank) for c, blank in zip(counts, blanks[number], strict=True)]
    return found


class Journal:
    """Where one process notes what it has counted."""

    def __init__(self, folder: Path, rank: int):
        self._path = folder / f"rank-{rank:05d}.jsonl"
        self._file: BinaryIO = self._path.open("ab", buffering=0)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, place: Place, counts: Sequence[Confusion]) -> None:
        """One image is done; a kill from here on does not lose it.

        Raises:
            DataError: it cannot be written.
        """
        text = json.dumps([*place, [_sparse(c) for c in counts]], separators=(",", ":")).encode()
        try:
            # The line feed comes first: the file may end in a line that a kill has cut off.
            self._file.write(b"\n%08x %s" % (zlib.crc32(text), text))
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written ({error.strerror or error}); free space") from error


def _identity(folder: Path) -> Any:
    try:
        return json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / IDENTITY}: cannot be read ({error}); remove {folder} and start over") from error


def _checked(line: bytes) -> tuple[int, int, list[Any]] | None:
    check, _, text = line.partition(b" ")
    if check != b"%08x" % zlib.crc32(text) or not text:
        return None
    number, sample, counts = json.loads(text)
    return number, sample, counts


def _sparse(counts: Confusion) -> list[list[int]]:
    at = np.flatnonzero(counts)
    return [at.tolist(), counts.ravel()[at].tolist()]


def _dense(sparse: Sequence[Sequence[int]], blank: Confusion) -> Confusion:
    counts = blank.copy()
    counts.ravel()[list(sparse[0])] = sparse[1]
    return counts
