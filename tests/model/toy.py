"""A tiny mix of two datasets, drawn from (seed, step): what the trainer's tests train on. Also a program to kill."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segstream.model.checkpoint import Final, save_file
from segstream.model.config import TrainConfig
from segstream.model.distributed import ProcessGroup, start
from segstream.model.networks.build import build
from segstream.model.training.trainer import Stopped, train
from segstream.shards.taxonomy import Taxonomy

CLASSES = ("sky", "road", "tree")
TAXONOMY = Taxonomy(name="toy", kind="own", classes=CLASSES)
TINY = {"stem": 8, "stage1_width": 4, "widths": [4, 4, 4, 4], "blocks": 1}
CALL = ("net", "source", "meta", "seed", "group", "on_log", "on_note", "on_validate", "restart_changed")
META: dict[str, Any] = {"arch": "hrnet-tiny", "num_classes": 3, "options": TINY, "recipe": {"name": "toy"}}


@dataclass(frozen=True)
class ToyBatch:
    step: int
    images: torch.Tensor
    labels: torch.Tensor
    dataset_ids: torch.Tensor
    keys: tuple[str, ...]


@dataclass(frozen=True)
class ToySource:
    """Images whose brightness, in columns of 8 pixels, is the class; `label` may replace what was drawn.

    The two datasets take turns of `stride` slots; of these, `rank` gets every `world_size`-th.
    """

    seed: int = 0
    size: int = 24
    batch: int = 4
    label: int | None = None
    rank: int = 0
    world_size: int = 1
    stride: int = 1
    datasets: tuple[str, ...] = ("left", "right")
    weights: tuple[float, ...] = (0.5, 0.5)
    class_shares: tuple[float, ...] = (0.5, 0.25, 0.25)
    extra: dict[str, Any] = field(default_factory=dict)
    taxonomy: Taxonomy = TAXONOMY
    engine_note: str = "engine toy"
    counts: dict[str, int] = field(default_factory=lambda: {"left": 6, "right": 7})
    warnings: tuple[str, ...] = ("toy train: only one class occurs",)

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"seed": self.seed, "size": self.size, "batch": self.batch, **self.extra}

    def batches(self, start: int, stop: int) -> Iterator[ToyBatch]:
        for step in range(start, stop):
            rng = np.random.default_rng((self.seed, step))
            columns = rng.integers(0, 3, (self.batch, 1, self.size // 8)).repeat(8, axis=2)
            labels = columns.repeat(self.size, axis=1).astype(np.uint8)
            images = labels[:, None].repeat(3, axis=1) * 80 + rng.integers(0, 60, (self.batch, 3, self.size, self.size))
            labels[:, : self.size // 4] = 255
            if self.label is not None:
                labels[:] = self.label
            mine = slice(self.rank, None, self.world_size)
            yield ToyBatch(
                step=step,
                images=torch.from_numpy(images.astype(np.uint8))[mine],
                labels=torch.from_numpy(labels)[mine],
                dataset_ids=(torch.arange(self.batch) // self.stride % 2)[mine],
                keys=tuple(f"{step}/{i}" for i in range(self.batch))[mine],
            )


def toy_net(seed: int = 1) -> torch.nn.Module:
    """The smallest HRNet, with dropout in its head so that a run depends on the keyed random numbers."""
    net = build("hrnet-tiny", 3, seed=seed, **TINY)
    net.last_layer[2] = torch.nn.Sequential(net.last_layer[2], torch.nn.Dropout2d(0.1))  # type: ignore[index]
    return net


def save_net(
    path: Path,
    net: torch.nn.Module,
    *,
    taxonomy: Taxonomy = TAXONOMY,
    classes: int = 0,
    options: Any = TINY,
    arch: str = "hrnet-tiny",
    **recipe: Any,
) -> Path:
    """The last file of a run that trained this network."""
    meta = {"arch": arch, "num_classes": classes or taxonomy.num_classes, "options": options}
    meta |= {"taxonomy": asdict(taxonomy), "recipe": {"name": path.stem, "seed": 0, "data": {}} | recipe}
    save_file(path, Final(identity={}, meta=json.loads(json.dumps(meta)), step=1, weights=net.state_dict()))
    return path


def save_published(path: Path, classes: int, *, arch: str = "hrnet-tiny", seed: int = 1, **options: Any) -> Path:
    """A network in the layout of MSeg's files."""
    weights = build(arch, classes, seed=seed, **options).state_dict()
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, path)
    return path


class StopError(Exception):
    """What interrupts a run in tests."""


def stop_at(step: int) -> Any:
    """For `on_log`, which comes before the step's own checkpoint."""

    def on_log(row: Any) -> None:
        if row.step == step:
            raise StopError

    return on_log


def frozen(net: torch.nn.Module) -> torch.nn.Module:
    """Without what depends on how a batch is split: batch norms keep their first statistics, dropout drops nothing."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.Dropout2d):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,assignment,misc]
    return net


def run(run_dir: str, **changes: Any) -> str:
    """Train the toy with a few settings changed; several processes share its batches."""
    call = {"source": ToySource(), "meta": META, "seed": 3} | {k: changes.pop(k) for k in CALL if k in changes}
    group = call.get("group") or ProcessGroup()
    call["source"] = replace(call["source"], rank=group.rank, world_size=group.world_size)
    settings = {"steps": 8, "lr": 0.05, "log_every": 2, "checkpoint_every": 3, "device": "cpu"} | changes
    net = call.pop("net", None) or toy_net()
    return train(net, config=TrainConfig(**settings), run_dir=run_dir, **call)


def main(run_dir: str, steps: str, every: str) -> None:
    """One process of a run, as torchrun starts it; leaves its number in RUN_DIR/RANK.pid."""
    torch.set_num_threads(1)
    group = start()
    Path(run_dir).mkdir(parents=True, exist_ok=True)
    (Path(run_dir) / f"{group.rank}.pid").write_text(str(os.getpid()))
    try:
        run(run_dir, group=group, steps=int(steps), checkpoint_every=int(every))
    except Stopped as stopped:
        sys.exit(stopped.exit_code)


if __name__ == "__main__":  # python -m tests.model.toy RUN_DIR STEPS CHECKPOINT_EVERY
    main(*sys.argv[1:])
