"""One warp against the augmentation rule done step by step, on the same image with the same draws.

Run: python -m benchmarks.augment [--pairs N]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import cv2
import numpy as np

from pipeline import AugmentConfig, Draw, draw
from pipeline.augment_opencv import augment

MEAN = (123.675, 116.28, 103.53)
SETTINGS = {
    "480-473": ((480, 640), 480, 473),
    "1080-713": ((1080, 1440), 1080, 713),
    "city-713": ((1024, 2048), 1080, 713),
}


def step_by_step(image: np.ndarray, label: np.ndarray, d: Draw, short_side: int) -> tuple[np.ndarray, np.ndarray]:
    """The rule as it is usually written: every step on the whole canvas, the image in float32."""
    height, width = label.shape
    factor = short_side / min(height, width)
    size_wh = (int(width * factor), int(height * factor))
    image = cv2.resize(image.astype(np.float32), size_wh, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, size_wh, interpolation=cv2.INTER_NEAREST)
    image = cv2.resize(image, None, fx=d.scale, fy=d.scale, interpolation=cv2.INTER_LINEAR)
    label = cv2.resize(label, None, fx=d.scale, fy=d.scale, interpolation=cv2.INTER_NEAREST)
    height, width = label.shape
    if d.angle_deg:
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), d.angle_deg, 1)
        image = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=MEAN)
        label = cv2.warpAffine(label, turn, (width, height), flags=cv2.INTER_NEAREST, borderValue=(255,))
    if d.blur:
        image = cv2.GaussianBlur(image, (5, 5), 0)
    if d.flip:
        image, label = cv2.flip(image, 1), cv2.flip(label, 1)
    pad_h, pad_w = max(d.crop_hw[0] - height, 0), max(d.crop_hw[1] - width, 0)
    sides = (pad_h // 2, pad_h - pad_h // 2, pad_w // 2, pad_w - pad_w // 2)
    if any(sides):
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=MEAN)
        label = cv2.copyMakeBorder(label, *sides, cv2.BORDER_CONSTANT, value=(255,))
    top, left = d.corner_px[0] + sides[0], d.corner_px[1] + sides[2]
    window = (slice(top, top + d.crop_hw[0]), slice(left, left + d.crop_hw[1]))
    return image[window], label[window]


def make_case(size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    height, width = size_hw
    image = cv2.resize(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8), (width, height))
    label = cv2.resize(rng.integers(0, 150, (height // 40, width // 40), np.uint8), (width, height), interpolation=0)
    return image, label


def compare(name: str, pairs: int) -> str:
    size_hw, short_side, crop = SETTINGS[name]
    image, label = make_case(size_hw)
    config = AugmentConfig(short_side=short_side, crop=crop)
    ratios, apart, agree, took = [], [], [], {"one": [0.0], "steps": [0.0]}
    for i in range(pairs):
        d = draw(config, seed=0, step=i, slot=0, size_hw=size_hw)
        runs = {
            "one": lambda d=d: augment(image, label, d),
            "steps": lambda d=d: step_by_step(image, label, d, short_side),
        }
        made = {}
        for run in sorted(runs, reverse=bool(i % 2)):  # alternate who goes first
            began = time.perf_counter()
            made[run] = runs[run]()
            took[run].append(time.perf_counter() - began)
        apart.append(float(np.abs(made["one"][0] - made["steps"][0]).mean()))
        agree.append(float((made["one"][1] == made["steps"][1]).mean()))
        ratios.append(took["steps"][-1] / took["one"][-1])
    # The same crop first: neither is worth timing if they do different work.
    assert statistics.mean(apart) < 3, f"{name}: images differ by {statistics.mean(apart):.2f} grey levels"
    assert statistics.mean(agree) > 0.9, f"{name}: only {statistics.mean(agree):.1%} of label pixels agree"
    tenths = statistics.quantiles(ratios, n=10)
    one_ms, steps_ms = (1e3 * statistics.median(took[run][1:]) for run in ("one", "steps"))
    spread = f"(p10 {tenths[0]:.1f}, p90 {tenths[-1]:.1f}, {pairs} pairs)"
    check = f"images differ by {statistics.mean(apart):.2f} of 255, labels agree on {statistics.mean(agree):.1%}"
    return f"{name:9} {statistics.median(ratios):5.1f}x {spread}  {steps_ms:.1f} -> {one_ms:.2f} ms  {check}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30)
    pairs = parser.parse_args().pairs
    cv2.setNumThreads(1)
    print(f"{platform.machine()} OpenCV {cv2.__version__} numpy {np.__version__}, one thread")
    for name in SETTINGS:
        print(compare(name, pairs))


if __name__ == "__main__":
    main()
