"""The published update records of MSeg: which segment of which image is to become which class, in file order.

They come as one CSV (plain or gzipped) or as a checkout of `mseg-api`, whose list of class pairs names one text file
of segments each. The list is Python, but it is only parsed here, never run.
"""

import ast
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from segstream.shards.datasets.registry import registry
from segstream.shards.datasets.sources import Record
from segstream.shards.errors import DataError, did_you_mean
from segstream.shards.taxonomy import IGNORE_INDEX, TRAINING_TAXONOMIES, load_taxonomy

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
        raise DataError(f"{path}: damaged gzip file ({error}); fetch it again") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check --relabel") from error


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
    known = {
        name: (of, facts.records) for of, facts in registry().items() if facts.records for name in facts.records.names
    }
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
            raise DataError(f"{where}: {text!r} leads out of {_TEXTS}; check the revision")
        dataset, spelling = known[spelled]
        form = re.compile(spelling.prefix + r"([^,\"]+)_([0-9]+)\.[a-z]+")
        names = _read(root / _TEXTS / text).decode("utf-8", "replace").splitlines()
        for number, name in enumerate(names, 1):
            match = form.fullmatch(name.strip())
            if match is None:
                raise DataError(f"{root / _TEXTS / text}:{number}: {name!r} names no segment of {dataset}; mend it")
            yield dataset, split, original, new, match[1] or spelling.parents[split], match[2], match[3], text
