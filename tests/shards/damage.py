"""Ways in which a download may be damaged: each changes one release on disk and says what a report must name.

They are those that any dataset may meet; what a format of its own may hold is tested with its reader.
"""

import io
import random
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat, savemat

from tests.shards.trees import png_file

KINDS = {}
"""Name -> what does that to a victim and returns the words of which one must be told; None: it does not apply there."""
PICTURES, CODED = (".png", ".jpg"), (".png", ".jpg", ".json", ".mat")
LISTED = (  # they go by lists of names, and never walk
    "voc2012", "kitti-19", "camvid-11", "pascal-context-60", "gta5-19", "wilddash-19", "sunrgbd-37",
)  # fmt: skip


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
    def file(self):
        return self.root / self.path

    @property
    def stem(self):
        """Enough of the name to recognise the sample by."""
        return re.split(r"\.|_gtFine|_leftImg8bit|_img_front|_semseg", self.file.name)[0]


def kind(name, *, roles=("image", "label", "shared"), ends="", only=(), without=()):
    """Adds a function that damages a victim; unless it returns other words, the file must be named.

    Args:
        only: datasets that may be hit.
        without: datasets, top folders and names of files that are not.
    """

    def add(change):
        def apply(victim):
            known = {victim.dataset, victim.path.partition("/")[0], victim.file.name}
            fits = victim.role in roles and victim.path.endswith(ends) and victim.dataset in (only or known)
            return (change(victim) or (victim.file.name,)) if fits and known.isdisjoint(without) else None

        KINDS[name] = apply

    return add


def bytes_kind(name, *ends):
    """Adds a function of a file's bytes and randomness."""

    def add(change):
        @kind(name, ends=ends or "")
        def _(victim):
            before = victim.file.read_bytes()
            after = change(before, victim.rng)
            assert after != before
            victim.file.write_bytes(after)

    return add


def truncated(data, rng):
    return data[: int(len(data) * rng.uniform(0.02, 0.97))]


bytes_kind("truncated", *CODED)(truncated)
bytes_kind("emptied")(lambda data, rng: b"")
bytes_kind("header overwritten", *CODED)(lambda data, rng: rng.randbytes(24) + data[24:])
bytes_kind("error page", *CODED)(lambda data, rng: b"<!DOCTYPE html><html><body>403 Forbidden</body></html>\n")
bytes_kind("json unclosed", ".json")(lambda data, rng: data.rstrip()[:-1])
bytes_kind("json not text", ".json")(lambda data, rng: data[:10] + b"\xff\xfe\xfd" + data[10:])
bytes_kind("json is a list", ".json")(lambda data, rng: b"[" + data + b"]")
bytes_kind("jpeg garbage", ".jpg")(lambda data, rng: data[:-2] + bytes(12) + data[-2:])


@bytes_kind("json key twice", ".json")
def json_key_twice(data, rng):
    """The first object's first key, again, with another value."""
    at = data.index(b"{") + 1
    key = data[data.index(b'"', at) : data.index(b'"', data.index(b'"', at) + 1) + 1]
    return data[:at] + key + b": 3, " + data[at:]


