"""A recipe of toy batches, and training it as `segstream.train` does."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from segstream.recipe import Recipe, load_recipe
from tests.model.toy import TINY, ToySource

TOY = f"""
data: {{shards: nowhere, mix: {{left: 1, right: 1}}}}
augment: {{short_side: 24, crop: 24}}
loader: {{batch: 4, threads: 1}}
model: {{arch: hrnet-tiny, options: {TINY}}}
train: {{steps: 6, lr: 0.05, log_every: 2, device: cpu, threads: 1}}
eval: {{crop: 24, device: cpu}}
"""


def toy(folder: Path, *overrides: str) -> Recipe:
    (folder / "toy.yaml").write_text(TOY)
    return load_recipe(str(folder / "toy.yaml"), overrides)


@pytest.fixture
def toy_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training reads a `ToySource`, whatever shards the recipe names."""
    monkeypatch.setattr("segstream.training.Loader", lambda *args, **kwargs: nullcontext(ToySource()))
