"""The index beside each shard: where every member of every sample lies, and what the shard was made from."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

from segstream.shards.codecs.row_blocks import Blocks
from segstream.shards.errors import DataError
from segstream.shards.format.left_out import LeftOut
from segstream.shards.schema import parse_json

VERSION = 1
IMAGE_SUFFIXES = ("jpg", "png")
_SHOWN = 3  # examples for each reason
LABEL_MEMBERS = ("native", "universal", "universal-relabeled")


@dataclass(frozen=True, slots=True)
class Span:
    """One member's bytes inside its shard."""

    offset: int
    size: int
    crc32: int
    blocks: Blocks | None = None
    """Where its rows can be had in blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One sample of a shard."""

    key: str
    size_hw: tuple[int, int]
    classes: tuple[int, ...]
    """Native ids present, ascending; 255 never among them."""
    members: Mapping[str, Span]
    """By file name suffix, as in the tar: `jpg` or `png`, `native.png`, `universal.png`, `json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelExample:
    """One record that was not applied."""

    reason: str
    image: str
    """As the records name it: parent/stem."""
    segment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelOutcome:
    """What became of records."""

    applied: int = 0
    reported: Mapping[str, int] = field(default_factory=dict)
    """Reason -> records."""
    examples: tuple[RelabelExample, ...] = ()
    """The first of each reason."""

    @property
    def total(self) -> int:
        """Records, each counted once."""
        return self.applied + sum(self.reported.values())


Counts = Mapping[str, Mapping[int, tuple[int, int]]]
"""Label member -> class id -> (pixels, samples that show it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """Everything the index file of one shard says."""

    shard: str
    bytes: int
    sha256: str
    fingerprint: str
    """SHA-256 over all that shaped the shard; equal fingerprints mean equal shards."""
    rows: tuple[Row, ...]
    counts: Counts
    left_out: tuple[LeftOut, ...]
    relabel: RelabelOutcome | None = None
    """What became of the records of relabelling; None where there were none to apply."""


def index_name(shard: str) -> str:
    """`shard-000000.tar` -> `shard-000000.idx.json`."""
    return shard.removesuffix(".tar") + ".idx.json"


def member_suffix(members: Mapping[str, Any], member: str) -> str | None:
    """File name suffix under which a sample holds a member (`image` -> `jpg` or `png`), or None."""
    wanted = IMAGE_SUFFIXES if member == "image" else (member if member == "json" else f"{member}.png",)
    return next((suffix for suffix in wanted if suffix in members), None)


def merge_counts(parts: Iterable[Counts]) -> Counts:
    """Sum the class counts of several shards."""
    total: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    for counts in parts:
        for member, by_id in counts.items():
            for i, (pixels, samples) in by_id.items():
                before = total[member].get(i, (0, 0))
                total[member][i] = (before[0] + pixels, before[1] + samples)
    return dict(total)


def merge_outcomes(parts: Iterable[RelabelOutcome]) -> RelabelOutcome:
    """Add outcomes up, in order."""
    applied, reported, examples = 0, Counter[str](), dict[str, list[RelabelExample]]()
    for part in parts:
        applied += part.applied
        reported.update(part.reported)
        for example in part.examples:
            shown = examples.setdefault(example.reason, [])
            if len(shown) < _SHOWN:
                shown.append(example)
    return RelabelOutcome(
        applied=applied,
        reported=dict(sorted(reported.items())),
        examples=tuple(e for _, shown in sorted(examples.items()) for e in shown),
    )


def dump_index(index: ShardIndex) -> bytes:
    """The index as JSON, one sample per line."""
    head = {
        "version": VERSION,
        "shard": index.shard,
        "bytes": index.bytes,
        "sha256": index.sha256,
        "fingerprint": index.fingerprint,
        "counts": {
            member: [[i, *pair] for i, pair in sorted(by_id.items())] for member, by_id in sorted(index.counts.items())
        },
        "rejects": [asdict(r) for r in index.left_out],
        **({"relabel": asdict(index.relabel)} if index.relabel else {}),
    }
    rows = [
        {
            "key": row.key,
            "size_hw": row.size_hw,
            "classes": row.classes,
            "members": {k: [m.offset, m.size, m.crc32] for k, m in sorted(row.members.items())},
            "blocks": {k: astuple(m.blocks) for k, m in sorted(row.members.items()) if m.blocks},
        }
        for row in index.rows
    ]
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return (json.dumps(head, indent=1)[:-2] + f',\n "samples": [\n{lines}\n ]\n}}\n').encode()


def load_index(data: bytes, *, where: str) -> ShardIndex:
    """Read an index file's bytes.

    Raises:
        DataError: not an index, or of a version this program does not know.
    """
    try:
        raw = parse_json(data)
        if raw["version"] != VERSION:
            raise DataError(f"{where}: index version {raw['version']}, this program reads {VERSION}; convert again")
        return ShardIndex(
            shard=raw["shard"],
            bytes=raw["bytes"],
            sha256=raw["sha256"],
            fingerprint=raw["fingerprint"],
            counts={member: {i: (p, n) for i, p, n in rows} for member, rows in raw["counts"].items()},
            left_out=tuple(LeftOut(**r) for r in raw["rejects"]),
            relabel=load_outcome(raw["relabel"]) if "relabel" in raw else None,
            rows=tuple(
                Row(
                    key=row["key"],
                    size_hw=(row["size_hw"][0], row["size_hw"][1]),
                    classes=tuple(row["classes"]),
                    members={
                        suffix: _load_span(place, row.get("blocks", {}).get(suffix))
                        for suffix, place in row["members"].items()
                    },
                )
                for row in raw["samples"]
            ),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{where}: not a shard index ({error!r}); run `segstream shard` again to mend it") from error


def load_outcome(raw: Mapping[str, Any]) -> RelabelOutcome:
    """An outcome from the JSON that `dataclasses.asdict` of it gives.

    Raises:
        KeyError, TypeError: it is something else.
    """
    examples = tuple(RelabelExample(**e) for e in raw["examples"])
    return RelabelOutcome(applied=raw["applied"], reported=dict(raw["reported"]), examples=examples)


def _load_span(place: list[int], blocks: list[Any] | None) -> Span:
    offset, size, crc32 = place
    if blocks is None:
        return Span(offset, size, crc32)
    rows, sizes, crc32s = blocks
    return Span(offset, size, crc32, Blocks(rows, tuple(sizes), tuple(crc32s)))
