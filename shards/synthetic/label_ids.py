"""What each dataset calls what was drawn: concept -> id in the released label files.

A concept is a universal class, or `universal/variant` where some dataset tells kinds of it apart. Names come from
the class tables wherever these are unambiguous; `tables/label_ids.yaml` holds only what they cannot say.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from segstream.shards.synthetic.read_table import entry, table
from segstream.shards.taxonomy import load_taxonomy, native_taxonomy, release_classes, release_remap


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotators:
    """What the annotators of one dataset wrote, where the class tables cannot say; an entry of `label_ids.yaml`."""

    like: str | None = None
    """The dataset whose words and ids they used."""
    words: tuple[str, ...] = ()
    """Names of shared groups of `classes`."""
    classes: Mapping[str, str | None] = field(default_factory=dict)
    """Concept -> class name; None: left unlabelled."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """Classes that are no one's class -> id in the label files."""
    unlabeled: int = 0
    """Id of what is left unlabelled."""
    other: str | None = None
    """Class of what neither `classes` nor the class tables name."""


def vocabulary(dataset: str) -> str:
    """The dataset whose words and ids the annotators of `dataset` used."""
    return _annotators(dataset).like or dataset


def class_of(dataset: str, concept: str) -> str | None:
    """The class name the dataset's annotators give a concept; None: they leave it unlabelled."""
    words, universal = vocabulary(dataset), concept.partition("/")[0]
    annotators = _annotators(words)
    classes = {universal: _natural(words).get(universal, annotators.other), **annotators.classes}
    return classes.get(concept, classes[universal])


def release_id(dataset: str, concept: str) -> int:
    """The id of a concept in the dataset's label files."""
    words, name = vocabulary(dataset), class_of(dataset, concept)
    return _annotators(words).unlabeled if name is None else _release_ids(words)[name]


def release_name(dataset: str, code: int) -> str:
    """The release's own word for an id in its label files."""
    return next(name for name, i in _release_ids(vocabulary(dataset)).items() if i == code)


@functools.cache
def _annotators(dataset: str) -> Annotators:
    found = entry(Annotators, "label_ids", "datasets", dataset)
    shared = {concept: name for group in found.words for concept, name in table("label_ids")["words"][group].items()}
    return replace(found, classes={name: name for name in found.ids} | shared | dict(found.classes))


@functools.cache
def _natural(dataset: str) -> dict[str, str]:
    """Universal class -> the dataset's class, by the tables."""
    native = native_taxonomy(dataset)
    universal = load_taxonomy("universal").classes
    pairs = [(u, i) for i, u in enumerate(native.to_universal or ()) if u < len(universal)]
    return {universal[u]: native.classes[i] for u, i in (*pairs, *(native.from_universal or ()))}


@functools.cache
def _release_ids(dataset: str) -> dict[str, int]:
    native = native_taxonomy(dataset)
    table = release_remap(dataset).table.tolist()
    ids = {name: table.index(i) for i, name in enumerate(native.classes) if i in table}
    ids |= {name: i for i, (name, _) in enumerate(release_classes(dataset))}
    return ids | dict(_annotators(dataset).ids)
