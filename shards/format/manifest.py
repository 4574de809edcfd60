"""`manifest.json`: what a shard set holds and what made it. Written last; a set without it is incomplete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from segstream.shards.errors import DataError
from segstream.shards.format.index import Counts, RelabelOutcome, load_outcome
from segstream.shards.format.left_out import LeftOut
from segstream.shards.schema import parse_json
from segstream.shards.taxonomy import Taxonomy

VERSION = 1
NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One tar of the set."""

    name: str
    bytes: int
    sha256: str
    samples: int
    index_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A shard set's manifest."""

    dataset: str
    split: str
    licence: str
    native: Taxonomy
    universal: Taxonomy | None
    """The universal taxonomy of the `universal` members; None where labels are never mapped."""
    members: tuple[str, ...]
    """Of every sample: `image`, `json`, `native`, for training datasets `universal`, and `universal-relabeled`."""
    params: Mapping[str, Any]
    tool: Mapping[str, str]
    shards: tuple[ShardInfo, ...]
    counts: Counts
    """Label member -> class id -> (pixels, samples that show it); classes that do not occur are left out."""
    skipped: tuple[LeftOut, ...]
    absent: int
    """Images that the release's list names and the raw folder does not hold."""
    relabel: RelabelOutcome | None = None
    """What became of the records of relabelling; None without `universal-relabeled` members."""
    digest: str = ""
    """SHA-256 of the manifest file: names the whole set, as every shard's hash is in it."""

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(s.samples for s in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of all shards."""
        return sum(s.bytes for s in self.shards)


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    taxonomies = {"native": manifest.native}
    if manifest.universal:
        taxonomies |= {m: manifest.universal for m in ("universal", "universal-relabeled") if m in manifest.members}
    relabel = manifest.relabel and {"records_sha256": manifest.params["records_sha256"], **asdict(manifest.relabel)}
    content = {
        "version": VERSION,
        "dataset": manifest.dataset,
        "split": manifest.split,
        "licence": manifest.licence,
        "members": manifest.members,
        "params": manifest.params,
        "tool": manifest.tool,
        "totals": {"samples": manifest.samples, "bytes": manifest.bytes, "shards": len(manifest.shards)},
        "absent": manifest.absent,
        "skipped": [asdict(r) for r in manifest.skipped],
        **({"relabel": relabel} if relabel else {}),
        "shards": [asdict(s) for s in manifest.shards],
        "taxonomies": {member: _dump_taxonomy(t) for member, t in taxonomies.items()},
        "classes": {
            member: [
                {"id": i, "name": taxonomies[member].classes[i], "pixels": pixels, "samples": samples}
                for i, (pixels, samples) in sorted(by_id.items())
            ]
            for member, by_id in sorted(manifest.counts.items())
        },
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def load_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest file's bytes.

    Raises:
        DataError: not a manifest, or of a version this program does not know.
    """
    try:
        raw = parse_json(data)
        if raw["version"] != VERSION:
            raise DataError(
                f"{where}: manifest version {raw['version']}, this program reads {VERSION}; "
                f"convert the data again, or use the version of the program that wrote it"
            )
        taxonomies = {m: _load_taxonomy(t, where=where) for m, t in raw["taxonomies"].items()}
        return Manifest(
            dataset=raw["dataset"],
            split=raw["split"],
            licence=raw["licence"],
            native=taxonomies["native"],
            universal=taxonomies.get("universal"),
            members=tuple(raw["members"]),
            params=raw["params"],
            tool=raw["tool"],
            shards=tuple(ShardInfo(**s) for s in raw["shards"]),
            counts={m: {c["id"]: (c["pixels"], c["samples"]) for c in cs} for m, cs in raw["classes"].items()},
            skipped=tuple(LeftOut(**r) for r in raw["skipped"]),
            absent=raw["absent"],
            relabel=load_outcome(raw["relabel"]) if "relabel" in raw else None,
            digest=hashlib.sha256(data).hexdigest(),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: not a shard manifest ({error!r}); run `segstream shard` again") from error


def _dump_taxonomy(taxonomy: Taxonomy) -> dict[str, Any]:
    return {**asdict(taxonomy), "digest": taxonomy.digest}


def _load_taxonomy(raw: Mapping[str, Any], *, where: str) -> Taxonomy:
    pairs = raw["from_universal"]
    taxonomy = Taxonomy(
        name=raw["name"],
        kind=raw["kind"],
        classes=tuple(raw["classes"]),
        to_universal=None if raw["to_universal"] is None else tuple(raw["to_universal"]),
        from_universal=None if pairs is None else tuple((u, n) for u, n in pairs),
    )
    if taxonomy.digest != raw["digest"]:
        raise DataError(f"{where}: the class table of {taxonomy.name!r} does not match its digest; convert again")
    return taxonomy
