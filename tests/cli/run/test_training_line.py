"""What a person sees while a run trains."""

import dataclasses
import io

from rich.console import Console

from segstream.cli.run import training_line as module
from segstream.cli.run.training_line import duration, figures, training_line
from segstream.model.types import LogRow

ROW = LogRow(
    **{"step": 40, "steps": 800, "loss": 1.23456, "lr": 0.00123456, "crops_per_s": 1234.5, "data_wait": 0.014},
    **{"eta_s": 754.2, "losses": {"left": 1.5, "right": float("nan")}, "memory_mib": 20480, "skipped": 0},
)


def test_figures_are_for_people():
    assert figures(ROW) == "loss 1.235, lr 0.001235, 1234 crops/s, data wait 1%, 20.0 GiB, 12 min 34 s to go"
    odd = dataclasses.replace(ROW, skipped=3, memory_mib=float("nan"), crops_per_s=0.256)
    assert figures(odd) == "loss 1.235, lr 0.001235, 0.26 crops/s, data wait 1%, 3 steps skipped, 12 min 34 s to go"


def test_durations():
    texts = {0: "0 s", 59.4: "59 s", 59.6: "1 min 00 s", 3599: "59 min 59 s", 7260: "2 h 01 min", 180000: "2 d 02 h"}
    assert {seconds: duration(seconds) for seconds in texts} == texts


def test_a_terminal_gets_one_line_that_changes_and_others_a_line_for_every_row(monkeypatch, capsys):
    with training_line("toy") as line:
        line(ROW)
    assert capsys.readouterr().err == f"toy: step 40 of 800, {figures(ROW)}\n"
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    terminal = Console(file=screen, force_terminal=True, width=200, _environ={})
    monkeypatch.setattr(module, "Console", lambda **_: terminal)
    with training_line("toy") as line:
        line(ROW)
        line(dataclasses.replace(ROW, step=80))
    assert "80/800" in screen.getvalue()
    assert figures(ROW) in screen.getvalue()
