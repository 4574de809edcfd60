"""The gallery of shard sets: samples with their labels laid over them, in one page that loads nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segstream.cli.report import html as page
from segstream.colors import class_colors, paint
from segstream.shards.checks.stats import label_taxonomies
from segstream.shards.codecs import images
from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.format.keys import key_of
from segstream.shards.format.manifest import Manifest
from segstream.shards.format.reader import ShardSet
from segstream.shards.taxonomy import IGNORE_INDEX, Remap, Taxonomy, load_taxonomy, naive_remap, remap_label

VIEWS = ("native", "universal", "universal-relabeled", "naive")
LARGEST, SMALLEST = 720, 160  # pixels of a picture's longer side
PAGE_PIXELS = 7_000_000  # of all pictures together: a page of a few MB
STRIPE_PX = 5  # ignored pixels are striped, as no class is


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One way to read a set's labels."""

    name: str
    member: str
    taxonomy: Taxonomy
    remap: Remap | None = None
    """From the member's ids; None where they are the taxonomy's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One class of one label."""

    id: int
    name: str
    color: str
    """`#rrggbb`."""
    pixels: int
    share: float
    """Of all pixels of the image, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A label as a picture to lay over the image, and what it shows."""

    view: str
    picture: str
    marks: tuple[Mark, ...]
    """Classes present, the largest first."""
    ignored: float
    """Share of pixels without a class, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One sample of the page; pictures are `data:` URLs."""

    key: str
    size_hw: tuple[int, int]
    photo: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """One set of the page."""

    url: str
    manifest: Manifest
    views: tuple[str, ...]
    samples: tuple[Shown, ...]
    occurring: int
    """Native classes that occur in the set."""
    shown: int
    """Of these, in the samples shown."""


def views_of(shards: ShardSet, wanted: Sequence[str] = ()) -> tuple[View, ...]:
    """How to read a set's labels: as asked for, or in every taxonomy the set holds; () for images only.

    Raises:
        UsageError: an unknown taxonomy, or one in which the set has no labels.
    """
    held = label_taxonomies(shards.manifest)
    views = {name: View(name=name, member=name, taxonomy=taxonomy) for name, taxonomy in held.items()}
    for name in wanted:
        if name not in VIEWS:
            raise UsageError(f"taxonomy {name!r} is unknown; {did_you_mean(name, VIEWS)}")
        if name == "naive" and "native" in held:
            try:
                remap = naive_remap(held["native"])
            except DataError as error:
                raise UsageError(f"{shards.url}: has no labels in taxonomy 'naive': {error}") from error
            views[name] = View(name=name, member="native", taxonomy=load_taxonomy("naive"), remap=remap)
        elif name not in held:
            has = f"it holds {', '.join(held)}" if held else "it holds images only"
            raise UsageError(f"{shards.url}: has no labels in taxonomy {name!r}; {has}")
    return tuple(views[name] for name in dict.fromkeys(wanted or views))


