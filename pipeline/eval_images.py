"""Labelled images of a shard set at their native size, for evaluation."""

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from segstream.pipeline.decode import decode_image, decode_label
from segstream.shards.errors import DataError, public
from segstream.shards.format.reader import open_shards
from segstream.shards.parallel import read_ahead

AHEAD = 2  # images read and decoded while the network is busy
Labelled = tuple[str, npt.NDArray[np.uint8], dict[str, npt.NDArray[np.uint8]]]
"""Where it lies, for errors; image (H, W, 3) RGB; label maps (H, W) by member."""


class EvalImages(AbstractContextManager["EvalImages"]):
    """A shard set that can be evaluated on: whole, labelled, at native size. A context manager.

    Attributes:
        url: where it lies, as it was given but for passwords.
        shards: the open set; its manifest says what it holds.
    """

    def __init__(self, url: str) -> None:
        """Open a set.

        Raises:
            DataError: the set is incomplete or empty, has no labels, or its images are not at native size.
        """
        self.url, self.shards = public(url), open_shards(url)
        manifest = self.shards.manifest
        if "native" not in manifest.members:
            raise DataError(f"{url}: images without labels, to predict; evaluation needs a set with labels")
        if len(self) == 0:
            raise DataError(f"{url}: nothing to evaluate: the set holds no sample; check its split and limit")
        limit = manifest.params.get("short_side")
        if limit and any(min(entry.size_hw) >= limit for entry in map(self.shards.entry, range(len(self)))):
            raise DataError(
                f"{url}: a training split, stored at a reduced size (--short-side {limit}); evaluation is at native "
                f"size: give a val or test split, or convert without --short-side"
            )
        self.dataset, self.split, self.digest = manifest.dataset, manifest.split, manifest.digest

    def __len__(self) -> int:
        return len(self.shards)

    def __exit__(self, *_: object) -> None:
        self.shards.close()

    def key(self, i: int) -> str:
        """A sample's key, unique within the set."""
        return self.shards.entry(i).key

    def at(self, i: int, members: Collection[str]) -> Labelled:
        """One sample with its labels of these members.

        Raises:
            DataError: it cannot be read or decoded.
        """
        where = f"{self.url}/{self.key(i)}"
        image = decode_image(self.shards.read(i, "image"), where=where)
        return where, image, {name: decode_label(self.shards.read(i, name), where=where) for name in members}

    def read(self, numbers: Iterable[int], members: Collection[str]) -> Iterator[Labelled]:
        """Samples in order; the next are read while the caller works on one."""
        with ThreadPoolExecutor(1, "read") as pool:
            yield from read_ahead(pool, lambda i: self.at(i, members), numbers, ahead=AHEAD)
