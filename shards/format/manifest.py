"""`manifest.json`: what a shard set holds and what made it. Written last; a set without it is incomplete."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from segstream.shards.errors import DataError
from segstream.shards.format.index import Counts, RelabelOutcome, load_versioned
from segstream.shards.format.left_out import LeftOut
from segstream.shards.schema import parse
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
    ignored: Mapping[int, int] = field(default_factory=dict)
    """Of own data: value in the label files that is ignored -> stored pixels."""
    alike: tuple[str, ...] = ()
    """Suffixes of the members that are the same in all samples, of which there are several."""
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
    seldom = {"relabel": relabel, "ignored": sorted(manifest.ignored.items()), "alike": manifest.alike}
    content = {
        "version": VERSION,
        **{name: getattr(manifest, name) for name in ("dataset", "split", "licence", "members", "params", "tool")},
        "totals": {"samples": manifest.samples, "bytes": manifest.bytes, "shards": len(manifest.shards)},
        "absent": manifest.absent,
        "skipped": [asdict(r) for r in manifest.skipped],
        **{name: value for name, value in seldom.items() if value},
        "shards": [asdict(s) for s in manifest.shards],
        "taxonomies": {member: asdict(t) | {"digest": t.digest} for member, t in taxonomies.items()},
        "classes": {
            member: [
                {"id": i, "name": taxonomies[member].classes[i], "pixels": pixels, "samples": samples}
                for i, (pixels, samples) in sorted(by_id.items())
            ]
            for member, by_id in sorted(manifest.counts.items())
        },
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def load_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest file's bytes.

    Raises:
        DataError: not a manifest, of a version this program does not know, or its class tables were tampered with.
    """
    digests: dict[str, str] = {}

    def build(raw: dict[str, Any]) -> Manifest:
        taxonomies = {member: dict(taxonomy) for member, taxonomy in raw["taxonomies"].items()}
        digests.update((member, taxonomy.pop("digest")) for member, taxonomy in taxonomies.items())
        values = {field.name: raw[field.name] for field in fields(Manifest) if field.name in raw}
        values["native"], values["universal"] = taxonomies["native"], taxonomies.get("universal")
        values["counts"] = {m: {c["id"]: (c["pixels"], c["samples"]) for c in cs} for m, cs in raw["classes"].items()}
        values["ignored"] = dict(raw.get("ignored", ()))
        if "relabel" in raw:
            values["relabel"] = {k: v for k, v in raw["relabel"].items() if k != "records_sha256"}
        return parse(Manifest, values | {"digest": hashlib.sha256(data).hexdigest()}, at="manifest")

    manifest = load_versioned(data, VERSION, build, what="manifest", where=where)
    for taxonomy, member in ((manifest.native, "native"), (manifest.universal, "universal")):
        if taxonomy is not None and taxonomy.digest != digests[member]:
            raise DataError(f"{where}: the class table of {taxonomy.name!r} does not match its digest; convert again")
    return manifest
