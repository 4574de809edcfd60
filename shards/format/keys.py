"""Sample keys: an image's path below its split's root, spelt so that WebDataset readers keep it whole.

WebDataset ends a key at the first dot of the file name, so a dot in a key would be cut off in silence. Every byte
outside `[A-Za-z0-9_/-]` is written as `%XX` (UTF-8), and `%` itself too, so the spelling can be undone.
"""

import re
from urllib.parse import unquote

_OUTSIDE = re.compile(rb"[^A-Za-z0-9_/-]")
_META = re.compile(r"__[^/]*__($|/)")  # webdataset skips members of such names as its own notes


def escape(path: str) -> str:
    """Key of a path without extension: `a.b/c d` -> `a%2Eb/c%20d`."""
    key = _OUTSIDE.sub(lambda m: b"%%%02X" % m.group()[0], path.encode("utf-8", "surrogateescape")).decode("ascii")
    return "%5F" + key[1:] if _META.match(key) else key


def unescape(key: str) -> str:
    """The path that `escape` was given."""
    return unquote(key, errors="surrogateescape")


def key_of(path: str) -> str:
    """Key of an image by its path below the split's root, extension included: `aachen/x.y.png` -> `aachen/x%2Ey`."""
    folder, _, name = path.rpartition("/")
    stem = name.rpartition(".")[0] or name
    return escape(f"{folder}/{stem}" if folder else stem)
