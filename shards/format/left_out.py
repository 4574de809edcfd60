"""Samples that cannot be converted: collected with their reasons, and counted against a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segstream.shards.errors import DataError

_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Reject:
    """One sample left out."""

    key: str
    path: str
    """The file at fault, relative to the raw root."""
    reason: str


class BadSamplesError(DataError):
    """More samples cannot be converted than were allowed; `rejects` lists them all."""

    def __init__(self, message: str, rejects: tuple[Reject, ...] = ()):
        super().__init__(message, rejects)
        self.rejects = rejects

    def __str__(self) -> str:
        return str(self.args[0])


class BadFileError(Exception):
    """One file of one sample cannot be used; becomes a `Reject` where the sample is known."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason


def check_rejects(rejects: Sequence[Reject], *, allowed: int, total: int, where: str) -> None:
    """Stop if more samples were rejected than `--skip-bad` allows.

    Raises:
        BadSamplesError: too many; its message names the first few, its `rejects` all of them.
    """
    if len(rejects) <= allowed:
        return
    shown = "; ".join(f"{r.path}: {r.reason}" for r in rejects[:_SHOWN])
    more = f"; and {len(rejects) - _SHOWN} more" if len(rejects) > _SHOWN else ""
    raise BadSamplesError(
        f"{where}: {len(rejects)} of {total} samples cannot be used: {shown}{more}. "
        f"Mend the files, or leave them out with --skip-bad {len(rejects)}",
        tuple(rejects),
    )
