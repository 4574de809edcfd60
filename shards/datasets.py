"""What is known of each dataset: its part in training or judging, its splits, its terms, where it is, how it lies.

Facts as MSeg uses the datasets (Lambert et al., CVPR 2020). Converters live in `sources/` and are loaded on demand.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shards.errors import DataError, UsageError
from shards.raw import Raw
from shards.schema import did_you_mean
from shards.sources import folder
from shards.sources.common import Source
from shards.taxonomy import (
    TRAINING_TAXONOMIES,
    Taxonomy,
    load_taxonomy,
    naive_remap,
    taxonomy_names,
)

Role = Literal["train", "test", "extra"]
_RELABELED = "-relabeled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the registry holds of a released dataset."""

    role: Role
    splits: Mapping[str, int]
    """Images per split of the complete release, as MSeg uses it."""
    licence: str
    home: str
    """Where a person gets it."""
    layout: str
    """What lies below the raw root."""
    convertible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset that can be converted: released, or your own by a YAML."""

    name: str
    role: Role
    taxonomy: Taxonomy
    splits: Mapping[str, int | None]
    """Images per split, where known beforehand."""
    licence: str
    root: Path | None
    """Raw root that the dataset itself states (own data only)."""
    source: Source


_FACTS: dict[str, Facts] = {
    "ade20k-150": Facts(
        role="train",
        splits={"train": 20210, "val": 2000},
        licence="ADE20K terms (non-commercial research)",
        home="ADE20K Scene Parsing Benchmark (MIT CSAIL): ADEChallengeData2016.zip",
        layout="images/{training,validation}/ADE_*.jpg, annotations/{training,validation}/ADE_*.png",
    ),
    "coco-panoptic-133": Facts(
        role="train",
        splits={"train": 118287, "val": 5000},
        licence="COCO: annotations CC-BY 4.0, images under Flickr terms",
        home="cocodataset.org: 2017 train and val images, 2017 panoptic train/val annotations",
        layout="images/{train,val}2017/*.jpg, annotations/panoptic_{train,val}2017.json, "
        "annotations/panoptic_{train,val}2017/*.png",
    ),
    "cityscapes-19": Facts(
        role="train",
        splits={"train": 2975, "val": 500},
        licence="Cityscapes terms (non-commercial)",
        home="cityscapes-dataset.com: leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip",
        layout="leftImg8bit/{train,val}/CITY/*_leftImg8bit.png, gtFine/{train,val}/CITY/*_gtFine_labelIds.png",
    ),
    "cityscapes-34": Facts(
        role="train",
        splits={"train": 2975, "val": 500},
        licence="Cityscapes terms (non-commercial)",
        home="as cityscapes-19; no released model uses this branch",
        layout="as cityscapes-19",
        convertible=False,
    ),
    "sunrgbd-37": Facts(
        role="train",
        splits={"train": 5285, "val": 475},
        licence="SUN RGB-D (research; cite its four sources)",
        home="SUN RGB-D (Princeton), repackaged for 2D segmentation by Chris Choy: sun_rgbd.tgz",
        layout="image/{train,test}/img-*.jpg, label38/{train,test}/*.png (the archive's label37, renamed)",
    ),
    "bdd": Facts(
        role="train",
        splits={"train": 7000, "val": 1000},
        licence="BDD100K licence",
        home="BDD100K (Berkeley): bdd100k_seg.zip",
        layout="seg/images/{train,val}/*.jpg, seg/labels/{train,val}/*_train_id.png",
        convertible=False,
    ),
    "idd-39": Facts(
        role="train",
        splits={"train": 6993, "val": 981},
        licence="IDD terms (research)",
        home="India Driving Dataset (IIIT Hyderabad): Segmentation part I, idd-segmentation.tar.gz",
        layout="leftImg8bit/{train,val}/SEQUENCE/*_leftImg8bit.png, gtFine/{train,val}/SEQUENCE/*_gtFine_polygons.json",
        convertible=False,
    ),
    "mapillary-public65": Facts(
        role="train",
        splits={"train": 18000, "val": 2000},
        licence="Mapillary Vistas research licence (CC BY-NC-SA)",
        home="Mapillary Vistas v1.1: mapillary-vistas-dataset_public_v1.1.zip",
        layout="{training,validation}/{images/*.jpg,labels/*.png,instances/*.png}",
        convertible=False,
    ),
    "voc2012": Facts(
        role="test",
        splits={"train": 10582, "val": 1449},
        licence="PASCAL VOC: images under Flickr terms",
        home="PASCAL VOC 2012 (Oxford): VOCtrainval_11-May-2012.tar; SegmentationClassAug.zip (SBD labels)",
        layout="JPEGImages/*.jpg, SegmentationClassAug/*.png",
    ),
    "pascal-context-60": Facts(
        role="test",
        splits={"train": 4998, "val": 5105},
        licence="PASCAL VOC: images under Flickr terms",
        home="PASCAL VOC 2010 (Oxford) and PASCAL-Context (Stanford): trainval.tar.gz",
        layout="JPEGImages/*.jpg, trainval/*.mat",
        convertible=False,
    ),
    "camvid-11": Facts(
        role="test",
        splits={"train": 367, "val": 101, "test": 233},
        licence="CamVid (research; no licence stated)",
        home="CamVid (Cambridge): 701_StillsRaw_full.zip, LabeledApproved_full.zip",
        layout="701_StillsRaw_full/*.png, Labels32-RGB/*_L.png",
    ),
    "wilddash-19": Facts(
        role="test",
        splits={"val": 70},
        licence="WildDash terms (non-commercial)",
        home="wilddash.cc: version 1, wd_val_01.zip",
        layout="wd_val_01/*.png, wd_val_01/*_labelIds.png",
        convertible=False,
    ),
    "kitti-19": Facts(
        role="test",
        splits={"train": 150, "val": 50},
        licence="KITTI (CC BY-NC-SA 3.0)",
        home="KITTI Semantics (KIT and TTI Chicago): data_semantics.zip",
        layout="training/image_2/*_10.png, training/semantic/*_10.png",
    ),
    "scannet-20": Facts(
        role="test",
        splits={"train": 19466, "val": 5436},
        licence="ScanNet terms of use (non-commercial)",
        home="ScanNet v2: tasks/scannet_frames_25k.zip",
        layout="scannet_frames_25k/SCENE/{color/*.jpg,label/*.png}",
        convertible=False,
    ),
}


def dataset_names() -> tuple[str, ...]:
    """Every taxonomy variant of a released dataset, as `describe` takes them."""
    return tuple(sorted(name for name in taxonomy_names() if name.removesuffix(_RELABELED) in _FACTS))


def dataset(name: str) -> Dataset:
    """A dataset to convert, by its name or the path of an own-data YAML.

    Raises:
        UsageError: an unknown name, or one without a converter.
        DataError: a YAML with an error in it.
    """
    if name.endswith((".yaml", ".yml")):
        return _own(Path(name))
    facts = _FACTS.get(name)
    convertible = [n for n, f in _FACTS.items() if f.convertible]
    if facts is None or not facts.convertible:
        problem = "has no converter" if name in dataset_names() else "is unknown"
        raise UsageError(f"dataset {name!r} {problem}; {did_you_mean(name, convertible)} (or give a YAML of your own)")
    module = importlib.import_module(f"shards.sources.{name.replace('-', '_')}")
    return Dataset(
        name=name,
        role=facts.role,
        taxonomy=load_taxonomy(name),
        splits=facts.splits,
        licence=facts.licence,
        root=None,
        source=module.source(),
    )


def describe(name: str) -> dict[str, Any]:
    """What `segstream datasets NAME --json` prints, for a taxonomy variant or an own-data YAML.

    Raises:
        UsageError: an unknown name.
    """
    if name.endswith((".yaml", ".yml")):
        own = dataset(name)
        return _described(own.name, own.taxonomy, own.role, own.splits) | {"licence": own.licence, "convertible": True}
    if name not in dataset_names():
        raise UsageError(f"dataset {name!r} is unknown; {did_you_mean(name, dataset_names())}")
    facts = _FACTS[name.removesuffix(_RELABELED)]
    return _described(name, load_taxonomy(name), facts.role, facts.splits) | {
        "licence": facts.licence,
        "home": facts.home,
        "layout": facts.layout,
        "convertible": facts.convertible and not name.endswith(_RELABELED),
    }


def check_raw(name: str, raw: Path | None = None) -> list[dict[str, Any]]:
    """Compare a raw folder with what the release should hold; reads names, not files.

    Returns:
        For each split: `{"split", "expected", "images", "missing", "first_missing": [paths], "problem"}`; `problem`
        is null where the split is complete.

    Raises:
        UsageError, DataError: as `dataset`.
    """
    data = dataset(name)
    return [_check_split(data, Raw(raw or data.root or Path()), split) for split in data.splits]


def _check_split(data: Dataset, raw: Raw, split: str) -> dict[str, Any]:
    expected = data.splits[split]
    try:
        found = data.source.find(raw, split)
    except DataError as error:
        nothing: dict[str, Any] = {"images": 0, "missing": expected, "first_missing": []}
        return {"split": split, "expected": expected, **nothing, "problem": str(error)}
    gone = [p.label for p in found.pairs if p.label is not None and not raw.has(p.label)]
    gone += [f"image of {label}" for label in found.orphans]
    gone += [p.image for p in found.pairs if not raw.has(p.image)]
    images = len(found.pairs)
    missing = max((expected or 0) - images, len(found.absent)) + len(gone)
    problem = f"{missing} files are missing" if missing else (None if images else "no images")
    return {
        "split": split,
        "expected": expected,
        "images": images,
        "missing": missing,
        "first_missing": [*gone, *found.absent][:5],
        "problem": problem,
    }


def _own(path: Path) -> Dataset:
    own = folder.load(path)
    return Dataset(
        name=own.name,
        role="extra",
        taxonomy=folder.taxonomy(own, at=str(path)),
        splits=dict.fromkeys(own.splits),
        licence=own.licence,
        root=path.parent / own.root if own.root else None,
        source=folder.source(own, at=str(path)),
    )


def _described(name: str, taxonomy: Taxonomy, role: Role, splits: Mapping[str, int | None]) -> dict[str, Any]:
    to_universal = taxonomy.to_universal
    to_naive = naive_remap(taxonomy).table if name in TRAINING_TAXONOMIES else None
    return {
        "name": name,
        "role": role,
        "taxonomy": taxonomy.name,
        "classes": list(taxonomy.classes),
        "splits": dict(splits),
        "to_universal": None if to_universal is None else {str(i): u for i, u in enumerate(to_universal)},
        "from_universal": None if taxonomy.from_universal is None else [list(p) for p in taxonomy.from_universal],
        "to_naive": None if to_naive is None else {str(i): int(to_naive[i]) for i in range(taxonomy.num_classes)},
    }
