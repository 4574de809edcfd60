"""`run.json`: what ran, on what, with which versions. For people; resuming goes by the checkpoint's own identity."""

import dataclasses
import json
import os
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from segstream.model.training.trainer import Stopped
from segstream.recipe import Recipe
from segstream.shards.errors import DataError, public
from segstream.shards.files import read_left, write_text

PACKAGES = ("segstream", "torch", "numpy", "opencv-python-headless", "pillow", "nvidia-dali-cuda130")
SOURCE = Path(__file__).resolve().parents[1]


@contextmanager
def run_metadata(
    folder: Path, recipe: Recipe, fingerprint: Mapping[str, Any], **start: Any
) -> Iterator[Callable[[int], None]]:
    """The account of one start of a run; leaving the block says how it ended.

    Nothing is written before the function that is yielded is called with the step that the run starts or goes on with:
    another run's account stays if this one is refused. Starts before this one are kept in `starts`, if it goes on.

    Args:
        fingerprint: of the loader: datasets, manifests, order and augmentation.
        start: JSON-able, what is particular to this start: arguments, world size, device, ...

    Raises:
        DataError: the file cannot be written.
    """
    path, content = folder / "run.json", dict[str, Any]()

    def write() -> None:
        write_text(path, json.dumps(public(content), indent=2, default=str) + "\n")

    def begin(step: int) -> None:
        former = read_left(path).get("starts")  # what cannot be read is no reason to refuse a run
        content.update(
            recipe=dataclasses.asdict(recipe),
            seed=recipe.seed,
            data=dict(fingerprint),
            **_revision(),
            versions=_versions(),
            python=platform.python_version(),
            machine={"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            starts=[
                *(former if step and isinstance(former, list) else ()),
                {"at": _now(), "step": step, "host": socket.gethostname(), **start},
            ],
        )
        write()

    def end(outcome: str) -> None:
        if content:
            content["starts"][-1] |= {"ended": _now(), "outcome": outcome}
            write()

    try:
        yield begin
    except BaseException as error:
        failed = "failed" if isinstance(error, Exception) else "interrupted"
        with suppress(DataError):  # the first error is the one to tell
            end("stopped" if isinstance(error, Stopped) else failed)
        raise
    end("finished")


def _revision() -> dict[str, Any]:
    """The commit that the code itself is of, and whether files differ from it; None where there is no git."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != SOURCE:  # installed, perhaps below a repository of somebody else
        return {"git": None, "git_dirty": None}
    return {"git": _git("rev-parse", "HEAD"), "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "--no-optional-locks", "-C", str(SOURCE), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
