"""Several splits of a dataset as one set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest


def joined(manifests: Sequence[Manifest]) -> Manifest:
    """The manifest of the splits of one dataset, one after another, as if they were one set.

    Raises:
        DataError: their own classes differ.
    """
    first, *others = manifests
    if any(m.native.digest != first.native.digest for m in others):
        about = ", ".join(f"{m.split} has {m.native.num_classes} of {m.native.name}" for m in manifests)
        raise DataError(f"data.split: {first.dataset}: different classes ({about}); convert with one version")
    return replace(
        first,
        split="+".join(m.split for m in manifests),
        members=tuple(member for member in first.members if all(member in m.members for m in others)),
        shards=tuple(info for m in manifests for info in m.shards),
        counts={member: _total([m.counts.get(member, {}) for m in manifests]) for member in first.counts},
        ignored={value: sum(m.ignored.get(value, 0) for m in manifests) for m in manifests for value in m.ignored},
        alike=(),
        digest="+".join(m.digest for m in manifests),
    )


def _total(counts: Sequence[Mapping[int, tuple[int, int]]]) -> dict[int, tuple[int, int]]:
    found = {i: [by_id[i] for by_id in counts if i in by_id] for i in sorted(set().union(*counts))}
    return {i: (sum(pixels for pixels, _ in pairs), sum(samples for _, samples in pairs)) for i, pairs in found.items()}
