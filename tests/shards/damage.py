"""Ways in which a download may be damaged: each changes one release on disk and says what a report must name.

They are those that any dataset may meet; what a format of its own may hold is tested with its reader.
"""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat, savemat

Words = tuple[str, ...] | None
"""One of them must occur in the report; None: this damage does not apply to this file."""


@dataclass(frozen=True)
class Victim:
    """One file of a release, in a copy that may be damaged."""

    dataset: str
    root: Path
    path: str
    role: str
    """image, label or shared"""
    rng: random.Random

    @property
    def file(self) -> Path:
        return self.root / self.path

    @property
    def stem(self) -> str:
        """Enough of the name to recognise the sample by."""
        return (
            self.file.name.split(".")[0]
            .split("_gtFine")[0]
            .split("_leftImg8bit")[0]
            .split("_img_front")[0]
            .split("_semseg")[0]
        )


def _bytes(change: Callable[[bytes, random.Random], bytes | None], *ends: str) -> Callable[[Victim], Words]:
    """Damage to a file's bytes; only to files whose names end so."""

    def apply(victim: Victim) -> Words:
        if ends and not victim.path.endswith(ends):
            return None
        before = victim.file.read_bytes()
        after = change(before, victim.rng)
        if after is None or after == before:
            return None
        victim.file.write_bytes(after)
        return (victim.file.name,)

    return apply


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: int(len(data) * rng.uniform(0.02, 0.97))]


def emptied(data: bytes, rng: random.Random) -> bytes:
    return b""


