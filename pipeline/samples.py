"""The sample of any (step, slot): order, reading, decoding and augmentation put together, without state."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.pipeline.augment_opencv import box_touched, crop_image, crop_label
from segstream.pipeline.class_uniform import class_slots, find_centroid
from segstream.pipeline.config import AugmentConfig, DataConfig, LabelTaxonomy, shares
from segstream.pipeline.decode import EncodedRegion, LabelView, Scratch, decode_region, read_image, read_label
from segstream.pipeline.geometry import Draw, draw
from segstream.pipeline.order import Order, Pick
from segstream.shards.checks.stats import label_warnings
from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest, joined
from segstream.shards.format.reader import ShardSet, open_shards
from segstream.shards.taxonomy import IGNORE_INDEX, Taxonomy, load_taxonomy, naive_remap

CACHED_SHARDS = 256  # whose centroids are kept, a few hundred kilobytes each
FINGERPRINT_VERSION = 1  # raise it when the same configuration comes to mean other samples
UNUSED = {"long_side": None, "blur_sigma": None, "color_jitter": 0, "fill": "mean"}
"""Options of `AugmentConfig` that a fingerprint has only if they are used: older runs go on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One crop, and everything that led to it."""

    image: npt.NDArray[np.uint8]
    """(h, w, 3) RGB."""
    label: npt.NDArray[Any]
    """(h, w) ids of the mix's taxonomy, 255 ignored; uint8 or int16."""
    key: str
    pick: Pick
    draw: Draw


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """What is stored of a sample's crop, read and verified: engines make the crop of it."""

    image: EncodedRegion
    """Still encoded; holds the pixels of `box_touched`."""
    label: npt.NDArray[np.uint8]
    """(rows, W) ids as stored."""
    label_row: int
    """Number of the first of these rows."""
    view: LabelView
    key: str
    pick: Pick
    draw: Draw
    where: str
    """Names it in errors."""

    def image_into(self, out_HW3: npt.NDArray[np.uint8], scratch: Scratch) -> None:
        """Decode and crop the image by OpenCV.

        Raises:
            DataError: it cannot be decoded.
        """
        with _named(self.where):
            pixels = decode_region(self.image, scratch, where=self.where)
            crop_image(pixels, self.draw, out_HW3, scratch, at=self.image.box[:2])

    def label_into(self, out_HW: npt.NDArray[Any]) -> None:
        """Crop the label and look its ids up.

        Raises:
            DataError: an id that the dataset's taxonomy does not have.
        """
        with _named(self.where):
            crop = out_HW if self.view.remap is None else np.empty(out_HW.shape, np.uint8)
            crop_label(self.label, self.draw, crop, first_row=self.label_row)
            if self.view.remap is not None:
                out_HW[...] = self.view.of(crop, where=self.where)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedSample:
    """Which sample comes, and what will be done to it, before any of its pixels is read."""

    key: str
    pick: Pick
    draw: Draw
    split: str
    shard: str
    """File name of its shard."""
    position: int
    """Its place in the shard, from 0."""


