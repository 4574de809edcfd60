"""The training loop, in the order things happen.

    net = build("hrnet-tiny", source.taxonomy.num_classes, seed=1)
    train(net, source, TrainConfig(steps=800, lr=0.05), "runs/demo", meta={...}, seed=1, on_log=print)

A run is a function of its identity (network, data, schedule, seed): no state is carried that a checkpoint does not
hold, the batch of step t and the random numbers of step t are functions of (seed, t). So a run killed at any moment and
started again makes the same updates, on a CPU with the same number of threads bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.checkpoint import (
    Final,
    Progress,
    check_same,
    differences,
    load_final,
    load_progress,
    plain,
    save_final,
    save_progress,
)
from model.config import LossName, Precision, TrainConfig
from model.image import normalise, pick_device, pick_precision
from model.loss import MixLoss, balance_weights, mix_loss
from model.meter import LogRow, Meter
from model.ranks import Ranks
from model.schedule import poly_lr
from model.types import Batch, BatchSource, TrainOutput
from shards.errors import DataError
from shards.taxonomy import IGNORE_INDEX

SHAPING = (
    "steps",
    "lr",
    "optimizer",
    "momentum",
    "weight_decay",
    "power",
    "loss",
    "class_balance",
    "precision",
)  # the fields of TrainConfig that the result depends on


def train(
    net: nn.Module,
    source: BatchSource,
    config: TrainConfig,
    run_dir: str,
    *,
    meta: Mapping[str, Any],
    seed: int,
    ranks: Ranks | None = None,
    on_log: Callable[[LogRow], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_validate: Callable[[nn.Module, int], None] | None = None,
    restart_changed: bool = False,
) -> str:
    """Train `net`, going on from where an interrupted run of the same identity stopped.

    Args:
        net: freshly built; it is trained in place. In train mode it returns a TrainOutput.
        source: batches by step.
        config: schedule and machine.
        run_dir: folder for `checkpoint.pt` and `final.pt`; made if missing.
        meta: JSON-able, stored with the weights: arch, num_classes, options, taxonomy, recipe.
        seed: of this run; keys the network's own randomness (dropout) by step.
        on_log: called with a row every `config.log_every` steps and after the last.
        on_note: called with a line when a run goes on from a checkpoint, starts over, or was finished already.
        restart_changed: start over where the folder holds another run, instead of refusing.

    Returns:
        The path of `final.pt`.

    Raises:
        DataError: the folder holds another run or a damaged file, a label does not fit the network, the loss is no
            longer finite, or a file cannot be written. The last good checkpoint stays.
    """
    if config.steps is None:
        raise DataError("train.steps: missing; only a recipe can say how many steps its crops are")
    note = on_note or (lambda line: None)
    checkpoint, final = str(Path(run_dir) / "checkpoint.pt"), str(Path(run_dir) / "final.pt")
    identity = run_identity(source, config, meta=meta, seed=seed)

    # 1. Is there something to go on from?
    try:
        Path(run_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{run_dir}: cannot be made ({error}); choose another run folder") from error
    if restart_changed:
        _discard_another(checkpoint, final, identity, note)
    if Path(final).exists():
        check_same(final, load_final(final).identity, identity)
        note(f"already finished: {final} holds {config.steps} steps of this very run; nothing to do")
        return final
    progress = load_progress(checkpoint) if Path(checkpoint).exists() else None
    if progress is not None:
        check_same(checkpoint, progress.identity, identity)

    # 2. Network and optimizer, on the device.
    device = pick_device(config.device)
    precision = pick_precision(config.precision, device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    net = net.to(device=device, memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = _optimizer(net, config)
    start = 0
    if progress is not None:
        net.load_state_dict(progress.weights)
        optimizer.load_state_dict(progress.optimizer)
        start = progress.step
        note(f"going on from {checkpoint} at step {start} of {config.steps}")

    balance = balance_weights(source.class_shares, config.class_balance, device=device)

    # 3. Steps.
    meter = Meter(source.datasets)
    batches = meter.waiting(source.batches(start, config.steps))
    for step, batch in zip(range(start, config.steps), batches, strict=True):
        torch.manual_seed(_step_seed(seed, step))
        for group in optimizer.param_groups:
            group["lr"] = poly_lr(step, base=config.lr, steps=config.steps, power=config.power)
        loss = _loss(net, batch, step, source.weights, config.loss, balance, device, layout, precision)
        meter.add(loss, len(batch.keys))
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done = step + 1
        logging = done % config.log_every == 0 or done == config.steps
        keeping = done % config.checkpoint_every == 0 or done == config.steps
        if (device.type == "cpu" or logging or keeping) and not meter.is_finite():  # reading it stalls a GPU
            raise _diverged(run_dir, step, batch, config)
        if logging and on_log is not None:
            on_log(meter.row(done, config.steps, lr=optimizer.param_groups[0]["lr"]))
        due = config.validate_every is not None and (done % config.validate_every == 0 or done == config.steps)
        if due and on_validate is not None:
            with torch.random.fork_rng(enabled=True):
                on_validate(net.eval(), done)
            net.train()
        if keeping:
            weights = _on_cpu(net)
            if not all(bool(w.isfinite().all()) for w in weights.values()):
                raise _diverged(run_dir, step, batch, config)
            state = optimizer.state_dict()
            save_progress(checkpoint, Progress(identity=identity, step=done, weights=weights, optimizer=state))

    # 4. The result. Killed before this line is through, the next start finds the checkpoint of the last step.
    weights = {name: tensor.contiguous() for name, tensor in _on_cpu(net).items()}
    save_final(final, Final(identity=identity, meta=plain(dict(meta)), step=config.steps, weights=weights))
    return final


def run_identity(source: BatchSource, config: TrainConfig, *, meta: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What makes a run this run and no other; JSON-able.

    The recipe inside `meta` is stored but not compared: what of it shapes the result is here by itself.
    """
    network = {key: value for key, value in meta.items() if key != "recipe"}
    shaping = {name: getattr(config, name) for name in SHAPING}
    shaping["precision"] = pick_precision(config.precision, pick_device(config.device))
    data = {"datasets": source.datasets, "weights": source.weights, "fingerprint": dict(source.fingerprint)}
    identity: dict[str, Any] = plain({"network": network, "train": shaping, "data": data, "seed": seed})
    return identity


