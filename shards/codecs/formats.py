"""Picture and video files: the one table of suffixes for globs, folders and messages, and what opens HEIC."""

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
_HEIC = {b"heic", b"heix", b"hevc"}  # brands of ISO 14496-12 files


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


def load_heif(data: bytes) -> None:
    """Let Pillow open a HEIC file by pillow-heif, which is loaded for such files only.

    Raises:
        UnreadableError: it is not installed.
    """
    if data[4:8] == b"ftyp" and _HEIC & {data[at : at + 4] for at in range(8, 64, 4)}:
        try:
            import_module("pillow_heif").register_heif_opener()
        except ImportError as error:
            raise UnreadableError("HEIC, which pillow-heif reads: pip install 'segstream[heic]'") from error
