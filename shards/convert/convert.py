"""A released split becomes a shard set: find the pairs, plan shards, make them in parallel, write the manifest last."""

import contextlib
import functools
import hashlib
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import cv2
import PIL

from segstream.shards.convert.auto_labels import load_auto_labels
from segstream.shards.convert.build_shard import Planned, Setup, build_shard, shard_name
from segstream.shards.convert.relabel import assign, read_records
from segstream.shards.datasets import registry
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Dataset, Found, Pair
from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.files import RUN_AGAIN, make_folder, sole_writer, staging, write_bytes
from segstream.shards.format import manifest as manifests
from segstream.shards.format.centroids import SUMMARY, add_centroids, centroids_name
from segstream.shards.format.index import LABEL_MEMBERS, index_name, merge_counts, merge_outcomes
from segstream.shards.format.keys import unescape
from segstream.shards.format.left_out import LeftOut, check_left_out
from segstream.shards.format.manifest import Manifest
from segstream.shards.format.writer import load_tar_writer
from segstream.shards.parallel import as_they_finish, in_order
from segstream.shards.storage.base import below, local_path, scheme_of
from segstream.shards.taxonomy import load_taxonomy, universal_remap

_SHOWN = 5
FORMAT = "4"  # raise it whenever the same inputs would give other bytes
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted(Manifest):
    """The manifest of the set, and how it came about."""

    url: str
    """Where the set is; `open_shards` takes it."""
    resumed_shards: int
    """Shards kept from an earlier run."""
    first_absent: tuple[str, ...]
    """A few of the listed images that the release does not hold."""
    pixels: int
    """Of all samples as stored."""
    notes: tuple[str, ...]
    """What was not taken as it stands, see `Found`."""


