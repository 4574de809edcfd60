"""`run.json`: what ran, on what, with which versions. For people; resuming goes by the checkpoint's own identity."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segstream.model.training.trainer import Stopped
from segstream.shards.errors import DataError
from segstream.shards.files import write_text

if TYPE_CHECKING:
    from segstream.model.types import Batch, BatchSource
    from segstream.recipe import Recipe

PACKAGES = ("segstream", "torch", "numpy", "opencv-python-headless", "pillow", "nvidia-dali-cuda130")
SOURCE = Path(__file__).resolve().parents[1]


class RunMetadata:
    """The account of one run folder. A context manager: leaving it says how this start ended."""

    def __init__(self, folder: Path, recipe: Recipe, fingerprint: Mapping[str, Any], **start: Any) -> None:
        """Nothing is written yet: another run's account stays if this one is refused.

        Args:
            fingerprint: of the loader: datasets, manifests, order and augmentation.
            start: JSON-able, what is particular to this start: arguments, world size, device, ...
        """
        self._path = folder / "run.json"
        self._recipe = recipe
        self._fingerprint = fingerprint
        self._start = start
        self._content: dict[str, Any] | None = None

    def begin(self, step: int) -> None:
        """The run starts, or goes on, with `step`; starts before this one are kept in `starts`.

        Raises:
            DataError: the file cannot be written.
        """
        begun = {"at": _now(), "step": step, "host": socket.gethostname(), **self._start}
        self._write(
            {
                "recipe": dataclasses.asdict(self._recipe),
                "seed": self._recipe.seed,
                "data": dict(self._fingerprint),
                **_revision(),
                "versions": _versions(),
                "python": platform.python_version(),
                "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
                "starts": [*_starts(self._path), begun],
            }
        )

    def __enter__(self) -> RunMetadata:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._content is None:
            return
        outcome = "finished" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
        outcome = "stopped" if isinstance(error, Stopped) else outcome
        self._content["starts"][-1] |= {"ended": _now(), "outcome": outcome}
        try:
            self._write(self._content)
        except DataError:
            if error is None:
                raise  # otherwise the first error is the one to tell

    def _write(self, content: dict[str, Any]) -> None:
        self._content = content
        write_text(self._path, json.dumps(content, indent=2, default=str) + "\n")


class Announced:
    """A source of batches that tells when training begins to read it, and from which step."""

    def __init__(self, source: BatchSource, begin: Callable[[int], None]) -> None:
        self._begin = begin
        self._source = source
        self.datasets = source.datasets
        self.weights = source.weights
        self.taxonomy = source.taxonomy
        self.class_shares = source.class_shares
        self.fingerprint = source.fingerprint

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of steps start .. stop - 1, in order."""
        self._begin(start)
        return self._source.batches(start, stop)


def _starts(path: Path) -> list[dict[str, Any]]:
    try:
        starts: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["starts"]
    except (OSError, ValueError, KeyError, TypeError):  # none yet; the account of a run is no reason to refuse it
        return []
    return starts


def _revision() -> dict[str, Any]:
    """The commit that the code itself is of, and whether files differ from it; None where there is no git."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != SOURCE:  # installed, perhaps below a repository of somebody else
        return {"git": None, "git_dirty": None}
    return {"git": _git("rev-parse", "HEAD"), "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
