from pathlib import Path

from segstream.shards.synthetic import DATASETS, DEMO
from tests.cli.conftest import Command


def test_the_demos_datasets_are_drawn_unless_all_are_asked_for(segstream: Command, tmp_path: Path) -> None:
    few = ("--images", 0, "--val-images", 1, "--workers", 1)
    assert segstream("world", "--out", tmp_path / "demo", *few).code == 0
    assert {path.name for path in (tmp_path / "demo").iterdir()} == set(DEMO)
    assert segstream("world", "--out", tmp_path / "all", "--datasets", "all", *few).code == 0
    assert {path.name for path in (tmp_path / "all").iterdir()} == set(DATASETS)
