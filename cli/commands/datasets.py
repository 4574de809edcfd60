"""The `datasets` command: what is known of released datasets, and whether a download is whole."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from segstream.cli.commands.options import Json
from segstream.cli.console import print_json, print_table, progress, say
from segstream.shards.datasets.check import ReleaseCheck, check_release
from segstream.shards.datasets.registry import dataset_names, describe, registry
from segstream.shards.errors import UsageError
from segstream.shards.taxonomy import IGNORE_INDEX


def datasets(
    name: Annotated[str | None, typer.Argument(help="One dataset; without it, all of them.")] = None,
    check: Annotated[Path | None, typer.Option(help="A raw tree to compare with what NAME expects.")] = None,
    download: Annotated[
        Path | None, typer.Option(help="Download NAME to this folder and unpack it (only what needs no registration).")
    ] = None,
    json: Json = False,
) -> None:
    """List the known datasets, describe one, check that a download is complete, or download one."""
    if (folder := check if download is None else download) is not None:
        if name is None:
            option = "--check" if download is None else "--download"
            raise UsageError(f"{option} needs the name of a dataset: segstream datasets NAME {option} DIR")
        if download is not None:
            from segstream.shards.datasets.download import download as fetch

            fetch(name, folder, watch=progress)
        found = check_release(name, folder)
        if json:
            print_json(dataclasses.asdict(found))
        else:
            _print_check(found)
        if not found.ok:
            raise typer.Exit(1)
    elif json:
        print_json(describe(name) if name else [describe(n) for n in dataset_names()])
    elif name:
        _print_dataset(describe(name))
    else:
        header = ("dataset", "role", "classes", "universal", "images", "--download", "licence")
        print_table(header, [_row(describe(n)) for n in registry()])


def _row(known: dict[str, Any]) -> tuple[Any, ...]:
    classes = len(known["classes"]) if known["labels"] else "-"
    images, offered = _counts(known, " "), "yes" if known["download"] else "no"
    return known["name"], known["role"], classes, _universal(known) or "-", images, offered, known["licence"]


def _universal(known: dict[str, Any]) -> int:
    """Universal classes that its labels become, or that are predicted for it."""
    if not known.get("labels", True):
        return 0
    ids = (known["to_universal"] or {}).values() or [universal for universal, _ in known["from_universal"] or ()]
    return len({*ids} - {IGNORE_INDEX})


def _counts(known: dict[str, Any], between: str) -> str:
    usual = {split: n for split, n in known["splits"].items() if split not in known.get("optional", ())}
    counts = between.join(f"{split}:{'?' if n is None else n}" for split, n in usual.items())
    return counts if known.get("total") is None else f"{counts}{between}all:{known['total']}"


def _print_dataset(known: dict[str, Any]) -> None:
    reached = f"{_universal(known)} of them"
    if known["to_universal"]:
        universal = f"labels become {reached}"
    else:
        universal = f"labels are held out; predictions of {reached} count" if known["from_universal"] else "none"
    more = known.get("optional", ())
    facts = {
        "what": known.get("title", "your own data"),
        "role": known["role"],
        "images": _counts(known, ", "),
        **({"if asked for": ", ".join(f"{split}:{known['splits'][split] or '?'}" for split in more)} if more else {}),
        "licence": known["licence"],
        "get it from": known.get("home", "you"),
        "taxonomy": f"{known['taxonomy']}, {len(known['classes'])} classes",
        "universal classes": universal if known.get("labels", True) else "no labels are published",
        "classes": ", ".join(f"{i} {c}" for i, c in enumerate(known["classes"])),
    }
    say(known["name"])
    for name, fact in facts.items():
        say(f"  {name}: {fact}")
    stated = ((a["name"], a["size"], a["digest"]) for a in known.get("archives", ()) if not a["inside"])
    archives = ["  ".join(filter(None, words)) for words in stated]
    layout = [f"{pattern}  ({what})" for pattern, what in known.get("layout", {}).items()]
    for title, rows in (("archives", archives), ("below --raw", layout)):
        if rows:
            say("\n    ".join([f"  {title}:", *rows]))


def _print_check(found: ReleaseCheck) -> None:
    say(f"{found.name} in {found.raw}: {'complete' if found.ok else 'NOT complete'}")
    for split in found.splits:
        expected = "" if split.expected is None else f" of {split.expected}"
        labels = "no labels are published" if split.labels is None else f"{split.labels}{expected} labels"
        counts = f"{split.images}{expected} images, {labels}"
        told = [split.problem, *(f"missing: {path}" for path in split.first_missing), *split.notes]
        say("\n    ".join([f"  {split.split}: {counts}", *filter(None, told)]))
    for text in (*(f"problem: {text}" for text in found.problems), *(f"note: {text}" for text in found.notes)):
        say(f"  {text}")
