"""Evaluation from a checkpoint, or a network in training, and shard sets: what `eval` and validation do."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self

from torch import nn

from segstream.model.config import InferConfig, used
from segstream.model.distributed import ProcessGroup, pick_device
from segstream.model.evaluation.evaluator import evaluate as evaluate_net
from segstream.model.evaluation.metrics import EvalResult
from segstream.model.evaluation.protocol import RELABELED, Protocol, Rule, Scheme, protocols
from segstream.model.evaluation.resume_log import SetLog, resume_log
from segstream.model.inference.predictor import Predictor, with_own_scales
from segstream.pipeline.eval_images import EvalImages
from segstream.recipe import Recipe
from segstream.shards.errors import DataError, did_you_mean
from segstream.shards.files import write_text
from segstream.shards.taxonomy import Taxonomy

EvalSet = tuple[EvalImages, tuple[Protocol, ...]]
"""A shard set and how a model is evaluated on it."""
Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a title, a context whose value is called with the number of images done, and of all."""


def evaluate(
    checkpoint: str | Path,
    data: str | Sequence[str],
    *,
    taxonomy: Scheme | Sequence[Scheme] = "auto",
    short_sides: Sequence[int | Literal["native"]] | None = None,
    relabeled: bool | None = None,
    rule: Rule = "mseg",
    out: str | Path | None = None,
    restart_changed: bool = False,
    **infer: Any,
) -> list[EvalResult]:
    """Evaluate a checkpoint on shard sets with native-size images.

        [result] = segstream.evaluate("runs/union-universal/final.pt", "data/shards/camvid-11/val")
        print(result.miou, [(c.name, c.iou) for c in result.classes])

    Args:
        checkpoint: a file of a run, such as `final.pt`, or another file of a network's weights.
        data: URL of a shard set, or several.
        taxonomy: classes to evaluate in, `auto`, `native` or `universal`, or several. auto: universal classes for a
            universal model on a dataset to train on, otherwise the dataset's own.
        short_sides: resize images to these shorter sides first, with a result for each; None: as the recipe says.
        relabeled: evaluate as a model of relabelled labels; None: where it learnt them and the set has them.
        rule: a class that occurs nowhere counts 0 (`mseg`) or not at all (`hmsa`).
        out: also write the results to this JSON file; an evaluation that was killed then goes on.
        restart_changed: forget another, unfinished evaluation of the same `out`, instead of refusing.
        infer: further fields of `InferConfig`, e.g. `long_side`; what is left out is as the checkpoint's recipe says.

    Returns:
        By set, by taxonomy, by side.

    Raises:
        DataError: the checkpoint, a set, an image or a label cannot be used, or a file cannot be written.
        UsageError: the file is no trained network.
    """
    model = EvalModel.load(checkpoint, short_sides=short_sides, **infer)
    schemes, urls = ([value] if isinstance(value, str) else value for value in (taxonomy, data))
    with open_sets(model, urls, schemes=schemes, relabeled=relabeled, rule=rule) as sets:
        return run_evaluation(
            model, sets, ProcessGroup(), out=None if out is None else Path(out), restart_changed=restart_changed
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalModel:
    """A network to evaluate."""

    name: str
    seed: int | None
    """Of its run; None for a published checkpoint."""
    checkpoint: str = ""
    """SHA-256 of its file; of a network in training there is none."""
    net: nn.Module
    taxonomy: Taxonomy
    learnt_relabeled: bool
    """Whether it was trained on relabelled labels."""
    configs: tuple[InferConfig, ...]
    """How to segment: one for every shorter side."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What its file says of it, see `Predictor`."""

    @classmethod
    def load(
        cls, checkpoint: str | Path, *, short_sides: Sequence[int | Literal["native"]] | None = None, **infer: Any
    ) -> Self:
        """Rebuild the network of a checkpoint, ours or a published one, on the CPU; arguments as of `evaluate`.

        Raises:
            DataError: the file is missing, damaged or of no known kind, its classes are unknown, or their number is
                not that of the network's.
            UsageError: a file without a head.
        """
        asked = infer if short_sides is None else infer | {"short_side": next(iter(short_sides), None)}
        predictor = Predictor(checkpoint, on_device=False, **asked)
        recipe, stem = predictor.meta.get("recipe"), Path(checkpoint).stem
        if "taxonomy" not in predictor.meta:
            count = predictor.taxonomy.num_classes
            raise DataError(f"{checkpoint}: nothing says what its {count} classes are; it cannot be evaluated")
        configs = [predictor.config]
        if short_sides is not None:
            sides = [None if side == "native" else side for side in dict.fromkeys(short_sides)]
            configs = [replace(predictor.config, short_side=side) for side in sides]
        return cls(
            name=recipe["name"] if recipe else stem,
            seed=recipe["seed"] if recipe else None,
            checkpoint=predictor.sha256,
            net=predictor.net,
            taxonomy=predictor.taxonomy,
            # A recipe says so; of MSeg's published files the name does, by their authors' own rule.
            learnt_relabeled=recipe["data"].get("taxonomy") == RELABELED
            if recipe
            else "mseg" in stem and "unrelabeled" not in stem,
            configs=tuple(configs),
            meta=predictor.meta,
        )

    @classmethod
    def of_run(cls, recipe: Recipe, net: nn.Module, taxonomy: Taxonomy) -> Self:
        """A network in training; `taxonomy` is that of its labels."""
        config, at = with_own_scales(recipe.eval, net), recipe.validate
        if at.short_side or at.long_side:
            config = replace(config, short_side=at.short_side, long_side=at.long_side)
        return cls(
            name=recipe.name,
            seed=recipe.seed,
            net=net,
            taxonomy=taxonomy,
            learnt_relabeled=recipe.data.taxonomy == RELABELED,
            configs=(config,),
        )


@contextmanager
def open_sets(model: EvalModel, urls: Sequence[str], **how: Any) -> Iterator[list[EvalSet]]:
    """Open sets and find out how the model is evaluated on each.

    Args:
        how: `schemes`, `relabeled` and `rule` of `model.evaluation.protocol.protocols`.

    Raises:
        DataError: a set cannot be evaluated on, or its classes do not fit the model's.
    """
    with ExitStack() as opened:
        sets = []
        for url in urls:
            images = opened.enter_context(EvalImages(url))
            native, members = images.shards.manifest.native, images.shards.manifest.members
            try:
                found = protocols(model.taxonomy, native, members, learnt_relabeled=model.learnt_relabeled, **how)
            except DataError as error:
                raise DataError(f"{url}: {error}") from error
            sets.append((images, found))
        yield sets


def run_evaluation(
    model: EvalModel,
    sets: Sequence[EvalSet],
    ranks: ProcessGroup,
    *,
    out: Path | None = None,
    restart_changed: bool = False,
    progress: Progress | None = None,
) -> list[EvalResult]:
    """Evaluate on every set. Each process of a run takes its share of the images; the outcome is the same in all.

    Args:
        out: file that gets the results, written whole by rank 0. Until then finished images are noted beside it, and
            another call goes on from there, with any number of processes.
        restart_changed: forget what another evaluation noted there, instead of refusing.

    Returns:
        By set, by protocol, by configuration.

    Raises:
        DataError: see `evaluate`; or the notes belong to another evaluation.
    """
    net = model.net.to(pick_device(model.configs[0].device)).eval()
    facts = {"model": model.name, "checkpoint": model.checkpoint, "seed": model.seed}
    found = []
    with ExitStack() as stack:
        logs: Sequence[SetLog | None] = [None] * len(sets)
        if out is not None:
            folder, identity = out.with_name(f"{out.name}.journal"), _identity(model, sets)
            logs = stack.enter_context(resume_log(folder, identity, len(sets), ranks, restart_changed=restart_changed))
        for (images, ways), log in zip(sets, logs, strict=True):
            shown = progress if ranks.is_main else None
            with shown(f"eval {model.name} on {images.url}") if shown else nullcontext() as report:
                found += evaluate_net(
                    net, images, ways, model.configs, ranks=ranks, log=log, report=report, facts=facts
                )
        if out is not None and ranks.is_main:
            rows = [result.to_json() for result in found]
            write_text(out, json.dumps(rows, indent=2, allow_nan=False) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _identity(model: EvalModel, sets: Sequence[EvalSet]) -> dict[str, Any]:
    """What the counts of an image depend on; not the rule, which comes after them."""
    return {
        "checkpoint": model.checkpoint,
        "inference": {str(n): used(config) for n, config in enumerate(model.configs, start=1)},
        "device": str(pick_device(model.configs[0].device)),
        "data": {
            f"{n} {images.dataset}/{images.split}": {
                "manifest": images.digest,
                "labels": {p.taxonomy.name: p.label + (", relabelled" if p.relabeled else "") for p in ways},
            }
            for n, (images, ways) in enumerate(sets, start=1)
        },
    }


@contextmanager
def open_validation(
    urls: Sequence[str], limit: int | None, model: EvalModel, ranks: ProcessGroup, *, best: str | None = None
) -> Iterator[Callable[[nn.Module], dict[str, EvalResult]]]:
    """The shard sets of a recipe's `validate.data`, opened once.

    Args:
        limit: images of each set, evenly spread over it; None: all.
        model: whose classes are evaluated, and how images are segmented; its network is not used.
        best: a name that `mean_score` is to understand.

    Returns:
        Evaluates a network, in eval mode, on every set: results by name. Every process calls it, segments its share of
        the images and gets the same: what is added up are whole numbers of pixels.

    Raises:
        DataError: a set is incomplete, has no labels, or the model's classes say nothing about its own; `best` names
            none.
    """
    with open_sets(model, urls) as sets:
        named: dict[str, EvalSet] = {}
        for images, ways in sets:
            name = images.dataset if images.dataset not in named else f"{images.dataset}-{images.split}"
            if name in named:
                raise DataError(f"validate.data: {images.url}: a set of {name} is named twice; remove one")
            named[name] = images, ways

        if (wanted := (best or "").rpartition("/")[0]) and wanted not in named:
            raise DataError(f"validate.best: {best}: {wanted!r} is not in validate.data; {did_you_mean(wanted, named)}")

        def results(net: nn.Module) -> dict[str, EvalResult]:
            found = {}
            for name, (images, ways) in named.items():
                samples = spread(len(images), limit)
                (found[name],) = evaluate_net(net, images, ways, model.configs, samples=samples, ranks=ranks)
            return found

        yield results


def mean_score(best: str, results: Mapping[str, EvalResult]) -> float:
    """`miou`, `macc` or `acc`, of the set before a slash or the mean over all: what a recipe's `validate.best` says."""
    wanted, _, kind = best.rpartition("/")
    return fmean(getattr(result, kind) for name, result in results.items() if wanted in ("", name))


def spread(size: int, limit: int | None) -> Sequence[int]:
    """Numbers of at most `limit` of `size` samples, evenly spread over the set, ascending, each once."""
    count = size if limit is None else min(limit, size)
    return [i * size // count for i in range(count)]
