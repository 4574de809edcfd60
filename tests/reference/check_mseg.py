"""Our class tables against those of MSeg's own package, mseg-api, name by name: for those who maintain the tables.

    python -m tests.reference.check_mseg [CHECKOUT]

Without the folder of a checkout, the tables are fetched from the repository and revision that the dependency group
`mseg` of pyproject.toml names; what pip builds of it lacks them.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from segstream.shards.errors import DataError
from segstream.shards.taxonomy import (
    IGNORE_INDEX,
    TRAINING_TAXONOMIES,
    UNMAPPED,
    Remap,
    Taxonomy,
    load_taxonomy,
    release_classes,
    release_remap,
)

Tables = Mapping[str, Mapping[str, str]]
"""What is compared: table -> item -> value, all by name."""

ROOT = Path(__file__).parents[2]
_MASTER = "class_remapping_files/MSeg_master.tsv"
_FETCHED = ("mseg/class_remapping_files", "mseg/dataset_lists/*_names.txt", "mseg/dataset_lists/*_colors.txt")
_UNLABELLED = "unlabeled"
_TRAIN = (*TRAINING_TAXONOMIES, "cityscapes-34")
_TEST = ("camvid-11", "kitti-19", "pascal-context-60", "scannet-20", "voc2012", "wilddash-19")
_RELEASED = tuple(name for name in (*_TRAIN, *_TEST) if name not in ("bdd", "voc2012", "cityscapes-34"))
_COLOURED = {"camvid-11": "camvid-32", "mapillary-public65": "mapillary-public66"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One entry in which the two sides disagree; an empty value means that this side has no such entry."""

    table: str
    item: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.table}: {self.item}: ours {self.ours!r}, mseg-api {self.theirs!r}"


def compare(ours: Tables, theirs: Tables) -> list[Difference]:
    """Differences, in the order of our tables."""
    return [
        Difference(table=table, item=item, ours=one.get(item, ""), theirs=other.get(item, ""))
        for table in dict.fromkeys((*ours, *theirs))
        for one, other in [(ours.get(table, {}), theirs.get(table, {}))]
        for item in dict.fromkeys((*one, *other))
        if one.get(item) != other.get(item)
    ]


def our_tables() -> Tables:
    """What our tables hold."""
    universal = load_taxonomy("universal").classes
    tables = {"universal": _numbered(universal), "naive": _numbered(load_taxonomy("naive").classes)}
    for name in _TRAIN:
        for variant in (load_taxonomy(name), load_taxonomy(f"{name}-relabeled")):
            tables[variant.name] = _numbered(variant.classes)
            becomes = [_name(universal, i) for i in variant.to_universal or ()]
            tables[f"{variant.name} to universal"] = dict(zip(variant.classes, becomes, strict=True))
        relabelled = tables[f"{name} to universal"]  # relabelled names are universal ones
        tables[f"{name} to {name}-relabeled"] = {_UNLABELLED: _UNLABELLED, **relabelled}
    for name in _TEST:
        test = load_taxonomy(name)
        tables[name] = _numbered(test.classes)
        tables[f"universal to {name}"] = {universal[u]: test.classes[i] for u, i in test.from_universal or ()}
    for name in _RELEASED:
        remap = release_remap(name)
        tables[f"{remap.source} to {name}"] = _release(remap, load_taxonomy(name))
    for name, release in _COLOURED.items():
        tables[f"colours of {release}"] = _numbered(" ".join(map(str, c or ())) for _, c in release_classes(name))
    return tables


