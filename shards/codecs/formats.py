"""Picture and video files: the one table of suffixes for globs, folders and messages, and what opens a picture."""

from collections import defaultdict
from collections.abc import Iterable
from importlib import import_module
from pathlib import PurePath

from segstream.shards.errors import UnreadableError

_PICTURES = (
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .tif .tiff .webp .ppm .pgm .pbm .pnm .gif .jp2 .j2k .jpx .jpf .j2c "
    ".jpc .avif .heic .heif .hif"
)
_VIDEOS = (
    ".mp4 .m4v .mov .qt .avi .mkv .webm .mpg .mpeg .mpe .m2v .ts .mts .m2ts .flv .f4v .3gp .3g2 .wmv .asf .ogv .vob "
    ".mxf .dv"
)
PICTURE_SUFFIXES, VIDEO_SUFFIXES = frozenset(_PICTURES.split()), frozenset(_VIDEOS.split())
_PILLOW = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF", "JPEG2000")
_BRANDS = {b"avif", b"heic", b"heix", b"hevc", b"mif1", b"msf1"}  # of ISO 14496-12 files that hold a still picture


def suffix_of(path: str | PurePath) -> str:
    """In lower case, with its dot; empty if there is none."""
    return PurePath(path).suffix.lower()


def by_suffix(paths: Iterable[str | PurePath]) -> str:
    """Files counted by suffix, the first of each named: `2 .txt (a.txt, ...), 1 .mp4 (b.mp4)`."""
    found = defaultdict[str, list[str]](list)
    for path in paths:
        found[suffix_of(path) or "without a suffix"].append(str(path))
    most = sorted(found.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{len(names)} {end} ({names[0]}{', ...' if len(names) > 1 else ''})" for end, names in most)


def pillow_formats(data: bytes) -> tuple[str, ...]:
    """The formats that Pillow is to try on a picture file; what reads AVIF or HEIC is loaded for such a file only.

    Raises:
        UnreadableError: what reads it is not installed.
    """
    brands = {data[at : at + 4] for at in range(8, 64, 4)} if data[4:8] == b"ftyp" else set[bytes]()
    if not brands & _BRANDS:
        return _PILLOW
    try:
        if b"avif" in brands:
            import_module("PIL.AvifImagePlugin")  # registers itself
            return ("AVIF",)
        import_module("pillow_heif").register_heif_opener()
        return ("HEIF",)
    except ImportError as error:
        kind = "AVIF" if b"avif" in brands else "HEIC"
        raise UnreadableError(
            f"{kind}, to read which {error.name} is missing: pip install 'segstream[heic]'"
        ) from error
