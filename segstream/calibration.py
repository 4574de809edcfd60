"""A temperature for a model: fitted to labelled images, stored beside its weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segstream.evaluation import EvalModel, open_sets
from segstream.model.checkpoint import Final, on_cpu, save_file
from segstream.model.distributed import pick_device
from segstream.model.evaluation.calibration import fit_temperature
from segstream.model.evaluation.evaluator import check_label
from segstream.model.inference.infer import logits
from segstream.shards.errors import DataError
from segstream.shards.taxonomy import IGNORE_INDEX

PIXELS = 1 << 17  # whose logits are held, over all images


def calibrate(model: EvalModel, urls: Sequence[str], out: Path) -> float:
    """Fit the temperature at which the labels have the greatest likelihood, and write the model with it.

    Pixels are drawn evenly from all images, the same ones each time.

    Args:
        model: how it segments, `configs[0]`, is how its logits come about; see `model.inference.infer.logits`.
        urls: shard sets of the model's own classes.
        out: a checkpoint like a run's `final.pt`, with the same weights; who loads it gets logits / temperature.

    Returns:
        The temperature.

    Raises:
        DataError: the model has a temperature already, a set is of other classes or has no labels, no temperature fits,
            or the file cannot be written.
    """
    if "temperature" in model.meta:
        raise DataError(f"the model has a temperature, {model.meta['temperature']}; fit one to the file without")
    net, margins = model.net.to(pick_device(model.configs[0].device)).eval(), []
    with open_sets(model, urls) as sets:
        share = max(1, PIXELS // sum(len(images) for images, _ in sets))
        for images, (protocol, *_) in sets:
            if protocol.projection is not None:
                raise DataError(f"{images.url}: not of the model's own classes, {model.taxonomy.name}; give such a set")
            for n, (where, image, labels) in enumerate(images.read(range(len(images)), protocol.members)):
                label = labels[protocol.members[-1]]
                check_label(where, image, label, model.taxonomy.num_classes)
                picked = np.random.default_rng(n).permutation(np.flatnonzero(label != IGNORE_INDEX))[:share]
                z = logits(net, [image], None, model.configs[0])[0].flatten(1).cpu().numpy()[:, picked]
                margins.append(z - z[label.ravel()[picked], np.arange(len(picked))])
    temperature = fit_temperature(margins)
    meta = {**model.meta, "temperature": temperature}
    save_file(out, Final(identity={"of": model.checkpoint}, meta=meta, step=0, weights=on_cpu(dict(net.state_dict()))))
    return temperature
