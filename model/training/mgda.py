"""Shares of several losses whose gradients pull apart: the shortest vector between all of them.

The multiple-gradient descent algorithm goes along the convex combination of the gradients that has the smallest norm:
a direction in which no loss rises. What is solved here is which combination that is.

Sources: Désidéri, "Multiple-gradient descent algorithm", Comptes Rendus Mathématique 350 (2012); Sener and Koltun,
"Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, the baseline of MSeg. Solved exactly, by the finite
algorithm of Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11 (1976).
"""

import torch
from torch import Tensor

PULL = 1e-13  # towards equal shares, relative to the largest squared norm: above rounding, below anything that matters
ROUNDING = 1e-15


def min_norm(gram: Tensor) -> Tensor:
    """The convex combination of D vectors that has the smallest norm.

    Where several combinations do (equal or opposite vectors, all of them zero), it is the one with the most equal
    shares; where nothing can be told, for a vector is not finite, all count alike. A function of `gram` alone: every
    process that has the same products finds the same shares.

    Args:
        gram: (D, D) float64, dot products of the D vectors with each other, D >= 0; on the CPU.

    Returns:
        (D,) float64; shares of 0 or above that sum to 1.
    """
    tasks = len(gram)
    if not bool(gram.isfinite().all() & gram.any()):
        return torch.full((tasks,), 1 / max(tasks, 1), dtype=torch.float64)
    largest = gram.diagonal().max()
    scaled = (gram + gram.T) / (2 * largest) + PULL * torch.eye(tasks, dtype=torch.float64)

    shares = torch.zeros(tasks, dtype=torch.float64)
    shares[scaled.diagonal().argmin()] = 1.0
    shortest = torch.inf
    while True:
        products = scaled @ shares  # of the present combination with each vector
        squared = float(shares @ products)
        lowest = int(products.argmin())
        # Done when no vector is nearer to the origin's side; a norm that no longer falls is rounding.
        if squared >= shortest or products[lowest] >= squared - ROUNDING * float(scaled[lowest, lowest]):
            return shares / shares.sum()
        shortest = squared
        best = shares
        shares = _within(scaled, shares, lowest)
        if float(shares @ scaled @ shares) >= shortest:
            return best / best.sum()


def _within(gram: Tensor, shares: Tensor, entering: int) -> Tensor:
    """The shortest combination of the vectors in use and one more, giving up those whose share reaches 0."""
    used = shares > 0
    used[entering] = True
    while True:
        aim = torch.zeros_like(shares)
        aim[used] = torch.linalg.solve(gram[used][:, used], torch.ones(int(used.sum()), dtype=gram.dtype))
        aim /= aim.sum()  # shortest of the plane through the vectors, which may lie outside of their hull
        below = used & (aim <= 0)
        if not bool(below.any()):
            return aim
        way = torch.where(below, shares / (shares - aim), torch.inf)
        shares = (shares + way.min() * (aim - shares)).clamp(min=0.0)
        used &= shares > 0
        used[way.argmin()] = False
        shares = torch.where(used, shares, 0.0)
