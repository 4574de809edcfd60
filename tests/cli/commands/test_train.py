"""The command itself: what of several processes one says, and the mark of a stop."""

import pytest
import typer

from segstream.cli.commands.train import _marked_when_stopped, train
from segstream.cli.jobs.scripts import STOPPED
from segstream.model.training.trainer import Stopped
from segstream.shards.errors import DataError
from tests.segstream.recipes import toy


def test_a_mistake_in_a_recipe_is_told_by_one_process_of_a_machine(tmp_path, monkeypatch):
    toy(tmp_path)
    asked = (str(tmp_path / "toy.yaml"), ["train.stepz=1"])
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(DataError, match="stepz"):
        train(*asked)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(typer.Exit) as ended:
        train(*asked)
    assert ended.value.exit_code == 2


def test_of_many_processes_the_first_makes_the_dry_run(tmp_path, monkeypatch, capsys):
    toy(tmp_path)
    monkeypatch.setenv("RANK", "1")
    train(str(tmp_path / "toy.yaml"), dry_run=True)
    assert capsys.readouterr() == ("", "")


def test_a_worker_that_stopped_leaves_the_mark_of_the_job_script(tmp_path, monkeypatch):
    mark = tmp_path / "stopped"
    monkeypatch.setenv(STOPPED, str(mark))
    with pytest.raises(Stopped), _marked_when_stopped():
        raise Stopped("told")
    assert mark.exists()
    with pytest.raises(DataError), _marked_when_stopped():
        raise DataError("disk")
    assert not mark.exists()  # an older one would make a failure look like a stop
