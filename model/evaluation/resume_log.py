"""What an unfinished evaluation has counted so far, so that the same command goes on where a killed one stopped.

A folder beside the result file, removed once that is written: `identity.json` says which evaluation it belongs to,
`rank-00000.jsonl` (one per process) holds a line per image: the CRC-32 of the rest, then where the image stands and its
confusion matrices, of which most entries are 0, as (flat index, pixels). A line that was cut off or damaged fails its
check and its image is counted again. Counts are integers, so their sum does not depend on who counted what or when.
"""

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segstream.model.checkpoint import stored_differences
from segstream.model.distributed import ProcessGroup
from segstream.model.evaluation.metrics import Confusion
from segstream.shards.errors import DataError, first_few
from segstream.shards.files import append, break_links, make_folder, sole_writer, write_text

IDENTITY = "identity.json"
Sparse = tuple[list[int], list[int]]
"""Of a confusion matrix the flat indices that are not 0, and their pixels."""


def dense(sparse: Sparse, size: tuple[int, int]) -> Confusion:
    """The confusion matrix, (K, K) or (K, K + 1), of which a log holds what is not 0."""
    counts = np.zeros(size, np.int64)
    counts.ravel()[sparse[0]] = sparse[1]
    return counts


@dataclass(frozen=True, slots=True)
class SetLog:
    """The part of a log that tells of one data set."""

    file: Path
    """Of this process."""
    number: int
    """Of the data set in this evaluation."""
    done: Mapping[int, Sequence[Sparse]]
    """The counts of all images that any process has finished before, by their numbers in the set."""

    def add(self, sample: int, counts: Sequence[Confusion]) -> None:
        """One image is done; a kill from here on does not lose it.

        Raises:
            DataError: it cannot be written.
        """
        sparse = [(np.flatnonzero(c), c.ravel()[np.flatnonzero(c)]) for c in counts]
        content = [self.number, sample, [[at.tolist(), pixels.tolist()] for at, pixels in sparse]]
        text = json.dumps(content, separators=(",", ":")).encode()
        # The line feed comes first: the file may end in a line that a kill has cut off.
        append(self.file, b"\n%08x %s" % (zlib.crc32(text), text))


@contextlib.contextmanager
def resume_log(
    folder: Path, identity: Mapping[str, Any], sets: int, ranks: ProcessGroup, *, restart_changed: bool
) -> Iterator[list[SetLog]]:
    """The logs of an evaluation's data sets; its folder, made if need be, is held for the block by rank 0.

    Args:
        identity: JSON-able; equal identities mean equal counts of every image.
        sets: how many data sets there are.
        restart_changed: forget what another evaluation left here, instead of refusing.

    Raises:
        DataError: it belongs to another evaluation, another command is writing here, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        ranks.from_main(lambda: stack.enter_context(_held(folder, identity, restart_changed)))
        file = folder / f"rank-{ranks.rank:05d}.jsonl"
        logs = [SetLog(file, number, done) for number, done in enumerate(_read(folder, sets))]
        ranks.barrier()  # all have read what is done before anyone writes more
        yield logs


@contextlib.contextmanager
def _held(folder: Path, identity: Mapping[str, Any], restart_changed: bool) -> Iterator[None]:
    make_folder(folder)
    with sole_writer(folder):
        changed = stored_differences(folder / IDENTITY, identity, advice=f"remove {folder} and start over")
        if changed and not restart_changed:
            raise DataError(
                f"{folder}: holds another, unfinished evaluation: {first_few(changed)}. Finish that one, "
                f"choose another --out, or start over with --restart-changed"
            )
        if changed != []:
            for file in (*folder.glob("rank-*.jsonl"), folder / IDENTITY):
                file.unlink(missing_ok=True)
            write_text(folder / IDENTITY, json.dumps(identity, indent=1) + "\n")
        break_links(folder.glob("rank-*.jsonl"))
        yield


def _read(folder: Path, sets: int) -> list[dict[int, list[Sparse]]]:
    """By data set the counts of every image that was noted whole."""
    found: list[dict[int, list[Sparse]]] = [{} for _ in range(sets)]
    for file in sorted(folder.glob("rank-*.jsonl")):
        for line in file.read_bytes().split(b"\n"):
            check, _, text = line.partition(b" ")
            if text and check == b"%08x" % zlib.crc32(text):
                number, sample, counts = json.loads(text)
                found[number][sample] = counts
    return found
