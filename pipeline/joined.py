"""Several splits of a dataset as one set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """The manifest of the splits of one dataset, one after another, as if they were one set.

    Raises:
        DataError: their own classes differ.
    """
    first, *others = manifests
    counts: dict[str, dict[int, tuple[int, int]]] = {}
    for other in others:
        if other.native.digest != first.native.digest:
            about = (f"{m.split} of {m.native.name} ({m.native.num_classes})" for m in (first, other))
            raise DataError(
                f"data.split: {first.dataset}: the splits have different classes: {', '.join(about)}; "
                f"convert them with one version, or name one"
            )
    for manifest in manifests:
        for member, by_id in manifest.counts.items():
            total = counts.setdefault(member, {})
            for i, (pixels, samples) in by_id.items():
                so_far = total.get(i, (0, 0))
                total[i] = so_far[0] + pixels, so_far[1] + samples
    return replace(
        first,
        split="+".join(m.split for m in manifests),
        members=tuple(member for member in first.members if all(member in m.members for m in others)),
        shards=tuple(info for m in manifests for info in m.shards),
        counts=counts,
        ignored=sum((Counter(m.ignored) for m in manifests), Counter()),
        alike=(),
        digest="+".join(m.digest for m in manifests),
    )
