"""Files of tensors and plain values, from anybody: torch's archives, its older files, safetensors.

Torch unpickles nothing but tensors and plain values (`weights_only`). What it does not look at is checked here, so that
memory and time stay within what the file holds: checksums; records that unpack to more than the file; tensors that
claim elements that are not stored; values nested or shared so that walking them would not end.
"""

import argparse
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segstream.shards.errors import DataError, optional

SPARE = 1 << 30  # bytes that tensors may claim beyond twice the file: one stored element may stand for many
MAX_VALUES, MAX_DEPTH = 1_000_000, 50  # of nested values, each counted as often as it is met
LIGHTNING = (
    "lightning.fabric.utilities.data",
    "lightning_fabric.utilities.data",
    "pytorch_lightning.utilities.parsing",
)


def read_weights_file(path: str | Path) -> Any:
    """What a file holds, on the CPU: nested dicts, lists and tuples of tensors and plain values.

    Raises:
        DataError: missing; of another kind or cut off; a checksum does not fit; it holds code or objects, or claims
            more than it stores; safetensors without the package of that name.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head, size = file.read(24), path.stat().st_size
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file of weights") from error
    safe = path.suffix == ".safetensors" or head[8:9] == b"{"
    try:
        content = _read_safetensors(path) if safe else _read_torch(path, size)
        _, _, claimed = _measure(content, {}, 0)
        if claimed > 2 * size + SPARE:
            raise DataError(f"its tensors claim {claimed:,} bytes, in a file of {size:,}, so it was not used")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # bytes that are no pickle make an unpickler fail in any way there is
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused is not None:
            raise DataError(
                f"{path}: holds code or objects ({refused[1]}) besides tensors and plain values, so it was not loaded; "
                f"save its state_dict alone, where you trust it"
            ) from error
        kind = "safetensors" if safe else "a zip, as torch's are" if head[:2] == b"PK" else "no zip and no safetensors"
        why = "no pickle of tensors" if isinstance(error, pickle.UnpicklingError) else one_line(error)
        raise DataError(
            f"{path}: cannot be read as a file of weights: {size:,} bytes, the first {head!r} ({kind}): {why}; "
            f"copy or download it again, or give another file"
        ) from error
    return content


def check_values(path: str | Path, value: Any, at: str = "") -> None:
    """Refuse weights that are no real numbers, wherever they lie in nested dicts and lists.

    Raises:
        DataError: a tensor is of complex or truth values, or holds nan or infinity; names it.
    """
    if isinstance(value, Tensor):
        if value.is_complex() or value.dtype == torch.bool:
            raise DataError(f"{path}: {at} is of {value.dtype}, not of real numbers; take another file")
        if value.is_floating_point() and not bool(value.float().isfinite().all()):
            raise DataError(f"{path}: {at} holds nan or infinity; take another file")
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        check_values(path, inner, f"{at}.{name}" if at else str(name))


def one_line(error: BaseException) -> str:
    """Its message, short enough for one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _read_safetensors(path: Path) -> Any:
    without = "the package for safetensors is not installed; pip install 'segstream[safetensors]'"
    return optional("safetensors.torch", without).load_file(path)


def _read_torch(path: Path, size: int) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(record.file_size for record in archive.infolist())
            if unpacked > size:
                raise DataError(f"its records unpack to {unpacked:,} bytes, in a file of {size:,}; torch packs none")
            if any(b"\nbytearray\n" in archive.read(name) for name in archive.namelist() if name.endswith(".pkl")):
                raise DataError("its pickle makes a bytearray, of any size, as no file of weights does")
            if (bad := archive.testzip()) is not None:  # torch itself compares no checksums
                raise DataError(f"record {bad!r} does not have the checksum that is stored with it; copy it again")
    with torch.serialization.safe_globals(_harmless()):
        return torch.load(path, map_location="cpu", weights_only=True)


def _harmless() -> list[Any]:
    """What besides tensors and plain values people store beside weights: numpy's numbers, settings, paths."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")]
    spelled = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    attributes = [(dict, f"{module}.AttributeDict") for module in LIGHTNING]
    return [*spelled, np.dtype, *kinds, argparse.Namespace, (os.path.join, "pathlib.PosixPath"), *attributes]


def _measure(value: Any, known: dict[int, tuple[int, int, int]], depth: int) -> tuple[int, int, int]:
    """How deeply a value is nested; how many it holds, and the bytes of its tensors, each counted as often as met."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise DataError(f"holds a tensor that is {value.layout}, on {value.device} or quantized; save plain ones")
        return 0, 1, value.numel() * value.itemsize
    inner = (*value.keys(), *value.values()) if isinstance(value, dict) else value
    if not isinstance(inner, list | tuple | set):
        return 0, 1, 0
    if id(value) not in known and depth < MAX_DEPTH:
        heights, counts, sizes = zip((0, 0, 0), *(_measure(one, known, depth + 1) for one in inner), strict=True)
        known[id(value)] = 1 + max(heights), 1 + sum(counts), sum(sizes)
    height, count, num_bytes = known.get(id(value), (MAX_DEPTH, 0, 0))
    if height >= MAX_DEPTH or count > MAX_VALUES:
        raise DataError(f"its values are nested {MAX_DEPTH} deep, or shared so that more than {MAX_VALUES:,} are met")
    return height, count, num_bytes
