import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from segstream.model.training.mgda import min_norm


def gram_of(vectors):
    return torch.from_numpy(vectors @ vectors.T)


def by_quadratic_programme(gram):
    """Squared norm that scipy's general solver reaches from several starts; the problem is scaled to order 1 for it."""
    tasks, scale = len(gram), gram.diagonal().max()
    problem = {
        "jac": lambda x: 2 * gram @ x / scale,
        "bounds": [(0, 1)] * tasks,
        "constraints": {"type": "eq", "fun": lambda x: x.sum() - 1, "jac": lambda x: np.ones(tasks)},
        "options": {"maxiter": 500, "ftol": 1e-15},
    }
    starts = [np.full(tasks, 1 / tasks), *np.eye(tasks)]
    return scale * min(minimize(lambda x: x @ gram @ x / scale, s, method="SLSQP", **problem).fun for s in starts)


def check(gram):
    """Shares of a simplex, and the conditions that are necessary and sufficient for the shortest vector."""
    shares = min_norm(gram)
    assert shares.dtype == torch.float64
    assert shares.min() >= 0
    assert float(shares.sum()) == pytest.approx(1, abs=1e-12)
    products = gram @ shares
    squared = float(shares @ products)
    slack = 1e-10 * float(gram.diagonal().max())
    assert float(products.min()) >= squared - slack  # no vector would shorten it
    assert torch.equal(shares, min_norm(gram.clone()))
    return shares


@pytest.mark.parametrize("tasks", [2, 3, 8])
@pytest.mark.parametrize("length", [3, 50])  # below the number of vectors: some depend on the others
def test_as_short_as_a_quadratic_programme_finds(tasks, length):
    rng = np.random.default_rng((tasks, length))
    for _ in range(4):
        common = rng.normal(size=length)
        vectors = rng.normal(size=(tasks, length)) * rng.uniform(0.1, 3, size=(tasks, 1)) + common
        gram = gram_of(vectors)
        shares = check(gram)
        assert float(shares @ gram @ shares) == pytest.approx(by_quadratic_programme(gram.numpy()), rel=1e-6, abs=1e-9)


def test_two_vectors_have_a_closed_form():
    rng = np.random.default_rng(2)
    for _ in range(200):
        u, v = rng.normal(size=(2, 3)) + rng.normal(size=3)
        share = np.clip((v - u) @ v / ((u - v) @ (u - v)), 0, 1)
        np.testing.assert_allclose(min_norm(gram_of(np.stack([u, v]))), [share, 1 - share], atol=1e-9)


@pytest.mark.parametrize("tasks", [1, 2, 7])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-30, 1e30])
def test_equal_vectors_share_equally(tasks, value):
    shares = min_norm(torch.full((tasks, tasks), value, dtype=torch.float64))
    np.testing.assert_allclose(shares, np.full(tasks, 1 / tasks), atol=1e-9)


def test_a_dataset_without_gradient_takes_it_all_and_opposite_vectors_cancel():
    gram = gram_of(np.array([[3.0, 1.0], [0.0, 0.0], [1.0, 2.0]]))
    np.testing.assert_allclose(check(gram), [0, 1, 0], atol=1e-9)  # nothing is shorter than zero
    vectors = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    np.testing.assert_allclose(vectors.T @ check(gram_of(vectors)).numpy(), 0, atol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_count_alike(value):
    gram = torch.eye(3, dtype=torch.float64)
    gram[1, 2] = gram[2, 1] = value
    assert min_norm(gram).tolist() == [1 / 3] * 3
