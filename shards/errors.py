"""The one family of exceptions a user of this project is meant to read, and the hint for a mistyped name."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

MAX_MESSAGE = 1800  # characters
_LOGIN = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(https?://[^\s?]*\?)\S+", re.IGNORECASE)


def public(value: Any) -> Any:
    """A text, or all texts in mappings, lists and tuples, without what URLs in them keep secret.

    That is `user:password@`, and the query of http(s), by which a presigned URL is signed.
    """
    if isinstance(value, str):
        return _QUERY.sub(r"\1...", _LOGIN.sub("", value))
    if isinstance(value, Mapping):
        return {key: public(item) for key, item in value.items()}
    return type(value)(map(public, value)) if type(value) in (list, tuple) else value


def brief(text: str) -> str:
    """A message, its middle cut out if it is longer than MAX_MESSAGE: names in it may be of any length."""
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE // 2]} ... {text[-MAX_MESSAGE // 3 :]}"


class DataError(Exception):
    """Something the user gave (data, a file, a recipe) cannot be used.

    The message says what is wrong, where (file, sample key, field) and what to do. The command line prints
    it as one line and exits with 1; anything else that is raised is a defect of ours and keeps its traceback.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(brief(public(str(message))))


class UsageError(DataError):
    """A command was called with a name or value that does not exist; the command line exits with 2."""

    exit_code = 2


class UnreadableError(Exception):
    """A file's bytes cannot be decoded as what they should be; the message says why, whoever knows the file where."""


def optional(module: str, without: str) -> Any:
    """A module of a package that is not always installed.

    Raises:
        DataError: it is not; the message `without` says what needs it, and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(without) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: its nearest neighbour, or the list of what is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def first_few(reasons: Sequence[str], shown: int = 3) -> str:
    """The first of them, with semicolons between, and how many more there are."""
    more = f"; and {len(reasons) - shown} more" if len(reasons) > shown else ""
    return "; ".join(reasons[:shown]) + more
