"""A network as a file that other programs run: ONNX, or torch's own exported program.

The file takes `images`, (N, 3, H, W) float32, ImageNet-normalised RGB, and gives `logits`, (N, classes, H, W). N is
free, H and W are fixed. Every file is run again before it counts as written, against the network it came from.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segstream.model.networks.blocks import MEAN_RGB, STD_RGB
from segstream.shards.errors import DataError, UsageError, optional
from segstream.shards.files import PART, replacing

FORMATS = (".onnx", ".pt2")
TOLERANCE = 1e-3  # of the largest logit; another runtime adds in another order
NOTE = "segstream.json"  # of a .pt2 archive
MISSING = "export to ONNX needs packages that are not installed; pip install 'segstream[export]'"
TRACED, TRIED = 2, 3  # batch sizes: the file must take others than the one it was made with


def export(net: nn.Module, path: str | Path, size_hw: tuple[int, int], *, meta: Mapping[str, Any]) -> float:
    """Write `net`, in eval mode, for images of `size_hw`; the format goes by the name's end, .onnx or .pt2.

    Args:
        net: on the CPU.
        path: the file; written whole or not at all.
        size_hw: height and width of the images.
        meta: JSON-able, stored in the file beside the mean and deviation of the pixels (`segstream.json` in a .pt2,
            metadata of an ONNX model).

    Returns:
        The largest difference of a logit from the network's, as a share of the largest logit.

    Raises:
        UsageError: another ending.
        DataError: the packages are missing (extra `export`), the file cannot be written, or does not give what the
            network gives.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: export to a file that ends in {' or '.join(FORMATS)}")
    known = {**meta, "mean_rgb": MEAN_RGB, "std_rgb": STD_RGB, "size_hw": size_hw}
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(TRIED, 3, *size_hw, generator=generator)
    net.eval()
    with replacing(path, ending=PART + path.suffix) as part:  # torch insists on its ending
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.no_grad(), _quiet():
            program = torch.export.export(net, (images[:TRACED],), dynamic_shapes=({0: Dim("batch", min=1)},))
            if path.suffix == ".onnx":
                _write_onnx(program, part, known)
                got = _run_onnx(part, images)
            else:
                torch.export.save(program, part, extra_files={NOTE: json.dumps(known)})
                got = torch.export.load(part).module()(images)
            expected = net(images)
        difference = float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        if not difference <= TOLERANCE:  # nan included
            raise DataError(f"{path}: logits differ from the network's by {difference:.2g} of the largest; report it")
    return difference


def _write_onnx(program: ExportedProgram, path: Path, known: Mapping[str, Any]) -> None:
    optional("onnxscript", MISSING)  # what torch's exporter needs
    model = torch.onnx.export(program, input_names=["images"], output_names=["logits"], dynamo=True, verbose=False)
    assert model is not None
    model.model.metadata_props.update({name: json.dumps(value) for name, value in known.items()})
    model.save(path)


def _run_onnx(path: Path, images: Tensor) -> Tensor:
    onnxruntime = optional("onnxruntime", MISSING)
    str(path).encode()  # what is not UTF-8 it does not take
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about its own internals and about packages that nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
