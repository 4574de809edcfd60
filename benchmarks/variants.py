"""Variants of training against plain training, with the demo's data, network and budget: what they change in mIoU.

    make demo  # draws the datasets; then `segstream shard DATASET --split val` of the two below
    python -m segstream.benchmarks.variants --shards data/shards

- sampling: the recipes single-cityscapes-19 and single-ade20k-150 in the datasets' own classes (of sets this small the
  194 universal ones would get less than one sample each), plain and with `data.class_uniform`, evaluated on the
  dataset's own validation images; mIoU of all classes that occur in training and validation, and of the third of them
  with the fewest training pixels.
- ccsa: the recipe union-universal, plain and with `train.ccsa`, evaluated on the held-out datasets; harmonic mean.

Runs that are finished are not made again.
"""

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import segstream
from segstream.model.evaluation.metrics import EvalResult, harmonic_mean
from segstream.recipe import load_recipe
from segstream.shards.format.reader import manifest_of

SINGLE = ("cityscapes-19", "ade20k-150")
HELD_OUT = ("camvid-11", "voc2012", "kitti-19")
SAMPLING = {"plain": [], "class-uniform": ["data.class_uniform={share: 0.5}"]}
CCSA = {"plain": [], "ccsa": ["train.ccsa={}"]}


def one(recipe: str, overrides: Sequence[str], run: Path, sets: Sequence[str]) -> list[EvalResult]:
    """Train and evaluate on every set; on one thread."""
    torch.set_num_threads(1)
    final = segstream.train(load_recipe(recipe, overrides), run)
    return segstream.evaluate(final, sets, out=run / "eval.json")


def rarest_third(shards: str, dataset: str) -> tuple[list[str], list[str]]:
    """Classes that occur in training and validation; the third of them with the fewest training pixels."""
    train, val = (manifest_of(f"{shards}/{dataset}/{split}") for split in ("train", "val"))
    pixels = {i: count for i, (count, _) in train.counts["native"].items() if i in val.counts["native"]}
    both = [train.native.classes[i] for i in sorted(pixels, key=pixels.__getitem__)]
    return both, both[: len(both) // 3]


def mean_iou(result: EvalResult, names: Sequence[str]) -> float:
    return statistics.mean(found.iou or 0.0 for found in result.classes if found.name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", default="data/shards")
    parser.add_argument("--out", type=Path, default=Path("runs/variants"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=("sampling", "ccsa"))
    options = parser.parse_args()
    shards, common = options.shards, [f"data.shards={options.shards}", f"train.steps={options.steps}"]
    plan = {}
    for seed in range(options.seeds):
        for variant, given in SAMPLING.items() if options.only != "ccsa" else ():
            for dataset in SINGLE:
                plan[dataset, variant, seed] = (
                    f"single-{dataset}",
                    ["data.taxonomy=native", *given],
                    [f"{shards}/{dataset}/val"],
                )
        for variant, given in CCSA.items() if options.only != "sampling" else ():
            plan["union", variant, seed] = "union-universal", given, [f"{shards}/{name}/val" for name in HELD_OUT]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        jobs = {
            (what, variant, seed): pool.submit(
                one, recipe, [*common, f"seed={seed}", *given], options.out / f"{what}-{variant}-{seed}", sets
            )
            for (what, variant, seed), (recipe, given, sets) in plan.items()
        }
        for (what, variant, seed), job in jobs.items():
            if job.exception() is not None:
                pool.shutdown(cancel_futures=True)
            results = job.result()
            if what == "union":
                figures = f"held-out mIoU, harmonic mean {100 * harmonic_mean(r.miou for r in results):.1f}"
            else:
                both, rare = rarest_third(shards, what)
                all_, rarest = (100 * mean_iou(results[0], names) for names in (both, rare))
                figures = f"mIoU of {len(both)} classes {all_:.1f}, of the {len(rare)} rarest {rarest:.1f}"
            print(f"{what} {variant} seed {seed}: {figures}", flush=True)


if __name__ == "__main__":
    main()
