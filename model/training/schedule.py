"""The learning rate as a function of the step."""

from __future__ import annotations


def poly_lr(step: int, *, base: float, steps: int, power: float = 0.9) -> float:
    """Polynomial decay: `base` at step 0, falling to (nearly) 0 at the last step, no warm-up.

    Args:
        step: 0 .. steps - 1; the rate is for the update that this step makes.
        base: initial rate.
        steps: length of the run.
        power: 1 is linear.

    Source: Chen et al., "DeepLab", TPAMI 2018; the recipes of MSeg use power 0.9.
    """
    return float(base * (1.0 - step / steps) ** power)
