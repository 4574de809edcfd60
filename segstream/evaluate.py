"""A checkpoint meets shard sets: every image is segmented once for all the ways in which it is judged, and counted."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from segstream.cli.console import Report, progress
from segstream.colors import colorize
from segstream.eval_sets import Exam, Judge, Sample
from segstream.model.config import InferConfig
from segstream.model.device import pick_device
from segstream.model.distributed import ProcessGroup
from segstream.model.evaluation.evaluate import score, tally
from segstream.model.evaluation.metrics import Confusion, Rule
from segstream.model.evaluation.protocol import Protocol
from segstream.model.evaluation.resume_log import Journal, Place, claimed, read_journal, remove
from segstream.model.inference.infer import segment
from segstream.shards.errors import DataError
from segstream.shards.files import write_text

AHEAD = 2  # images read and decoded while the network is busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a model reached on one set, judged and segmented in one way."""

    exam: Exam
    protocol: Protocol
    config: InferConfig
    confusion: Confusion
    row: dict[str, Any]
    """An element of what `segstream eval --json` prints."""
    images_per_s: float | None = None
    """Of this call, reading included, at all configurations together; None if all images were finished before. Not in
    `row`, which is the same on any machine."""


def examine(
    judge: Judge, exams: Sequence[Exam], ranks: ProcessGroup, *, rule: Rule, out: Path | None, restart_changed: bool
) -> list[Verdict]:
    """Judge on every set. Each process of a run takes its share of the images; the outcome is the same in all.

    Args:
        out: file that gets the rows, written whole by rank 0. Until then finished images are noted beside it, and
            another call goes on from there, with any number of processes.
        restart_changed: forget what another evaluation noted there, instead of refusing.

    Returns:
        By set, by protocol, by configuration.

    Raises:
        DataError: an image or label cannot be read or does not fit, the notes belong to another evaluation, no pixel
            of a set is labelled and the rule leaves absent classes out, or a file cannot be written.
    """
    found = []
    with _notes(judge, exams, ranks, out, restart_changed) as notes:
        for number, exam in enumerate(exams):
            left = len(exam.shards) - sum(at == number for at, _ in notes.done)
            start = time.perf_counter()
            with progress(f"eval {judge.name} on {exam.url}") if ranks.is_main else nullcontext(_silent) as report:
                total = _summed(judge, exam, ranks, number, notes, report)
            speed = left / (time.perf_counter() - start) if left else None
            found += [dataclasses.replace(v, images_per_s=speed) for v in verdicts(judge, exam, total, rule=rule)]
        if out is not None and ranks.is_main:
            write_text(out, json.dumps([verdict.row for verdict in found], indent=2, allow_nan=False) + "\n")
            remove(_notes_folder(out))
    return found


def verdicts(judge: Judge, exam: Exam, total: Sequence[Confusion], *, rule: Rule) -> list[Verdict]:
    """What comes out of a set's counts: for each protocol in turn a verdict for each configuration.

    Args:
        total: for each configuration in turn a matrix for each protocol.

    Raises:
        DataError: no pixel is labelled, and the rule leaves absent classes out.
    """
    found = []
    for p, protocol in enumerate(exam.protocols):
        of_sides = []
        for c, config in enumerate(judge.configs):
            confusion = total[c * len(exam.protocols) + p]
            row = _row(judge, exam, protocol, config, confusion, rule)
            of_sides.append(Verdict(exam=exam, protocol=protocol, config=config, confusion=confusion, row=row))
        best = max(of_sides, key=lambda v: v.row["miou"])
        for verdict in of_sides:
            verdict.row["max"] = verdict is best
        found += of_sides
    return found


def draw(judge: Judge, exam: Exam, folder: Path, count: int) -> None:
    """Pictures of samples spread over the set, `N_image.jpg`, `N_label.png` and `N_pred.png` in `folder/DATASET`.

    They show the first protocol at the first configuration.
    """
    protocol, config = exam.protocols[0], judge.configs[0]
    folder = folder / exam.shards.manifest.dataset
    folder.mkdir(parents=True, exist_ok=True)
    total = len(exam.shards)
    for i in np.linspace(0, total - 1, min(count, total)).astype(int).tolist():
        _, image, labels = exam.sample(i)
        pred = segment(judge.net.eval(), [image], [protocol.matrix], config)[0][0]
        stem = folder / exam.shards.entry(i).key.replace("/", "_")
        _write(f"{stem}_image.jpg", image)
        _write(f"{stem}_label.png", colorize(labels[protocol.label], protocol.taxonomy.num_classes))
        _write(f"{stem}_pred.png", colorize(pred, protocol.taxonomy.num_classes))


@dataclass(frozen=True, slots=True)
class _Notes:
    """What any process had finished before, and where this one notes what it finishes now."""

    blanks: Sequence[Sequence[Confusion]]
    done: Mapping[Place, Sequence[Confusion]]
    journal: Journal | None


