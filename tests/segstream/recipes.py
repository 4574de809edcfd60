"""A recipe of toy batches, and training it as `segstream.train` does."""

import sys
import threading
from contextlib import contextmanager, nullcontext

import pytest

from segstream.recipe import load_recipe
from tests.model.toy import TINY, ToySource

TOY = f"""
data: {{shards: nowhere, mix: {{left: 1, right: 1}}}}
augment: {{short_side: 24, crop: 24}}
loader: {{batch: 4, threads: 1}}
model: {{arch: hrnet-tiny, options: {TINY}}}
train: {{steps: 6, lr: 0.05, log_every: 2, device: cpu, threads: 1}}
eval: {{crop: 24, device: cpu}}
"""


def toy(folder, *overrides):
    (folder / "toy.yaml").write_text(TOY)
    return load_recipe(str(folder / "toy.yaml"), overrides)


@contextmanager
def modules_entered():
    """Names of our modules, without `segstream.`, in the order in which this thread and those begun enter them."""
    entered = {}

    def note(frame, event, _):
        package, _, module = str(frame.f_globals.get("__name__")).partition(".")
        if event == "call" and package == "segstream" and frame.f_code.co_filename.endswith(".py"):
            entered[module] = None

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield entered
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture
def toy_batches(monkeypatch):
    """Training reads a `ToySource`, whatever shards the recipe names."""
    monkeypatch.setattr("segstream.training.Loader", lambda *args, **kwargs: nullcontext(ToySource()))
