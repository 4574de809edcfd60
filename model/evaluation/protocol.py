"""How a model is judged on a data set: by which labels, in which classes, and which of them count. Pure rules.

| model | data set | judged in | regime |
|---|---|---|---|
| universal | to train on | universal classes that the data set's own map to | `training` |
| universal | to train on | its own classes, if asked for | `training-own` |
| universal | held out, or of your own | its own classes | `zero-shot` |
| of the data set's classes | any | its own classes | `oracle` |
| naive | any | its own classes | `naive` |

Source: Lambert et al., MSeg, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from segstream.shards.errors import DataError
from segstream.shards.taxonomy import Taxonomy, counted_universal, load_taxonomy, projection

Scheme = Literal["auto", "native", "universal"]
RELABELED = "universal-relabeled"
"""The member that holds relabelled labels; also the view of a recipe that trains on them."""
Regime = Literal["zero-shot", "training", "training-own", "oracle", "naive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way to judge a model on a data set."""

    regime: Regime
    label: Literal["native", "universal"]
    """Member of the shard set."""
    relabeled: bool
    """Whether the model speaks in relabelled classes, so that its predictions are rewritten before they are judged."""
    taxonomy: Taxonomy
    matrix: npt.NDArray[np.float32]
    """(taxonomy's classes, model's classes): applied to probabilities."""
    counted: tuple[int, ...]
    """Ids over which means go. Predictions of the others stay errors."""


def protocols(
    model: Taxonomy,
    native: Taxonomy,
    members: Collection[str],
    *,
    schemes: Sequence[Scheme] = ("auto",),
    learnt_relabeled: bool = False,
    relabeled: bool | None = None,
) -> tuple[Protocol, ...]:
    """The protocols that schemes stand for, each once.

    Args:
        model: the classes of the model's logits.
        native: the data set's own classes.
        members: labels that the data set holds, by member name.
        schemes: `auto`: universal classes for a universal model on a data set to train on, otherwise the set's own.
        learnt_relabeled: whether the model was trained on relabelled labels.
        relabeled: whether to judge it so; None: where it learnt them and the set has them.

    Raises:
        DataError: the model's classes say nothing about those asked for, or a label is missing.
    """
    found = {}
    for scheme in schemes:
        if scheme == "universal" or (scheme == "auto" and model.kind == "universal" and native.kind == "train"):
            protocol = _in_universal(model, native, members, learnt_relabeled, relabeled)
        else:
            protocol = _in_own(model, native)
        found[protocol.label] = protocol
    if relabeled and all(p.label == "native" for p in found.values()):
        raise DataError(
            f"{native.name}: relabelled labels are universal, its own classes have none; leave out --relabeled"
        )
    return tuple(found.values())


def _in_own(model: Taxonomy, native: Taxonomy) -> Protocol:
    regime: Regime = "zero-shot"
    if model.digest == native.digest:
        regime = "oracle"
    elif model.kind == "naive":
        regime = "naive"
    elif native.kind == "train":
        regime = "training-own"
    return Protocol(
        regime=regime,
        label="native",
        relabeled=False,
        taxonomy=native,
        matrix=projection(model, native),
        counted=tuple(range(native.num_classes)),
    )


def _in_universal(
    model: Taxonomy, native: Taxonomy, members: Collection[str], learnt_relabeled: bool, relabeled: bool | None
) -> Protocol:
    if model.kind != "universal":
        raise DataError(
            f"a model of the classes of {model.name!r} cannot be judged in universal classes; "
            f"write --taxonomy native, or evaluate a universal model"
        )
    if "universal" not in members:
        raise DataError(f"{native.name}: its labels have no universal classes; write --taxonomy native")
    if relabeled and RELABELED not in members:
        raise DataError(
            f"{native.name}: the set holds no relabelled labels; convert it with --relabel, or write --no-relabeled"
        )
    wanted = learnt_relabeled if relabeled is None else relabeled
    universal = load_taxonomy("universal")
    return Protocol(
        regime="training",
        label="universal",
        relabeled=wanted and RELABELED in members,
        taxonomy=universal,
        matrix=projection(model, universal),
        counted=counted_universal(native),
    )
