"""The index beside each shard: where every member of every sample lies, and what the shard was made from."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from segstream.shards.codecs.row_blocks import Blocks
from segstream.shards.errors import DataError
from segstream.shards.format.left_out import LeftOut
from segstream.shards.schema import Count, parse, parse_json, shown

T = TypeVar("T")
VERSION = 1
IMAGE_SUFFIXES = ("jpg", "png")
_SHOWN = 3  # examples for each reason
_PLAIN = ("shard", "bytes", "sha256", "fingerprint")  # fields of an index that are written as they are
LABEL_MEMBERS = ("native", "universal", "universal-relabeled")
_SUFFIXES = {*IMAGE_SUFFIXES, "json", *(f"{member}.png" for member in LABEL_MEMBERS)}
_KEY = re.compile(r"(?:[A-Za-z0-9_%-]+/)*[A-Za-z0-9_%-]+")  # as `keys.escape` makes them: below a folder, no dots
_DENSEST = 1032  # pixels that a byte can stand for: zlib's limit; JPEG's is half of it


@dataclass(frozen=True, slots=True)
class Span:
    """One member's bytes inside its shard."""

    offset: int
    size: int
    crc32: int
    blocks: Blocks | None = None
    """Where its rows can be had in blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where one sample of a shard lies and what it shows."""

    key: str
    size_hw: tuple[int, int]
    members: Mapping[str, Span]
    """By file name suffix, as in the tar: `jpg` or `png`, `json`, `native.png`, `universal.png`."""
    classes: tuple[int, ...]
    """Native ids present, ascending; 255 never among them."""


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


Counts = Mapping[str, Mapping[Count, tuple[Count, Count]]]
"""Label member -> class id -> (pixels, samples that show it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """Everything the index file of one shard says."""

    shard: str
    bytes: Count
    sha256: str
    fingerprint: str
    """SHA-256 over all that shaped the shard; equal fingerprints mean equal shards."""
    samples: tuple[Entry, ...]
    counts: Counts
    left_out: tuple[LeftOut, ...]
    relabel: RelabelOutcome | None = None
    """What became of the records of relabelling; None where there were none to apply."""
    ignored: Mapping[int, Count] = field(default_factory=dict)
    """Of own data: value in the label files that is ignored -> stored pixels."""


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
    applied, reported, examples = 0, Counter[str](), defaultdict[str, list[RelabelExample]](list)
    for part in parts:
        applied += part.applied
        reported.update(part.reported)
        for example in part.examples:
            examples[example.reason].append(example)
    shown = tuple(example for _, found in sorted(examples.items()) for example in found[:_SHOWN])
    return RelabelOutcome(applied=applied, reported=dict(sorted(reported.items())), examples=shown)


def dump_index(index: ShardIndex) -> bytes:
    """The index as JSON, one sample per line."""
    head = {
        "version": VERSION,
        **{name: getattr(index, name) for name in _PLAIN},
        "counts": {m: [[i, *pair] for i, pair in sorted(by_id.items())] for m, by_id in sorted(index.counts.items())},
        "rejects": [asdict(r) for r in index.left_out],
        **({"relabel": asdict(index.relabel)} if index.relabel else {}),
        **({"ignored": sorted(index.ignored.items())} if index.ignored else {}),
    }
    samples = [
        {
            "key": entry.key,
            "size_hw": entry.size_hw,
            "classes": entry.classes,
            "members": {k: [m.offset, m.size, m.crc32] for k, m in sorted(entry.members.items())},
            "blocks": {k: m.blocks for k, m in sorted(entry.members.items()) if m.blocks},
        }
        for entry in index.samples
    ]
    lines = ",\n".join(json.dumps(sample, separators=(",", ":")) for sample in samples)
    return (json.dumps(head, indent=1)[:-2] + f',\n "samples": [\n{lines}\n ]\n}}\n').encode()


def load_index(data: bytes, *, where: str) -> ShardIndex:
    """Read an index file's bytes; raises as `load_versioned` does."""

    def build(raw: dict[str, Any]) -> ShardIndex:
        counts = {member: {i: (p, n) for i, p, n in rows} for member, rows in raw["counts"].items()}
        values = {name: raw[name] for name in (*_PLAIN, "relabel") if name in raw}
        values |= {"counts": {}, "left_out": raw["rejects"], "samples": (), "ignored": dict(raw.get("ignored", ()))}
        index = parse(ShardIndex, values, at="index")
        if not _are_counts([n for by_id in counts.values() for i, pair in by_id.items() for n in (i, *pair)]):
            raise DataError("its class counts are not all counts")
        samples = tuple(_load_entry(sample, index.bytes) for sample in raw["samples"])
        return replace(index, counts=counts, samples=samples)

    return load_versioned(data, VERSION, build, what="index", where=where)


def load_versioned(data: bytes, version: int, build: Callable[[dict[str, Any]], T], *, what: str, where: str) -> T:
    """What `build` makes of the JSON of a manifest or index.

    Raises:
        DataError: it is none, or of a version this program does not know.
    """
    try:
        raw = parse_json(data)
        found = raw["version"]
        if found == version:
            return build(raw)
    except (DataError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        why = error if isinstance(error, DataError) else f"{type(error).__name__}: {error}"[:200]
        raise DataError(f"{where}: not a shard {what} ({why}); run `segstream shard` again to mend it") from error
    advice = "convert the data again, or use the version of the program that wrote it"
    raise DataError(f"{where}: {what} version {found}, this program reads {version}; {advice}")


def _are_counts(numbers: list[Any]) -> bool:
    return {*map(type, numbers)} <= {int} and min(numbers, default=0) >= 0


def _load_entry(raw: dict[str, Any], shard_bytes: int) -> Entry:
    """One sample, checked by hand, as there are many."""
    key, (height, width), classes = raw["key"], raw["size_hw"], raw["classes"]
    numbers = [height, width, *classes]
    blocks, members = {}, {}
    for suffix, (rows, sizes, crcs) in raw.get("blocks", {}).items():
        numbers += (rows, *sizes, *crcs)
        blocks[suffix] = Blocks(rows, tuple(sizes), tuple(crcs))
    for suffix, (offset, size, crc) in raw["members"].items():
        numbers += (offset, size, crc)
        members[suffix] = Span(offset, size, crc, blocks.get(suffix))
    if not isinstance(key, str) or len(key) > 1000 or not _KEY.fullmatch(key):
        raise DataError(f"sample {shown(key)}: not a key")
    if not (_are_counts(numbers) and height * width and max(classes, default=0) < 256 and members.keys() <= _SUFFIXES):
        raise DataError(f"sample {key}: its size, classes, members and blocks are not all counts")
    for suffix, span in members.items():
        if span.offset + span.size > shard_bytes or (suffix != "json" and height * width > _DENSEST * span.size):
            place = f"bytes {span.offset} to {span.offset + span.size} of {shard_bytes}"
            raise DataError(f"sample {key}.{suffix}: {height} x {width} pixels cannot be in {place}")
    for suffix, (rows, sizes, crcs) in blocks.items():
        if not rows or not len(sizes) == len(crcs) == 1 + -(-height // rows) or sum(sizes) > members[suffix].size:
            raise DataError(f"sample {key}.{suffix}: its blocks are not those of {height} rows")
    return Entry(key=key, size_hw=(height, width), classes=tuple(classes), members=members)
