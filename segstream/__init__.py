"""Train and evaluate semantic-segmentation models on composites of many datasets.

What the `segstream` command can do, a notebook can do by the names of `__init__.pyi`; docs/python.md shows them at
work. They are loaded when they are first asked for: `import segstream` loads neither torch nor OpenCV.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")  # says the same to type checkers
_MODULES = {name: module for module, name in re.findall(r"^from (\S+) import (\w+)", _STUB, re.MULTILINE)}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """The named part of the package, loaded now."""
    if name == "__version__":
        return import_module("importlib.metadata").version("segstream")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What `import segstream` hands on."""
    return sorted(__all__)
