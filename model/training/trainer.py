"""The training loop, in the order things happen.

    net = build("hrnet-tiny", source.taxonomy.num_classes, seed=1)
    train(net, source, TrainConfig(steps=800, lr=0.05), "runs/demo", meta={...}, seed=1, on_log=print)

A run is a function of its identity (network, data, schedule, seed): no state is carried that a checkpoint does not
hold, the batch of step t and the random numbers of step t are functions of (seed, t). So a run killed at any moment and
started again makes the same updates, on a CPU with the same number of processes and threads bit for bit.

Several processes (`model.distributed`) share each batch and hold the same weights. What differs between them by
itself, the running statistics of batch norms on a CPU, is rank 0's wherever it is looked at.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segstream.model.checkpoint import Checkpoint, Checkpoints, differences, plain, save_file
from segstream.model.config import TrainConfig
from segstream.model.distributed import ProcessGroup, pick_device, pick_precision
from segstream.model.losses.loss import LabelCounts, count_labels
from segstream.model.losses.pixel_loss import image_weights
from segstream.model.training.train_state import MetricsLog, TrainState
from segstream.model.types import Batch, BatchSource, LogRow
from segstream.shards.errors import DataError, first_few
from segstream.shards.taxonomy import IGNORE_INDEX

_NAMES = [field.name for field in fields(TrainConfig)]
SHAPING = [name for name in _NAMES[: _NAMES.index("precision") + 1] if name not in ("crops", "epochs")]
"""The fields of TrainConfig that the result depends on: those that it lists first, any length being steps by now."""
IF_USED = {f.name: f.default for f in fields(TrainConfig)[_NAMES.index("precision") + 1 : _NAMES.index("accumulate")]}
"""More of them, with the default at which they are no part of an identity: runs from before them go on."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send before they kill; SLURM's --signal=USR1@120
GIVE_UP = 10  # updates skipped in a row

Note = Callable[[str], None]