def their_tables(folder: Path) -> Tables:
    """What the package's folder holds.

    Raises:
        DataError: a file is missing or garbled.
    """
    rows = _rows(folder / _MASTER, "universal", *_TRAIN, *(f"{name}-relabeled" for name in _TRAIN), *_TEST)
    universal = [row["universal"] for row in rows]
    tables = {"universal": _numbered(universal[:-1]), "naive": _naive(folder)}
    for name in _TRAIN:
        for variant in (name, f"{name}-relabeled"):
            tables[variant] = _numbered(_names(folder, variant))
            tables[f"{variant} to universal"] = {c: row["universal"] for row in rows for c in _cell(row[variant])}
        tables[f"{name} to {name}-relabeled"] = _pairs(folder, name, f"{name}-relabeled")
    for name in _TEST:
        tables[name] = _numbered(_names(folder, name))
        tables[f"universal to {name}"] = {row["universal"]: row[name] for row in rows[:-1] if row[name]}
    for name in _RELEASED:
        release = release_remap(name).source
        becomes = _pairs(folder, release, name)
        tables[f"{release} to {name}"] = _numbered(becomes.get(c, "") for c in _names(folder, release))
    for release in _COLOURED.values():
        lines = _lines(folder / f"dataset_lists/{release}/{release}_colors.txt")
        tables[f"colours of {release}"] = _numbered(" ".join(line.split()) for line in lines)
    return tables


def _release(remap: Remap, native: Taxonomy) -> dict[str, str]:
    """Release id -> class. mseg-api has no "must not occur": ids that the release leaves out are unlabelled there."""
    last = max(i for i, v in enumerate(remap.table) if v != UNMAPPED and (i != IGNORE_INDEX or v != IGNORE_INDEX))
    return _numbered(_name(native.classes, int(v)) for v in remap.table[: last + 1])


def _naive(folder: Path) -> dict[str, str]:
    """Its rule: lower-case names in the order of the training datasets, with no class at 255."""
    seen = dict.fromkeys(c.lower() for name in TRAINING_TAXONOMIES for c in _names(folder, name))
    classes = list(seen)
    return _numbered([*classes[:IGNORE_INDEX], "", *classes[IGNORE_INDEX:]])


def _name(classes: tuple[str, ...], i: int) -> str:
    return _UNLABELLED if i in (IGNORE_INDEX, UNMAPPED) else classes[i]


def _numbered(values: Iterator[str] | tuple[str, ...] | list[str]) -> dict[str, str]:
    return {str(i): value for i, value in enumerate(values)}


def _names(folder: Path, taxonomy: str) -> list[str]:
    return _lines(folder / f"dataset_lists/{taxonomy}/{taxonomy}_names.txt")


def _pairs(folder: Path, source: str, target: str) -> dict[str, str]:
    """Class name -> class name."""
    rows = _rows(folder / f"class_remapping_files/{source}_to_{target}.tsv", source, target)
    return {row[source]: row[target] for row in rows}


def _cell(text: str) -> list[str]:
    """`` -> [], `a` -> [a], `{a, b}` -> [a, b]."""
    return [part.strip() for part in text.strip("{} ").split(",")] if text.strip() else []


def _rows(path: Path, *columns: str) -> list[dict[str, str]]:
    reader = csv.DictReader(_lines(path), delimiter="\t", restval="")
    if lacking := set(columns) - set(reader.fieldnames or ()):
        raise DataError(f"{path}: has no column {min(lacking)!r}; check the checkout")
    return list(reader)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the checkout") from error


def _fetch(folder: str) -> Path:
    """Check the tables out of the repository at the revision that pyproject.toml names, and nothing else.

    Raises:
        DataError: they cannot be had.
    """
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    url, _, revision = groups["mseg"][0].partition("git+")[2].rpartition("@")
    clone = ["git", "clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", url, folder]
    for command in (clone, ["git", "-C", folder, "checkout", "--quiet", revision, "--", *_FETCHED]):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            reason = " ".join((getattr(error, "stderr", None) or str(error)).split())
            raise DataError(f"{url}: cannot be fetched ({reason}); give the folder of a checkout") from error
    return Path(folder) / "mseg"


def main(arguments: list[str]) -> int:
    """Print every difference; 1 if there is any."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = their_tables(Path(arguments[0]) / "mseg" if arguments else _fetch(folder))
    differences = compare(our_tables(), theirs)
    print(*differences or ["all class tables equal those of mseg-api"], sep="\n")
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
