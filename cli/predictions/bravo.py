"""Files of the BRAVO challenge: which subset an image is of, which of its pixels are sampled, what is submitted of it.

`NAME_samples.bin`, by zstd: the number of indices of flat pixels and the first index, 3 bytes each, then by how much
each is above the one before it: one byte, or a zero and 3 bytes. `NAME_encoded.bin`: "BV23" and six numbers of 4 bytes:
version, rows, columns, sampled pixels, bytes of classes and of confidences; by zstd the classes of all pixels, a byte
each, and the confidences of the sampled ones, 2 bytes each; the CRC-32 of all before it. All little-endian.
"""

import io
import re
import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.cli.predictions.output_folder import read_output
from segstream.shards.errors import DataError, optional
from segstream.shards.files import writing

LONGEST = 1 << 22  # bytes of samples, unpacked; the challenge's files have 100,000 indices
LAST_ID = 19  # that the challenge takes
IMAGE = re.compile(
    r"(?:.*/)?(bravo_(?:(ACDC)/(fog|rain|night|snow)/.*(?=_rgb_anon$)"
    r"|(outofcontext|synflare|synrain)/.*(?=_leftImg8bit$)|(SMIYC|synobjs)/.*))"
)
Indices = npt.NDArray[np.int64]


def identify(name: str) -> tuple[str, str] | None:
    """The subset that an image is of and the name of its files there, by its path; None if it is not of BRAVO."""
    match = IMAGE.match(name)
    return match and ("".join(filter(None, match.groups()[1:])), match[1])


def read_samples(folder: Path, name: str, num_pixels: int) -> Indices:
    """Rising flat indices of an image's sampled pixels, from a folder of what the challenge's tar holds.

    Raises:
        DataError: the file is missing or holds something else, or zstandard (extra `bravo`) is not installed.
    """
    zstd, path = _zstd(), folder / f"{(identify(name) or (None, name))[1]}_samples.bin"
    try:
        packed = path.read_bytes()
        if zstd.frame_content_size(packed) > LONGEST:
            raise ValueError(f"unpacks to more than {LONGEST:,} bytes")
        return _indices(zstd.ZstdDecompressor().decompress(packed, max_output_size=LONGEST), num_pixels)
    except (OSError, ValueError, zstd.ZstdError) as error:
        raise DataError(f"{path}: not the samples of {num_pixels} pixels ({error}); unpack the tar again") from error


def _indices(data: bytes, num_pixels: int) -> Indices:
    steps, at = [int.from_bytes(data[3:6], "little")], 6
    while at < len(data):
        steps.append(data[at] or int.from_bytes(data[at + 1 : at + 4], "little"))
        at += 1 if data[at] else 4
    indices, stated = np.cumsum(steps), int.from_bytes(data[:3], "little")
    if at != len(data) or len(steps) != stated or 0 in steps[1:] or indices[-1] >= num_pixels:
        raise ValueError(f"not {stated} rising indices below {num_pixels}")
    return indices


def encode(pred: npt.NDArray[np.uint8], confidence: npt.NDArray[np.uint16], samples: Indices) -> bytes:
    """What is submitted of an image, from its (H, W) ids and confidences and the sampled pixels' flat indices."""
    classes, sure = pred.tobytes(), confidence.ravel()[samples].astype("<u2").tobytes()
    data = struct.pack("<4s6I", b"BV23", 2, *pred.shape, len(samples), len(classes), len(sure))
    packed: bytes = _zstd().ZstdCompressor(level=9).compress(classes + sure)
    return data + packed + struct.pack("<I", zlib.crc32(data + packed))


def write_submission(path: Path, files: Mapping[str, tuple[Path, Path]], samples: Path) -> None:
    """Write a tar of the encoded files of images by name.

    Raises:
        DataError: an image is not one of BRAVO's, a file cannot be read, or the tar not be written.
    """
    with writing(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, pair in files.items():
            pred, sure = read_output(pair)
            if (found := identify(name)) is None or pred.max() > LAST_ID:
                raise DataError(f"{pair[0]}: not ids of 0 .. {LAST_ID} of an image bravo_SUBSET/.../NAME; pack those")
            data = encode(pred.astype(np.uint8), sure, read_samples(samples, name, pred.size))
            member = tarfile.TarInfo(f"{found[1]}_encoded.bin")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _zstd() -> Any:
    return optional("zstandard", "files of BRAVO are packed by zstd; pip install 'segstream[bravo]'")
