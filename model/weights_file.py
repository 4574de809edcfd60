"""Files that torch wrote, read with care: checksums compared, and nothing but tensors and plain values unpickled."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segstream.shards.errors import DataError


def read_torch(path: str | Path) -> Any:
    """What a file holds, on the CPU.

    Raises:
        DataError: missing, damaged, of another kind, or with code in it.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; check the path")
    try:
        bad = _damaged_record(path)
        if bad is None:
            with torch.serialization.safe_globals(_numbers()):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle make an unpickler fail in any way there is
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused is not None:
            raise DataError(
                f"{path}: holds code or objects ({refused[1]}) besides tensors and plain values, so it was not loaded; "
                f"save its state_dict alone, where you trust it"
            ) from error
        raise DataError(
            f"{path}: cannot be read ({one_line(error)}); it is damaged or no file of torch's, restore it from a copy"
        ) from error
    raise DataError(f"{path}: record {bad!r} fails its checksum; it is damaged, restore it from a copy")


def one_line(error: BaseException) -> str:
    """Its message, short enough for one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _damaged_record(path: str | Path) -> str | None:
    """Torch itself compares no checksums; files older than its archives have none."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _numbers() -> list[Any]:
    """What makes numpy's plain numbers: published checkpoints carry their score as one."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")]
    spelled = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*spelled, np.dtype, *kinds]
