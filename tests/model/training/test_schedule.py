import pytest

from segstream.model.training.trainer import poly_lr
from tests.model.toy import run


def test_the_curve_is_the_formula():
    for step in range(0, 1000, 37):
        assert poly_lr(step, base=0.01, steps=1000) == pytest.approx(0.01 * (1 - step / 1000) ** 0.9, rel=1e-12)
    assert poly_lr(0, base=0.01, steps=1000) == 0.01
    assert poly_lr(500, base=0.01, steps=1000) == pytest.approx(0.0053589, rel=1e-4)  # 0.01 * 2 ** -0.9
    assert poly_lr(999, base=0.01, steps=1000) == pytest.approx(0.01 * 1e-3**0.9)


def test_the_trainer_steps_along_it(tmp_path):
    rows = []
    run(str(tmp_path), steps=5, lr=0.05, log_every=1, on_log=rows.append)
    assert [row.lr for row in rows] == [0.05 * (1 - k / 5) ** 0.9 for k in range(5)]


def test_it_is_the_curve_of_the_reference():
    """Which sets the rate after update i to base x (1 - (i + 1) / max_iter) ^ 0.9: update 0 uses the base itself."""
    base, length, rate = 0.01, 500_000, 0.01
    for update in range(2000):
        assert poly_lr(update, base=base, steps=length) == rate
        rate = base * (1 - float(update + 1) / length) ** 0.9
