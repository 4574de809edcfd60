"""Train a recipe: loader, network, trainer, validation and the account of the run, joined."""

import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segstream.callbacks import Curves, crop_panel, curve_values, forget_later, write_jpeg, write_scores
from segstream.colors import class_colors
from segstream.evaluation import EvalModel, mean_score, open_validation
from segstream.model import distributed
from segstream.model.distributed import pick_device, pick_precision
from segstream.model.evaluation.metrics import EvalResult
from segstream.model.networks.build import HEADS, build
from segstream.model.networks.weights import Loaded, load_weights
from segstream.model.training import trainer
from segstream.model.training.trainer import SIGNALS, Stopped
from segstream.model.types import LogRow
from segstream.pipeline.loader import Loader
from segstream.recipe import SCORES, Recipe, resolve
from segstream.run_metadata import run_metadata
from segstream.shards.errors import DataError, public
from segstream.shards.files import staging


def train(
    recipe: Recipe,
    run: str | Path | None = None,
    *,
    restart_changed: bool = False,
    tensorboard: bool = False,
    staged: bool = False,
    on_log: Callable[[LogRow], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    given: Sequence[str] = (),
) -> Path:
    """Train a recipe; a run that was killed goes on exactly where it was. Under torchrun, one of its processes.

    Args:
        run: folder for checkpoints, `best.pt`, `final.pt`, curves and `run.json`; None: `runs/NAME`.
        restart_changed: start over if the folder holds another recipe, data or seed.
        tensorboard: also write curves and pictures for TensorBoard, in `RUN/tensorboard`.
        staged: train in a folder beside the run folder and move it there when the run is finished.
        on_log: called on rank 0 with every row of the log.
        on_note: called on rank 0 with what a person should know, a line each.
        given: what was asked for on the command line; kept in `run.json`.

    Returns:
        The path of the weights.

    Raises:
        DataError: the data, the weights to start from or the run folder cannot be used, the folder holds another run,
            or the loss is no longer finite.
        Stopped: SIGTERM or SIGUSR1 came; all steps done are kept. From then on this process, which is to end,
            ignores both: torchrun sends SIGTERM to the others as soon as the first has ended.
    """
    folder = Path("runs") / recipe.name if run is None else Path(run)
    with ExitStack() as opened:
        group = distributed.start()
        opened.callback(distributed.stop)
        note: Callable[[str], None] = on_note if on_note is not None and group.is_main else lambda line: None
        place = opened.enter_context(staging(folder, when=staged and group.is_main))
        share = {"rank": group.rank, "world_size": group.world_size}
        loader = opened.enter_context(Loader(recipe.data, recipe.augment, recipe.loader, seed=recipe.seed, **share))
        recipe = resolve(recipe, loader.counts)
        net, loaded = open_network(recipe, loader.taxonomy.num_classes)
        evaluate: Callable[[nn.Module], dict[str, EvalResult]] | None = None
        if (asked := recipe.validate).data:
            eval_model = EvalModel.of_run(recipe, net, loader.taxonomy)
            sets = open_validation(asked.data, asked.limit, eval_model, group, best=asked.best)
            evaluate = opened.enter_context(sets)
        if group.is_main:
            curves = Curves(place, tensorboard=tensorboard)
            opened.callback(curves.close)
        for line in (*(f"warning: {warning}" for warning in loader.warnings), loader.engine_note):
            note(line)
        meta: dict[str, Any] = {
            "arch": recipe.model.arch,
            "options": recipe.model.options,
            "num_classes": loader.taxonomy.num_classes,
            "taxonomy": dataclasses.asdict(loader.taxonomy),
            "recipe": public(dataclasses.asdict(recipe)),
        }
        if loaded is not None:
            where = f" ({loaded.where})" if loaded.where else ""
            note(f"starting from {loaded.kind} {recipe.model.weights}{where}: {loaded.summary}")
            known = loaded.meta.get("taxonomy")
            learnt = known.get("classes") if isinstance(known, dict) else None
            if HEADS.keys().isdisjoint(loaded.fresh) and learnt not in (None, list(loader.taxonomy.classes)):
                note(
                    f"warning: {recipe.model.weights}: as many classes as the labels have, but others, or in another "
                    f"order; name the network's last layers in model.fresh to draw them freshly"
                )
            meta["weights"] = {"sha256": loaded.sha256, "fresh": recipe.model.fresh}

        def log(row: LogRow) -> None:
            if on_log is not None:
                on_log(row)
            curves.log(row.step, curve_values(row))

        def validate(net: nn.Module, step: int) -> float | None:
            """Every process takes part in the results, and gives the same score."""
            results = evaluate(net) if evaluate is not None else {}
            score = None if recipe.validate.best is None else mean_score(recipe.validate.best, results)
            if not group.is_main:
                return score
            if results:
                note(f"step {step}: " + ", ".join(f"{name} mIoU {100 * r.miou:.1f}" for name, r in results.items()))
                write_scores(place / "validation.json", step, results)
                curves.log(step, {f"val/{name}/{k}": getattr(r, k) for name, r in results.items() for k in SCORES})
            if count := recipe.validate.pictures:
                first = next(iter(loader.batches(0, 1)))  # always the same crops: panels show what is learnt
                panel = crop_panel(net, first, count, class_colors(loader.taxonomy.classes), recipe.eval)
                write_jpeg(place / "pictures" / f"step-{step}.jpg", panel)
                curves.picture(step, "crops", panel)
            return score

        device = pick_device(recipe.train.device)
        account = opened.enter_context(
            run_metadata(
                place,
                recipe,
                loader.fingerprint,
                given=list(given),
                world_size=group.world_size,
                device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                precision=pick_precision(recipe.train.precision, device),
                engine=loader.engine_note,
            )
        )

        def begin(step: int) -> None:
            account(step)
            curves.begin(step)
            forget_later(place, step)

        with _ignore_signals_once_stopped():
            trainer.train(
                net,
                loader,
                recipe.train,
                str(place),
                meta=meta,
                seed=recipe.seed,
                group=group,
                on_start=begin,
                on_log=log,
                on_note=note,
                on_validate=validate,
                restart_changed=restart_changed,
            )
    return folder / "final.pt"


def open_network(recipe: Recipe, num_classes: int) -> tuple[nn.Module, Loaded | None]:
    """The network of a recipe before its first step, and where its weights come from if not from the seed."""
    net = build(recipe.model.arch, num_classes, **{"seed": recipe.seed, **recipe.model.options})
    if recipe.model.weights is None:
        return net, None
    if not Path(recipe.model.weights).exists():
        where = f"that of the recipe is published at {recipe.model.published}; or " * bool(recipe.model.published)
        raise DataError(f"model.weights: {recipe.model.weights}: no such file; {where}model.weights=FILE")
    return net, load_weights(net, recipe.model.weights, fresh=recipe.model.fresh)


@contextmanager
def _ignore_signals_once_stopped() -> Iterator[None]:
    """See `train`, `Stopped`."""
    try:
        yield
    except Stopped:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a handler would be gone before the interpreter is
        raise
