"""Relabelling as MSeg published it: segments of a training set's labels become other universal classes.

The records are applied to universal ids at full resolution, before anything is resized. That equals the published
chain (native -> relabelled classes -> segments overwritten -> universal), because relabelled classes are universal
ones. Where upstream stops a conversion, the record is reported with its reason instead and its pixels stay as they
are; every record is either applied or reported, exactly once.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segstream.shards.convert.relabel_records import Records
from segstream.shards.datasets.release import Release
from segstream.shards.datasets.sources import Edits, Pair, Record, Segments
from segstream.shards.errors import DataError, UnreadableError
from segstream.shards.format.index import RelabelExample, RelabelOutcome, merge_outcomes
from segstream.shards.format.left_out import BadFileError

LEFT_OUT = "image left out"


def outcome_of(edits: Edits, reasons: Sequence[str | None]) -> RelabelOutcome:
    """Count what became of one image's records.

    Args:
        reasons: why each record was not applied; None where it was.
    """
    told = [
        RelabelExample(reason=reason, image=edits.image, segment=record.segment)
        for record, reason in zip(edits.records, reasons, strict=True)
        if reason is not None
    ]
    reported = Counter(example.reason for example in told)
    return merge_outcomes([RelabelOutcome(applied=len(reasons) - len(told), reported=reported, examples=tuple(told))])


def assign(
    records: Records, segments: Segments, release: Release, pairs: Sequence[Pair], *, limit: int | None
) -> tuple[list[Pair], RelabelOutcome]:
    """Hand each pair its records.

    Args:
        pairs: all of the split, in order.
        limit: how many of them will be converted.

    Returns:
        The pairs up to the limit, with `edits` where they have records; and what became of the other records.

    Raises:
        DataError: two images that the records cannot tell apart, or not one of the files that hold the segments.
    """
    named: dict[tuple[str, str], int] = {}
    for n, pair in enumerate(pairs):
        other = named.setdefault(_name(pair, segments), n)
        if other != n:
            raise DataError(
                f"{release}: records cannot tell {pair.image} from {pairs[other].image}; remove one of them"
            )
    chosen = list(pairs[:limit])
    where, files = segments.files(release, [pair for pair in chosen if _name(pair, segments) in records.by_image])
    if files and not any(map(where.has, files.values())):
        raise DataError(
            f"{where}: not one of the {len(files)} files that hold relabelled segments, such as "
            f"{next(iter(files.values()))}; unpack them there, or leave out --relabel"
        )
    rest = []
    for name, of_image in records.by_image.items():
        n = named.get(name, -1)
        reason = "no such image in this split" if n < 0 else "image beyond --limit" if n >= len(chosen) else None
        file = "" if reason else files[chosen[n].key]
        edits = Edits(release=where, file=file, image="/".join(name), records=of_image)
        if reason:
            rest.append(outcome_of(edits, [reason] * len(of_image)))
        else:
            chosen[n] = dataclasses.replace(chosen[n], edits=edits)
    return chosen, merge_outcomes(rest)


def relabel(
    label: npt.NDArray[np.uint8], edits: Edits, segments: Segments, data: bytes
) -> tuple[npt.NDArray[np.uint8], RelabelOutcome]:
    """Apply an image's records, in file order.

    Args:
        label: (H, W) universal ids, at the size of the source's image.
        data: the file that holds the segments.

    Returns:
        (H, W) universal ids, and what became of each record.

    Raises:
        BadFileError: the file is damaged, or its segments belong to an image of another size.
    """
    label, reasons = label.copy(), []
    size_hw = (label.shape[0], label.shape[1])
    try:
        masks = segments.masks(data, [record.segment for record in edits.records], size_hw)
        for record, mask in zip(edits.records, masks, strict=True):
            if mask.shape != size_hw:
                raise BadFileError(edits.file, f"segments of an image of {mask.shape}, not {size_hw} (height, width)")
            reasons.append(_refusal(label, record, mask, segments))
            if reasons[-1] is None:
                label[mask] = record.new
    except UnreadableError as error:
        raise BadFileError(edits.file, str(error)) from error
    return label, outcome_of(edits, reasons)


def _refusal(
    label: npt.NDArray[np.uint8], record: Record, mask: npt.NDArray[np.bool_], segments: Segments
) -> str | None:
    """Why a record is not applied, if so: the cases in which upstream stops."""
    pixels = int(np.count_nonzero(mask))
    if pixels == 0:
        return "no such segment"
    if pixels < segments.least:
        return "segment too small"
    if segments.strict and (label[mask] != record.original).any():
        return "segment is not all of the original class"
    return None


def _name(pair: Pair, segments: Segments) -> tuple[str, str]:
    """How records name an image."""
    return segments.parent(pair), pair.image.rpartition("/")[2].rpartition(".")[0]
