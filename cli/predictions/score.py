"""Label maps and confidences of a folder, compared with labelled shard sets."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.cli.console import Advance, print_table, say
from segstream.cli.predictions.bravo import identify, read_samples
from segstream.cli.predictions.output_folder import outputs, read_output
from segstream.cli.report.text_table import percent
from segstream.model.evaluation.calibration import count, curve, reliability, success
from segstream.model.evaluation.evaluator import check_label
from segstream.model.evaluation.metrics import harmonic_mean, measure
from segstream.pipeline.decode import decode_label
from segstream.shards.errors import DataError, first_few
from segstream.shards.files import read_left
from segstream.shards.format.keys import unescape
from segstream.shards.format.reader import ShardSet, open_shards
from segstream.shards.parallel import read_ahead
from segstream.shards.taxonomy import IGNORE_INDEX

WITHOUT_CLASSES = ("SMIYC",)  # subsets of BRAVO
WITHOUT_UNKNOWN = ("ACDCfog", "ACDCrain", "ACDCnight", "ACDCsnow", "outofcontext", "synflare", "synrain")
SEMANTIC = ("miou_hmsa", "ece", "auroc", "aupr_success", "aupr_error", "fpr95")
OOD = ("ood_auroc", "ood_aupr", "ood_fpr95")
LOWER = ("ece", "fpr95", "ood_fpr95")  # is better
COLUMNS = ("miou_mseg", "miou_hmsa", "accuracy", *SEMANTIC[1:], *OOD, "hmean")
Ids = npt.NDArray[np.integer]
Row = dict[str, Any]
Set = tuple[int, ShardSet]
"""0: labels; 1: what is unknown."""


def score_folder(folder: Path, urls: Sequence[Sequence[str]], samples: Path | None, report: Advance) -> Row:
    """Compare what a folder holds of images with labelled shard sets.

    Args:
        urls: sets of class labels, of the classes of the ids; and sets of two classes: 0, and 1 on objects of no class.
        samples: folder of the pixels whose confidences count; None: all.
        report: called with the number of images done, and of all.

    Returns:
        `subsets`: by subset of BRAVO, or else by dataset, the measures (None where not defined); `semantic`, `ood` and
        `bravo_index`, harmonic means over all subsets.

    Raises:
        DataError: sets differ in their classes, or a labelled image has not one label map and confidence that fit.
    """
    files = outputs(folder)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        sets = [(kind, stack.enter_context(open_shards(url))) for kind, of_kind in enumerate(urls) for url in of_kind]
        natives = {shards.manifest.native.classes: shards.url for kind, shards in sets if not kind}
        if len(natives) > 1:
            raise DataError(f"{' and '.join(natives.values())}: labels of different classes; score them one by one")
        classes, found = next(iter(natives), ()), _matched(files, sets, folder)
        combined = read_left(folder / "ensemble.json")
        for place in (folder, *map(Path, () if "ids" in combined else combined.get("models", ()))):
            if classes and read_left(place / "classes.json").get("classes") not in (None, [*classes]):
                raise DataError(
                    f"{place}/classes.json: ids of other classes than {natives[classes]} has; score on its own"
                )

        def counted(name: str) -> tuple[str, Any]:
            pred, sure = read_output(files[name])
            maps: list[Ids] = [np.full(pred.shape, IGNORE_INDEX), np.zeros(pred.shape, np.uint8)]
            for kind, (shards, i) in found[name].items():
                where = f"{shards.url}/{shards.entry(i).key}"
                maps[kind] = decode_label(shards.read(i, "native"), where=where)
                check_label(where, pred, maps[kind], 2 if kind else len(classes))
            if len(found[name]) == 2:
                maps[1] = np.where(maps[0] == IGNORE_INDEX, IGNORE_INDEX, maps[1])
            if classes:
                check_label(str(files[name][0]), pred, pred, len(classes))
            picked = slice(None) if samples is None else read_samples(samples, name, pred.size)
            subset, _ = identify(name) or (found[name][min(found[name])][0].manifest.dataset, "")
            return subset, count(pred, sure, maps[0], maps[1], len(classes), picked)

        totals: dict[str, list[Any]] = {}
        for done, (subset, counts) in enumerate(read_ahead(pool, counted, sorted(found), ahead=4), 1):
            totals[subset] = [a + b for a, b in zip(totals.get(subset, (0, 0, 0)), (1, *counts), strict=True)]
            report(done, len(found))
    rows = {subset: _row(subset, classes, *total) for subset, total in sorted(totals.items())}
    semantic, ood = (_mean(rows.values(), keys) for keys in (SEMANTIC, OOD))
    index = None if semantic is None or ood is None else harmonic_mean([semantic, ood])
    return {"images": len(found), "subsets": rows, "semantic": semantic, "ood": ood, "bravo_index": index}


def print_scores(found: Row) -> None:
    """A line for each subset, in percent, and the means over them."""
    lines = [(name, *(percent(row.get(key)) for key in COLUMNS)) for name, row in found["subsets"].items()]
    print_table(("subset", *COLUMNS), lines)
    say(", ".join(f"{key} {percent(found[key])}" for key in ("semantic", "ood", "bravo_index")))


def _matched(files: Iterable[str], sets: Sequence[Set], folder: Path) -> dict[str, dict[int, tuple[ShardSet, int]]]:
    """By image that has a label, where its labels lie: at the key that is its path."""
    names, wrong = {unescape(name): name for name in files}, []
    found: dict[str, dict[int, tuple[ShardSet, int]]] = defaultdict(dict)
    for kind, shards in sets:
        for i in range(len(shards)):
            key = unescape(shards.entry(i).key)
            if key in names and kind not in found[names[key]]:
                found[names[key]][kind] = shards, i
            else:
                wrong.append(f"{shards.url}/{key} has {'another label' if key in names else 'no prediction'}")
    if wrong:
        raise DataError(f"{folder}: {len(wrong)} labels lack a prediction of their own: {first_few(wrong)}")
    return found


def _row(subset: str, classes: Sequence[str], images: int, confusion: Any, levels: Any) -> Row:
    right, wrong, known, unknown = levels
    row: Row = {"images": images}
    if subset not in WITHOUT_CLASSES and (right + wrong).any():
        (mseg, *_), (hmsa, iou, _) = (measure(confusion, rule=rule) for rule in ("mseg", "hmsa"))
        row |= {"miou_mseg": mseg["miou"], "miou_hmsa": hmsa["miou"], **success(right, wrong)}
        row["classes"] = {name: None if np.isnan(v) else float(v) for name, v in zip(classes, iou, strict=True)}
        row["reliability"] = reliability(right, wrong)
    if unknown.any() and subset not in WITHOUT_UNKNOWN:
        row |= zip(OOD, curve(unknown[::-1], known[::-1]), strict=True)
    return row | {"hmean": _mean([row], SEMANTIC + OOD)}


def _mean(rows: Iterable[Row], keys: Sequence[str]) -> float | None:
    """Harmonic, of measures turned so that more is better; None without any, or where one is not defined."""
    values = [(key, row[key]) for row in rows for key in keys if key in row]
    if not values or any(value is None for _, value in values):
        return None
    return harmonic_mean(1 - value if key in LOWER else value for key, value in values)
