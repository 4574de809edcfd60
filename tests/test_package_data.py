"""What the packages read beside their code is installed with them."""

import tomllib

import pytest

from tests.commands import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]


@pytest.mark.parametrize("package", ["shards", "pipeline", "model", "cli", "recipes"])
def test_every_data_file_is_packaged(package):
    folder = ROOT / package
    files = {p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    packaged = {p for pattern in SETTINGS.get(f"segstream.{package}", ()) for p in folder.glob(pattern)}
    assert not sorted(str(p.relative_to(ROOT)) for p in files - packaged)
