"""How a model is evaluated on a data set: by which labels, in which classes, and which of them count. Pure rules.

| model | data set | evaluated in | regime |
|---|---|---|---|
| universal | to train on | universal classes that the data set's own map to | `training` |
| universal | to train on | its own classes, if asked for | `training-own` |
| universal | held out, or of your own | its own classes | `zero-shot` |
| of the data set's classes | any | its own classes | `oracle` |
| naive | any | its own classes | `naive` |

Source: Lambert et al., MSeg, CVPR 2020.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from segstream.shards.errors import DataError
from segstream.shards.taxonomy import Taxonomy, counted_universal, load_taxonomy, projection

Scheme = Literal["auto", "native", "universal"]
Rule = Literal["mseg", "hmsa"]
RELABELED = "universal-relabeled"
"""The member that holds relabelled labels; also the view of a recipe that trains on them."""
Regime = Literal["zero-shot", "training", "training-own", "oracle", "naive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way to evaluate a model on a data set."""

    regime: Regime
    label: str
    """Member of the shard set: `native` or `universal`."""
    relabeled: bool = False
    """Whether the model speaks in relabelled classes, so that `model.evaluation.metrics.unrelabel` rewrites its
    predictions by the member `RELABELED` before they are compared."""
    taxonomy: Taxonomy
    """The classes of the labels."""
    projection: npt.NDArray[np.float32] | None
    """(taxonomy's classes, model's classes), applied to probabilities; None if they are the same."""
    counted: tuple[int, ...]
    """Ids over which means go. Predictions of the others stay errors."""
    rule: Rule = "mseg"
    """What a class counts that occurs in neither labels nor predictions: 0 (mseg), or nothing (hmsa)."""

    @property
    def members(self) -> tuple[str, ...]:
        """The label maps that are needed of an image."""
        return (self.label, RELABELED) if self.relabeled else (self.label,)


def protocols(
    model: Taxonomy,
    native: Taxonomy,
    members: Collection[str],
    *,
    schemes: Sequence[Scheme] = ("auto",),
    learnt_relabeled: bool = False,
    relabeled: bool | None = None,
    rule: Rule = "mseg",
) -> tuple[Protocol, ...]:
    """The protocols that schemes stand for, each once.

    Args:
        model: the classes of the model's logits.
        native: the data set's own classes.
        members: labels that the data set holds, by member name.
        schemes: `auto`: universal classes for a universal model on a data set to train on, otherwise the set's own.
        learnt_relabeled: whether the model was trained on relabelled labels.
        relabeled: whether to evaluate it so; None: where it learnt them and the set has them.
        rule: what absent classes count.

    Raises:
        DataError: the model's classes say nothing about those asked for, or a label is missing.
    """
    wanted = learnt_relabeled if relabeled is None else relabeled
    found = {}
    for scheme in schemes:
        if scheme == "universal" or (scheme == "auto" and model.kind == "universal" and native.kind == "train"):
            if model.kind != "universal":
                raise DataError(
                    f"a model of the classes of {model.name!r} cannot be evaluated in universal classes; "
                    f"write --taxonomy native, or evaluate a universal model"
                )
            if "universal" not in members:
                raise DataError(f"{native.name}: its labels have no universal classes; write --taxonomy native")
            if relabeled and RELABELED not in members:
                raise DataError(
                    f"{native.name}: the set holds no relabelled labels; convert it with --relabel, or write "
                    f"--no-relabeled"
                )
            label, taxonomy, counted = "universal", load_taxonomy("universal"), counted_universal(native)
        else:
            label, taxonomy, counted = "native", native, tuple(range(native.num_classes))
        found[label] = Protocol(
            regime="training" if label == "universal" else _regime(model, native),
            label=label,
            relabeled=label == "universal" and wanted and RELABELED in members,
            taxonomy=taxonomy,
            projection=_projection(model, taxonomy),
            counted=counted,
            rule=rule,
        )
    if relabeled and "universal" not in found:
        raise DataError(f"{native.name}: relabelled labels are universal, its classes have none; leave out --relabeled")
    return tuple(found.values())


def _regime(model: Taxonomy, native: Taxonomy) -> Regime:
    """In the data set's own classes."""
    if model.digest == native.digest:
        return "oracle"
    if model.kind == "naive":
        return "naive"
    return "training-own" if native.kind == "train" else "zero-shot"


def _projection(model: Taxonomy, target: Taxonomy) -> npt.NDArray[np.float32] | None:
    matrix = projection(model, target)
    same = matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix)))
    return None if same else matrix
