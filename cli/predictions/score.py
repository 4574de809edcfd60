"""Label maps and confidences of a folder, compared with labelled shard sets."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segstream.cli.console import Advance
from segstream.cli.predictions.bravo import identify, read_samples
from segstream.cli.predictions.output_folder import read_label
from segstream.model.evaluation.calibration import count, curve, reliability, success
from segstream.model.evaluation.evaluator import check_label
from segstream.model.evaluation.metrics import harmonic_mean, measure
from segstream.pipeline.decode import decode_label
from segstream.shards.errors import DataError, first_few
from segstream.shards.format.keys import unescape
from segstream.shards.format.reader import ShardSet, open_shards
from segstream.shards.parallel import read_ahead
from segstream.shards.taxonomy import IGNORE_INDEX

SCORES = "score.json"
WITHOUT_CLASSES = ("SMIYC",)  # subsets of BRAVO
WITHOUT_UNKNOWN = ("ACDCfog", "ACDCrain", "ACDCnight", "ACDCsnow", "outofcontext", "synflare", "synrain")
SEMANTIC = ("miou_hmsa", "ece", "auroc", "aupr_success", "aupr_error", "fpr95")
OOD = ("ood_auroc", "ood_aupr", "ood_fpr95")
LOWER = ("ece", "fpr95", "ood_fpr95")  # is better
Ids = npt.NDArray[np.integer]
Row = dict[str, Any]


def outputs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Ids and confidences by image: REL_pred.png and REL_conf.png, or what `predict --confidence` leaves.

    Raises:
        DataError: there are none.
    """
    predicted = (folder / "labels", ".png", folder / "confidence", ".png")
    for ids, ending, sure, other in ((folder, "_pred.png", folder, "_conf.png"), predicted):
        if names := [str(path.relative_to(ids)).removesuffix(ending) for path in sorted(ids.rglob(f"*{ending}"))]:
            return {name: (ids / f"{name}{ending}", sure / f"{name}{other}") for name in names}
    raise DataError(f"{folder}: no NAME_pred.png in it; name folders of logits to combine, or another --out")


def read_output(files: tuple[Path, Path]) -> tuple[Ids, npt.NDArray[np.uint16]]:
    """(H, W) ids and confidences.

    Raises:
        DataError: a file cannot be read, or they are not of one size.
    """
    pred, sure = map(read_label, files)
    if sure.dtype != np.uint16 or sure.shape != pred.shape:
        raise DataError(f"{files[1]}: {sure.dtype} of {sure.shape}, expected uint16 of {pred.shape}; make it again")
    return pred, sure.astype(np.uint16, copy=False)


def score(
    folder: Path,
    labels: Sequence[str],
    unknown: Sequence[str],
    samples: Path | None,
    stated: Mapping[str, Row],
    report: Advance,
) -> dict[str, Any]:
    """Compare what a folder holds of images with labelled shard sets.

    Args:
        labels: URLs of sets of class labels.
        unknown: URLs of sets of two classes: 0, and 1 on objects of no class.
        samples: tar of the pixels whose confidences count; None: all.
        stated: name and digest of the taxonomy of each model's folder that says it.
        report: called with the number of images done, and of all.

    Returns:
        `subsets`: by subset of BRAVO, or else by dataset, the measures (None where not defined); `semantic`, `ood` and
        `bravo_index`, harmonic means over all subsets.

    Raises:
        DataError: taxonomies differ, a labelled image has no label map and confidence or several, or they do not fit.
    """
    files = outputs(folder)
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        sets = [
            (kind, stack.enter_context(open_shards(url))) for kind, urls in enumerate((labels, unknown)) for url in urls
        ]
        classes = _classes(sets, stated)
        found = _matched(files, sets, folder)

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
            return subset, count(pred, sure, *maps, len(classes), picked)

        totals: dict[str, list[Any]] = {}
        for done, (subset, counts) in enumerate(read_ahead(pool, counted, sorted(found), ahead=4), 1):
            totals[subset] = [a + b for a, b in zip(totals.get(subset, (0, 0, 0)), (1, *counts), strict=True)]
            report(done, len(found))
    rows = {subset: _row(subset, classes, *total) for subset, total in sorted(totals.items())}
    semantic, ood = (_mean(rows.values(), keys) for keys in (SEMANTIC, OOD))
    index = None if semantic is None or ood is None else harmonic_mean([semantic, ood])
    return {"images": len(found), "subsets": rows, "semantic": semantic, "ood": ood, "bravo_index": index}


def _classes(sets: Sequence[tuple[int, ShardSet]], stated: Mapping[str, Row]) -> tuple[str, ...]:
    """Of the labels, all of one taxonomy, and that of the models; none without labels."""
    taxonomies = {shards.url: shards.manifest.native for kind, shards in sets if kind == 0}
    named = {where: (t.name, t.digest) for where, t in taxonomies.items()}
    named |= {where: (t["name"], t["digest"]) for where, t in stated.items() if taxonomies}
    if len({*named.values()}) > 1:
        raise DataError(
            f"classes differ: {', '.join(f'{where} has {name}' for where, (name, _) in named.items())}; score alike"
        )
    return next((taxonomy.classes for taxonomy in taxonomies.values()), ())


def _matched(
    files: Mapping[str, Any], sets: Sequence[tuple[int, ShardSet]], folder: Path
) -> dict[str, dict[int, tuple[ShardSet, int]]]:
    """By image that has a label, where its labels lie; of two paths one is the end of the other."""
    named, wrong = defaultdict(list), []
    found: dict[str, dict[int, tuple[ShardSet, int]]] = defaultdict(dict)
    for name in files:
        named[unescape(name).rpartition("/")[2]].append((name, f"/{unescape(name)}"))
    for kind, shards in sets:
        for i in range(len(shards)):
            key = "/" + unescape(shards.entry(i).key)
            near = [(n, path) for n, path in named[key.rpartition("/")[2]] if path.endswith(key) or key.endswith(path)]
            near = [pair for pair in near if pair[1] == key] or near
            if len(near) == 1 and kind not in found[near[0][0]]:
                found[near[0][0]][kind] = shards, i
            else:
                wrong.append(f"{key[1:]} of {shards.url} has {' and '.join(n for n, _ in near) or 'none'}")
    if wrong:
        raise DataError(
            f"{folder}: {len(wrong)} labels without one prediction of their own: {first_few(wrong)}; predict each image once"
        )
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
