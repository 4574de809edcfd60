"""Options of architectures, read one by one and refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from segstream.shards.errors import DataError, UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller asked of one architecture; every reader below raises DataError where a value does not fit."""

    arch: str
    values: Mapping[str, Any]

    def check_known(self, known: Iterable[str]) -> None:
        """Refuse options that the architecture has not.

        Raises:
            UsageError: names the first, and the nearest known one.
        """
        for name in self.values:
            if name not in known:
                raise UsageError(f"{self.arch} has no option {name!r}; {did_you_mean(name, known)}")

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of `choices`, by default the first."""
        value = self.values.get(name, choices[0])
        if value not in choices:
            raise DataError(f"{self.arch} option {name}: {value!r} is not one of {', '.join(choices)}")
        return str(value)

    def flag(self, name: str) -> bool:
        """True or False, by default False."""
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise DataError(f"{self.arch} option {name}: {value!r} is neither true nor false")
        return value

    def integer(self, name: str, default: int) -> int:
        """Any integer."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise DataError(f"{self.arch} option {name}: {value!r} is not an integer")
        return value

    def share(self, name: str, default: float) -> float:
        """A number above 0 and at most 1."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise DataError(f"{self.arch} option {name}: {value!r} is not a number above 0 and at most 1")
        return float(value)

    def weight(self, name: str, default: float) -> float:
        """A finite number that is not negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise DataError(f"{self.arch} option {name}: {value!r} is not a number of at least 0")
        return float(value)

    def count(self, name: str, default: int) -> int:
        """A positive integer."""
        return self.counts(name, (default,))[0]

    def counts(self, name: str, default: tuple[int, ...], *, spread: bool = True) -> tuple[int, ...]:
        """Positive integers as many as `default` has; one integer stands for all of them where `spread`."""
        value = self.values.get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and spread:
            value = (value,) * len(default)
        fits = isinstance(value, list | tuple) and len(value) == len(default)
        if not fits or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in value):
            raise DataError(f"{self.arch} option {name}: expected {len(default)} positive integers, found {value!r}")
        return tuple(value)