class Samples:
    """The mix as one function of step and slot. Safe to use from several threads."""

    def __init__(self, data: DataConfig, augment: AugmentConfig, *, seed: int, batch: int) -> None:
        """Open every shard set of the mix; no sample is read yet.

        Args:
            seed: of the run, 0 to 2**64 - 1.
            batch: samples of a step, all ranks together.

        Raises:
            DataError: a shard set that is missing or incomplete, labels that do not fit together, or an order that
                cannot be laid out.
        """
        self._data, self._augment, self._seed = data, augment, seed
        self._weights = shares(data.mix)
        self._draw = functools.partial(draw, augment, seed=seed)
        plain = {name: data.plain_splits(name) for name in data.mix}
        with ExitStack() as opened:
            self._sets = {
                name: {
                    split: opened.enter_context(closing(open_split(data, augment, name, split)))
                    for split in data.urls(name)
                }
                for name in data.mix
            }
            self._manifests = {
                name: joined({split: s.manifest for split, s in sets.items()}, plain[name])
                for name, sets in self._sets.items()
            }
            self._views = label_views(data.taxonomy, self._manifests)
            labels = ((manifest, self._views[name].member) for name, manifest in self._manifests.items())
            self.warnings = [line for manifest, member in labels for line in label_warnings(manifest, member)]
            self._centroids = functools.lru_cache(maxsize=CACHED_SHARDS)(ShardSet.centroids)
            class_uniform = {}
            for name, config in data.sampling.items():
                class_uniform[name], lines = class_slots(config, self._sets[name], self._views[name])
                self.warnings += lines
            sizes = {
                name: [size * (split in plain[name]) for split, s in sets.items() for size in s.shard_sizes]
                for name, sets in self._sets.items()
            }
            self.order = Order(
                sizes, self._weights, seed=seed, batch=batch, window=data.window, class_uniform=class_uniform
            )
            self.counts = {name: sum(size) for name, size in sizes.items()}
            """By dataset, the samples that an epoch counts."""
            self.close = opened.pop_all().close
            """Let go of the shard sets."""
        self.datasets = tuple(data.mix)
        self.weights = tuple(float(w) for w in self._weights.values())
        self.class_shares = class_shares(self._views, self._manifests, self._weights)
        view = self._views[self.datasets[0]]
        self.taxonomy: Taxonomy = view.taxonomy
        self.label_dtype = view.dtype

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that decides which sample comes when and how it looks, JSON-able; equal means equal batches."""
        mix = [
            {"dataset": name, "weight": str(weight), "manifest": self._manifests[name].digest}
            for name, weight in self._weights.items()
        ]
        listed = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self._augment).items()}
        augment = {k: v for k, v in listed.items() if v != UNUSED.get(k, ...)}
        sampling = {
            name: asdict(config) | {"centroids": {split: s.centroids_digest for split, s in self._sets[name].items()}}
            for name, config in self._data.sampling.items()
        }
        return {
            "version": FINGERPRINT_VERSION,
            "mix": mix,
            "split": "+".join(self._data.splits),
            "taxonomy": self.taxonomy.digest,
            "labels": self._views[self.datasets[0]].member,
            "window": self._data.window,
            "seed": self._seed,
            "batch": self.order.batch,
            "augment": augment | {"crop": list(self._augment.crop_hw)},
            **({"class_uniform": sampling} if sampling else {}),
        }

    def find(self, step: int, slot: int) -> PlannedSample:
        """What `at` would make its sample of; reads the index of a shard at most, and its centroids.

        Raises:
            DataError: an index that is missing or damaged.
        """
        pick, shard_set, shard, i = self._pick(step, slot)
        entry = shard_set.entry(i)
        return PlannedSample(
            key=entry.key,
            pick=pick,
            draw=self._draw(step=step, slot=slot, size_hw=entry.size_hw, anchor_xy=pick.anchor_xy),
            split=shard_set.manifest.split,
            shard=shard_set.manifest.shards[shard].name,
            position=i - sum(shard_set.shard_sizes[:shard]),
        )

    def at(self, step: int, slot: int) -> Sample:
        """The sample in place `slot` of global step `step`.

        Raises:
            DataError: it cannot be read; names dataset, shard and key.
        """
        encoded, crop_hw = self.read(step, slot), self._augment.crop_hw
        image, label = np.empty((*crop_hw, 3), np.uint8), np.empty(crop_hw, self.label_dtype)
        encoded.image_into(image, Scratch())
        encoded.label_into(label)
        return Sample(image=image, label=label, key=encoded.key, pick=encoded.pick, draw=encoded.draw)

    def read(self, step: int, slot: int) -> EncodedSample:
        """What `at` makes its sample of: of the files, only what the crop touches.

        Raises:
            DataError: as `at`.
        """
        pick, shard_set, shard, i = self._pick(step, slot)
        view, place = self._views[pick.dataset], f"{shard_set.url}: shard {shard}, sample "
        with _named(f"{place}{i} (step {step}, slot {slot})"):
            entry = shard_set.entry(i)
        size_hw, where = entry.size_hw, f"{place}{entry.key} (step {step}, slot {slot})"
        with _named(where):
            drawn = self._draw(step=step, slot=slot, size_hw=size_hw, anchor_xy=pick.anchor_xy)
            box = box_touched(drawn)
            image = read_image(shard_set, i, box, size_hw)
            rows = box[0], box[2]
            label, label_row = read_label(shard_set, i, view.member, rows, size_hw, where=where)
        return EncodedSample(
            image=image, label=label, label_row=label_row, view=view, key=entry.key, pick=pick, draw=drawn, where=where
        )

    def _pick(self, step: int, slot: int) -> tuple[Pick, ShardSet, int, int]:
        """What comes, its centroid looked up; its set, and the numbers of its shard and of itself in that."""
        pick = self.order.at(step, slot)
        shard, before = pick.shard, 0
        for shard_set in self._sets[pick.dataset].values():
            if shard < len(shard_set.shard_sizes):
                break
            shard, before = shard - len(shard_set.shard_sizes), before + len(shard_set)
        if pick.class_id is not None and pick.nth is not None:
            view = self._views[pick.dataset]
            centroids = self._centroids(shard_set, shard, view.member)
            position, anchor_xy = find_centroid(centroids, view, pick.class_id, pick.nth)
            pick = replace(pick, index=before + sum(shard_set.shard_sizes[:shard]) + position, anchor_xy=anchor_xy)
        return pick, shard_set, shard, pick.index - before


def open_split(data: DataConfig, augment: AugmentConfig, name: str, split: str) -> ShardSet:
    """One of the shard sets of a dataset of a mix.

    Raises:
        DataError: it is missing, with the command that makes it; incomplete; or another set.
    """
    url = data.urls(name)[split]
    if "://" not in url and not Path(url).is_dir():
        options = {
            f" --short-side {augment.short_side}": augment.short_side,
            " --relabel RECORDS": data.taxonomy == "universal-relabeled",
            " --centroids": name in data.sampling,
        }
        command = f"segstream shard {name} --raw RAW --split {split}{''.join(filter(options.get, options))}"
        raise DataError(
            f"data.mix.{name}: no shards at {url}; make them with `{command} --out {data.shards}`, "
            f"or correct data.shards"
        )
    shards = open_shards(url)
    found = shards.manifest.dataset, shards.manifest.split
    if found != (name, split):
        shards.close()
        raise DataError(
            f"data.mix.{name}: the set at {url} is of {' '.join(found)}, by its manifest, not of {name} {split}; "
            f"put that one in its place, or correct data.shards"
        )
    return shards


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Errors say which sample they are about."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error})") from error
    except Exception as error:
        error.add_note(f"while loading {where}")
        raise


def label_views(view: LabelTaxonomy, manifests: Mapping[str, Manifest]) -> dict[str, LabelView]:
    """The view of every dataset of a mix, all in one taxonomy.

    Args:
        manifests: by dataset; their taxonomies are looked at.

    Raises:
        DataError: a dataset has no such labels, or the datasets' own classes differ.
    """
    views = {name: _label_view(view, name, manifest) for name, manifest in manifests.items()}
    first, *others = views
    for other in others:
        if views[other].taxonomy.digest != views[first].taxonomy.digest:
            hint = "write universal, or train on one" if view == "native" else "convert both with one version"
            raise DataError(
                f"data.taxonomy: {view}, but {first} and {other} have different classes "
                f"({views[first].taxonomy.name}, {views[other].taxonomy.name}); {hint}"
            )
    return views


def class_shares(
    views: Mapping[str, LabelView], manifests: Mapping[str, Manifest], weights: Mapping[str, Fraction]
) -> tuple[float, ...]:
    """What share of a mix's labelled pixels each class of its taxonomy has, before cropping; they add up to 1.

    Args:
        views, manifests: by dataset.
        weights: by dataset, its share of the mix.

    Raises:
        DataError: nothing at all is labelled.
    """
    shares = np.zeros(next(iter(views.values())).taxonomy.num_classes)
    for name, view in views.items():
        pixels = np.zeros_like(shares)
        for native, (count, _) in manifests[name].counts.get(view.member, {}).items():
            target = native if view.remap is None else int(view.remap.table[native])
            if target != IGNORE_INDEX:
                pixels[target] += count
        shares += float(weights[name]) * pixels / max(1, pixels.sum())
    if not shares.any():
        raise DataError(f"data.mix: no pixel of {', '.join(views)} has a class: there is nothing to train on")
    return tuple((shares / shares.sum()).tolist())


def _label_view(view: LabelTaxonomy, name: str, manifest: Manifest) -> LabelView:
    if "native" not in manifest.members:
        raise DataError(f"data.mix.{name}: its shards hold images without labels, to predict; leave it out of the mix")
    if view == "native":
        return LabelView(member="native", taxonomy=manifest.native)
    if view == "naive":
        return LabelView(member="native", taxonomy=load_taxonomy("naive"), remap=naive_remap(manifest.native))
    if manifest.universal is None:
        raise DataError(
            f"data.mix.{name}: its shards hold no universal labels (they hold {', '.join(manifest.members)}); "
            f"write data.taxonomy: native to train in its own classes, or leave it out"
        )
    if view not in manifest.members:
        raise DataError(
            f"data.mix.{name}: its shards hold no relabelled labels (they hold {', '.join(manifest.members)}); "
            f"convert it with --relabel, or write data.taxonomy: universal"
        )
    return LabelView(member=view, taxonomy=manifest.universal)
