"""Class tables of shard sets, one by one and together, from their manifests alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from segstream.shards.errors import UsageError, did_you_mean, first_few
from segstream.shards.format.index import LABEL_MEMBERS
from segstream.shards.format.manifest import Manifest, label_taxonomies


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


def ignored_share(manifest: Manifest, pixels: int = 0) -> float:
    """Share of the stored pixels that have no class, 0 to 1.

    Args:
        pixels: of all samples; without, manifests of own data tell by themselves, and for others 0 comes out.
    """
    labelled = sum(count for count, _ in manifest.counts.get("native", {}).values())
    return 1 - labelled / (pixels or labelled + sum(manifest.ignored.values()) or 1)


def label_warnings(manifest: Manifest, member: str = "native", *, pixels: int = 0) -> list[str]:
    """What speaks against training on a set's labels, or evaluating by them, one line each; `pixels` as above."""
    member = member if member in label_taxonomies(manifest) else "native"
    if member not in manifest.members:
        return []
    table = class_table(manifest, member)
    shown, nowhere = ([row.name for row in table if bool(row.images) is there] for there in (True, False))
    own, share = manifest.native.kind == "own" and member == "native" and shown, ignored_share(manifest, pixels)
    said = {
        "no pixel is labelled: there is nothing to learn, nor to evaluate by": not shown,
        f"only one class occurs, {first_few(shown)}: there is nothing to tell it apart from": len(shown) == 1,
        f"{len(nowhere)} of the {len(table)} classes given occur nowhere: {first_few(nowhere)}": own and nowhere,
        f"{share:.1%} of the pixels are ignored": shown and share > 0.5,
        **{f"all {manifest.samples} samples have the same {what}": True for what in manifest.alike},
    }
    return [f"{manifest.dataset} {manifest.split}: {line}" for line, holds in said.items() if holds]


def common_member(manifests: Sequence[Manifest]) -> str:
    """The labels in which sets compare best: universal where several sets all hold them, else each one's own."""
    common = len(manifests) > 1 and all("universal" in label_taxonomies(m) for m in manifests)
    return "universal" if common else "native"


def class_table(manifest: Manifest, member: str = "native") -> tuple[ClassRow, ...]:
    """One row for each class of a label member's taxonomy, those that never occur included, by id.

    Raises:
        UsageError: the set has no such label member.
    """
    taxonomies = label_taxonomies(manifest)
    if member not in taxonomies:
        held = f"it holds {', '.join(taxonomies) or 'images only'}"
        hint = held if member in LABEL_MEMBERS else did_you_mean(member, LABEL_MEMBERS)
        raise UsageError(f"{manifest.dataset} {manifest.split} has no labels {member!r}; {hint}")
    counts = manifest.counts.get(member, {})
    found = ((i, name, *counts.get(i, (0, 0))) for i, name in enumerate(taxonomies[member].classes))
    return _with_shares(ClassRow(id=i, name=name, pixels=p, share=0.0, images=n) for i, name, p, n in found)


def total_table(tables: Iterable[Sequence[ClassRow]]) -> tuple[ClassRow, ...]:
    """The sum of several sets' tables, class by class; classes are one if their names are, letter case aside.

    Returns:
        One row for each class of any table, in order of first mention, numbered so: of sets in one taxonomy, by id.
    """
    total: dict[str, ClassRow] = {}
    for row in (row for table in tables for row in table):
        name = row.name.lower()
        so_far = total.get(name) or replace(row, id=len(total), pixels=0, images=0)
        total[name] = replace(so_far, pixels=so_far.pixels + row.pixels, images=so_far.images + row.images)
    return _with_shares(total.values())


def _with_shares(rows: Iterable[ClassRow]) -> tuple[ClassRow, ...]:
    rows = tuple(rows)
    labelled = sum(row.pixels for row in rows)
    return tuple(replace(row, share=row.pixels / labelled if labelled else 0.0) for row in rows)