@bytes_kind("jpeg ends early", ".jpg")
def jpeg_ends_early(data, rng):
    """Cut, and closed properly: libjpeg only warns."""
    start = data.index(b"\xff\xda") + 16
    return data[: rng.randint(start, start + (len(data) - start) // 2)] + b"\xff\xd9"


def chunks(data):
    """(place, kind, body) of each chunk of a PNG."""
    at = 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield at, name, data[at + 8 : at + 8 + length]
        at += 12 + length


@bytes_kind("png bit flip", ".png")
def png_bit_flip(data, rng):
    at, _, body = rng.choice([c for c in chunks(data) if c[2]])
    place = at + 8 + rng.randrange(len(body))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


@bytes_kind("png rows missing", ".png")
def png_rows_missing(data, rng):
    """As a writer leaves it that died: everything well formed, but the picture stops early."""
    (_, _, header), *others = chunks(data)
    rows = zlib.decompress(b"".join(body for _, name, body in others if name == b"IDAT"))
    more = [(name, body) for _, name, body in others if name not in (b"IDAT", b"IEND")]
    return png_file(rows[: int(len(rows) * rng.uniform(0.1, 0.9))], struct.unpack(">IIBBBBB", header), *more)


@kind("other size", ends=PICTURES, without=("gta5-19", "bravo"))  # GTA5 brings every picture to its one size
def other_size(victim):
    image = Image.open(victim.file)
    width, height = image.size
    file = io.BytesIO()
    smaller = image.crop((0, 0, width - victim.rng.randrange(2), height - 1))
    smaller.save(file, "JPEG" if victim.path.endswith(".jpg") else "PNG")
    victim.file.write_bytes(file.getvalue())
    return (victim.stem,)


@kind("on its side", roles=("image",), without=("gta5-19", "bravo"))
def lying_on_its_side(victim):
    exif = Image.Exif()
    exif[0x0112] = victim.rng.choice([5, 6, 7, 8])
    Image.open(victim.file).save(victim.file, exif=exif)
    return (victim.stem,)


@kind("stored as jpeg", roles=("label",), ends=".png")
def stored_as_jpeg(victim):
    Image.open(victim.file).convert("RGB").save(victim.file, "JPEG", quality=100)


@kind("other mode", roles=("label",), ends=".png")
def other_mode(victim):
    """Ids where colours should be, or colours where ids should be."""
    image = Image.open(victim.file)
    image.convert("L" if image.mode in ("RGB", "RGBA") else "RGB").save(victim.file)


@kind("strange id", roles=("label",), ends=(".png", ".mat"), without=("gta5-19",))  # whose other ids are void
def strange_id(victim):
    if victim.path.endswith(".mat"):
        content = {k: v for k, v in loadmat(victim.file).items() if not k.startswith("__")}
        next(iter(content.values())).flat[5] = 460
        savemat(victim.file, content)
        return
    image = Image.open(victim.file)
    pixels = np.array(image)
    y, x = victim.rng.randrange(pixels.shape[0]), victim.rng.randrange(pixels.shape[1])
    pixels[y, x] = 253 if pixels.ndim == 2 else [253, 251, 7, 255][: pixels.shape[2]]
    changed = Image.fromarray(pixels)
    if image.mode == "P":
        changed = changed.convert("P")
        changed.putpalette(image.getpalette())
    changed.save(victim.file)


@kind("missing", without=("bravo", "config.json"))  # where every file is an image of its own; which is not needed
def missing(victim):
    victim.file.unlink()
    return (victim.file.name, victim.stem)


@kind("a folder instead", roles=("label", "shared"), without=("config.json",))
def a_folder_instead(victim):
    victim.file.unlink()
    victim.file.mkdir()


@kind("link to itself")
def link_to_itself(victim):
    victim.file.unlink()
    victim.file.symlink_to(victim.file.name)


for name, above in (("folder in a circle", 0), ("folder above", 1)):

    @kind(name, roles=("image",), without=(*LISTED, "more-images"))
    def _(victim, above=above):
        (victim.file.parent / "more").symlink_to(victim.root.parent if above else victim.root)
        return ("more",)


@kind("key twice", roles=("image",), only=("bravo", "idd-19"))
def key_twice(victim):
    """Another file that would get the same key."""
    end = ".jpg" if victim.path.endswith(".png") else ".png"
    Image.open(victim.file).convert("RGB").save(victim.file.with_suffix(end))
    return (victim.stem,)


def zip_kind(name):
    """Adds a function that damages the whole release in one archive."""

    def add(change):
        @kind(name, without=("own",))  # whose YAML lies beside the data
        def _(victim):
            target = victim.root / "release.zip"
            paths = sorted(victim.root.rglob("*"), reverse=True)
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in paths:
                    if path.is_dir():
                        path.rmdir()
                    else:
                        archive.write(path, path.relative_to(victim.root).as_posix())
                        path.unlink()
            change(victim, target)
            return ("release.zip", victim.file.name)

    return add


@zip_kind("zip cut")
def zip_cut(victim, path):
    path.write_bytes(truncated(path.read_bytes(), victim.rng))


@zip_kind("zip member damaged")
def zip_member_damaged(victim, path):
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(victim.path)
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(victim.path) + info.compress_size // 2] ^= 0x55
    path.write_bytes(data)


@zip_kind("zip traversal")
def zip_traversal(victim, path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(victim.rng.choice(["../../evil.png", "/etc/evil.png", "a/../../evil"]), b"x")


@zip_kind("zip two of one name")
def zip_two_of_one_name(victim, path):
    twin = victim.path[:-1] + "~"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(twin, b"another file")
    path.write_bytes(path.read_bytes().replace(twin.encode(), victim.path.encode()))
