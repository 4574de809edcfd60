"""Where the loader's time goes: processor time of each stage of a crop, one thread, by `segstream bench loader`'s data.

    python -m segstream.benchmarks.loader_stages [--crops 64] [--setting 1080-713]

Processor time, not the clock's: what else the machine does changes it little.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from segstream.benchmarks.loader import NAME, SETTINGS, Setting, draw_pictures
from segstream.benchmarks.reference_rule import Rule, decode_picture
from segstream.pipeline.augment_opencv import crop_image
from segstream.pipeline.config import AugmentConfig, DataConfig
from segstream.pipeline.decode import Scratch, decode_image, decode_region
from segstream.pipeline.samples import Samples
from segstream.shards.convert.convert import convert
from segstream.shards.format.reader import open_shards

T = TypeVar("T")
WHOLE, FAST = "the whole JPEG decoded by OpenCV", "by the loader's decoder"
RULE = "the rule step by step, in its worker"
BATCH = 4


def profile(setting: Setting, folder: Path, crops: int) -> dict[str, float]:
    """Mean milliseconds of each stage over the first crops of a stream."""
    draw_pictures(folder / "raw", setting.source_hw)
    convert(dataset=str(folder / "raw" / "set.yaml"), split="train", out=str(folder / "shards"))
    data = DataConfig(shards=str(folder / "shards"), mix={NAME: 1}, taxonomy="native")
    augment = AugmentConfig(short_side=setting.short_side, crop=setting.crop)
    samples, rule = Samples(data, augment, seed=0, batch=BATCH), Rule(augment=augment, seed=0, batch=BATCH)
    image, label = np.empty((setting.crop, setting.crop, 3), np.uint8), np.empty((setting.crop, setting.crop), np.uint8)
    took: dict[str, list[float]] = defaultdict(list)
    scratch = Scratch()

    def timed(stage: str, work: Callable[[], T]) -> T:
        began = time.thread_time()
        result = work()
        took[stage].append(1e3 * (time.thread_time() - began))
        return result

    with open_shards(data.urls(NAME)["train"]) as shards:
        for number in range(-8, crops):  # the first ones find nothing in any cache
            step, slot = divmod(max(number, 0), BATCH)
            if number == 0:
                took.clear()
            timed("order and draw", lambda: samples.find(step, slot))  # noqa: B023
            stored = timed("read", lambda: samples.read(step, slot))  # noqa: B023
            pixels = timed("decode", lambda: decode_region(stored.image, scratch, where=""))  # noqa: B023
            timed("warp, blur", lambda: crop_image(pixels, stored.draw, image, scratch, at=stored.image.box[:2]))  # noqa: B023
            timed("label", lambda: stored.label_into(label))  # noqa: B023
            files = shards.read(stored.pick.index, "image"), shards.read(stored.pick.index, "native")
            timed(WHOLE, lambda: decode_picture(files[0]))  # noqa: B023
            timed(FAST, lambda: decode_image(files[0], where=""))  # noqa: B023
            timed(RULE, lambda: rule.tensors(step * BATCH + slot, *files))  # noqa: B023
    took["read"] = [all_of - order for all_of, order in zip(took["read"], took["order and draw"], strict=True)]
    return {stage: statistics.mean(times) for stage, times in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=[s.name for s in SETTINGS], action="append")
    parser.add_argument("--crops", type=int, default=64)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for setting in SETTINGS:
        if options.setting and setting.name not in options.setting:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = profile(setting, Path(folder), options.crops)
        others = {name: found.pop(name) for name in (WHOLE, FAST, RULE)}
        total = sum(found.values())
        print(f"{setting.name}: {total:.2f} ms a crop")
        for name, ms in others.items():
            print(f"  {name}: {ms:.2f} ms ({ms / total:.2f} x)")
        for stage, ms in found.items():
            print(f"  {stage:16} {ms:6.2f} ms {ms / total:6.1%}")


if __name__ == "__main__":
    main()
