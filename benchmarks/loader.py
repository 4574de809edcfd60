"""The loader, decoding alone, and the augmentation rule done step by step: what `segstream bench loader` times.

All get the same samples, the loader and the rule the same draws, from a shard set drawn for the purpose.
"""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from segstream.benchmarks.loader_peers import PEERS, MissingError
from segstream.benchmarks.loader_variants import VARIANTS, told, variants
from segstream.benchmarks.reference_rule import Rule, decode_picture
from segstream.benchmarks.timing import Measured, Progress, Table, interleaved, machine, ratio
from segstream.pipeline.config import AugmentConfig, DataConfig, EngineName, LoaderConfig
from segstream.pipeline.decode import decode_image
from segstream.pipeline.loader import Loader
from segstream.pipeline.order import Order
from segstream.pipeline.samples import Samples
from segstream.shards.convert.convert import convert
from segstream.shards.errors import UsageError
from segstream.shards.format.reader import ShardSet, open_shards

NAME = "drawn"
PICTURES = 8
CLASSES = 150
STEP_S = 0.02
WAITED = 16  # steps
WORKERS = 2  # processes of the DataLoader, as the reference has for each GPU
RATES = {"ours": "ours", "reference_rule": "rule", "decode_only": "decoding (OpenCV)", "decode_fast": "decoding (ours)"}
RATIOS = {"reference_rule": "ratio_reference", "decode_only": "ratio_decode", "decode_fast": "ratio_decode_fast"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Stored images and the crops to make of them."""

    name: str
    source_hw: tuple[int, int]
    short_side: int
    crop: int


SETTINGS = (
    Setting(name="480-473", source_hw=(480, 640), short_side=480, crop=473),
    Setting(name="1080-713", source_hw=(1080, 1440), short_side=1080, crop=713),
    Setting(name="city-713", source_hw=(1024, 2048), short_side=1080, crop=713),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One setting, ready to run. Every call of a run makes the next crops of the same stream."""

    runs: dict[str, Callable[[], None]]
    """ours, reference_rule; whole pictures decoded by OpenCV as in that rule (decode_only) and by the loader's decoder
    (decode_fast); ours with what VARIANTS names; and by name the peers that run."""
    image_difference: float
    """Mean absolute difference of ours and the reference rule, of 255."""
    label_agreement: float
    """Share of label pixels that are equal."""
    missing: dict[str, str]
    """Peers that cannot be run here, and why."""
    engine: str
    """Of the loader, and why it."""
    engine_difference: float
    """Mean absolute difference of the loader's images and the OpenCV engine's, of 255."""
    wait_share: Callable[[], float]
    """Share of its time that a loop waits for batches whose steps take `STEP_S`; runs WAITED of them."""


def measure(
    settings: Sequence[str] | None,
    crops: int,
    batch: int,
    threads: int,
    rounds: int,
    progress: Progress,
    *,
    peers: bool = False,
    engine: str = "opencv",
) -> Measured:
    """Crops per second of everything that is compared, medians of rounds run in turns.

    Args:
        settings: names of SETTINGS; none: all.
        crops: made by each in a round.
        threads: of the loader and of decoding; 0: all cores.
        peers: also other loaders with the same rule.
        engine: of the loader.

    Raises:
        UsageError: an unknown setting or engine, or crops that make no whole batches.
    """
    if engine not in get_args(EngineName):
        raise UsageError(f"--engine {engine!r}: choose among {', '.join(get_args(EngineName))}")
    known = {s.name: s for s in SETTINGS}
    if unknown := [name for name in settings or () if name not in known]:
        raise UsageError(f"--setting {unknown[0]!r}: choose among {', '.join(known)}")
    if crops % batch:
        raise UsageError(f"--crops {crops} is no multiple of --batch {batch}")
    threads = threads or os.cpu_count() or 1
    sizes = {"crops": crops, "batch": batch, "threads": threads, "peers": peers, "engine": cast(EngineName, engine)}
    rows = [_measure_setting(known[name], rounds, progress, **sizes) for name in settings or known]
    about = {"machine": machine(threads), "crops": crops, "batch": batch, "rounds": rounds}
    return Measured(about | {"settings": rows}, tuple(_text(about, rows, peers=peers)))


def _measure_setting(setting: Setting, rounds: int, progress: Progress, **sizes: Any) -> dict[str, Any]:
    free_before = _free_bytes()
    with (
        tempfile.TemporaryDirectory(prefix="segstream-bench-") as folder,
        progress(f"bench {setting.name}", "rounds") as on_round,
        prepare(setting, Path(folder), **sizes) as case,
    ):
        took = interleaved(case.runs, rounds, on_round=on_round)
        wait_share = case.wait_share()
        gpu_mib = round((free_before - _free_bytes()) / 2**20) if free_before else None  # DALI's is not torch's
    rates = {name: round(sizes["crops"] / statistics.median(times), 2) for name, times in took.items()}
    ratios = {name: round(ratio(times, took["ours"]), 2) for name, times in took.items()}
    row = {
        "name": setting.name,
        **{name: rates[name] for name in RATES},
        **{key: ratios[name] for name, key in RATIOS.items()},
        "image_difference": round(case.image_difference, 2),
        "label_agreement": round(case.label_agreement, 4),
        "engine": case.engine,
        "engine_difference": round(case.engine_difference, 2),
        "wait_share": round(wait_share, 3),
        "gpu_mib": gpu_mib,
        **{name: rates[name] for name in VARIANTS} | {f"ratio_{name}": ratios[name] for name in VARIANTS},
    }
    if sizes["peers"]:
        found = {name: {"crops_per_s": rates[name], "ratio": ratios[name]} for name in rates if name in PEERS}
        row["peers"] = found | {name: {"error": reason} for name, reason in case.missing.items()}
    return row


def _free_bytes() -> int:
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


def _text(about: dict[str, Any], rows: Sequence[dict[str, Any]], *, peers: bool) -> Iterator[str | Table]:
    yield f"{about['machine']}; crops/s, medians of {about['rounds']} rounds"
    quotients = [f"ours / {RATES[name]}" for name in RATIOS]
    yield (
        ("setting", *RATES.values(), *quotients, "images apart", "labels equal"),
        [
            (
                row["name"],
                *(f"{row[name]:.1f}" for name in RATES),
                *(f"{row[key]:.2f}x" for key in RATIOS.values()),
                f"{row['image_difference']:.2f} of 255",
                f"{row['label_agreement']:.1%}",
            )
            for row in rows
        ],
    )
    for row in rows:
        yield f"{row['name']}: {', '.join(told(row))}"
        memory = "" if row["gpu_mib"] is None else f", {row['gpu_mib']} MiB of GPU memory"
        yield (
            f"{row['name']}: {row['engine']}; {row['engine_difference']:.2f} of 255 from OpenCV; with steps of 20 ms "
            f"{row['wait_share']:.0%} of the time is waiting{memory}"
        )
    if peers:
        yield "other loaders with the same rule, two workers each"
        yield (
            ("setting", "loader", "crops/s", "ours / it"),
            [
                (row["name"], name, f"not run: {found['error']}", "-")
                if "error" in found
                else (row["name"], name, f"{found['crops_per_s']:.1f}", f"{found['ratio']:.1f}x")
                for row in rows
                for name, found in row["peers"].items()
            ],
        )


@contextmanager
def prepare(
    setting: Setting,
    folder: Path,
    *,
    crops: int,
    batch: int,
    threads: int,
    peers: bool = False,
    engine: EngineName = "opencv",
) -> Iterator[Case]:
    """Draw pictures, convert them, and start everything.

    Args:
        folder: an empty one, for pictures and shards.
        crops: what one call of a run makes; a multiple of `batch`.
        threads: of the loader, and of decoding alone.
        peers: also start other loaders with the same rule, those that are installed.
    """
    draw_pictures(folder / "raw", setting.source_hw)
    convert(dataset=str(folder / "raw" / "set.yaml"), split="train", out=str(folder / "shards"), centroids=True)
    data = DataConfig(shards=str(folder / "shards"), mix={NAME: 1}, taxonomy="native")
    rule = AugmentConfig(short_side=setting.short_side, crop=setting.crop)
    steps = StepByStep(data, rule, batch)
    turn = _Turn(crops)
    reference = DataLoader(
        steps,
        batch_size=batch,
        sampler=turn,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="spawn",  # forking a process that has threads can hang
    )
    config = LoaderConfig(batch=batch, threads=threads, engine=engine)
    with (
        Loader(data, rule, config, seed=0) as loader,
        variants(data, rule, config) as others_of_ours,
        ThreadPoolExecutor(threads) as pool,
    ):

        def made_by(loader: Loader) -> Callable[[], None]:
            starts = itertools.count(0, crops // batch)
            return lambda: _exhaust(loader.batches(start := next(starts), start + crops // batch))

        def reference_rule() -> None:
            _exhaust(reference)
            turn.start += crops

        def decoding(decode: Callable[[int], object]) -> Callable[[], None]:
            starts = itertools.count(0, crops)
            return lambda: _exhaust(pool.map(decode, range(start := next(starts), start + crops)))

        runs = {
            "ours": made_by(loader),
            **{name: made_by(variant) for name, variant in others_of_ours.items()},
            "reference_rule": reference_rule,
            "decode_only": decoding(steps.decode),
            "decode_fast": decoding(steps.decode_fast),
        }
        others, missing = _peers(steps, folder, crops) if peers else ({}, {})
        image_difference, label_agreement, engine_difference = _compare(steps, data, rule, loader)
        yield Case(
            runs=runs | others,
            image_difference=image_difference,
            label_agreement=label_agreement,
            missing=missing,
            engine=loader.engine_note,
            engine_difference=engine_difference,
            wait_share=functools.partial(_wait_share, loader),
        )


class StepByStep(Dataset[tuple[Tensor, Tensor]]):
    """The stream's crops as they are usually made: one sample a call, every step on the whole canvas."""

    def __init__(self, data: DataConfig, rule: AugmentConfig, batch: int) -> None:
        self._data, self.rule = data, Rule(augment=rule, seed=0, batch=batch)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """See `Rule.tensors`."""
        return self.rule.tensors(number, *self.files(number))

    def files(self, number: int) -> tuple[bytes, bytes]:
        """The image and the label that slot `number` of the run uses, as they are stored."""
        pick = self._order.at(*divmod(number, self.rule.batch))
        return self._shards.read(pick.index, "image"), self._shards.read(pick.index, "native")

    def decode(self, number: int) -> npt.NDArray[np.uint8]:
        """The whole stored image, (H, W, 3), as the rule decodes it."""
        return decode_picture(self._image(number))

    def decode_fast(self, number: int) -> npt.NDArray[np.uint8]:
        """The same by the loader's decoder."""
        return decode_image(self._image(number), where=self._shards.url)

    def _image(self, number: int) -> bytes:
        return self._shards.read(self._order.at(*divmod(number, self.rule.batch)).index, "image")

    # Opened where they are used: neither travels to another process.
    @functools.cached_property
    def _order(self) -> Order:
        samples = Samples(self._data, self.rule.augment, seed=self.rule.seed, batch=self.rule.batch)
        samples.close()
        return samples.order

    @functools.cached_property
    def _shards(self) -> ShardSet:
        return open_shards(self._data.urls(NAME)["train"])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_order", "_shards")}


def _peers(steps: StepByStep, folder: Path, crops: int) -> tuple[dict[str, Callable[[], None]], dict[str, str]]:
    """What runs an epoch of each peer: the files of the stream's first crops, written in its own format."""
    files = [steps.files(number) for number in range(crops)]
    runs: dict[str, Callable[[], None]] = {}
    missing = {}
    for name, start in PEERS.items():
        (folder / name).mkdir()
        try:
            batches = start(folder / name, files, steps.rule, WORKERS)
            found = sum(len(batch[0]) for batch in batches)
        except MissingError as error:
            missing[name] = str(error)
            continue
        except Exception as error:  # whatever another program raises, it is its own reason
            missing[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        if found == crops:
            runs[name] = functools.partial(_exhaust, batches)
        else:
            missing[name] = f"gave {found} samples of {crops}"
    return runs, missing


def _exhaust(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def draw_pictures(folder: Path, size_hw: tuple[int, int]) -> None:
    """A dataset with detail at every size, as photographs have: 2.7 bits a pixel as JPEG; labels are patches.

    PNGs, so that conversion encodes them, as it does what is larger than `short_side` or no JPEG.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    names = "".join(f"  - {{name: c{i}}}\n" for i in range(CLASSES))
    splits = "splits: {train: {images: images/*.png, labels: labels/*.png}}\n"
    text = f"name: {NAME}\nlicence: none, drawn\nroot: {folder}\n{splits}classes:\n{names}"
    (folder / "set.yaml").write_text(text, encoding="utf-8")
    height, width = size_hw
    for number in range(PICTURES):
        rng = np.random.default_rng(number)
        image = np.full((height, width, 3), 128, np.float32)
        for octave in range(2, 8):  # pixels are not independent in a photograph
            coarse = rng.normal(0, 8 * 1.2**octave, (-(-height // 2**octave), -(-width // 2**octave), 3))
            image += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        patches = rng.integers(0, CLASSES, (-(-height // 40), -(-width // 40)), np.uint8)
        label = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
        pixels = image.clip(0, 255).astype(np.uint8)
        for path, array in ((f"images/{number}.png", pixels), (f"labels/{number}.png", label)):
            cv2.imwrite(str(folder / path), array)


class _Turn(Sampler[int]):
    """Numbers of the crops that the next round makes."""

    def __init__(self, crops: int) -> None:
        self.start, self._crops = 0, crops

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.start + self._crops))

    def __len__(self) -> int:
        return self._crops


def _wait_share(loader: Loader) -> float:
    batches = loader.batches(0, 4 + WAITED)
    for _ in range(4):  # until the prefetched ones are used up, waiting is not yet what it will be
        next(batches)
    waited_s, began = loader.wait_s, time.perf_counter()
    for _ in batches:
        time.sleep(STEP_S)  # what a GPU's step is for the host
    return (loader.wait_s - waited_s) / (time.perf_counter() - began)


def _compare(steps: StepByStep, data: DataConfig, rule: AugmentConfig, loader: Loader) -> tuple[float, float, float]:
    """(mean absolute difference of images, share of equal labels, difference of the engines) over the first crops."""
    batch = steps.rule.batch
    samples = Samples(data, rule, seed=steps.rule.seed, batch=batch)
    apart, equal, engines = [], [], []
    for made in loader.batches(0, -(-PICTURES // batch)):
        for slot, by_engine in enumerate(made.images.cpu().permute(0, 2, 3, 1).numpy()):
            number = made.step * batch + slot
            image, label = steps.rule.crop(number, *steps.files(number))
            ours = samples.at(made.step, slot)
            apart.append(np.abs(ours.image - image).mean())
            equal.append((ours.label == label).mean())
            engines.append(np.abs(ours.image - by_engine.astype(float)).mean())
    samples.close()
    return float(np.mean(apart)), float(np.mean(equal)), float(np.mean(engines))
