"""What `import segstream` hands on: loaded when asked for, documented, typed, and seen by type checkers."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import segstream

SOURCE = Path(segstream.__file__)


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import segstream; segstream.DataError", {"torch", "cv2", "numpy", "typer"}),
        ("import segstream; segstream.load_recipe('union-universal')", {"torch", "cv2", "numpy", "typer"}),
        ("import segstream.cli.main", {"torch"}),
    ],
)
def test_what_needs_no_torch_loads_none(statement, heavy):
    line = f"import sys; {statement}; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", [name for name in segstream.__all__ if not name.startswith("__")])
def test_every_name_is_documented_and_typed(name):
    value = getattr(segstream, name)
    assert value.__module__.startswith("segstream.")
    assert inspect.getdoc(value)
    if isinstance(value, type) and issubclass(value, Exception):
        return
    signature = inspect.signature(value)
    untyped = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
    assert not untyped
    assert isinstance(value, type) or signature.return_annotation is not inspect.Signature.empty


def test_type_checkers_see_the_same_names_from_the_same_modules():
    seen = {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(ast.parse(SOURCE.with_suffix(".pyi").read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen == {name: (module, name) for name, module in segstream._MODULES.items()}
    assert (SOURCE.parent / "py.typed").exists()


def test_no_name_is_that_of_a_module():
    """Importing `segstream.train` would put the module in the function's place."""
    assert not set(segstream.__all__) & {path.stem for path in SOURCE.parent.iterdir()}


def test_other_names_are_unknown():
    assert dir(segstream) == sorted(segstream.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        segstream.trian  # noqa: B018
