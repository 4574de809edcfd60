"""JPEG decoded strictly: what the decoder only warns of (data that ends early, that does not decode) is an error.

libjpeg goes on after damage, paints grey, and says so on the process's standard error; no Python binding that we
depend on hands these warnings on, so they are read from there.
"""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from segstream.shards.errors import UnreadableError

SIGNATURE = b"\xff\xd8\xff"
_LIBJPEG = re.compile(
    rb"(Corrupt JPEG data[^\n]*|Premature end of JPEG[^\n]*|Inconsistent progression[^\n]*|Invalid SOS[^\n]*)\n?"
)
_STDERR = 2
_one_at_a_time = threading.Lock()  # the process has one standard error


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB as stored, EXIF orientation not applied.

    Raises:
        UnreadableError: it does not decode, or the decoder warns.
    """
    return cv2.cvtColor(_decoded(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def check(data: bytes) -> None:
    """Read all of the data, but draw a picture of an eighth of the size, in half the time.

    Raises:
        UnreadableError: as `decode`.
    """
    _decoded(data, cv2.IMREAD_REDUCED_GRAYSCALE_8)


def _decoded(data: bytes, mode: int) -> npt.NDArray[np.uint8]:
    with tempfile.TemporaryFile(buffering=0) as caught:
        with _standard_error_to(caught.fileno()):
            try:
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
            except cv2.error:  # more pixels than OpenCV accepts
                pixels = None
        caught.seek(0)
        said = caught.read()
    warning = _LIBJPEG.search(said)
    if rest := _LIBJPEG.sub(b"", said):
        os.write(_STDERR, rest)  # of other threads
    if warning:
        raise UnreadableError(f"damaged JPEG ({warning[1].decode('ascii', 'replace').strip()})")
    if pixels is None:
        raise UnreadableError("damaged or truncated JPEG")
    return pixels  # type: ignore[return-value]


@contextlib.contextmanager
def _standard_error_to(file: int) -> Iterator[None]:
    with _one_at_a_time:
        try:
            before = os.dup(_STDERR)
        except OSError:  # closed: nothing to read, and nothing to give back
            yield
            return
        try:
            os.dup2(file, _STDERR)
            yield
        finally:
            os.dup2(before, _STDERR)
            os.close(before)
