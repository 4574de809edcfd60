"""Files of the BRAVO challenge: which subset an image is of, which of its pixels are sampled, what is submitted of it.

`NAME_samples.bin`, by zstd: the number of indices of flat pixels and the first index, 3 bytes each, then by how much
each is above the one before it: one byte, or a zero and 3 bytes. `NAME_encoded.bin`: HEADER; by zstd the classes of all
pixels, a byte each, and the uint16 confidences of the sampled ones; the CRC-32 of all before it. All little-endian.
"""

import functools
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

HEADER = struct.Struct("<4s6I")
"""Magic, version, rows, columns, samples, bytes of classes, bytes of confidences."""
MAGIC, VERSION, LEVEL = b"BV23", 2, 9
LONGEST = 1 << 22  # bytes of samples, unpacked; the challenge's files have 100,000 indices
IMAGE = re.compile(
    r"(?:.*/)?(bravo_(?:(ACDC)/(fog|rain|night|snow)/.*(?=_rgb_anon$)"
    r"|(outofcontext|synflare|synrain)/.*(?=_leftImg8bit$)|(SMIYC|synobjs)/.*))"
)
Indices = npt.NDArray[np.int64]


def identify(name: str) -> tuple[str, str] | None:
    """The subset that an image is of and the name of its files in tars, by its path; None if it is not of BRAVO."""
    match = IMAGE.match(name)
    return match and ("".join(filter(None, match.groups()[1:])), match[1])


def read_samples(path: Path, name: str, num_pixels: int) -> Indices:
    """Rising flat indices of an image's sampled pixels, from the challenge's tar.

    Raises:
        DataError: they are not in it or no such indices, or zstandard (extra `bravo`) is not installed.
    """
    zstd, (_, base) = _zstd(), identify(name) or ("", name)
    try:
        file = _tar(path).extractfile(f"{base}_samples.bin")
        packed = b"" if file is None else file.read(LONGEST)
        if zstd.frame_content_size(packed) > LONGEST:
            raise ValueError(f"unpacks to more than {LONGEST:,} bytes")
        return unpack_indices(zstd.ZstdDecompressor().decompress(packed, max_output_size=LONGEST), num_pixels)
    except (OSError, KeyError, ValueError, tarfile.TarError, zstd.ZstdError) as error:
        raise DataError(f"{path}: no {base}_samples.bin that can be used ({error}); download it again") from error


def unpack_indices(data: bytes, num_pixels: int) -> Indices:
    """What unpacked samples hold.

    Raises:
        ValueError: something else.
    """
    steps, at = [int.from_bytes(data[3:6], "little")], 6
    while at < len(data):
        steps.append(data[at] or int.from_bytes(data[at + 1 : at + 4], "little"))
        at += 1 if data[at] else 4
    indices = np.cumsum(steps)
    if (
        at != len(data)
        or len(steps) != int.from_bytes(data[:3], "little")
        or 0 in steps[1:]
        or indices[-1] >= num_pixels
    ):
        raise ValueError(f"not as many rising indices below {num_pixels} as it says")
    return indices


def encode(pred: npt.NDArray[np.integer], confidence: npt.NDArray[np.uint16], samples: Indices) -> bytes:
    """What is submitted of an image, from its (H, W) ids and confidences and the sampled pixels' flat indices."""
    classes, sure = pred.tobytes(), confidence.ravel()[samples].astype("<u2").tobytes()
    data = HEADER.pack(MAGIC, VERSION, *pred.shape, len(samples), len(classes), len(sure))
    packed: bytes = _zstd().ZstdCompressor(level=LEVEL).compress(classes + sure)
    return data + packed + struct.pack("<I", zlib.crc32(data + packed))


def write_submission(path: Path, files: Mapping[str, tuple[Path, Path]], samples: Path) -> None:
    """Write a tar of the encoded files of images by name.

    Raises:
        DataError: an image is not one of BRAVO's, a file cannot be read, or the tar not be written.
    """
    with writing(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, pair in files.items():
            pred, sure = read_output(pair)
            if (found := identify(name)) is None or pred.dtype != np.uint8:
                raise DataError(
                    f"{pair[0]}: no {pred.dtype} ids of an image of BRAVO, bravo_SUBSET/.../NAME; pack those alone"
                )
            data = encode(pred, sure, read_samples(samples, name, pred.size))
            member = tarfile.TarInfo(f"{found[1]}_encoded.bin")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@functools.cache
def _tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path)


def _zstd() -> Any:
    return optional("zstandard", "files of BRAVO are packed by zstd; pip install 'segstream[bravo]'")
