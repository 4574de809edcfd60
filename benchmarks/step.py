"""A training step, inference or the loss as we do it, and in the plainest torch: what `segstream bench` times.

`ours`: channels_last, autocast, the loss that holds no full-size logits. `plain`: the same network, same weights, in
float32, its logits interpolated to the size of the images, then cross_entropy. Neither reads data.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.flop_counter import FlopCounterMode

from segstream.benchmarks.timing import Measured, Progress, Table, interleaved, machine, ratio
from segstream.model.config import Device, Precision
from segstream.model.distributed import pick_device, pick_precision
from segstream.model.losses.loss import count_labels, loss_sums, mixed_loss
from segstream.model.networks.build import build
from segstream.model.training.train_state import high_water_mib
from segstream.model.types import TrainOutput
from segstream.shards.errors import DataError, UsageError
from segstream.shards.taxonomy import IGNORE_INDEX

Variant = Literal["ours", "plain"]
COARSE = 4  # images are so many times as large as the logits that `loss` starts from, as HRNet's are
IGNORED = 0.2  # share of the labels
TOLERANCE = {"fp32": 1e-2, "bf16": 0.1}  # relative, between ours and plain; a GPU may convolve float32 in TF32


CHOICES = {"precision": ("fp32", "bf16", "auto"), "device": ("cpu", "cuda", "auto")}
WARM_UP = 2  # rounds: the first compiles kernels and grows memory, the second is the first of its kind without
COLUMNS = {"images_per_s": "images/s", "ms": "ms", "peak_mib": "peak MiB", "tflop_per_s": "TFLOP/s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """What to measure."""

    task: str
    """step: forward, loss, backward, SGD. infer: forward and the class of every pixel. loss: loss and its gradient."""
    arch: str = "hrnet-tiny"
    """Not looked at by `loss`."""
    options: dict[str, Any] = field(default_factory=dict)
    """For `model.build`, of both networks."""
    classes: int = 194
    crop: int = 113
    """Side of the square images, pixels."""
    batch: int = 8
    precision: str = "auto"
    """Of ours: fp32, bf16, or auto: bf16 where the device multiplies it."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    compile: bool = False
    """Ours goes through `torch.compile`."""
    checkpointing: bool = False
    """Ours computes activations again in the backward pass."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"--{name} {getattr(self, name)!r}: choose among {', '.join(choices)}")

    @property
    def torch_device(self) -> torch.device:
        """The one it runs on.

        Raises:
            DataError: there is none such.
        """
        return pick_device(cast(Device, self.device))

    @property
    def bf16(self) -> bool:
        """Whether ours multiplies in bfloat16."""
        return pick_precision(cast(Precision, self.precision), self.torch_device) == "bf16"


@dataclass(frozen=True, slots=True)
class Work:
    """One variant, ready to run."""

    run: Callable[[], None]
    """Does it once; returns when the device is done."""
    value: Callable[[], Tensor]
    """What it computes, (B, K, H, W) logits or the loss, without dropout and without a gradient."""


def measure(config: BenchConfig, rounds: int, progress: Progress, *, only_ours: bool = False) -> Measured:
    """Time and memory of ours beside the plain one, medians of rounds run in turns.

    Args:
        only_ours: leave the plain one out.

    Raises:
        UsageError: an unknown architecture or option.
        DataError: it does not fit into memory, both compute different things, or there is no such device.
    """
    variants: tuple[Variant, ...] = ("ours",) if only_ours else ("ours", "plain")
    peaks = {name: peak_mib(config, name) for name in variants}  # first: it says what does not fit
    works = {name: prepare(config, name) for name in variants}
    if not only_ours:
        check_equal(config, works["ours"], works["plain"])
    runs: dict[str, Callable[[], None]] = {name: work.run for name, work in works.items()}
    flop = count_flop(config)
    if flop:  # what the device can do at best, in the same run
        runs["matmul"], matmul_flop = prepare_matmul(config)
    with progress(f"bench {config.task}", "rounds") as on_round:
        took = interleaved(runs, rounds, warm_up=WARM_UP, on_round=on_round)
    found: dict[str, Any] = {name: _figures(config.batch, took[name], peaks[name], flop) for name in variants}
    if flop:
        found["gflop"] = round(flop / 1e9, 1)
        found["matmul_tflop_per_s"] = round(matmul_flop / statistics.median(took["matmul"]) / 1e12, 3)
    if not only_ours:
        found["ratio_time"] = round(ratio(took["plain"], took["ours"]), 2)
        plain, ours = peaks["plain"], peaks["ours"]
        found["ratio_peak"] = round(plain / ours, 2) if plain and ours else None
    values = _about(config, rounds) | found
    return Measured(values, tuple(_text(values, variants)))


def _about(config: BenchConfig, rounds: int) -> dict[str, Any]:
    return {
        "task": config.task,
        "machine": machine(torch.get_num_threads(), config.torch_device.type),
        **({"arch": config.arch} if config.task != "loss" else {}),
        "classes": config.classes,
        "crop": config.crop,
        "batch": config.batch,
        "rounds": rounds,
        "precision": "bf16" if config.bf16 else "fp32",
        "compile": config.compile,
        "checkpointing": config.checkpointing,
    }


def _figures(batch: int, took_s: Sequence[float], peak_mib: float | None, flop: int) -> dict[str, Any]:
    seconds = statistics.median(took_s)
    figures: dict[str, Any] = {"ms": round(1e3 * seconds, 3), "images_per_s": round(batch / seconds, 2)}
    figures["peak_mib"] = None if peak_mib is None else round(peak_mib)
    return figures | ({"tflop_per_s": round(flop / seconds / 1e12, 3)} if flop else {})


def _text(values: dict[str, Any], variants: Sequence[str]) -> Iterator[str | Table]:
    what = f"{values['task']} {values.get('arch', '')}".strip()
    size = f"{values['classes']} classes, crop {values['crop']}, batch {values['batch']}"
    yield f"{what}, {size}, ours in {values['precision']}; {values['machine']}"
    yield ("", *COLUMNS.values()), [(name, *(values[name].get(key, "-") for key in COLUMNS)) for name in variants]
    if "matmul_tflop_per_s" in values:
        yield f"a matrix product in {values['precision']}: {values['matmul_tflop_per_s']} TFLOP/s"
    if "ratio_time" in values:
        times = f"time {values['ratio_time']}x, memory {values['ratio_peak']}x"
        yield f"plain / ours: {times} (medians of {values['rounds']} rounds)"


def prepare(config: BenchConfig, variant: Variant) -> Work:
    """Build network and data of one variant; the same configuration gives the same weights, images and labels.

    Raises:
        UsageError: unknown architecture or option.
        DataError: no such device, or an option that does not fit.
    """
    make = {"step": _step, "infer": _infer, "loss": _loss}[config.task]
    return make(config, variant == "ours", config.torch_device)


def check_equal(config: BenchConfig, ours: Work, plain: Work) -> None:
    """Neither is worth timing if they do different work.

    Raises:
        DataError: they differ by more than the precision explains.
    """
    expected, got = plain.value().float(), ours.value().float()
    apart = float((got - expected).abs().max() / expected.abs().max())
    if not apart < TOLERANCE["bf16" if config.bf16 else "fp32"]:
        raise DataError(
            f"bench {config.task} {config.arch}: ours and plain differ by {apart:.2g} of the largest value; "
            f"try --precision fp32, and report it if they still do"
        )


def count_flop(config: BenchConfig) -> int:
    """Operations of the convolutions and matrix products of one run, forward and backward; 0 for `loss`."""
    if config.task == "loss":
        return 0
    with torch.device("meta"):
        net = build(config.arch, config.classes, **config.options).train(config.task == "step")
        images = torch.empty(config.batch, 3, config.crop, config.crop)
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(config.task == "step"):
            output = net(images)
            if isinstance(output, TrainOutput):
                total = output.logits.sum() + sum(aux.logits.sum() for aux in output.aux)
                total.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def prepare_matmul(config: BenchConfig) -> tuple[Callable[[], None], int]:
    """A large matrix product in the precision of ours, to compare with; and how many operations it is."""
    device = config.torch_device
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if config.bf16 else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def run() -> None:
        torch.mm(a, b)
        _wait(device)

    return run, 2 * side**3


def peak_mib(config: BenchConfig, variant: Variant) -> float | None:
    """Most memory at any moment of two runs in a process of their own: weights, gradients, optimizer, activations.

    On a GPU what torch has allocated there; on a CPU what the process grew by (Linux; None elsewhere).

    Raises:
        DataError: there is not enough.
    """
    what = f"bench {config.task} {config.arch}, {variant} at crop {config.crop}, batch {config.batch}"
    # A process that the kernel kills for its memory breaks this pool; a multiprocessing.Pool would wait for ever.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_peak_mib, config, variant, torch.get_num_threads()).result()
        except torch.cuda.OutOfMemoryError as error:
            raise DataError(f"{what}: does not fit into the GPU's memory; use a smaller --batch or --crop") from error
        except BrokenProcessPool as error:
            raise DataError(f"{what}: its process died (out of memory?); use a smaller --batch or --crop") from error
        except ValueError as error:  # batch norm of a single value: one image, pooled to a single pixel
            raise DataError(f"{what}: {error}; use a larger --batch") from error


def _peak_mib(config: BenchConfig, variant: Variant, threads: int) -> float | None:
    torch.set_num_threads(threads)
    device = config.torch_device
    nn.Conv2d(3, 3, 3)(torch.zeros(1, 3, 8, 8)).sum().backward()  # libraries are loaded at first use: not ours to count
    before = high_water_mib(device)
    work = prepare(config, variant)
    for _ in range(2):  # momentum exists after the first
        work.run()
    grown = high_water_mib(device) - before
    return None if math.isnan(grown) else grown


def _step(config: BenchConfig, ours: bool, device: torch.device) -> Work:
    net = _net(config, ours, device).train()
    images, labels = _samples(config, ours, device)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-5, momentum=0.9, weight_decay=1e-4)

    def loss() -> Tensor:
        with _precision(config, ours, device):
            output = net(images)
        return _lean_loss(output, labels) if ours else _plain_loss(output, labels)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _wait(device)

    def value() -> Tensor:
        for module in net.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        with torch.no_grad():
            result = loss()
        net.train()
        return result

    return Work(run, value)


def _infer(config: BenchConfig, ours: bool, device: torch.device) -> Work:
    net = _net(config, ours, device).eval()
    images, _ = _samples(config, ours, device)

    def value() -> Tensor:
        with torch.no_grad(), _precision(config, ours, device):
            logits: Tensor = net(images)
        return logits

    def run() -> None:
        value().argmax(1)
        _wait(device)

    return Work(run, value)


def _loss(config: BenchConfig, ours: bool, device: torch.device) -> Work:
    side = -(-config.crop // COARSE)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(config.batch, config.classes, side, side, generator=generator).to(device)
    if ours and config.bf16:
        logits = logits.bfloat16()  # as they come out of autocast
    logits.requires_grad_()
    _, labels = _samples(config, ours, device)
    loss = _lean_loss if ours else _plain_loss

    def value() -> Tensor:
        return loss(TrainOutput(logits=logits, size_hw=(config.crop, config.crop)), labels)

    def run() -> None:
        logits.grad = None
        value().backward()  # type: ignore[no-untyped-call]
        _wait(device)

    return Work(run, lambda: value().detach())


def _lean_loss(output: TrainOutput, labels: Tensor) -> Tensor:
    ids, shares = torch.zeros(len(labels), dtype=torch.int64, device=labels.device), torch.ones(1, device=labels.device)
    return mixed_loss(loss_sums(output, labels), ids, shares, count_labels(labels, ids, 1))


def _plain_loss(output: TrainOutput, labels: Tensor) -> Tensor:
    total = output.logits.new_zeros(())
    predictions = [(output.logits, 1.0, output.align_corners)]
    predictions += [(aux.logits, aux.weight, aux.align_corners) for aux in output.aux]
    for logits, weight, align_corners in predictions:
        upsampled = interpolate(logits, size=output.size_hw, mode="bilinear", align_corners=align_corners)
        total = total + weight * cross_entropy(upsampled, labels, ignore_index=IGNORE_INDEX)
    return total


def _net(config: BenchConfig, ours: bool, device: torch.device) -> nn.Module:
    options = {"seed": 0} | config.options
    if not ours:
        return build(config.arch, config.classes, **options).to(device)
    net = build(config.arch, config.classes, **options | {"checkpointing": config.checkpointing})
    net = cast(nn.Module, net.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    if config.compile:
        net.compile()
    return net


def _samples(config: BenchConfig, ours: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised images and labels; int16 as the loader makes them, or int64 as cross_entropy wants them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(config.batch, 3, config.crop, config.crop, generator=generator)
    labels = torch.randint(0, config.classes, (config.batch, config.crop, config.crop), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < IGNORED] = IGNORE_INDEX
    if ours:
        images = images.contiguous(memory_format=torch.channels_last)
    return images.to(device), labels.to(device, torch.int16 if ours else torch.int64)


def _precision(config: BenchConfig, ours: bool, device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16, enabled=ours and config.bf16)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
