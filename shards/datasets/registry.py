"""Datasets by name: to convert, and to describe. What is known of each stands in its folder, in `dataset.yaml`."""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from segstream.shards import taxonomy as taxonomies
from segstream.shards.datasets import own_data
from segstream.shards.datasets.layout import Files, find, folder_of
from segstream.shards.datasets.polygons import object_masks
from segstream.shards.datasets.sources import Dataset, Role, Segments, id_masks, label_files
from segstream.shards.errors import UsageError, did_you_mean
from segstream.shards.schema import parse, read_yaml

_RELABELED = "-relabeled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCoding:
    """How the segments are kept that MSeg's update records name."""

    coding: Literal["ids", "objects", "objects-by-id"]
    """One-channel files of segment ids; polygon files, in which a segment is a place in the list of objects, or an
    object's `id`."""
    strict: bool
    """A segment must be all of the record's original class; else it is overwritten whatever it holds."""
    instead: tuple[str, str] = ("", "")
    """What the path of the label file has, and that of the file with the segments has in its place."""
    offset: int = 0
    """Of `ids`: how much higher the file's values are than the records' numbers."""

    def segments(self) -> Segments:
        """What reads them."""
        of_objects = functools.partial(object_masks, by_id=self.coding == "objects-by-id")
        masks = functools.partial(id_masks, offset=self.offset) if self.coding == "ids" else of_objects
        return Segments(strict=self.strict, masks=masks, files=functools.partial(label_files, instead=self.instead))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordNames:
    """How a checkout of mseg-api writes the update records of a dataset."""

    names: tuple[str, ...]
    """What its list calls the dataset."""
    prefix: str = "()"
    """Pattern of what stands before an image's name; its group is the folder that directly holds the label file."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """That folder by split, where the prefix does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file that the publisher offers."""

    name: str
    """Its name; one that lies inside another archive is named by its path below the release's root."""
    size: str | None = None
    """About how large, for people."""
    bytes: int | None = None
    digest: str | None = None
    """`md5:...` or `sha256:...`, where it is known."""
    url: str | None = None
    """Only where it may be had without registration."""
    inside: str | None = None
    """The archive that brings this one."""
    unpack: Mapping[str, str] = field(default_factory=dict)
    """Prefix of its members' names -> what it becomes below the release's root; members of no prefix are not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A tell-tale of a wrong version, a wrong place, or an unfinished unpacking."""

    has: tuple[str, ...]
    """Paths below the release's root that all exist; `*` stands for a part of a name."""
    lacks: tuple[str, ...] = ()
    """Paths of which none exists."""
    says: str
    """What it means and what to do."""
    wrong: bool = True
    """False: worth knowing, but the dataset can be converted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `dataset.yaml` says of a released dataset."""

    title: str
    listed: int
    """Where it stands in lists of all: those to train on first, then those held out, then the extras."""
    role: Role
    taxonomy: str | None = None
    """Of its native labels; None: the dataset's own name."""
    labels: bool = True
    """False: only images are published."""
    splits: Mapping[str, int | None]
    """Images per split of the complete release, as it is used; None where no list that can be had says so."""
    optional: tuple[str, ...] = ()
    """Splits that are converted only if they are named; a release without them is whole."""
    total: int | None = None
    """Images of all splits together, where only that is known."""
    licence: str
    home: str
    """Where a person gets it."""
    layout: Mapping[str, str]
    """Path pattern below the release's root -> what lies there."""
    archives: tuple[Archive, ...] = ()
    files: Files = field(default_factory=Files)
    """Where the files of a split are; none: `source.py` finds them."""
    segments: SegmentCoding | None = None
    """None where the dataset was not relabelled, or `source.py` says how."""
    records: RecordNames | None = None
    """None where MSeg did not relabel it."""
    more: str | None = None
    """What more images than the release has would mean."""
    signs: tuple[Sign, ...] = ()

    @property
    def downloads(self) -> bool:
        """Everything can be had without registration."""
        return bool(self.archives) and all(archive.url or archive.inside for archive in self.archives)


