"""Several splits of a dataset as one set."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from segstream.shards.errors import DataError
from segstream.shards.format.manifest import Manifest


def joined(splits: Mapping[str, Manifest], plain: Collection[str]) -> Manifest:
    """The manifest of the plain splits of one dataset, one after another, as if they were one set.

    Args:
        splits: manifests of all, by name.
        plain: names of those that give plain samples.

    Raises:
        DataError: their own classes differ.
    """
    first, *manifests = splits.values()
    if any(m.native.digest != first.native.digest for m in manifests):
        about = ", ".join(f"{name} has {m.native.num_classes} of {m.native.name}" for name, m in splits.items())
        raise DataError(f"data.split: {first.dataset}: different classes ({about}); convert with one version")
    manifests = [splits[name] for name in plain]
    return replace(
        first,
        split="+".join(plain),
        members=tuple(member for member in first.members if all(member in m.members for m in splits.values())),
        shards=tuple(info for m in manifests for info in m.shards),
        counts={member: _total([m.counts.get(member, {}) for m in manifests]) for member in first.counts},
        ignored={value: sum(m.ignored.get(value, 0) for m in manifests) for m in manifests for value in m.ignored},
        alike=(),
        digest="+".join(m.digest for m in manifests),
    )


def _total(counts: Sequence[Mapping[int, tuple[int, int]]]) -> dict[int, tuple[int, int]]:
    found = {i: [by_id[i] for by_id in counts if i in by_id] for i in sorted(set().union(*counts))}
    return {i: (sum(pixels for pixels, _ in pairs), sum(samples for _, samples in pairs)) for i, pairs in found.items()}
