"""Other loaders that feed the step-by-step rule from files in their own format: what `segstream bench loader` compares.

Each start function writes the files below a folder and answers with batches to iterate over again and again, an epoch
each time, made by worker processes that live on. How they are set up is how their manuals do it, without shuffling.
"""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from segstream.benchmarks.reference_rule import Rule

Files = Sequence[tuple[bytes, bytes]]
"""By place in the stream, an image and a label."""
Batches = Iterable[tuple[Tensor, Tensor]]
SPAWN = {"persistent_workers": True, "multiprocessing_context": "spawn"}  # forking a process with threads can hang


class MissingError(Exception):
    """A peer that is not installed; the message says so."""


def start_webdataset(folder: Path, files: Files, rule: Rule, workers: int) -> Batches:
    """Plain WebDataset over local tars."""
    wds = _import("webdataset")
    tars = _write_tars(wds, folder, files, workers)
    make = functools.partial(_of_tar, rule=rule)
    dataset = wds.WebDataset(tars, shardshuffle=False).map(make).batched(rule.batch, partial=True)
    return wds.WebLoader(dataset, batch_size=None, num_workers=workers, **SPAWN)  # type: ignore[no-any-return]


def start_streaming(folder: Path, files: Files, rule: Rule, workers: int) -> Batches:
    """MosaicML Streaming over MDS shards."""
    streaming = _import("streaming")
    columns = {"number": "int", "image": "bytes", "label": "bytes"}
    with streaming.MDSWriter(out=str(folder), columns=columns) as writer:
        for number, (image, label) in enumerate(files):
            writer.write({"number": number, "image": image, "label": label})
    dataset = streaming.StreamingDataset(local=str(folder), batch_size=rule.batch, shuffle=False)
    collate = functools.partial(_make_batch, rule=rule)
    return DataLoader(dataset, batch_size=rule.batch, num_workers=workers, collate_fn=collate, persistent_workers=True)


def start_litdata(folder: Path, files: Files, rule: Rule, workers: int) -> Batches:
    """LitData over its chunks."""
    litdata = _import("litdata")
    writer = _import("litdata.streaming.writer").BinaryWriter(str(folder), chunk_bytes="64MB")
    for number, (image, label) in enumerate(files):
        writer.add_item(number, {"number": number, "image": image, "label": label})
    writer.done()
    writer.merge()
    dataset = litdata.StreamingDataset(str(folder), shuffle=False)
    collate = functools.partial(_make_batch, rule=rule)
    return litdata.StreamingDataLoader(  # type: ignore[no-any-return]
        dataset, batch_size=rule.batch, num_workers=workers, collate_fn=collate, persistent_workers=True
    )


def start_energon(folder: Path, files: Files, rule: Rule, workers: int) -> Batches:
    """Megatron-Energon over prepared WebDataset tars."""
    energon = _import("megatron.energon")
    _write_tars(_import("webdataset"), folder, files, workers)
    parts = ["--split-parts", "val:.*", "--sample-type", "CrudeWebdataset", "--num-workers", "1"]
    program = [sys.executable, "-m", "megatron.energon.cli.main", "prepare", str(folder), "--non-interactive", *parts]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"energon prepare: {(done.stderr or done.stdout).strip()[-160:]}")
    task = energon.DefaultTaskEncoder()
    task.decoder, task.cookers = None, [energon.Cooker(energon.stateless(functools.partial(_cook, rule=rule)))]
    dataset = energon.get_val_dataset(
        str(folder),
        split_part="val",
        batch_size=rule.batch,
        worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=workers),
        task_encoder=task,
    )
    return _Pairs(energon.get_loader(dataset))


PEERS: dict[str, Callable[[Path, Files, Rule, int], Batches]] = {
    "webdataset": start_webdataset,
    "mosaicml-streaming": start_streaming,
    "litdata": start_litdata,
    "megatron-energon": start_energon,
}


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f'not installed ({error}); `pip install "segstream[bench]"`') from error


def _write_tars(wds: Any, folder: Path, files: Files, workers: int) -> list[str]:
    """Two tars for each worker, or as many as there are samples."""
    number_of = max(1, -(-len(files) // (2 * workers)))
    with wds.ShardWriter(str(folder / "%06d.tar"), maxcount=number_of, verbose=0) as sink:
        for number, (image, label) in enumerate(files):
            sink.write({"__key__": f"{number:06d}", "jpg": image, "png": label})
    return sorted(str(path) for path in folder.glob("*.tar"))


def _of_tar(sample: dict[str, Any], rule: Rule) -> tuple[Tensor, Tensor]:
    return rule.tensors(int(sample["__key__"]), sample["jpg"], sample["png"])


def _cook(sample: dict[str, Any], rule: Rule) -> Any:
    energon = importlib.import_module("megatron.energon")
    image, label = _of_tar(sample, rule)
    return energon.ImageClassificationSample(**energon.basic_sample_keys(sample), image=image, label=label)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Energon's batches are objects of its own."""

    batches: Iterable[Any]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((batch.image, batch.label) for batch in self.batches)


def _make_batch(samples: Sequence[dict[str, Any]], rule: Rule) -> tuple[Tensor, Tensor]:
    """Runs in the worker, as a transform would."""
    images, labels = default_collate(
        [rule.tensors(sample["number"], sample["image"], sample["label"]) for sample in samples]
    )
    return images, labels