@functools.cache
def registry() -> Mapping[str, Facts]:
    """The facts of every released dataset, in the order in which they are listed.

    Raises:
        DataError: a file in the package is damaged.
    """
    names = (path.parent.name.replace("_", "-") for path in sorted(Path(__file__).parent.glob("*/dataset.yaml")))
    facts = {name: parse(Facts, _stated(name), at=f"{name}: dataset.yaml") for name in names}
    return dict(sorted(facts.items(), key=lambda item: item[1].listed))


def _stated(name: str) -> dict[str, Any]:
    """The values of `dataset.yaml`, over those of the dataset on which it says it builds."""
    values = read_yaml(folder_of(name) / "dataset.yaml")
    base = values.pop("base", None)
    return values if base is None else _stated(base) | values


def dataset_names() -> tuple[str, ...]:
    """Every released dataset and every taxonomy variant of one, as `describe` takes them."""
    variants = {name for name in taxonomies.taxonomy_names() if name.removesuffix(_RELABELED) in registry()}
    return tuple(sorted(variants | registry().keys()))


def dataset(name: str) -> Dataset:
    """A dataset to convert, by its name or the path of an own-data YAML.

    Raises:
        UsageError: an unknown name, or that of a taxonomy variant.
        DataError: a YAML with an error in it.
    """
    if is_own(name):
        return own_data.load(Path(name))
    if name.endswith(_RELABELED) and name in dataset_names():
        plain = name.removesuffix(_RELABELED)
        what = f"{name!r} is a taxonomy of {plain}, not a dataset"
        raise UsageError(f"{what}; take {plain!r}, and for relabelled labels --relabel")
    facts = registry().get(name)
    if facts is None:
        raise UsageError(f"dataset {name!r} is unknown; {did_you_mean(name, registry())} (or give a YAML of your own)")
    stated = Dataset(
        name=name,
        role=facts.role,
        taxonomy=taxonomies.load_taxonomy(facts.taxonomy or name),
        splits=facts.splits,
        optional=facts.optional,
        licence=facts.licence,
        remap=taxonomies.release_remap(name) if facts.labels else None,
        find=functools.partial(find, dataset=name, files=facts.files),
        segments=facts.segments.segments() if facts.segments else None,
    )
    folder = folder_of(name)
    if not (folder / "source.py").is_file():
        return stated
    own = vars(importlib.import_module(f"{__package__}.{folder.name}.source"))
    better: dict[str, Any] = {part: own[part] for part in ("read_label", "read_image", "segments") if part in own}
    if "find" in own:
        better["find"] = functools.partial(own["find"], stated=stated.find)
    return replace(stated, **better)


def is_own(name: str) -> bool:
    """The name is the path of an own-data YAML."""
    return name.endswith((".yaml", ".yml"))


def describe(name: str) -> dict[str, Any]:
    """What `segstream datasets NAME --json` prints, for a dataset, a taxonomy variant or an own-data YAML.

    Raises:
        UsageError: an unknown name.
    """
    if is_own(name):
        own = dataset(name)
        name, role, splits, taxonomy = own.name, own.role, own.splits, own.taxonomy
        told: dict[str, Any] = {"licence": own.licence}
    else:
        if name not in dataset_names():
            raise UsageError(f"dataset {name!r} is unknown; {did_you_mean(name, dataset_names())}")
        facts = registry()[name.removesuffix(_RELABELED)]
        role, splits, stated = facts.role, facts.splits, asdict(facts)
        taxonomy = taxonomies.load_taxonomy(name if name.endswith(_RELABELED) else facts.taxonomy or name)
        told = {key: stated[key] for key in ("title", "labels", "total", "licence", "home", "layout")}
        told |= {"archives": list(stated["archives"]), "download": facts.downloads, "optional": list(facts.optional)}
    to_universal = taxonomy.to_universal
    to_naive = taxonomies.naive_remap(taxonomy).table if taxonomy.name in taxonomies.TRAINING_TAXONOMIES else None
    return {
        "name": name,
        "role": role,
        "taxonomy": taxonomy.name,
        "classes": list(taxonomy.classes),
        "splits": dict(splits),
        "to_universal": None if to_universal is None else {str(i): u for i, u in enumerate(to_universal)},
        "from_universal": None if taxonomy.from_universal is None else [list(p) for p in taxonomy.from_universal],
        "to_naive": None if to_naive is None else {str(i): int(to_naive[i]) for i in range(taxonomy.num_classes)},
    } | told