def convert(
    dataset: str | Path,
    *,
    split: str,
    out: str | Path,
    raw: str | Path | None = None,
    short_side: int | None = None,
    relabel: str | Path | None = None,
    auto_labels: str | Path | None = None,
    workers: int = 1,
    limit: int | None = None,
    skip_bad: int = 0,
    shard_samples: int = 256,
    shard_bytes: int = 256 << 20,
    jpeg_quality: int = 95,
    centroids: bool = False,
    staged: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Convert one split of a dataset to shards; an interrupted run, repeated, keeps those it had finished.

    Args:
        dataset: a released dataset's name, or the path of an own-data YAML.
        split: as the dataset names it.
        out: folder, file:// or s3:// URL; the set goes to DATASET/SPLIT below it.
        raw: the release's folder; own data may state it in the YAML.
        short_side: training images are shrunk to it, in pixels; never enlarged. Other splits keep their native size.
        relabel: MSeg's update records, a CSV or a checkout of `mseg-api`; adds the `universal-relabeled` labels.
        auto_labels: in the place of the release's labels: a YAML, see `AutoLabels`, or a folder that `predict` filled.
        workers: processes.
        limit: convert only so many samples, the first ones by key.
        skip_bad: samples that may be left out because they cannot be used.
        shard_samples: limit of a shard.
        shard_bytes: limit of a shard, in bytes of source images.
        jpeg_quality: of training images that are encoded anew.
        centroids: make those of its labels, too, as `add_centroids` does.
        staged: make the set in a folder beside its own and move it there when it is whole.
        progress: called with (samples done, samples in all), from this thread.

    Returns:
        The manifest as written, with the set's `url`.

    Raises:
        UsageError: an unknown dataset or split, a parameter out of range.
        DataError: the raw data or the target cannot be used.
        BadSamplesError: more samples than `skip_bad` cannot be used; no manifest is written.
    """
    limits = {"workers": workers, "shard_samples": shard_samples, "shard_bytes": shard_bytes, "short_side": short_side}
    for name, value, least in [("skip_bad", skip_bad, 0), ("limit", limit, 1), *((n, v, 1) for n, v in limits.items())]:
        if value is not None and value < least:
            raise UsageError(f"{name}: {value}; must be at least {least}")
    if not 1 <= jpeg_quality <= 100:
        raise UsageError(f"jpeg_quality: {jpeg_quality}; must be 1 to 100")
    data = registry.dataset(str(dataset))
    root = raw or data.root
    if root is None:
        raise UsageError(f"{dataset}: says no `root`; give the folder of the data with --raw")
    release = Release(Path(root))
    if split not in data.splits:
        raise UsageError(f"{data.name} has no split {split!r}; {did_you_mean(split, data.splits)}")
    found = data.find(release, split)
    pairs = _ordered(found, where=f"{release} ({data.name}, {split})")
    chosen: Sequence[Pair] = pairs[:limit]
    finish = functools.partial(add_centroids, workers=workers, progress=progress) if centroids else str
    records = unused = None
    if relabel is not None:
        if data.segments is None:
            raise UsageError(f"{data.name}: has no relabelled segments; leave out --relabel")
        records = read_records(Path(relabel), data.name, split)
        chosen, unused = assign(records, data.segments, release, pairs, limit=limit)
    if auto_labels is not None and relabel is not None:
        raise UsageError("--relabel is of the release's own labels; leave it out, or --auto-labels")
    auto = None if auto_labels is None else load_auto_labels(Path(auto_labels), data)
    lossy = split.startswith("train")
    params: dict[str, Any] = {
        "image": "jpeg" if lossy else "source",
        "short_side": short_side if lossy else None,
        "jpeg_quality": jpeg_quality if lossy else None,
        "limit": limit,
        "shard_samples": shard_samples,
        "shard_bytes": shard_bytes,
        **({"records_sha256": records.sha256} if records is not None else {}),
        **({"auto_labels": {name: value for name, value in asdict(auto).items() if name != "folder"}} if auto else {}),
    }
    setup = Setup(
        dataset=data,
        split=split,
        release=release,
        universal=universal_remap(data.taxonomy) if data.taxonomy.to_universal is not None else None,
        relabel=records is not None,
        auto=auto,
        short_side=params["short_side"],
        jpeg_quality=params["jpeg_quality"],
        identity=_identity(data, split, params),
    )
    with _target(str(out), data.name, split, staged=staged, finish=finish) as (folder, url), sole_writer(folder):
        sizes = ((pair, release.size(pair.image)) for pair in chosen)
        shards = plan_shards(sizes, max_samples=shard_samples, max_bytes=shard_bytes)
        planned = [Planned(folder / shard_name(n), shard) for n, shard in enumerate(shards)]
        (folder / manifests.NAME).unlink(missing_ok=True)  # from here on the set is incomplete, and says so
        _remove_leftovers(folder, planned)
        build, what = functools.partial(build_shard, setup), f"{data.name} {split}"
        results = as_they_finish(build, planned, workers=workers, what=what, prepare=load_tar_writer)
        made = in_order(results, [len(shard.pairs) for shard in planned], progress)
        orphans = [] if limit else [LeftOut(key="", path=o, reason="label without an image") for o in found.orphans]
        left_out = sorted([*orphans, *(one for shard in made for one in shard.index.left_out)])
        check_left_out(left_out, allowed=skip_bad, total=len(chosen), where=f"{what} in {release}")
        infos = tuple(shard.info for shard in made if shard.info)
        if not infos:
            raise DataError(f"{what}: not one sample could be used: {left_out[0].path}: {left_out[0].reason}")
        labelled = chosen[0].label is not None
        mapped = labelled and setup.universal is not None
        members = {"native": labelled, "universal": mapped, "universal-relabeled": setup.relabel}
        outcomes = [shard.index.relabel for shard in made if shard.index.relabel]
        ignored = sum((Counter(shard.index.ignored) for shard in made), Counter[int]())
        alike = set[tuple[str, int]].intersection(*(set(shard.alike) for shard in made if shard.info))
        converted = Converted(
            dataset=data.name,
            split=split,
            licence=data.licence,
            native=data.taxonomy,
            universal=load_taxonomy("universal") if mapped else None,
            members=("image", "json", *(member for member, there in members.items() if there)),
            params=params,
            tool=_tool(),
            shards=infos,
            counts=merge_counts([shard.index.counts for shard in made]),
            skipped=tuple(left_out),
            absent=len(found.absent),
            relabel=merge_outcomes([unused, *outcomes]) if unused else None,
            ignored=dict(ignored),
            alike=tuple(sorted(suffix for suffix, _ in alike)) if sum(info.samples for info in infos) > 1 else (),
            url=url,
            pixels=sum(shard.pixels for shard in made),
            notes=found.notes,
            resumed_shards=sum(shard.kept for shard in made),
            first_absent=found.absent[:_SHOWN],
        )
        content = manifests.dump_manifest(converted)
        write_bytes(folder / manifests.NAME, content, advice=RUN_AGAIN, durable=True)
    return replace(converted, digest=manifests.digest_of(content, where=url))


def plan_shards(sizes: Iterable[tuple[T, int]], *, max_samples: int, max_bytes: int) -> Iterator[tuple[T, ...]]:
    """Group (sample, source bytes) pairs, in order, into shards within both limits; a larger sample stands alone."""
    shard: list[T] = []
    used = 0
    for sample, num_bytes in sizes:
        if shard and (len(shard) == max_samples or used + num_bytes > max_bytes):
            yield tuple(shard)
            shard, used = [], 0
        shard.append(sample)
        used += num_bytes
    if shard:
        yield tuple(shard)


@contextlib.contextmanager
def _target(
    out: str, dataset: str, split: str, *, staged: bool, finish: Callable[[Path], object]
) -> Iterator[tuple[Path, str]]:
    """(folder to write into, where the set will be).

    Once the block has ended, `finish` is given the folder, and what goes to a bucket is uploaded.
    """
    if scheme_of(out) == "s3":
        from segstream.shards.convert.publish import Target

        target = Target(below(out, dataset, split))
        with target.staging() as folder:
            yield folder, target.url
            finish(folder)
            target.publish(folder)
    else:
        place = local_path(out) / dataset / split
        with staging(place, when=staged) as folder:
            yield make_folder(folder), str(place)
            finish(folder)


def _ordered(found: Found, *, where: str) -> list[Pair]:
    """Pairs by key, each key once."""
    pairs = sorted(found.pairs, key=lambda p: p.key)
    if not pairs:
        listed = f"; {len(found.absent)} listed images are absent, e.g. {found.absent[0]}" if found.absent else ""
        raise DataError(f"{where}: no images{listed}")
    for one, other in itertools.pairwise(pairs):
        if one.key == other.key:
            alike = f"{one.image} and {other.image} have the same key {unescape(one.key)!r}"
            raise DataError(f"{where}: {alike}, which is a path without its suffix; move one elsewhere")
    return pairs


def _identity(data: Dataset, split: str, params: dict[str, Any]) -> str:
    """Digest of what shapes the bytes, but for the release's files."""
    parts = [
        _tool(),
        params,
        [data.name, split, data.licence],
        [data.taxonomy.digest, *((data.remap.source, data.remap.table.tolist()) if data.remap else ())],
        load_taxonomy("universal").digest if data.taxonomy.to_universal is not None else None,
        *(data.remap.beyond if data.remap else ()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _remove_leftovers(folder: Path, planned: Sequence[Planned]) -> None:
    """Delete what an earlier run left and this one will not overwrite."""
    names = [shard.path.name for shard in planned]
    mine = {SUMMARY, *names, *map(index_name, names), *(centroids_name(n, m) for n in names for m in LABEL_MEMBERS)}
    for path in folder.iterdir():
        if path.name not in mine and path.is_file():
            path.unlink(missing_ok=True)


def _tool() -> dict[str, str]:
    """Versions of what makes the bytes: this program, and the libraries that encode."""
    return {
        "segstream": metadata.version("segstream"),
        "format": FORMAT,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }
