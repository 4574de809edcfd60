"""The `verify` command: are shard sets what their manifests say?"""

import dataclasses
from typing import Annotated

import typer

from segstream.cli.commands.options import CORES, Json, Workers
from segstream.cli.console import print_json, progress, say


def verify(
    urls: Annotated[list[str], typer.Argument(help="Shard sets.")], workers: Workers = CORES, json: Json = False
) -> None:
    """Check hashes, indexes, pictures and label values of shard sets; exits with 1 if anything is wrong."""
    from segstream.shards.checks.verify import verify as check

    reports = []
    for url in urls:
        with progress(f"verify {url}", unit="shards") as report:
            reports.append(check(url, workers=workers, progress=report))
    if json:
        print_json([dataclasses.asdict(report) | {"ok": report.ok} for report in reports])
    for checked in () if json else reports:
        faults = [fault for kind in checked.faults.values() for fault in kind]
        found = f"{len(faults)} faults" if faults else "sound"
        say(f"{checked.url}: {checked.samples} samples in {checked.shards} shards: {found}")
        for fault in faults:
            say(f"  {fault.kind}: {fault.where}: {fault.what}")
    if not all(report.ok for report in reports):
        raise typer.Exit(1)
