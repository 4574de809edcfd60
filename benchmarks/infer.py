"""Whole images to labels, as we do it and as the procedure reads: what `segstream bench infer --image` times.

`literal` is MSeg's procedure taken at its word: a window and its mirror image at a time, softmax at the window's size,
mapped, summed up; the map of all classes resized by OpenCV; the best class of each pixel.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from segstream.benchmarks.step import BenchConfig
from segstream.benchmarks.timing import Measured, Progress, interleaved, machine, ratio
from segstream.model.config import MULTI_SCALE, Device, InferConfig
from segstream.model.distributed import pick_device
from segstream.model.inference.infer import images_at_once, resized_hw, resized_image, segment
from segstream.model.networks.blocks import MEAN_RGB, STD_RGB
from segstream.model.networks.build import build
from segstream.shards.errors import DataError, UsageError

EQUAL = 0.995  # share of pixels in which both must agree to be compared
CHANNELS = 64  # that OpenCV resizes at a time; it takes 128 at most
Image = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Procedures:
    """Both, on the same images with the same weights; each gives all label maps."""

    ours: Callable[[], list[npt.NDArray[np.integer]]]
    literal: Callable[[], list[npt.NDArray[np.integer]]]

    def agreement(self) -> float:
        """Share of pixels with equal labels, 0..1."""
        return float(np.mean([(a == b).mean() for a, b in zip(self.ours(), self.literal(), strict=True)]))


def measure(
    size: str, images: int, rounds: int, progress: Progress, *, short_side: int | None, multi: bool, **network: Any
) -> Measured:
    """Images per second of ours and of the literal procedure, medians of rounds run in turns.

    Args:
        size: of the images, HEIGHTxWIDTH.
        images: how many in a round.
        short_side: at which the network sees them; None: as they are.
        multi: at six scales of it.
        network: as of `BenchConfig`; windows are of its `crop`, so many at a time as its `batch`.

    Raises:
        UsageError: the size is none, or an unknown architecture.
        DataError: they give different labels, or there is no such device.
    """
    bench = BenchConfig(task="infer", **network)
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if match is None:
        raise UsageError(f"--image {size!r}: give HEIGHTxWIDTH, e.g. 720x1280")
    height, width = int(match[1]), int(match[2])
    scales = MULTI_SCALE if multi else (1.0,)
    device = cast(Device, bench.device)
    config = InferConfig(crop=bench.crop, short_side=short_side, scales=scales, batch=bench.batch, device=device)
    both = prepare(bench.arch, bench.classes, (height, width), images, config)
    agreement = both.agreement()
    if agreement < EQUAL:
        raise DataError(
            f"bench infer {bench.arch}: labels of ours and of the literal procedure agree in {agreement:.2%} only"
        )
    with progress("bench infer", "rounds") as on_round:
        took = interleaved({"ours": both.ours, "literal": both.literal}, rounds, warm_up=0, on_round=on_round)
    rates = {name: round(images / statistics.median(times), 3) for name, times in took.items()}
    times_faster = round(ratio(took["literal"], took["ours"]), 2)
    about = {
        "task": "infer",
        "machine": machine(torch.get_num_threads()),
        "arch": bench.arch,
        "classes": bench.classes,
        "images": images,
        "size_hw": (height, width),
        "short_side": short_side,
        "crop": bench.crop,
        "scales": scales,
        "rounds": rounds,
    }
    return Measured(
        about | rates | {"ratio": times_faster, "agreement": round(agreement, 5)},
        (
            f"{bench.arch}, {bench.classes} classes, {width} x {height}, shorter side {short_side or 'native'}, "
            f"windows of {bench.crop}, scales {' '.join(f'{scale:g}' for scale in scales)}; {about['machine']}",
            (("", "images/s"), [(name, f"{rates[name]:.3f}") for name in ("ours", "literal")]),
            f"literal / ours: time {times_faster}x; labels equal in {agreement:.2%} of the pixels",
        ),
    )


def prepare(arch: str, num_classes: int, size_hw: tuple[int, int], count: int, config: InferConfig) -> Procedures:
    """Draw `count` images of a size and a network.

    Raises:
        UsageError: an unknown architecture.
        DataError: there is no such device.
    """
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (size_hw[0] // 16 + 1, size_hw[1] // 16 + 1, 3), np.uint8) for _ in range(count)]
    images: list[Image] = [cv2.resize(c, size_hw[::-1], interpolation=cv2.INTER_CUBIC).astype(np.uint8) for c in coarse]
    device = pick_device(config.device)
    plain = build(arch, num_classes, seed=0).to(device).eval()
    lean = build(arch, num_classes, seed=0).eval()
    lean = lean.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def ours() -> list[npt.NDArray[np.integer]]:
        step = images_at_once(size_hw, config)
        groups = [segment(lean, images[i : i + step], [None], config) for i in range(0, count, step)]
        return [ids for group in groups for (ids,) in group]

    return Procedures(ours, lambda: [literal(plain, image, config) for image in images])


def literal(net: nn.Module, image: Image, config: InferConfig) -> npt.NDArray[np.integer]:
    """The labels of one image, (H, W)."""
    size_hw = image.shape[:2]
    total: Scores | None = None
    for scale in config.scales:
        scores = _at_scale(net, resized_image(image, resized_hw(size_hw, config, scale)), config)
        native = _resized(scores, (size_hw[0], size_hw[1]))
        total = native if total is None else total + native
    assert total is not None
    best: npt.NDArray[np.integer] = (total / len(config.scales)).argmax(axis=2)
    return best


def _resized(scores: Scores, size_hw: tuple[int, int]) -> Scores:
    parts = np.split(scores, range(CHANNELS, scores.shape[2], CHANNELS), axis=2)
    done = [cv2.resize(part, size_hw[::-1], interpolation=cv2.INTER_LINEAR) for part in parts]
    return np.concatenate([d.reshape(*size_hw, -1) for d in done], axis=2).astype(np.float32, copy=False)


def _at_scale(net: nn.Module, image: npt.NDArray[np.float32], config: InferConfig) -> Scores:
    """(h, w, classes) probabilities at the image's size."""
    crop, (height, width) = config.crop, image.shape[:2]
    pad_h, pad_w = max(crop - height, 0), max(crop - width, 0)
    top, left = pad_h // 2, pad_w // 2
    border = (top, pad_h - top, left, pad_w - left)
    padded = cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=MEAN_RGB).astype(np.float32)
    full_h, full_w = padded.shape[:2]
    stride = math.ceil(crop * 2 / 3)
    sums: Scores | None = None
    visits = np.zeros((full_h, full_w, 1), np.float32)
    for i in range(math.ceil((full_h - crop) / stride) + 1):
        for j in range(math.ceil((full_w - crop) / stride) + 1):
            bottom, right = min(i * stride + crop, full_h), min(j * stride + crop, full_w)
            window = (slice(bottom - crop, bottom), slice(right - crop, right))
            shares = _window(net, padded[window], flip=config.flip)
            sums = np.zeros((full_h, full_w, shares.shape[2]), np.float32) if sums is None else sums
            sums[window] += shares
            visits[window] += 1
    assert sums is not None
    sums /= visits
    return sums[top : top + height, left : left + width]


def _window(net: nn.Module, pixels: Scores, *, flip: bool) -> Scores:
    """(crop, crop, classes) probabilities of one window."""
    device = next(net.parameters()).device
    normal = (pixels - np.array(MEAN_RGB, np.float32)) / np.array(STD_RGB, np.float32)
    one = torch.from_numpy(normal).permute(2, 0, 1)[None].to(device)
    with torch.inference_mode():
        logits: Tensor = net(torch.cat([one, one.flip(3)]) if flip else one)
        shares = logits.softmax(dim=1)
        mean = (shares[0] + shares[1].flip(2)) / 2 if flip else shares[0]
    result: Scores = mean.permute(1, 2, 0).cpu().numpy()
    return result