class Stopped(DataError):  # noqa: N818 - the run is well
    """A run was told to stop and has kept all it did; the same command goes on from there."""

    exit_code = 75
    """EX_TEMPFAIL of sysexits.h, "try again later": what launch scripts requeue on."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGUSR1 are listed instead of ending the process; in the main thread, elsewhere none is seen."""
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in SIGNALS} if main else {}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    net: nn.Module,
    source: BatchSource,
    config: TrainConfig,
    run_dir: str,
    *,
    meta: Mapping[str, Any],
    seed: int,
    group: ProcessGroup | None = None,
    on_start: Callable[[int], None] | None = None,
    on_log: Callable[[LogRow], None] | None = None,
    on_note: Note | None = None,
    on_validate: Callable[[nn.Module, int], float | None] | None = None,
    restart_changed: bool = False,
) -> str:
    """Train `net`, going on from where an interrupted run of the same identity stopped.

    Args:
        net: freshly built; it is trained in place. In train mode it returns a TrainOutput.
        source: this process' share of the batches, by step.
        config: schedule and machine; `steps` is set.
        run_dir: folder for `checkpoints/`, `best.pt` and `final.pt`; made if missing. Only rank 0 needs it.
        meta: JSON-able, stored with the weights: arch, num_classes, options, taxonomy, recipe.
        seed: of this run; keys the network's own randomness (dropout) by step and process.
        group: the processes of this run, all of which make this call; None: this one alone.
        on_start: called on rank 0 with the step that the run starts or goes on with, before it asks for a batch.
        on_log: called on rank 0 with a row every `config.log_every` steps and after the last.
        on_note: called on rank 0 with a line for what a person should know: where the run goes on, what was skipped.
        on_validate: called on every rank with the network in eval mode, holding the weights that would be published,
            and the number of steps done, every `config.validate_every` steps and after the last; changes nothing. If it
            gives a score, the same on every rank, the weights of the highest one, the earliest of equal ones, are kept
            in `best.pt`.
        restart_changed: start over where the folder holds another run, instead of refusing.

    Returns:
        The path of `final.pt`.

    Raises:
        DataError: the folder holds another run or only damaged files, a run is at work in it, a label does not fit the
            network, the loss is no longer finite, a file cannot be written, or another process is gone. The last good
            checkpoint stays.
        Stopped: SIGTERM or SIGUSR1 came to one of the processes; a checkpoint of all steps done is written.
    """
    if config.steps is None:
        raise DataError("train.steps: missing; only a recipe and its data say how many steps crops or epochs are")
    steps, group = config.steps, group or ProcessGroup()
    note: Note = on_note if on_note is not None and group.is_main else lambda line: None
    final = Path(run_dir) / "final.pt"
    identity, stored = run_identity(source, config, meta=meta, seed=seed), plain(dict(meta))
    with ExitStack() as cleanup:
        signals = cleanup.enter_context(stop_signals())  # left last: a second signal must not cut a file short
        checkpoints = Checkpoints(Path(run_dir) / "checkpoints", keep=config.keep)
        cleanup.callback(checkpoints.close)

        # 1. Is there something to go on from? Rank 0 looks and tells the others.
        _check_alike(group, identity)
        found = group.from_main(lambda: checkpoints.find(identity, note, restart_changed=restart_changed))
        if found == "finished":
            note(f"already finished: {final} holds {steps} steps of this very run; nothing to do")
            return str(final)
        best = group.from_main(lambda: checkpoints.best_score(stored))

        # 2. Network and optimizer, on the device.
        state = TrainState(net, source, config, group, seed)
        start, skipped, in_a_row = 0, 0, 0
        if isinstance(found, Checkpoint):
            state.restore(found)
            start, (skipped, in_a_row) = found.step, found.skipped
            note(f"going on from {checkpoints.path(start)} at step {start} of {steps}")
        for line in _cautions(config, state.device, group):
            note(line)

        def save(step: int) -> None:
            checkpoint = state.checkpoint(identity=identity, meta=stored, step=step, skipped=(skipped, in_a_row))
            if group.is_main:
                checkpoints.save(checkpoint)

        # 3. Steps.
        if on_start is not None and group.is_main:
            on_start(start)
        metrics = MetricsLog(source.datasets)
        stream = SyncedBatches(
            batches=source.batches(start, steps),
            group=group,
            num_datasets=len(source.datasets),
            num_classes=meta["num_classes"],
            config=config,
            class_weights=state.class_weights,
        )
        for step in range(start, steps):
            batch, agreed = stream.take(step, stop=bool(signals), failure=checkpoints.failure)
            if agreed.stop:
                save(step)
                group.from_main(checkpoints.wait)
                raise Stopped(f"{run_dir}: told to stop, {step} of {steps} steps are kept; the same command goes on")
            torch.manual_seed(_step_seed(seed, step, group.rank))
            lr = learning_rate(step, config)
            report = state.update(batch, agreed.global_counts, lr)
            done = step + 1
            if report is None:
                skipped, in_a_row = skipped + 1, in_a_row + 1
                note(f"step {step}: loss or gradient not finite, update skipped ({skipped} so far)")
                if in_a_row == GIVE_UP:
                    raise _diverged(run_dir, f"in {GIVE_UP} steps in a row up to step {step}", batch, config)
            else:
                in_a_row = 0
                metrics.add(report, agreed.crops)
            last = done == steps
            logging, keeping = done % config.log_every == 0 or last, done % config.checkpoint_every == 0 or last
            validating = bool(config.validate_every) and (done % (config.validate_every or 1) == 0 or last)
            if (state.device.type == "cpu" or logging or keeping) and not metrics.is_finite():  # reading stalls a GPU
                raise _diverged(run_dir, f"after step {step}", batch, config)
            if logging and on_log is not None and group.is_main:
                on_log(metrics.row(done, steps, lr=lr, wait_s=stream.wait_s, skipped=skipped))
            if keeping and not state.all_finite():
                raise _diverged(run_dir, f"after step {step}", batch, config)
            if validating and on_validate is not None:
                with state.ema_weights() as averaged:
                    score = on_validate(averaged, done)
                if score is not None and score > best:
                    best = score
                    result = state.final(identity=identity, meta=stored | {"score": score}, step=done)
                    if group.is_main:
                        checkpoints.save(result)
            if keeping:  # last: a run that goes on from here makes nothing of this step again
                save(done)

        # 4. The result. Killed before this line is through, the next start finds the checkpoint of the last step.
        group.from_main(checkpoints.wait)
        result = state.final(identity=identity, meta=stored, step=steps)
        group.from_main(lambda: save_file(final, result))
    return str(final)


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate for the update that a step makes.

        rate = lr * fall(p) * min(1, (step + 1) / warmup_steps)
        fall(p) = (1 - p) ** power for poly, (1 + cos(pi * p)) / 2 for cosine
        p = step / steps; per epoch: whole epochs done / epochs begun by the end of the run

    Without warm-up step 0 has `lr` itself; the last step has nearly 0, or what the last epoch has.

    Args:
        step: 0 .. steps - 1.
        config: with `steps`, and `epoch_steps` for a schedule per epoch.

    Source: poly: Chen et al., "DeepLab", TPAMI 2018; MSeg uses power 0.9 per step, hierarchical multi-scale attention
    1 and 2 per epoch. Cosine: Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.
    """
    done, whole = float(step), float(config.steps or 1)
    if config.schedule_per == "epoch" and config.epoch_steps is not None:
        # Steps do not divide into epochs: 1e-9 is for whole numbers that rounding has made less, or more, than that.
        done, whole = (done / config.epoch_steps + 1e-9) // 1, math.ceil(whole / config.epoch_steps - 1e-9)
    fall = (
        (1 - done / whole) ** config.power if config.schedule == "poly" else (1 + math.cos(math.pi * done / whole)) / 2
    )
    return float(config.lr * fall * min(1.0, (step + 1) / max(config.warmup_steps, 1)))


def run_identity(source: BatchSource, config: TrainConfig, *, meta: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What makes a run this run and no other; JSON-able.

    The recipe inside `meta` is stored but not compared: what of it shapes the result is here by itself. How many
    processes there are, and in how many parts each goes through its batches, may change from one start to the next.
    """
    network = {key: value for key, value in meta.items() if key != "recipe"}
    used = [name for name, default in IF_USED.items() if getattr(config, name) != default]
    values = asdict(config)
    shaping = {name: values[name] for name in (*SHAPING, *used)}
    shaping["precision"] = pick_precision(config.precision, pick_device(config.device))
    data = {"datasets": source.datasets, "weights": source.weights, "fingerprint": dict(source.fingerprint)}
    identity: dict[str, Any] = plain({"network": network, "train": shaping, "data": data, "seed": seed})
    return identity


