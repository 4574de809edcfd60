"""The one family of exceptions a user of this project is meant to read."""

from __future__ import annotations


class DataError(Exception):
    """Something the user gave (data, a file, a recipe) cannot be used.

    The message says what is wrong, where (file, sample key, field) and what to do. The command line prints
    it as one line and exits with 1; anything else that is raised is a defect of ours and keeps its traceback.
    """


class UsageError(DataError):
    """A command was called with a name or value that does not exist; the command line exits with 2."""