def header_overwritten(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(24) + data[24:]


def error_page(data: bytes, rng: random.Random) -> bytes:
    return b"<!DOCTYPE html><html><body>403 Forbidden</body></html>\n"


# --- PNG


def chunks(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield at, kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def rebuilt(data: bytes, change: Callable[[bytes, bytes], tuple[bytes, bytes] | None]) -> bytes:
    """The PNG with chunks changed and every checksum right."""
    out = data[:8]
    for _, kind, body in chunks(data):
        changed = change(kind, body)
        if changed:
            name, new = changed
            out += struct.pack(">I", len(new)) + name + new + struct.pack(">I", zlib.crc32(name + new))
    return out


def png_bit_flip(data: bytes, rng: random.Random) -> bytes:
    at, _, body = rng.choice([c for c in chunks(data) if c[2]])
    place = at + 8 + rng.randrange(len(body))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def png_rows_missing(data: bytes, rng: random.Random) -> bytes:
    """As a writer leaves it that died: everything well formed, but the picture stops early."""
    pixels = zlib.decompress(b"".join(body for _, kind, body in chunks(data) if kind == b"IDAT"))
    cut = zlib.compress(pixels[: int(len(pixels) * rng.uniform(0.1, 0.9))])
    state = {"done": False}

    def change(kind: bytes, body: bytes) -> tuple[bytes, bytes] | None:
        if kind != b"IDAT":
            return kind, body
        first, state["done"] = not state["done"], True
        return (kind, cut) if first else None

    return rebuilt(data, change)


# --- JPEG


def jpeg_ends_early(data: bytes, rng: random.Random) -> bytes:
    """Cut, and closed properly: libjpeg only warns."""
    start = data.index(b"\xff\xda") + 16
    return data[: rng.randint(start, start + (len(data) - start) // 2)] + b"\xff\xd9"


def jpeg_garbage_at_the_end(data: bytes, rng: random.Random) -> bytes:
    return data[:-2] + bytes(12) + data[-2:]


# --- pictures and labels as such


def _saved(image: Image.Image, name: str) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG" if name.endswith(".jpg") else "PNG")
    return file.getvalue()


def _fixed_size(victim: Victim) -> bool:
    return victim.dataset == "gta5-19"  # brings every picture to its one size, as upstream does


def other_size(victim: Victim) -> Words:
    if not victim.path.endswith((".png", ".jpg")) or _fixed_size(victim) or victim.dataset == "bravo":
        return None
    image = Image.open(victim.file)
    width, height = image.size
    smaller = image.crop((0, 0, width - victim.rng.randrange(2), height - 1))
    victim.file.write_bytes(_saved(smaller, victim.file.name))
    return (victim.stem,)


def lying_on_its_side(victim: Victim) -> Words:
    if victim.role != "image" or _fixed_size(victim) or victim.dataset == "bravo":
        return None
    image = Image.open(victim.file)
    exif = Image.Exif()
    exif[0x0112] = victim.rng.choice([5, 6, 7, 8])
    image.save(victim.file, exif=exif)
    return (victim.stem,)


def stored_as_jpeg(victim: Victim) -> Words:
    if victim.role != "label" or not victim.path.endswith(".png"):
        return None
    Image.open(victim.file).convert("RGB").save(victim.file, "JPEG", quality=100)
    return (victim.file.name,)


def other_mode(victim: Victim) -> Words:
    """Ids where colours should be, or colours where ids should be."""
    if victim.role != "label" or not victim.path.endswith(".png"):
        return None
    image = Image.open(victim.file)
    if victim.dataset == "shift-19" or victim.dataset == "camvid-11" or image.mode in ("RGB", "RGBA"):
        image.convert("L").save(victim.file)
    else:
        image.convert("RGB").save(victim.file)
    return (victim.file.name,)


def strange_id(victim: Victim) -> Words:
    if victim.role != "label" or victim.dataset == "gta5-19":  # whose other ids are void, upstream says
        return None
    if victim.path.endswith(".mat"):
        content = {k: v for k, v in loadmat(victim.file).items() if not k.startswith("__")}
        next(iter(content.values())).flat[5] = 460
        savemat(victim.file, content)
        return (victim.file.name,)
    if not victim.path.endswith(".png"):
        return None
    image = Image.open(victim.file)
    pixels = np.array(image)
    y, x = victim.rng.randrange(pixels.shape[0]), victim.rng.randrange(pixels.shape[1])
    pixels[y, x] = 253 if pixels.ndim == 2 else [253, 251, 7, 255][: pixels.shape[2]]
    changed = Image.fromarray(pixels)
    if image.mode == "P":
        changed = changed.convert("P")
        changed.putpalette(image.getpalette())
    changed.save(victim.file)
    return (victim.file.name,)


# --- JSON


def json_in_a_list(data: bytes, rng: random.Random) -> bytes:
    return b"[" + data + b"]"


def json_unclosed(data: bytes, rng: random.Random) -> bytes:
    return data.rstrip()[:-1]


def json_not_text(data: bytes, rng: random.Random) -> bytes:
    return data[:10] + b"\xff\xfe\xfd" + data[10:]


def json_key_twice(data: bytes, rng: random.Random) -> bytes:
    """The first object's first key, again, with another value."""
    at = data.index(b"{") + 1
    key = data[data.index(b'"', at) : data.index(b'"', data.index(b'"', at) + 1) + 1]
    return data[:at] + key + b": 3, " + data[at:]


# --- files and folders


def missing(victim: Victim) -> Words:
    if (
        victim.path.endswith("config.json") or victim.dataset == "bravo"
    ):  # not needed; every file is an image of its own
        return None
    victim.file.unlink()
    return (victim.file.name, victim.stem)


def a_folder_instead(victim: Victim) -> Words:
    if victim.role == "image" or victim.path.endswith("config.json"):
        return None
    victim.file.unlink()
    victim.file.mkdir()
    return (victim.file.name,)


def link_to_itself(victim: Victim) -> Words:
    victim.file.unlink()
    victim.file.symlink_to(victim.file.name)
    return (victim.file.name,)


def _link_folder(target: Callable[[Victim], Path]) -> Callable[[Victim], Words]:
    def apply(victim: Victim) -> Words:
        walked = victim.role == "image" and victim.dataset not in ("voc2012", "kitti-19", "camvid-11")
        if (
            not walked
            or victim.path.startswith("more-images")
            or victim.dataset in ("pascal-context-60", "gta5-19", "wilddash-19", "sunrgbd-37")
        ):
            return None  # these go by lists of names, and never walk
        (victim.file.parent / "more").symlink_to(target(victim))
        return ("more",)

    return apply


def key_twice(victim: Victim) -> Words:
    """Another file that would get the same key."""
    if victim.role != "image" or victim.dataset not in ("bravo", "idd-19"):
        return None
    end = ".jpg" if victim.path.endswith(".png") else ".png"
    Image.open(victim.file).convert("RGB").save(victim.file.with_suffix(end))
    return (victim.stem,)


# --- zips


def _zipped(victim: Victim, change: Callable[[Path], None]) -> Words:
    """The whole release as one archive, and that damaged."""
    if victim.dataset == "own":
        return None  # its YAML lies beside the data
    target = victim.root / "release.zip"
    files = sorted(p for p in victim.root.rglob("*") if p.is_file())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(victim.root).as_posix())
    for path in files:
        path.unlink()
    for folder in sorted((p for p in victim.root.rglob("*") if p.is_dir()), reverse=True):
        folder.rmdir()
    change(target)
    return ("release.zip", victim.file.name)


def zip_cut(victim: Victim) -> Words:
    return _zipped(victim, lambda path: path.write_bytes(truncated(path.read_bytes(), victim.rng)))


def zip_member_damaged(victim: Victim) -> Words:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(victim.path)
        data = bytearray(path.read_bytes())
        at = info.header_offset + 30 + len(victim.path) + info.compress_size // 2
        data[at] ^= 0x55
        path.write_bytes(data)

    return _zipped(victim, change)


def zip_traversal(victim: Victim) -> Words:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(victim.rng.choice(["../../evil.png", "/etc/evil.png", "a/../../evil"]), b"x")

    return _zipped(victim, change)


def zip_two_of_one_name(victim: Victim) -> Words:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a") as archive:
            twin = victim.path[:-1] + "~"
            archive.writestr(twin, b"another file")
        path.write_bytes(path.read_bytes().replace(twin.encode(), victim.path.encode()))

    return _zipped(victim, change)


PNG, JPG, JSON, MAT = (".png",), (".jpg",), (".json",), (".mat",)
KINDS: dict[str, Callable[[Victim], Words]] = {
    "truncated": _bytes(truncated, ".png", ".jpg", ".json", ".mat"),
    "emptied": _bytes(emptied),
    "header overwritten": _bytes(header_overwritten, ".png", ".jpg", ".json", ".mat"),
    "error page": _bytes(error_page, ".png", ".jpg", ".json", ".mat"),
    "png bit flip": _bytes(png_bit_flip, *PNG),
    "png rows missing": _bytes(png_rows_missing, *PNG),
    "jpeg ends early": _bytes(jpeg_ends_early, *JPG),
    "jpeg garbage": _bytes(jpeg_garbage_at_the_end, *JPG),
    "other size": other_size,
    "on its side": lying_on_its_side,
    "stored as jpeg": stored_as_jpeg,
    "other mode": other_mode,
    "strange id": strange_id,
    "json unclosed": _bytes(json_unclosed, *JSON),
    "json not text": _bytes(json_not_text, *JSON),
    "json key twice": _bytes(json_key_twice, *JSON),
    "json is a list": _bytes(json_in_a_list, *JSON),
    "missing": missing,
    "a folder instead": a_folder_instead,
    "link to itself": link_to_itself,
    "folder in a circle": _link_folder(lambda victim: victim.root),
    "folder above": _link_folder(lambda victim: victim.root.parent),
    "key twice": key_twice,
    "zip cut": zip_cut,
    "zip member damaged": zip_member_damaged,
    "zip traversal": zip_traversal,
    "zip two of one name": zip_two_of_one_name,
}
