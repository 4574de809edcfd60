"""The fixtures of commands are those of `tests.commands`, which `tests/conftest.py` hands to all tests."""

from tests.commands import Command as Command
from tests.commands import Outcome as Outcome
