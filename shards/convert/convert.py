"""A released split becomes a shard set: find the pairs, plan shards, make them in parallel, write the manifest last."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import PIL

from segstream.shards.convert.build_shard import Job, Made, Setup, run
from segstream.shards.convert.plan import plan_shards, shard_name
from segstream.shards.convert.relabel import assign
from segstream.shards.convert.relabel_records import read_records
from segstream.shards.datasets.registry import dataset
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found, Pair
from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.files import RUN_AGAIN, make_folder, sole_writer, staging, writing
from segstream.shards.format import manifest as manifests
from segstream.shards.format.index import RelabelOutcome, index_name, merge_counts, merge_outcomes
from segstream.shards.format.keys import unescape
from segstream.shards.format.left_out import LeftOut, check_left_out
from segstream.shards.format.manifest import Manifest
from segstream.shards.parallel import as_they_finish
from segstream.shards.storage.base import local_path
from segstream.shards.taxonomy import load_taxonomy, universal_remap

_SHOWN = 5
FORMAT = "4"  # raise it whenever the same inputs would give other bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertRequest:
    """What to convert, where to, and how."""

    dataset: str
    """A released dataset's name, or the path of an own-data YAML."""
    split: str
    out: str
    """Folder (or file:// URL) above DATASET/SPLIT."""
    raw: Path | None = None
    """The release's folder; own data may state it in the YAML."""
    short_side: int | None = None
    """Training images are shrunk to it, in pixels; never enlarged. Other splits keep their native size."""
    workers: int = 1
    limit: int | None = None
    """Convert only so many samples, the first ones by key."""
    relabel: Path | None = None
    """Records of relabelling: a CSV or a checkout of `mseg-api`. Adds the `universal-relabeled` labels."""
    skip_bad: int = 0
    """Samples that may be left out because they cannot be used."""
    shard_samples: int = 256
    shard_bytes: int = 256 << 20
    """Limit of a shard, in bytes of source images."""
    jpeg_quality: int = 95
    staged: bool = False
    """Make the set in a folder beside its own and move it there when it is whole."""

    def __post_init__(self) -> None:
        least = {"workers": 1, "skip_bad": 0, "shard_samples": 1, "shard_bytes": 1, "short_side": 1, "limit": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UsageError(f"{name}: {value}; must be at least {low}")
        if not 1 <= self.jpeg_quality <= 100:
            raise UsageError(f"jpeg_quality: {self.jpeg_quality}; must be 1 to 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a conversion did."""

    dataset: str
    split: str
    url: str
    samples: int
    shards: int
    bytes: int
    resumed_shards: int
    """Shards kept from an earlier run."""
    skipped: tuple[LeftOut, ...]
    absent: int
    """Listed images that the raw folder does not hold."""
    first_absent: tuple[str, ...]
    """A few of them."""
    relabel: RelabelOutcome | None
    """What became of the records of relabelling, if any were given."""
    digest: str
    """The manifest's."""


def convert(request: ConvertRequest, progress: Callable[[int, int], None] | None = None) -> Summary:
    """Convert one split; an interrupted run, repeated, keeps the shards it had finished.

    Args:
        progress: called with (samples done, samples in all), from this thread.

    Raises:
        UsageError: an unknown dataset or split, a parameter out of range.
        DataError: the raw data or the target cannot be used.
        BadSamplesError: more samples than `skip_bad` cannot be used; no manifest is written.
    """
    data = dataset(request.dataset)
    if request.out.startswith("s3://"):
        from segstream.shards.convert.publish import Target

        target = Target(f"{request.out.rstrip('/')}/{data.name}/{request.split}")
        with target.staging() as folder:
            summary = convert(replace(request, out=str(folder)), progress)
            target.publish(Path(summary.url))
        return replace(summary, url=target.url)
    root = request.raw or data.root
    if root is None:
        raise UsageError(f"{request.dataset}: says no `root`; give the folder of the data with --raw")
    release = Release(root)
    if request.split not in data.splits:
        raise UsageError(f"{data.name} has no split {request.split!r}; {did_you_mean(request.split, data.splits)}")
    found = data.find(release, request.split)
    ordered = _ordered(found, where=f"{release} ({data.name}, {request.split})")
    pairs, records, unused = _relabelling(request, data, release, ordered)
    setup, params = _setup(request, data, release, records)
    place = local_path(request.out) / data.name / request.split
    with staging(place, when=request.staged) as folder, sole_writer(make_folder(folder)):
        jobs = _plan(pairs, release, folder, request)
        (folder / manifests.NAME).unlink(missing_ok=True)  # from here on the set is incomplete, and says so
        _remove_leftovers(folder, jobs)
        made = _run_all(setup, jobs, request.workers, progress)
        orphans = (
            [] if request.limit else [LeftOut(key="", path=o, reason="label without an image") for o in found.orphans]
        )
        left_out = sorted([*orphans, *(r for shard in made for r in shard.left_out)])
        check_left_out(
            left_out, allowed=request.skip_bad, total=len(pairs), where=f"{data.name} {request.split} in {release}"
        )
        labelled = pairs[0].label is not None
        manifest = _manifest(
            data, request, params, made, left_out, labelled=labelled, absent=len(found.absent), unused=unused
        )
        content = manifests.dump_manifest(manifest)
        with writing(folder / manifests.NAME, advice=RUN_AGAIN) as file:
            file.write(content)
    return Summary(
        dataset=data.name,
        split=request.split,
        url=str(place),
        samples=manifest.samples,
        shards=len(manifest.shards),
        bytes=manifest.bytes,
        resumed_shards=sum(shard.kept for shard in made),
        skipped=manifest.skipped,
        absent=manifest.absent,
        first_absent=found.absent[:_SHOWN],
        relabel=manifest.relabel,
        digest=hashlib.sha256(content).hexdigest(),
    )


def _ordered(found: Found, *, where: str) -> list[Pair]:
    """Pairs by key, each key once."""
    pairs = sorted(found.pairs, key=lambda p: p.key)
    if not pairs:
        listed = f"; {len(found.absent)} listed images are absent, e.g. {found.absent[0]}" if found.absent else ""
        raise DataError(f"{where}: no images{listed}; check --raw")
    for one, other in itertools.pairwise(pairs):
        if one.key == other.key:
            raise DataError(
                f"{where}: {one.image} and {other.image} have the same key {unescape(one.key)!r}; rename one of them"
            )
    return pairs


def _relabelling(
    request: ConvertRequest, data: Dataset, release: Release, pairs: Sequence[Pair]
) -> tuple[Sequence[Pair], str | None, RelabelOutcome | None]:
    """The pairs to convert, with their records; the records' digest; what became of those that no such pair has."""
    if request.relabel is None:
        return pairs[: request.limit], None, None
    if data.segments is None:
        raise UsageError(f"{data.name}: has no relabelled segments; leave out --relabel")
    records = read_records(request.relabel, data.name, request.split)
    chosen, unused = assign(records, data.segments, release, pairs, limit=request.limit)
    return chosen, records.sha256, unused


def _setup(
    request: ConvertRequest, data: Dataset, release: Release, records: str | None
) -> tuple[Setup, dict[str, Any]]:
    """What all shards share, and the parameters as the manifest states them."""
    lossy = request.split.startswith("train")
    params: dict[str, Any] = {
        "image": "jpeg" if lossy else "source",
        "short_side": request.short_side if lossy else None,
        "jpeg_quality": request.jpeg_quality if lossy else None,
        "limit": request.limit,
        "shard_samples": request.shard_samples,
        "shard_bytes": request.shard_bytes,
        **({"records_sha256": records} if records else {}),
    }
    universal = universal_remap(data.taxonomy) if data.taxonomy.to_universal is not None else None
    identity = [
        _tool(),
        params,
        [data.name, request.split, data.licence],
        [data.taxonomy.digest, *((data.remap.source, data.remap.table.tolist()) if data.remap else ())],
        load_taxonomy("universal").digest if universal else None,
    ]
    setup = Setup(
        dataset=data,
        split=request.split,
        release=release,
        universal=universal,
        relabel=records is not None,
        lossy=lossy,
        short_side=request.short_side,
        jpeg_quality=request.jpeg_quality,
        identity=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
    )
    return setup, params


def _plan(pairs: Sequence[Pair], release: Release, folder: Path, request: ConvertRequest) -> list[Job]:
    sized = ((pair, release.size(pair.image)) for pair in pairs)
    shards = plan_shards(sized, max_samples=request.shard_samples, max_bytes=request.shard_bytes)
    return [Job(path=folder / shard_name(n), pairs=shard) for n, shard in enumerate(shards)]


def _remove_leftovers(folder: Path, jobs: Sequence[Job]) -> None:
    """Delete what an earlier run left and this one will not overwrite."""
    mine = {name for job in jobs for name in (job.path.name, index_name(job.path.name))}
    for path in folder.iterdir():
        if path.name not in mine and path.is_file():
            path.unlink(missing_ok=True)


def _run_all(
    setup: Setup, jobs: Sequence[Job], workers: int, progress: Callable[[int, int], None] | None
) -> list[Made]:
    """Results in the jobs' order."""
    total, finished = sum(len(job.pairs) for job in jobs), 0
    results: dict[int, Made] = {}
    what = f"{setup.dataset.name} {setup.split}"
    for n, result in as_they_finish(functools.partial(run, setup), jobs, workers=workers, what=what):
        results[n] = result
        finished += len(jobs[n].pairs)
        if progress:
            progress(finished, total)
    return [results[n] for n in range(len(jobs))]


def _manifest(
    data: Dataset,
    request: ConvertRequest,
    params: dict[str, Any],
    made: Sequence[Made],
    left_out: Sequence[LeftOut],
    *,
    labelled: bool,
    absent: int,
    unused: RelabelOutcome | None,
) -> Manifest:
    shards = tuple(shard.info for shard in made if shard.info)
    if not shards:
        raise DataError(f"{data.name} {request.split}: not one sample could be used; check --raw")
    native = data.taxonomy
    mapped = labelled and native.to_universal is not None
    members = {
        "image": True,
        "json": True,
        "native": labelled,
        "universal": mapped,
        "universal-relabeled": unused is not None,
    }
    return Manifest(
        dataset=data.name,
        split=request.split,
        licence=data.licence,
        native=native,
        universal=load_taxonomy("universal") if mapped else None,
        members=tuple(member for member, there in members.items() if there),
        params=params,
        tool=_tool(),
        shards=shards,
        counts=merge_counts([shard.counts for shard in made]),
        skipped=tuple(left_out),
        absent=absent,
        relabel=merge_outcomes([unused, *(shard.relabel for shard in made if shard.relabel)]) if unused else None,
    )


def _tool() -> dict[str, str]:
    """Versions of what makes the bytes: this program, and the libraries that encode."""
    return {
        "segstream": metadata.version("segstream"),
        "format": FORMAT,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
