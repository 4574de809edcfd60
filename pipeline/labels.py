"""Views of a sample's label: which stored member, in which taxonomy, through which look-up."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.pipeline.config import LabelTaxonomy
from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest
from segstream.shards.taxonomy import IGNORE_INDEX, Remap, Taxonomy, load_taxonomy, naive_remap, remap_label


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelView:
    """How the labels of one dataset are read."""

    member: str
    """The stored label it starts from."""
    taxonomy: Taxonomy
    """Of the labels that come out."""
    remap: Remap | None = None
    """From the member's ids to the taxonomy's; None where they are the same."""

    @property
    def dtype(self) -> type[np.uint8 | np.int16]:
        """Of the labels that come out: int16 where an id does not fit a byte."""
        return np.uint8 if self.taxonomy.num_classes <= IGNORE_INDEX else np.int16

    def of(self, label_HW: npt.NDArray[np.uint8], *, where: str) -> npt.NDArray[Any]:
        """The label in `taxonomy`; `where` names the sample in errors.

        A look-up commutes with nearest-neighbour sampling, so engines crop first and have less to look up.

        Raises:
            DataError: an id that the dataset's taxonomy does not have.
        """
        return label_HW if self.remap is None else remap_label(label_HW, self.remap, where=where)


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

    Equal shares where nothing at all is labelled.

    Args:
        views, manifests: by dataset.
        weights: by dataset, its share of the mix.
    """
    shares = np.zeros(next(iter(views.values())).taxonomy.num_classes)
    for name, view in views.items():
        pixels = np.zeros_like(shares)
        for native, (count, _) in manifests[name].counts[view.member].items():
            target = native if view.remap is None else int(view.remap.table[native])
            if target != IGNORE_INDEX:
                pixels[target] += count
        shares += float(weights[name]) * pixels / max(1, pixels.sum())
    if not shares.any():
        shares += 1
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