def choose(classes: Sequence[Collection[int]], count: int, seed: int = 0) -> tuple[int, ...]:
    """Samples that together show as many classes as possible, the rest spread evenly over the set.

    Each choice adds the most classes not yet shown (greedy cover); among equals, the first in an order drawn from
    the seed.

    Args:
        classes: ids present, by sample.

    Returns:
        `count` places, or all there are, ascending.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(classes))
    width = 1 + max((i for ids in classes for i in ids), default=0)
    present = np.zeros((len(classes), width), np.uint8)
    for row, at in enumerate(order):
        present[row, list(classes[at])] = 1
    missing = np.ones(width, np.uint8)
    chosen: list[int] = []
    while len(chosen) < count and len(classes):
        gains = present @ missing
        best = int(gains.argmax())
        if not gains[best]:
            break
        chosen.append(int(order[best]))
        missing[present[best] == 1] = 0
    rest = sorted(set(range(len(classes))) - set(chosen))
    more = min(count - len(chosen), len(rest))
    shift = rng.random()
    chosen += [rest[int((i + shift) * len(rest) / more)] for i in range(more)]
    return tuple(sorted(chosen))


def find_keys(shards: ShardSet, keys: Iterable[str]) -> dict[str, int]:
    """Places of samples by key, as stored or as the image's path below the split's root; those not there left out."""
    places = {shards.entry(i).key: i for i in range(len(shards))}
    return {key: places[name] for key in keys for name in (key, key_of(key)) if name in places}


def picture_side(num_pictures: int) -> int:
    """Longer side of each picture, in pixels, so that the page stays small however many there are."""
    fair = (PAGE_PIXELS / max(num_pictures, 1) / 0.7) ** 0.5  # most pictures are about 10 x 7
    return int(min(max(fair, SMALLEST), LARGEST))


def gallery(
    shards: ShardSet, places: Sequence[int], views: Sequence[View], *, side: int, done: Callable[[], None]
) -> Gallery:
    """Read and draw samples of a set.

    Args:
        side: longer side of the pictures at most, in pixels.
        done: called after each sample.

    Raises:
        DataError: a sample is damaged; the message names it.
    """
    samples: list[Shown] = []
    ids: set[int] = set()
    for i in places:
        samples.append(_sample(shards, i, views, side))
        ids.update(shards.entry(i).classes)
        done()
    return Gallery(
        url=shards.url,
        manifest=shards.manifest,
        views=tuple(view.name for view in views),
        samples=tuple(samples),
        occurring=len(shards.manifest.counts.get("native", {})),
        shown=len(ids),
    )


def render_galleries(galleries: Sequence[Gallery]) -> str:
    """The page as one string of HTML.

    Raises:
        DataError: jinja2 (extra `report`) is not installed.
    """
    return page.render("show.html", galleries=galleries, views=VIEWS, share=share_text)


def account(gallery: Gallery) -> dict[str, Any]:
    """What the page shows of a set, for machines."""
    return {
        "url": gallery.url,
        "dataset": gallery.manifest.dataset,
        "split": gallery.manifest.split,
        "taxonomies": gallery.views,
        "classes_occurring": gallery.occurring,
        "classes_shown": gallery.shown,
        "samples": [
            {
                "key": sample.key,
                "size_hw": sample.size_hw,
                "labels": {
                    layer.view: {
                        "ignored": layer.ignored,
                        "classes": [
                            {"id": m.id, "name": m.name, "color": m.color, "pixels": m.pixels, "share": m.share}
                            for m in layer.marks
                        ],
                    }
                    for layer in sample.layers
                },
            }
            for sample in gallery.samples
        ],
    }


def share_text(share: float) -> str:
    """A share of pixels as a person reads it; never 0 for what is there."""
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _sample(shards: ShardSet, i: int, views: Sequence[View], side: int) -> Shown:
    entry = shards.entry(i)
    where = f"{shards.url}: sample {entry.key!r}"
    members = {view.member for view in views}
    try:
        photo = images.decode_picture(shards.read(i, "image")).pixels
        stored = {member: images.decode_ids(shards.read(i, member)) for member in sorted(members)}
    except images.UnreadableError as error:
        raise DataError(f"{where}: {error}; run `segstream verify`, then convert again") from error
    for member, label in stored.items():
        if label.shape != photo.shape[:2]:
            sizes = f"{label.shape}, its image {photo.shape[:2]}"
            raise DataError(f"{where}: label {member} is {sizes}; run `segstream verify`, then convert again")
    small = page.shrunk(Image.fromarray(photo), side, Image.Resampling.LANCZOS)
    size_hw = (small.height, small.width)
    return Shown(
        key=entry.key,
        size_hw=entry.size_hw,
        photo=page.data_url(small, "JPEG", quality=80),
        layers=tuple(_layer(view, stored[view.member], size_hw, where=where) for view in views),
    )


def _layer(view: View, stored: npt.NDArray[Any], size_hw: tuple[int, int], *, where: str) -> Layer:
    label = remap_label(stored, view.remap, where=where) if view.remap else stored
    ids, counts = np.unique(label, return_counts=True)
    pixels = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    ignored = pixels.pop(IGNORE_INDEX, 0)
    classes = view.taxonomy.classes
    strange = [i for i in pixels if i >= len(classes)]
    if strange:
        raise DataError(
            f"{where}: label {view.member} has ids {strange[:8]}, outside the {len(classes)} classes of "
            f"{view.taxonomy.name}; run `segstream verify`, then convert again"
        )
    colors = class_colors(classes)
    small = images.resize_label(label, size_hw)
    painted = np.where((small == IGNORE_INDEX)[..., None], _stripes(size_hw), paint(small, colors))
    marks = [
        Mark(
            id=i,
            name=classes[i],
            color="#{:02x}{:02x}{:02x}".format(*colors[i]),
            pixels=pixels[i],
            share=pixels[i] / label.size,
        )
        for i in sorted(pixels, key=lambda i: (-pixels[i], i))
    ]
    picture = page.data_url(page.one_byte(Image.fromarray(painted)), "PNG", optimize=True)
    return Layer(view=view.name, picture=picture, marks=tuple(marks), ignored=ignored / label.size)


def _stripes(size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: black and white from the lower left to the upper right."""
    rows, columns = np.indices(size_hw)
    grey = np.where((rows + columns) // STRIPE_PX % 2, 255, 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