@contextmanager
def _notes(
    judge: Judge, exams: Sequence[Exam], ranks: ProcessGroup, out: Path | None, restart_changed: bool
) -> Iterator[_Notes]:
    blanks = [[view.zeros() for _ in judge.configs for view in exam.views] for exam in exams]
    if out is None:
        yield _Notes(blanks, {}, None)
        return
    folder, identity = _notes_folder(out), _identity(judge, exams)
    with ExitStack() as stack:
        ranks.from_main(lambda: stack.enter_context(claimed(folder, identity, restart_changed=restart_changed)))
        done = read_journal(folder, blanks)
        ranks.barrier()  # all have read what is done before anyone writes more
        yield _Notes(blanks, done, stack.enter_context(Journal(folder, ranks.rank)))


def _notes_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal")


def _silent(done: int, total: int) -> None:
    pass


def _summed(
    judge: Judge, exam: Exam, ranks: ProcessGroup, number: int, notes: _Notes, report: Report
) -> list[Confusion]:
    """The counts of a set, the same in every process: integers, so that their order does not matter."""
    known = {sample: counts for (at, sample), counts in notes.done.items() if at == number}
    total = [blank.copy() for blank in notes.blanks[number]]
    for counts in known.values() if ranks.is_main else ():
        _add(total, counts)
    for sample, counts in _counted(judge, exam, ranks, known, report):
        if notes.journal is not None:
            notes.journal.note((number, sample), counts)
        _add(total, counts)
    return [ranks.sum_(torch.from_numpy(counts)).numpy() for counts in total]


def _counted(
    judge: Judge, exam: Exam, ranks: ProcessGroup, known: Iterable[int], report: Report
) -> Iterator[tuple[int, list[Confusion]]]:
    """This process' share of the images that are not `known`, with their counts, as they are finished."""
    views, taken, total = exam.views, set(known), len(exam.shards)
    mine = [i for i in range(total) if i not in taken][ranks.rank :: ranks.world_size]
    net = judge.net.to(pick_device(judge.configs[0].device)).eval()
    report(len(taken), total)
    for n, (i, (where, image, labels)) in enumerate(_ahead(exam.sample, mine), start=1):
        counts = [c for config in judge.configs for c in tally(net, image, labels, views, config, key=where)]
        yield i, counts
        report(min(len(taken) + n * ranks.world_size, total), total)


def _ahead(read: Callable[[int], Sample], numbers: Sequence[int]) -> Iterator[tuple[int, Sample]]:
    """What `read` gives of each number, in order; the next are read while the caller works on one."""
    coming: deque[tuple[int, Future[Sample]]] = deque()
    with ThreadPoolExecutor(1, "read") as pool:
        for number in numbers:
            coming.append((number, pool.submit(read, number)))
            if len(coming) > AHEAD:
                first, future = coming.popleft()
                yield first, future.result()
        for number, future in coming:
            yield number, future.result()


def _add(total: Sequence[Confusion], counts: Sequence[Confusion]) -> None:
    for a, b in zip(total, counts, strict=True):
        a += b


def _identity(judge: Judge, exams: Sequence[Exam]) -> dict[str, Any]:
    """What the counts of an image depend on; not the rule, which comes after them."""
    return {
        "checkpoint": judge.checkpoint,
        "inference": {str(n): dataclasses.asdict(config) for n, config in enumerate(judge.configs, start=1)},
        "device": str(pick_device(judge.configs[0].device)),
        "data": {
            f"{n} {exam.shards.manifest.dataset}/{exam.shards.manifest.split}": {
                "manifest": exam.shards.manifest.digest,
                "labels": {
                    p.taxonomy.name: f"{p.label}{', relabelled' if p.relabeled else ''}" for p in exam.protocols
                },
            }
            for n, exam in enumerate(exams, start=1)
        },
    }


def _row(
    judge: Judge, exam: Exam, protocol: Protocol, config: InferConfig, confusion: Confusion, rule: Rule
) -> dict[str, Any]:
    manifest = exam.shards.manifest
    try:
        result = score(
            confusion, classes=protocol.taxonomy.classes, counted=protocol.counted, images=len(exam.shards), rule=rule
        )
    except DataError as error:
        raise DataError(f"{exam.url}: {error}") from error
    return {
        "dataset": manifest.dataset,
        "split": manifest.split,
        "url": exam.url,
        "taxonomy": protocol.taxonomy.name,
        "regime": protocol.regime,
        "relabeled": protocol.relabeled,
        "rule": rule,
        "short_side": config.short_side,
        "scales": list(config.scales),
        "miou": result.miou,
        "macc": result.macc,
        "acc": result.acc,
        "classes": [dataclasses.asdict(c) for c in result.classes],
        "images": result.images,
        "manifest": manifest.digest,
        "model": judge.name,
        "checkpoint": judge.checkpoint,
        "seed": judge.seed,
        "inference": dataclasses.asdict(config),
    }


def _write(path: str, picture: npt.NDArray[np.uint8]) -> None:
    if not cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise DataError(f"{path}: cannot be written; check the folder and free space")