def _check_alike(group: ProcessGroup, identity: Mapping[str, Any]) -> None:
    wrong = differences(identity, group.from_main(lambda: identity))
    if group.any(bool(wrong)):
        what = "; ".join(wrong[:2]) or "see what another process says"
        raise DataError(f"processes of one run differ: {what} on rank 0; start them with the same recipe and data")


def _cautions(config: TrainConfig, device: torch.device, group: ProcessGroup) -> Iterator[str]:
    if device.type == "cpu" and config.precision == "tf32":
        yield "precision: tf32 is fp32 on a CPU"
    if device.type == "cpu" and group.world_size > 1:
        yield "batch norms see their own process' samples only, and keep rank 0's statistics: shared ones need GPUs"


def _step_seed(seed: int, step: int, rank: int) -> int:
    """One number for the three, so that neighbouring seeds, steps and processes share nothing."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def _diverged(run_dir: str, when: str, batch: Batch, config: TrainConfig) -> DataError:
    return DataError(
        f"{run_dir}: loss or weights are not finite {when} (samples {', '.join(batch.keys[:3])}, ...); "
        f"lower lr (now {config.lr}), or look at these samples"
    )


@dataclass(frozen=True, slots=True)
class Agreement:
    """The same on every process."""

    global_counts: LabelCounts
    """Of the global batch, on the CPU."""
    crops: int
    """Samples in the global batch."""
    stop: bool
    """Whether any process was told to stop."""


@dataclass(slots=True, kw_only=True)
class SyncedBatches:
    """This process' share of the batches, each agreed on by all processes before it is used.

    The agreement is one sum of a few numbers on the CPU, where labels are made, so no GPU waits for it: how many pixels
    of each dataset the global batch has, and whether any process was told to stop or cannot go on. What one of them
    cannot do ends the run in all, instead of leaving the others waiting.
    """

    batches: Iterator[Batch]
    group: ProcessGroup
    num_datasets: int
    num_classes: int
    """Of the network."""
    config: TrainConfig
    class_weights: Tensor | None
    """(K,) float32 on the CPU, see `model.losses.loss.loss_sums`."""
    wait_s: float = 0.0
    """Seconds spent waiting for batches so far."""

    def take(self, step: int, *, stop: bool, failure: Exception | None) -> tuple[Batch, Agreement]:
        """The batch of a step.

        Args:
            step: the next one.
            stop: whether this process was told to stop.
            failure: what else keeps this process from going on.

        Raises:
            Exception: what this process' batch raised, or `failure`.
            DataError: another process cannot go on.
        """
        try:
            if failure is not None:
                raise failure
            asked = time.perf_counter()
            batch = next(self.batches, None)
            self.wait_s += time.perf_counter() - asked
            if batch is None:
                raise RuntimeError(f"the source ended before step {step}")
            check_batch(batch, step, num_classes=self.num_classes, parts=self.config.accumulate)
            by_image = self.config.loss == "image_weighted"
            weights = image_weights(batch.labels, self.num_classes) if by_image else self.class_weights
            own = count_labels(batch.labels, batch.dataset_ids, self.num_datasets, weights)
        except Exception:
            self._agree(None, 0, stop=stop)
            raise
        agreed = self._agree(own, len(batch.keys), stop=stop)
        if agreed is None:
            raise DataError(f"step {step}: another process of this run cannot go on; its own message says why")
        return batch, agreed

    def _agree(self, own: LabelCounts | None, crops: int, *, stop: bool) -> Agreement | None:
        """None: some process has failed, which one says by having no counts."""
        zeros = torch.zeros(self.num_datasets, dtype=torch.float64)
        pixels, images = (zeros, zeros) if own is None else (own.pixels, own.images)
        flags = torch.tensor([crops, stop, own is None], dtype=torch.float64)
        settled = self.group.sum_(torch.cat([pixels, images, flags]))
        pixels, images = settled[: 2 * self.num_datasets].view(2, -1)
        crops_, stops, failures = settled[-3:]
        if failures > 0:
            return None
        return Agreement(LabelCounts(pixels, images), crops=int(crops_), stop=bool(stops > 0))


def check_batch(batch: Batch, step: int, *, num_classes: int, parts: int) -> None:
    """Is this batch what the step can use?

    Raises:
        RuntimeError: it is another step's.
        DataError: a label is beyond the network, or there are fewer samples than passes.
    """
    if batch.step != step:
        raise RuntimeError(f"asked for the batch of step {step}, got that of step {batch.step}")
    if len(batch.keys) < parts:
        raise DataError(
            f"accumulate: {parts} parts of the {len(batch.keys)} samples that a process gets; lower it to "
            f"{len(batch.keys)}, use fewer processes or a larger batch"
        )
    largest = int(torch.where(batch.labels == IGNORE_INDEX, 0, batch.labels).max())
    if largest >= num_classes:
        raise DataError(
            f"step {step}: a label holds id {largest}, the network has {num_classes} classes (samples "
            f"{first_few(batch.keys)}); train in the taxonomy that the labels are in"
        )
