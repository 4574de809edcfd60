"""Relabelling as MSeg published it: segments of a training set's labels become other universal classes.

The records are applied to universal ids at full resolution, before anything is resized. That equals the published
chain (native -> relabelled classes -> segments overwritten -> universal), because relabelled classes are universal
ones. Where upstream stops a conversion, the record is reported with its reason instead and its pixels stay as they
are; every record is either applied or reported, exactly once.

The records come as one CSV (plain or gzipped) or as a checkout of `mseg-api`, whose list of class pairs names one text
file of segments each. The list is Python, but it is only parsed here, never run.
"""

import ast
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segstream.shards.datasets.registry import registry
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Edits, Pair, Record, Segments
from segstream.shards.errors import DataError, UnreadableError, did_you_mean
from segstream.shards.format.index import RelabelExample, RelabelOutcome, merge_outcomes
from segstream.shards.format.left_out import BadFileError
from segstream.shards.taxonomy import IGNORE_INDEX, TRAINING_TAXONOMIES, load_taxonomy

LEFT_OUT = "image left out"
COLUMNS = ("dataset", "split", "original_class", "new_class", "parent", "image_stem", "segment_id")
_SOURCE = "source_file"  # where a line comes from; nothing is made of it
_SPLITS = ("train", "val")
_SHARED = {"cityscapes-34": "cityscapes-19"}  # the same label files, hence the same records
_GZIP = b"\x1f\x8b"
_DIGITS = 19  # fewer fit 64 bits

_LIST = "label_preparation/dataset_update_records.py"
_TEXTS = "relabeled_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All records of one dataset's split."""

    sha256: str
    """Of the uncompressed CSV; of a checkout, of the CSV that it amounts to."""
    by_image: Mapping[tuple[str, str], tuple[Record, ...]]
    """(folder that directly holds the label file, image name without extension) -> its records, in file order."""


def read_records(path: Path, dataset: str, split: str) -> Records:
    """Read the records of one split; those of all the others are checked as well.

    Args:
        path: a CSV, plain or gzipped, or the folder of an `mseg-api` checkout.
        dataset: a training dataset; `cityscapes-34` has the records of `cityscapes-19`.

    Raises:
        DataError: a file that cannot be read, an unknown column, dataset, split or class, a segment named twice; the
            message names the line.
    """
    data = _published(path) if path.is_dir() else _unzipped(path)
    wanted = _SHARED.get(dataset, dataset)
    known = {name: _class_ids(name) for name in TRAINING_TAXONOMIES}
    images: dict[tuple[str, str], dict[int, Record]] = {}
    datasets = set()
    for where, (name, part, original, new, parent, stem, number) in _rows(data, path):
        if name not in known:
            raise DataError(f"{where}: unknown dataset {name!r}; {did_you_mean(name, known)}")
        if part not in _SPLITS:
            raise DataError(f"{where}: split {part!r}; must be train or val")
        if not (number.isascii() and number.isdigit() and len(number) < _DIGITS):
            raise DataError(f"{where}: segment id {number[:_DIGITS]!r} is no number of a segment; mend the file")
        ids, segment = known[name], int(number)
        for one in (original, new):
            if one not in ids:
                raise DataError(f"{where}: {name} has no class {one!r} after relabelling; {did_you_mean(one, ids)}")
        datasets.add(name)
        if (name, part) == (wanted, split):
            of_image = images.setdefault((parent, stem), {})
            if segment in of_image:
                image = f"{parent}/{stem}"
                raise DataError(f"{where}: segment {segment} of {image!r} is named a second time; mend the file")
            of_image[segment] = Record(segment, ids[original], ids[new])
    if wanted not in datasets:
        raise DataError(f"{path}: holds no records of {wanted}; give the published ones (docs/relabel.md)")
    by_image = {image: tuple(records.values()) for image, records in images.items()}
    return Records(sha256=hashlib.sha256(data).hexdigest(), by_image=by_image)


def _class_ids(dataset: str) -> dict[str, int]:
    """Universal id by class name, of the classes that a dataset has after relabelling."""
    relabelled = load_taxonomy(f"{dataset}-relabeled")
    return {**dict(zip(relabelled.classes, relabelled.to_universal or (), strict=True)), "unlabeled": IGNORE_INDEX}


