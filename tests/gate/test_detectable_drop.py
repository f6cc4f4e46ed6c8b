"""What a comparison could have seen."""

import pytest

from promptops.core.suite import GatePolicy
from promptops.gate.power import detectable_drop


def steady(count: int) -> list[float]:
    """Cases as real ones are: most always pass, a few never do, one in ten is a coin."""
    return [0.5 if n % 10 == 0 else 0.0 if n % 10 == 1 else 1.0 for n in range(count)]


@pytest.mark.parametrize(("count", "points"), [(10, 26), (20, 18), (50, 10), (100, 8), (200, 5)])
def test_detectable_drop_shrinks_with_cases(count: int, points: int):
    """80 % power in points, ten rows, as found by simulating the whole gate on other noise; to within a half."""
    found = detectable_drop(steady(count), rows=10, policy=GatePolicy())

    assert found is not None
    assert 0.5 * points <= 100 * found <= 1.5 * points


def test_more_rows_and_fewer_draws_see_less():
    """The correction for 100 rows and single draws both cost."""
    base = detectable_drop(steady(50), rows=1, policy=GatePolicy())
    many = detectable_drop(steady(50), rows=100, policy=GatePolicy())
    single = detectable_drop([0.5] * 50, rows=1, policy=GatePolicy(draws=1))
    five = detectable_drop([0.5] * 50, rows=1, policy=GatePolicy(draws=5))

    assert (base or 1) < (many or 0)
    assert (five or 1) < (single or 0)


@pytest.mark.parametrize("rates", [[], [0.0] * 20, [1.0, 1.0]])
def test_no_drop_could_be_seen(rates: list[float]):
    """Nothing to lose, or two cases where three must lose before anything blocks."""
    assert detectable_drop(rates, rows=1, policy=GatePolicy()) is None
