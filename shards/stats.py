"""The class table of a shard set, from its manifest alone."""

from __future__ import annotations

from dataclasses import dataclass

from shards.errors import UsageError
from shards.manifest import Manifest
from shards.schema import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """How often one class occurs."""

    id: int
    name: str
    pixels: int
    share: float
    """Of all labelled pixels, 0 to 1."""
    images: int
    """Samples that show it."""


def class_table(manifest: Manifest, member: str = "native") -> tuple[ClassRow, ...]:
    """One row for each class of a label member's taxonomy, those that never occur included, by id.

    Raises:
        UsageError: the set has no such label member.
    """
    taxonomies = {"native": manifest.native} | ({"universal": manifest.universal} if manifest.universal else {})
    if member not in taxonomies:
        raise UsageError(
            f"{manifest.dataset} {manifest.split} has no labels {member!r}; {did_you_mean(member, taxonomies)}"
        )
    counts = manifest.counts.get(member, {})
    labelled = sum(pixels for pixels, _ in counts.values())
    rows = []
    for i, name in enumerate(taxonomies[member].classes):
        pixels, images = counts.get(i, (0, 0))
        rows.append(
            ClassRow(id=i, name=name, pixels=pixels, share=pixels / labelled if labelled else 0.0, images=images)
        )
    return tuple(rows)