def _rows(data: bytes, path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(where it stands, its values of `COLUMNS`) of every row of a CSV."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = next(reader, [])
        for name in header:
            if name not in (*COLUMNS, _SOURCE):
                raise DataError(f"{path}:1: unknown column {name!r}; {did_you_mean(name, COLUMNS)}")
        for name in COLUMNS:
            if header.count(name) != 1:
                raise DataError(f"{path}:1: needs one column {name!r}; the form of the file is in docs/relabel.md")
        pick = itemgetter(*map(header.index, COLUMNS))
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if len(row) != len(header):
                raise DataError(f"{where}: {len(row)} values for {len(header)} columns; mend the file")
            yield where, pick(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV of update records ({error}); its form is in docs/relabel.md") from error


def _unzipped(path: Path) -> bytes:
    data = _read(path)
    try:
        return gzip.decompress(data) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: does not unpack as gzip ({error}); fetch it again") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _published(folder: Path) -> bytes:
    """The CSV that a checkout's list and text files amount to: datasets by name, each in the order of the list."""
    root = next((r for r in (folder / "mseg", folder) if (r / _LIST).is_file()), None)
    if root is None:
        raise DataError(f"{folder}: holds no mseg/{_LIST}; --relabel takes a checkout of mseg-api, or a CSV")
    lines = sorted(_listed(root), key=itemgetter(0))  # a stable sort
    return "\n".join([",".join((*COLUMNS, _SOURCE)), *map(",".join, lines), ""]).encode()


def _listed(root: Path) -> Iterator[tuple[str, ...]]:
    """Values of a CSV row for every line of every text file that the list of a checkout names."""
    path = root / _LIST
    spellings = {dataset: facts.records for dataset, facts in registry().items() if facts.records}
    known = {name: (dataset, spelling) for dataset, spelling in spellings.items() for name in spelling.names}
    try:
        calls = [node for node in ast.walk(ast.parse(_read(path))) if isinstance(node, ast.Call)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{path}: not the list of update records ({error}); check the revision") from error
    for call in sorted(calls, key=lambda c: c.lineno):
        where = f"{path}:{call.lineno}"
        values = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if len(values) != 5 or len(call.args) != 5:
            raise DataError(f"{where}: expected (dataset, split, class, new class, text file); check the revision")
        spelled, split, original, new, text = values
        if spelled not in known or split not in _SPLITS:
            raise DataError(f"{where}: unknown dataset or split {spelled!r}, {split!r}; check the revision")
        if ".." in Path(text).parts or Path(text).is_absolute():
            raise DataError(f"{where}: {text!r} is no path below {_TEXTS}; take another checkout")
        dataset, spelling = known[spelled]
        form = re.compile(spelling.prefix + r"([^,\"]+)_([0-9]+)\.[a-z]+")
        names = _read(root / _TEXTS / text).decode("utf-8", "replace").splitlines()
        for number, name in enumerate(names, 1):
            match = form.fullmatch(name.strip())
            if match is None:
                raise DataError(f"{root / _TEXTS / text}:{number}: {name!r} names no segment of {dataset}; mend it")
            yield dataset, split, original, new, match[1] or spelling.parents[split], match[2], match[3], text


def outcome_of(edits: Edits, reasons: Sequence[str | None]) -> RelabelOutcome:
    """Count what became of one image's records.

    Args:
        reasons: why each record was not applied; None where it was.
    """
    told = [
        RelabelExample(reason=reason, image=edits.image, segment=record.segment)
        for record, reason in zip(edits.records, reasons, strict=True)
        if reason is not None
    ]
    reported = Counter(example.reason for example in told)
    return merge_outcomes([RelabelOutcome(applied=len(reasons) - len(told), reported=reported, examples=tuple(told))])


def assign(
    records: Records, segments: Segments, release: Release, pairs: Sequence[Pair], *, limit: int | None
) -> tuple[list[Pair], RelabelOutcome]:
    """Hand each pair its records.

    Args:
        pairs: all of the split, in order.
        limit: how many of them will be converted.

    Returns:
        The pairs up to the limit, with `edits` where they have records; and what became of the other records.

    Raises:
        DataError: two images that the records cannot tell apart, or not one of the files that hold the segments.
    """
    named: dict[tuple[str, str], int] = {}
    for n, pair in enumerate(pairs):
        other = named.setdefault(_name(pair, segments), n)
        if other != n:
            alike = f"{pair.image} from {pairs[other].image}"
            raise DataError(f"{release}: records cannot tell {alike}; remove one of them")
    chosen = list(pairs[:limit])
    where, files = segments.files(release, [pair for pair in chosen if _name(pair, segments) in records.by_image])
    if files and not any(map(where.has, files.values())):
        wanted = f"{len(files)} files that hold relabelled segments, such as {next(iter(files.values()))}"
        raise DataError(f"{where}: not one of the {wanted}; unpack them there, or leave out --relabel")
    rest = []
    for name, of_image in records.by_image.items():
        n = named.get(name, -1)
        reason = "no such image in this split" if n < 0 else "image beyond --limit" if n >= len(chosen) else None
        file = "" if reason else files[chosen[n].key]
        edits = Edits(release=where, file=file, image="/".join(name), records=of_image)
        if reason:
            rest.append(outcome_of(edits, [reason] * len(of_image)))
        else:
            chosen[n] = replace(chosen[n], edits=edits)
    return chosen, merge_outcomes(rest)


def relabel(
    label: npt.NDArray[np.uint8], edits: Edits, segments: Segments, data: bytes
) -> tuple[npt.NDArray[np.uint8], RelabelOutcome]:
    """Apply an image's records, in file order.

    Args:
        label: (H, W) universal ids, at the size of the source's image.
        data: the file that holds the segments.

    Returns:
        (H, W) universal ids, and what became of each record.

    Raises:
        BadFileError: the file is damaged, or its segments belong to an image of another size.
    """
    label, reasons = label.copy(), []
    size_hw = (label.shape[0], label.shape[1])
    try:
        masks = segments.masks(data, [record.segment for record in edits.records], size_hw)
        for record, mask in zip(edits.records, masks, strict=True):
            if mask.shape != size_hw:
                raise BadFileError(edits.file, f"segments of an image of {mask.shape}, not {size_hw} (height, width)")
            reasons.append(_refusal(label, record, mask, segments))
            if reasons[-1] is None:
                label[mask] = record.new
    except UnreadableError as error:
        raise BadFileError(edits.file, str(error)) from error
    return label, outcome_of(edits, reasons)


def _refusal(
    label: npt.NDArray[np.uint8], record: Record, mask: npt.NDArray[np.bool_], segments: Segments
) -> str | None:
    """Why a record is not applied, if so: the cases in which upstream stops."""
    pixels = int(np.count_nonzero(mask))
    if pixels == 0:
        return "no such segment"
    if pixels < segments.least:
        return "segment too small"
    if segments.strict and (label[mask] != record.original).any():
        return "segment is not all of the original class"
    return None


def _name(pair: Pair, segments: Segments) -> tuple[str, str]:
    """How records name an image."""
    return segments.parent(pair), pair.image.rpartition("/")[2].rpartition(".")[0]
