"""Command: ensemble."""

from __future__ import annotations

import json as jsonlib
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import typer

from segstream.cli.commands.options import Json, ServerIds
from segstream.cli.console import note, print_json, progress
from segstream.shards.errors import DataError, UsageError
from segstream.shards.files import write_text
from segstream.shards.parallel import read_ahead
from segstream.shards.taxonomy import server_ids

if TYPE_CHECKING:
    from segstream.model.inference.ensemble import Confidence, Rule

ENDING = "_logits.npz"
IDENTITY, PREDICTED, SCORES = "ensemble.json", "predict.json", "score.json"


Files = list[tuple[Path, float]]
"""What the models wrote about one image, with the models' weights."""


def ensemble(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Results of predict --logits, or any folders of *_logits.npz.",
            default_factory=list,
            show_default="none: score or pack what --out holds",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for NAME_pred.png and NAME_conf.png.")],
    rule: Annotated[
        Literal["softmax", "max", "logits"],
        typer.Option(help="Best class of: mean of softmax, their maximum, or mean of logits."),
    ] = "softmax",
    weights: Annotated[
        str | None, typer.Option(help="What each model counts in means, e.g. 2,1.", show_default="all alike")
    ] = None,
    confidence: Annotated[
        Literal["max_softmax_mean_softmax", "max_softmax_min_softmax", "rba_mean_logit"],
        typer.Option(help="See docs/inference.md."),
    ] = "max_softmax_mean_softmax",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Combine the others where a model lacks an image.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make everything again.")] = False,
    ids: ServerIds = None,
    score: Annotated[list[str] | None, typer.Option(help="Labelled set to compare with; writes score.json.")] = None,
    score_ood: Annotated[
        list[str] | None, typer.Option(help="Set of labels that are 1 on objects of no class.")
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="BRAVO's tar of sampled pixels, unpacked: these count.")] = None,
    submission: Annotated[Path | None, typer.Option(help="Tar to write of BRAVO's encoded files.")] = None,
    json: Json = False,
) -> None:
    """Combine models' dumped logits into label maps and confidences, and score them; goes on where it was stopped."""
    from segstream.cli.predictions.bravo import write_submission
    from segstream.cli.predictions.output_folder import claim, outputs
    from segstream.cli.predictions.score import print_scores, score_folder

    further = score or score_ood or submission
    if (ids and further) or not (folders or further):
        raise UsageError("name FOLDERS, or --score URL or --submission FILE for what --out holds, which have no --ids")
    if submission and not samples:
        raise UsageError("--submission: needs the pixels BRAVO samples, bravo_SAMPLING.tar unpacked, as --samples")
    table = None if ids is None else server_ids(ids, *_taxonomies(folders))
    counts = _weights(weights, len(folders))
    images, incomplete = find(folders, counts)
    if incomplete and not allow_missing:
        raise DataError(
            f"{len(incomplete)} of {len(images)} images are not of all models, the first: {incomplete[0]}{ENDING}; "
            f"dump them, or combine the others with --allow-missing"
        )
    identity: dict[str, Any] = {"models": [str(folder.resolve()) for folder in folders], "weights": counts}
    identity |= {"rule": rule, "confidence": confidence, "allow_missing": allow_missing}
    if confidence == "rba_mean_logit":
        identity["high"] = "sure"  # folders of former versions hold the opposite
    identity |= {} if ids is None else {"ids": ids}
    resume = bool(folders) and claim(out / IDENTITY, identity, overwrite=overwrite)
    made = 0
    with progress("ensemble") as report:
        for done, (name, files) in enumerate(images.items(), 1):
            made += _combined(name, files, out, rule, confidence, table, resume=resume)
            report(done, len(images))
    if made:
        (out / SCORES).unlink(missing_ok=True)  # of what was here before
    summary: dict[str, Any] = {"out": str(out), "images": len(images), "made": made, "incomplete": incomplete}
    if score or score_ood:
        with progress("score") as report:
            summary["score"] = found = score_folder(out, (score or [], score_ood or []), samples, report)
        write_text(out / SCORES, jsonlib.dumps(found, indent=1) + "\n")
    if submission and samples:
        write_submission(submission, outputs(out), samples)
    if json:
        print_json(summary)
        return
    if folders:
        note(f"ensemble: {made} images of {len(folders)} models; {len(images) - made} were finished already")
    if "score" in summary:
        print_scores(summary["score"])


def find(folders: Sequence[Path], weights: Sequence[float]) -> tuple[dict[str, Files], list[str]]:
    """Images that any model wrote about, by path below the folders, sorted; and the names of those that not all did.

    Raises:
        DataError: a folder is missing or holds no logits.
    """
    found: dict[str, Files] = {}
    for folder, weight in zip(folders, weights, strict=True):
        root = folder / "logits" if (folder / "logits").is_dir() else folder
        files = sorted(root.rglob(f"*{ENDING}"))
        if not files:
            raise DataError(f"{folder}: no *{ENDING} in it; run `segstream predict --logits` first")
        for file in files:
            found.setdefault(file.relative_to(root).as_posix().removesuffix(ENDING), []).append((file, weight))
    return dict(sorted(found.items())), sorted(name for name, files in found.items() if len(files) < len(folders))


def read_logits(path: Path) -> npt.NDArray[np.floating]:
    """The array `logits` of a dump, (C, H, W), of any precision.

    Raises:
        DataError: the file is damaged, holds another array or one that is not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            logits: npt.NDArray[np.floating] = file["logits"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no array `logits` that can be read ({error}); dump it again") from error
    if logits.ndim != 3 or logits.dtype.kind != "f":
        raise DataError(f"{path}: {logits.dtype} of {logits.shape}, not floats of three sides; dump it again")
    if not np.isfinite(logits).all():
        raise DataError(f"{path}: `logits` holds nan or infinity; dump it again")
    return logits


def _combined(
    name: str, files: Files, out: Path, rule: Rule, confidence: Confidence, table: Any, *, resume: bool
) -> bool:
    """Make the outputs of an image; False if they are there already."""
    from segstream.cli.predictions.output_folder import newer, write_label
    from segstream.model.inference.ensemble import as_uint16, combine

    pred, conf = (out / f"{name}_{kind}.png" for kind in ("pred", "conf"))
    if resume and newer([pred, conf], out / IDENTITY, *(file for file, _ in files)):
        return False
    paths, weights = zip(*files, strict=True)
    with ThreadPoolExecutor(1) as pool:  # the next model's file is unpacked while one is added; two at most are held
        logits = read_ahead(pool, read_logits, paths, ahead=1)
        try:
            ids, sureness = combine(zip(logits, weights, strict=True), rule=rule, confidence=confidence)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    if table is not None and ids.max() >= len(table):
        raise DataError(f"{name}: of more than {len(table)} classes, which --ids cannot say; combine without it")
    write_label(conf, as_uint16(sureness))
    write_label(pred, ids if table is None else table[ids])
    return True


def _taxonomies(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Name and digest of the taxonomy of each folder that `predict` made."""
    for folder in folders:
        with suppress(OSError, ValueError, LookupError, TypeError):
            stated = jsonlib.loads((folder / PREDICTED).read_text(encoding="utf-8"))["taxonomy"]
            yield stated["name"], stated["digest"]


def _weights(text: str | None, count: int) -> list[float]:
    if text is None:
        return [1.0] * count
    weights = []
    with suppress(ValueError):
        weights = [float(part) for part in text.split(",")]
    if len(weights) != count or not all(0 < weight < float("inf") for weight in weights):
        raise UsageError(f"--weights {text!r}: give {count} numbers above 0, one for each model, with commas between")
    return weights
