"""`manifest.json`: what a shard set holds and what made it. Written last; a set without it is incomplete.

Whoever wrote it, no field of it is a path, markup or the size of an allocation: names and hashes have their form,
counts are possible for the bytes that are stated, and it carries a digest of itself.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

from segstream.shards.errors import DataError
from segstream.shards.format.index import Counts, RelabelOutcome, load_versioned, merge_counts
from segstream.shards.format.left_out import LeftOut
from segstream.shards.schema import Count, Name, Sha256, Text, parse, shown
from segstream.shards.taxonomy import Taxonomy

VERSION = 1
NAME = "manifest.json"
MEND = "restore the file, or convert the data again"
_END = b"\n}\n"
_DIGEST = b',\n "digest": "'  # the last field; no string of JSON holds a line break
_RECORD = 512  # bytes of a tar
_LARGEST = 1 << 22  # samples of a shard: orders are laid out before a shard is read


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """One tar of the set."""

    name: Annotated[str, re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}\.tar")]
    bytes: Count
    sha256: Sha256
    samples: Annotated[int, range(_LARGEST + 1)]
    index_sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A shard set's manifest."""

    dataset: Name
    split: Name
    licence: Text
    native: Taxonomy
    universal: Taxonomy | None
    """The universal taxonomy of the `universal` members; None where labels are never mapped."""
    members: tuple[Annotated[str, re.compile("image|json|native|universal|universal-relabeled")], ...]
    """Of every sample: `image`, `json`, `native`, for training datasets `universal`, and `universal-relabeled`."""
    params: Mapping[str, Any]
    tool: Mapping[str, str]
    shards: tuple[ShardInfo, ...]
    counts: Counts
    """Label member -> class id -> (pixels, samples that show it); classes that do not occur are left out."""
    skipped: tuple[LeftOut, ...]
    absent: Count
    """Images that the release's list names and the raw folder does not hold."""
    relabel: RelabelOutcome | None = None
    """What became of the records of relabelling; None without `universal-relabeled` members."""
    ignored: Mapping[int, Count] = field(default_factory=dict)
    """Of own data: value in the label files that is ignored -> stored pixels."""
    alike: tuple[Text, ...] = ()
    """Suffixes of the members that are the same in all samples, of which there are several."""
    digest: str = ""
    """SHA-256 of the manifest without this field: names the whole set, as every shard's hash is in it."""

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(s.samples for s in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of all shards."""
        return sum(s.bytes for s in self.shards)

    @property
    def totals(self) -> dict[str, int]:
        """As the file states them."""
        return {"samples": self.samples, "bytes": self.bytes, "shards": len(self.shards)}


def label_taxonomies(manifest: Manifest) -> Mapping[str, Taxonomy]:
    """The taxonomy of every label member that the set holds; none for a set of images only."""
    known = {"native": manifest.native, "universal": manifest.universal, "universal-relabeled": manifest.universal}
    return {m: taxonomy for m, taxonomy in known.items() if m in manifest.members and taxonomy is not None}


def joined(splits: Mapping[str, Manifest], plain: Collection[str]) -> Manifest:
    """The manifest of several splits of one dataset, one after another, as if they were one set.

    Args:
        splits: manifests by name, of all that are used.
        plain: names of those that are joined; of a single split, that is it.

    Raises:
        DataError: their own classes differ.
    """
    first, *manifests = splits.values()
    if not manifests:
        return first
    if any(m.native.digest != first.native.digest for m in manifests):
        about = ", ".join(f"{name} has {m.native.num_classes} of {m.native.name}" for name, m in splits.items())
        raise DataError(f"{first.dataset}: its splits have different classes ({about}); convert them with one version")
    manifests = [splits[name] for name in plain]
    return replace(
        first,
        split="+".join(plain),
        members=tuple(member for member in first.members if all(member in m.members for m in splits.values())),
        shards=tuple(info for m in manifests for info in m.shards),
        counts=merge_counts(m.counts for m in manifests),
        ignored={value: sum(m.ignored.get(value, 0) for m in manifests) for m in manifests for value in m.ignored},
        alike=(),
        digest="+".join(m.digest for m in manifests),
    )


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    taxonomies = {"native": manifest.native, **label_taxonomies(manifest)}
    relabel = manifest.relabel and {"records_sha256": manifest.params["records_sha256"], **asdict(manifest.relabel)}
    seldom = {"relabel": relabel, "ignored": sorted(manifest.ignored.items()), "alike": manifest.alike}
    content = {
        "version": VERSION,
        **{name: getattr(manifest, name) for name in ("dataset", "split", "licence", "members", "params", "tool")},
        "totals": manifest.totals,
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
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    return data.removesuffix(_END) + _DIGEST + hashlib.sha256(data).hexdigest().encode() + b'"' + _END


def digest_of(data: bytes, *, where: str) -> str:
    """SHA-256 of a manifest file without its `digest`; of all of it where it was written before there was one.

    Raises:
        DataError: it has another `digest`.
    """
    content, found, stated = data.rpartition(_DIGEST)
    digest = hashlib.sha256(content + _END if found else data).hexdigest()
    if found and stated != digest.encode() + b'"' + _END:
        raise DataError(f"{where}: its digest is not that of its content, so it changed since it was written; {MEND}")
    return digest


def load_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest file's bytes.

    Raises:
        DataError: not a manifest, of a version this program does not know, changed since it was written, or at odds
            with itself.
    """
    digest = digest_of(data, where=where)
    stated: dict[str, Any] = {}

    def build(raw: dict[str, Any]) -> Manifest:
        stated.update({"digest": digest} | raw)
        taxonomies = {member: dict(taxonomy) for member, taxonomy in raw["taxonomies"].items()}
        stated["classes"] = {member: taxonomy.pop("digest") for member, taxonomy in taxonomies.items()}
        values = {field.name: raw[field.name] for field in fields(Manifest) if field.name in raw}
        values["native"], values["universal"] = taxonomies["native"], taxonomies.get("universal")
        values["counts"] = {m: {c["id"]: (c["pixels"], c["samples"]) for c in cs} for m, cs in raw["classes"].items()}
        values["ignored"] = dict(raw.get("ignored", ()))
        if "relabel" in raw:
            values["relabel"] = {k: v for k, v in raw["relabel"].items() if k != "records_sha256"}
        return parse(Manifest, values | {"digest": digest}, at="manifest")

    manifest = load_versioned(data, VERSION, build, what="manifest", where=where)
    for fault in _contradictions(manifest, stated):
        raise DataError(f"{where}: {fault}; {MEND}")
    return manifest


def _contradictions(manifest: Manifest, stated: Mapping[str, Any]) -> Iterator[str]:
    """Where fields are at odds with one another; `stated` are those that can be counted from others."""
    if manifest.digest != stated["digest"]:
        yield "its digest is not that of its content"
    taxonomies = {"native": manifest.native, "universal": manifest.universal or manifest.native}
    for member, taxonomy in taxonomies.items():
        if taxonomy.digest != stated["classes"].get(member, taxonomy.digest):
            yield f"the class table of {taxonomy.name!r} does not match its digest"
    for member, by_id in manifest.counts.items():
        classes = taxonomies["native" if member == "native" else "universal"].num_classes
        if max(by_id, default=0) >= classes:
            yield f"it counts class {max(by_id)} of {member}, which has {classes} classes"
    if stated.get("totals") != manifest.totals:
        yield f"its totals are {shown(stated.get('totals'))}, those of its shards {manifest.totals}"
    if len({info.name for info in manifest.shards}) < len(manifest.shards):
        yield "it lists a shard twice"
    for info in manifest.shards:
        if info.samples * len(manifest.members) * 2 * _RECORD > info.bytes:
            yield f"{info.name}: {info.samples} samples do not fit into {info.bytes} bytes"
