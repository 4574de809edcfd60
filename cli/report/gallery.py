"""The gallery of shard sets: samples with their labels laid over them, in one page that loads nothing."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segstream.cli.report import html as page
from segstream.colors import class_colors, paint
from segstream.pipeline.decode import LabelView
from segstream.shards.codecs import images
from segstream.shards.codecs.labels import decode_ids
from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.format.keys import key_of
from segstream.shards.format.manifest import label_taxonomies
from segstream.shards.format.reader import ShardSet
from segstream.shards.taxonomy import IGNORE_INDEX, Taxonomy, load_taxonomy, naive_remap, remap_label

LABELS = ("native", "universal", "universal-relabeled", "naive")
LARGEST, SMALLEST = 720, 160  # pixels of a picture's longer side
PAGE_PIXELS = 7_000_000  # of all pictures together: a page of a few MB
STRIPE_PX = 5  # ignored pixels are striped, as no class is


def label_views(shards: ShardSet, wanted: Sequence[str] = ()) -> dict[str, LabelView]:
    """How to read a set's labels, by name: as asked for, or in every taxonomy the set holds; {} for images only.

    Raises:
        UsageError: an unknown taxonomy, or one in which the set has no labels.
    """
    held = label_taxonomies(shards.manifest)
    views = {name: LabelView(member=name, taxonomy=taxonomy) for name, taxonomy in held.items()}
    for name in wanted:
        if name not in LABELS:
            raise UsageError(f"taxonomy {name!r} is unknown; {did_you_mean(name, LABELS)}")
        if name == "naive" and "native" in held:
            try:
                remap = naive_remap(held["native"])
            except DataError as error:
                raise UsageError(f"{shards.url}: has no labels in taxonomy 'naive': {error}") from error
            views[name] = LabelView(member="native", taxonomy=load_taxonomy("naive"), remap=remap)
        elif name not in held:
            has = f"it holds {', '.join(held)}" if held else "it holds images only"
            raise UsageError(f"{shards.url}: has no labels in taxonomy {name!r}; {has}")
    return {name: views[name] for name in wanted or views}


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
    while len(classes) and len(chosen) < count and (gains := present @ missing).any():
        best = int(gains.argmax())
        chosen.append(int(order[best]))
        missing[present[best] == 1] = 0
    rest = sorted(set(range(len(classes))) - set(chosen))
    more = min(count - len(chosen), len(rest))
    shift = rng.random()
    chosen += [rest[int((i + shift) * len(rest) / more)] for i in range(more)]
    return tuple(sorted(chosen))


def find_keys(sets: Sequence[ShardSet], keys: Sequence[str]) -> list[tuple[int, ...]]:
    """Places of samples in each set, by key as stored or by the image's path below the split's root.

    Raises:
        UsageError: no set has one of them.
    """
    places = [{shards.entry(i).key: i for i in range(len(shards))} for shards in sets]
    found = [{key: of_set[n] for key in keys for n in (key, key_of(key)) if n in of_set} for of_set in places]
    for key in keys:
        if not any(key in of_set for of_set in found):
            like = sets[0].entry(0).key
            raise UsageError(f"no sample {key!r} in {', '.join(s.url for s in sets)}; keys look like {like!r}")
    return [tuple(dict.fromkeys(of_set.values())) for of_set in found]


def picture_side(num_pictures: int) -> int:
    """Longer side of each picture, in pixels, so that the page stays small however many there are."""
    fair = (PAGE_PIXELS / max(num_pictures, 1) / 0.7) ** 0.5  # most pictures are about 10 x 7
    return int(min(max(fair, SMALLEST), LARGEST))


def draw_gallery(
    shards: ShardSet, places: Sequence[int], views: Mapping[str, LabelView], *, side: int, done: Callable[[], None]
) -> dict[str, Any]:
    """Read and draw samples of a set.

    Args:
        side: longer side of the pictures at most, in pixels.
        done: called after each sample.

    Returns:
        `manifest`; `facts`, what the page says of the set and its samples, JSON-able; and `pictures`, by sample, as
        `data:` URLs: the image, and the labels by name, painted to lay over it.

    Raises:
        DataError: a sample is damaged; the message names it.
    """
    samples, pictures = [], []
    for i in places:
        sample, *drawn = _draw_sample(shards, i, views, side)
        samples.append(sample)
        pictures.append(drawn)
        done()
    manifest = shards.manifest
    facts = {
        "url": shards.url,
        "dataset": manifest.dataset,
        "split": manifest.split,
        "taxonomies": list(views),
        "classes_occurring": len(manifest.counts.get("native", {})),
        "classes_shown": len({id_ for i in places for id_ in shards.entry(i).classes}),
        "samples": samples,
    }
    return {"manifest": manifest, "facts": facts, "pictures": pictures}


def share_text(share: float) -> str:
    """A share of pixels as a person reads it; never 0 for what is there."""
    return "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _draw_sample(
    shards: ShardSet, i: int, views: Mapping[str, LabelView], side: int
) -> tuple[dict[str, Any], str, dict[str, str]]:
    """What is said of a sample; its image; its labels by name."""
    entry = shards.entry(i)
    where = f"{shards.url}: sample {entry.key!r}"
    try:
        photo = images.decode_picture(shards.read(i, "image")).pixels
        stored = {m: decode_ids(shards.read(i, m)) for m in sorted({view.member for view in views.values()})}
    except images.UnreadableError as error:
        raise DataError(f"{where}: {error}; run `segstream verify`, then convert again") from error
    for member, label in stored.items():
        if label.shape != photo.shape[:2]:
            sizes = f"{label.shape}, its image {photo.shape[:2]}"
            raise DataError(f"{where}: label {member} is {sizes}; run `segstream verify`, then convert again")
    small = page.shrunk(Image.fromarray(photo), side, Image.Resampling.LANCZOS)
    labels, overlays = {}, {}
    for name, view in views.items():
        label = stored[view.member]
        label = remap_label(label, view.remap, where=where) if view.remap else label
        labels[name] = _label_facts(label, view, where)
        overlays[name] = _overlay(label, view.taxonomy, (small.height, small.width))
    sample = {"key": entry.key, "size_hw": entry.size_hw, "labels": labels}
    return sample, page.data_url(small, "JPEG", quality=80), overlays


def _label_facts(label: npt.NDArray[Any], view: LabelView, where: str) -> dict[str, Any]:
    """The share of pixels without a class, and the classes present, the largest first."""
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
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in class_colors(classes)]
    present = [
        {"id": i, "name": classes[i], "color": colors[i], "pixels": pixels[i], "share": pixels[i] / label.size}
        for i in sorted(pixels, key=lambda i: (-pixels[i], i))
    ]
    return {"ignored": ignored / label.size, "classes": present}


def _overlay(label: npt.NDArray[Any], taxonomy: Taxonomy, size_hw: tuple[int, int]) -> str:
    """The label in its classes' colours, ignored pixels striped, as a `data:` URL."""
    small = images.resize_label(label, size_hw)
    stripes = np.where(np.indices(size_hw).sum(axis=0) // STRIPE_PX % 2, 255, 0).astype(np.uint8)  # black and white
    painted = np.where(
        (small == IGNORE_INDEX)[..., None], stripes[..., None], paint(small, class_colors(taxonomy.classes))
    )
    return page.data_url(page.one_byte(Image.fromarray(painted)), "PNG", optimize=True)