def _optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(net.parameters(), lr=config.lr, betas=betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(net.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def _loss(
    net: nn.Module,
    batch: Batch,
    step: int,
    weights: Sequence[float],
    loss: LossName,
    balance: Tensor | None,
    device: torch.device,
    layout: torch.memory_format,
    precision: Precision,
) -> MixLoss:
    if batch.step != step:
        raise RuntimeError(f"asked for the batch of step {step}, got that of step {batch.step}")
    images = normalise(batch.images.to(device, non_blocking=True)).contiguous(memory_format=layout)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        output: TrainOutput = net(images)
    num_classes = output.logits.shape[1]
    largest = int(torch.where(batch.labels == IGNORE_INDEX, 0, batch.labels).max())
    if largest >= num_classes:
        raise DataError(
            f"step {step}: a label holds id {largest}, the network has {num_classes} classes (samples "
            f"{', '.join(batch.keys)}); train in the taxonomy that the labels are in"
        )
    labels = batch.labels.to(device, non_blocking=True)
    return mix_loss(output, labels, batch.dataset_ids.to(device), weights, loss=loss, class_weights=balance)


def _step_seed(seed: int, step: int) -> int:
    """One number for the pair, so that neighbouring seeds and steps share nothing."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)


def _on_cpu(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}


def _diverged(run_dir: str, step: int, batch: Batch, config: TrainConfig) -> DataError:
    return DataError(
        f"{run_dir}: loss or weights are not finite after step {step} (samples {', '.join(batch.keys[:3])}, ...); "
        f"lower lr (now {config.lr}), or look at these samples"
    )


def _discard_another(checkpoint: str, final: str, identity: Mapping[str, Any], note: Callable[[str], None]) -> None:
    """Delete both files if either is of another run or cannot be read."""
    why = ""
    for path, load in ((checkpoint, load_progress), (final, load_final)):
        if Path(path).exists():
            try:
                wrong = differences(load(path).identity, identity)
            except DataError as error:
                wrong = [str(error)]
            why = why or "; ".join(wrong[:2])
    if why:
        note(f"starting over: {why}")
        for path in (final, checkpoint):
            Path(path).unlink(missing_ok=True)
