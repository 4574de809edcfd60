"""Samples that cannot be converted: collected with their reasons, and counted against a budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from segstream.shards.errors import DataError, first_few


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LeftOut:
    """One sample left out."""

    key: str
    path: str
    """The file at fault, relative to the raw root."""
    reason: str


class BadSamplesError(DataError):
    """More samples cannot be converted than were allowed; `left_out` lists them all."""

    def __init__(self, message: str, left_out: tuple[LeftOut, ...] = ()):
        super().__init__(message)
        self.left_out = left_out


class BadFileError(Exception):
    """One file of one sample cannot be used; becomes a `LeftOut` where the sample is known."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason


def check_left_out(left_out: Sequence[LeftOut], *, allowed: int, total: int, where: str) -> None:
    """Stop if more samples are left out than `--skip-bad` allows.

    Raises:
        BadSamplesError: too many; its message names the first few, its `left_out` all of them.
    """
    if len(left_out) <= allowed:
        return
    shown = first_few([f"{r.path}: {r.reason}" for r in left_out])
    advice = f"Mend the files, or leave them out with --skip-bad {len(left_out)}"
    what = f"{where}: {len(left_out)} of {total} samples cannot be used: {shown}"
    raise BadSamplesError(f"{what}. {advice}", tuple(left_out))
