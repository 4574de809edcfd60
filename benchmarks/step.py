"""A training step with and without full-size logits, interleaved in one run.

    python -m benchmarks.step                       # hrnet-tiny, 194 classes, crop 113, batch 8
    python -m benchmarks.step --crop 473 --batch 2 --pairs 5
    python -m benchmarks.step --arch hrnet-w18-small --classes 11 --crop 241

`plain` is the obvious composition: interpolate to the crop, cross_entropy. Values are compared first.
Memory is what one step adds to the highest resident set of a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from model import TrainOutput, build
from model.loss import mix_loss


def plain_loss(output: TrainOutput, labels: Tensor) -> Tensor:
    upsampled = interpolate(output.logits, size=output.size_hw, mode="bilinear", align_corners=True)
    return cross_entropy(upsampled, labels.long(), ignore_index=255)


def lean_loss(output: TrainOutput, labels: Tensor) -> Tensor:
    return mix_loss(output, labels, torch.zeros(len(labels), dtype=torch.int64), (1.0,)).total


LOSSES: dict[str, Callable[[TrainOutput, Tensor], Tensor]] = {"lean": lean_loss, "plain": plain_loss}


def make_case(arch: str, classes: int, crop: int, batch: int) -> tuple[torch.nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    net = build(arch, classes, seed=0).to(memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, crop, crop, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (batch, crop, crop), generator=generator, dtype=torch.int16)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return net, images, labels


def step(net: torch.nn.Module, images: Tensor, labels: Tensor, loss: str) -> tuple[float, float]:
    """One forward and backward pass: (ms of everything, ms of loss and its gradient by the logits)."""
    net.zero_grad(set_to_none=True)
    start = time.perf_counter()
    output = net(images)
    features_done = time.perf_counter()
    low = output.logits.detach().requires_grad_()
    LOSSES[loss](TrainOutput(logits=low, size_hw=output.size_hw), labels).backward()
    loss_done = time.perf_counter()
    output.logits.backward(low.grad)
    return 1e3 * (time.perf_counter() - start), 1e3 * (loss_done - features_done)


def peak_mib(case: tuple[str, int, int, int], loss: str, threads: int) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mib, (case, loss, threads))


def _peak_mib(case: tuple[str, int, int, int], loss: str, threads: int) -> float:
    torch.set_num_threads(threads)
    net, images, labels = make_case(*case)
    before = _high_water_kib()
    step(net, images, labels, loss)
    return (_high_water_kib() - before) / 1024


def _high_water_kib() -> int:
    """Linux' count for this program; getrusage's would include that of the process it was started from."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="hrnet-tiny")
    parser.add_argument("--classes", type=int, default=194)
    parser.add_argument("--crop", type=int, default=113)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    case = (args.arch, args.classes, args.crop, args.batch)
    net, images, labels = make_case(*case)
    with torch.no_grad():
        values = {name: loss(net(images), labels).item() for name, loss in LOSSES.items()}
    assert abs(values["lean"] - values["plain"]) < 1e-4 * abs(values["plain"]), values
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in LOSSES}
    for i in range(args.pairs + 2):
        for name in sorted(LOSSES, reverse=bool(i % 2)):  # alternate who goes first
            measured = step(net, images, labels, name)
            if i >= 2:
                took[name].append(measured)
    result = {"machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"}
    result |= {"arch": args.arch, "classes": args.classes, "crop": args.crop, "batch": args.batch, "pairs": args.pairs}
    for name in LOSSES:
        result[name] = {
            "step_ms": round(statistics.median(t for t, _ in took[name]), 1),
            "loss_ms": round(statistics.median(t for _, t in took[name]), 1),
            "peak_mib": round(peak_mib(case, name, torch.get_num_threads())),
        }
    pairs = list(zip(took["plain"], took["lean"], strict=True))
    result["ratio_step"] = round(statistics.median(p / q for (p, _), (q, _) in pairs), 2)
    result["ratio_loss"] = round(statistics.median(p / q for (_, p), (_, q) in pairs), 2)
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.arch}, {args.classes} classes, crop {args.crop}, batch {args.batch}; {result['machine']}")
    for name in LOSSES:
        print(f"  {name:5} {result[name]}")
    print(f"  plain / lean: step {result['ratio_step']}x, loss {result['ratio_loss']}x (medians of {args.pairs} pairs)")


if __name__ == "__main__":
    main()
