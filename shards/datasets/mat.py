"""MATLAB files, as two releases have them; scipy is needed for nothing else, so it is an extra."""

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.shards.codecs.images import check_size
from segstream.shards.errors import UnreadableError, optional

_HEADER = b"MATLAB 5.0 MAT-file"


def need_scipy() -> None:
    """Say so before hours of work if the extra is not installed.

    Raises:
        DataError: it is not.
    """
    optional("scipy.io", "MATLAB files are read with scipy; pip install 'segstream[mat]'")


def read_integers(data: bytes, name: str) -> npt.NDArray[np.integer[Any]]:
    """The variable `name` of a .mat file: a matrix of integers (MATLAB writes whole numbers as doubles too).

    Raises:
        UnreadableError: damaged, without that variable, or it holds something else.
        DataError: scipy is missing.
    """
    need_scipy()
    from scipy.io import loadmat, whosmat

    if not data.startswith(_HEADER):
        raise UnreadableError("its first bytes do not say MATLAB 5.0, as those of a .mat file do")
    try:
        shapes = [shape for found, shape, _ in whosmat(io.BytesIO(data)) if found == name]
        if len(shapes) > 1:
            raise ValueError(f"{len(shapes)} variables are called {name}")  # scipy would take the last
        for shape in shapes:
            check_size((math.prod(shape), 1))
        values = loadmat(io.BytesIO(data), variable_names=[name]).get(name)
    except UnreadableError:
        raise
    except Exception as error:  # the parser answers damage with whatever the bytes lead it into
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"scipy cannot read it as a .mat file ({reason})") from error
    if values is None:
        raise UnreadableError(f"the .mat file holds no {name}")
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "uif":
        raise UnreadableError(f"{name} of the .mat file is not a matrix of numbers")
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and (values == np.trunc(values)).all()):
            raise UnreadableError(f"{name} of the .mat file holds fractions")
        values = values.astype(np.int64)
    if (values < 0).any():
        raise UnreadableError(f"{name} of the .mat file holds negative numbers")
    integers: npt.NDArray[np.integer[Any]] = values
    return integers
