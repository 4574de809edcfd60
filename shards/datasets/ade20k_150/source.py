"""ADE20K Scene Parsing (ADEChallengeData2016): index PNGs, 0 = unlabelled, 1-150 in challenge order.

The root of the release is `ADEChallengeData2016`. Relabelling names instances, which only the full release
(ADE20K_2016_07_26, in that folder or beside it) holds, at a larger size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from segstream.shards.codecs.images import resize_label
from segstream.shards.codecs.labels import decode_rgb
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Mask, Pair, SegmentFiles, Segments
from segstream.shards.errors import DataError

_FULL = "ADE20K_2016_07_26/images"
_END = "_seg.png"


def _instance_files(release: Release, pairs: Sequence[Pair]) -> SegmentFiles:
    """The full release sorts its images into folders by scene, so they are found by name."""
    for place in (release, Release(release.root.absolute().parent)):
        if place.has_folder(_FULL):
            by_name = {path.rpartition("/")[2]: path for path in place.below(_FULL, _END)}
            wanted = {pair.key: f"{PurePosixPath(pair.image).stem}{_END}" for pair in pairs}
            return place, {key: f"{_FULL}/{by_name.get(name, name)}" for key, name in wanted.items()}
    advice = "relabelling needs the full release too, unpack it there"
    raise DataError(f"{release}: no {_FULL} in it or beside it; {advice}")


def _masks(data: bytes, segments: Sequence[int], size_hw: tuple[int, int]) -> Iterator[Mask]:
    """Blue is the instance's number.

    It is brought to the label's size by OpenCV's plain nearest rule (source row = floor of row x scale), as upstream
    does: the published labels are so, although the rule is off by half a pixel and frays the segments' borders.
    """
    resized = resize_label(decode_rgb(data)[..., 2].copy(), size_hw)
    return (resized == segment for segment in segments)


segments = Segments(strict=False, masks=_masks, files=_instance_files, least=10)
