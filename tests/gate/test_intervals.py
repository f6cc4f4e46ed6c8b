"""Intervals for rates and differences, against published tables."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptops.gate.stats import (
    Interval,
    independent_rate_interval,
    mean_interval,
    paired_rate_interval,
    redraw_interval,
    weighted_interval,
    wilson_interval,
)


def rounded(interval: Interval) -> tuple[float, float]:
    return round(interval.low, 4), round(interval.high, 4)


@pytest.mark.parametrize(
    ("passed", "total", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_interval_is_that_of_the_table(passed: int, total: int, expected: tuple[float, float]):
    """Newcombe 1998, Stat. Med. 17:857-872, table I, method 3."""
    assert expected == rounded(wilson_interval(passed, total))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ((36, 2, 12, 0), (0.0569, 0.3404)),  # Newcombe 1998, Stat. Med. 17:2635-2650, table II, method 10
        (
            (59, 16, 6, 80),
            (-0.1186, -0.0046),
        ),  # Fagerland et al. 2017, Analysis of Contingency Tables, ch. 8: Cavo 2012
    ],
)
def test_paired_interval_is_that_of_the_table(cells: tuple[int, int, int, int], expected: tuple[float, float]):
    """Cells are (passed twice, broken, fixed, failed twice); the difference is after minus before."""
    assert expected == rounded(paired_rate_interval(*cells))


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_paired_interval_holds_the_difference_and_mirrors(cells: tuple[int, int, int, int]):
    """low <= difference <= high in [-1, 1], and exchanging the sides changes signs."""
    both, broken, fixed, neither = cells
    found, mirror = paired_rate_interval(*cells), paired_rate_interval(both, fixed, broken, neither)

    assert -1 <= found.low <= (fixed - broken) / sum(cells) + 1e-12
    assert (found.low, found.high) == pytest.approx((-mirror.high, -mirror.low))


@pytest.mark.parametrize(("passed", "total"), [(0, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_C5_rate_of_nothing_is_refused(passed: float, total: int):
    """0/0, NaN and more passes than draws are no rates."""
    with pytest.raises(ValueError, match="is not a rate"):
        wilson_interval(passed, total)


def test_mean_interval_is_students():
    """Student 1908, sleep data: mean difference 1.58 hours, 95 % interval 0.70 to 2.46 (as in R, ?sleep)."""
    extra = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]

    found = mean_interval(extra)

    assert (0.7001, 2.4599) == rounded(found)


def test_mean_of_one_value_has_no_bounds():
    """One group tells nothing of how groups vary."""
    assert Interval(low=-math.inf, high=math.inf) == mean_interval([0.5])


def test_redraw_interval_by_hand():
    """Two cases, 2 draws a side: 1/2 -> 0/2 and 2/2 -> 2/2.

    Case one has draws 1, 0, 0, 0: variance 1/4, times (1/2 + 1/2). The mean difference is -1/4, the half width
    1.96 * sqrt(1/4 + 1) / 2 = 1.0957, so the lower end is cut at -1.
    """
    found = redraw_interval([(1, 0), (1, 1)], [(0, 0), (1, 1)])

    assert (-1.0, 0.8457) == rounded(found)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.tuples(*[st.integers(0, 1)] * 3)] * 2), min_size=1, max_size=30))
def test_redraw_interval_holds_the_difference(cases: list[tuple[tuple[int, ...], tuple[int, ...]]]):
    """It is never a point: few equal draws do not make certain."""
    found = redraw_interval([before for before, _ in cases], [after for _, after in cases])
    difference = sum(sum(after) - sum(before) for before, after in cases) / 3 / len(cases)

    assert found.low <= difference <= found.high
    assert found.low < found.high


def test_redraw_interval_without_cases_is_refused():
    """A mean over nothing is no number."""
    with pytest.raises(ValueError, match="no cases"):
        redraw_interval([], [])


@pytest.mark.parametrize(
    ("before", "after", "low", "high"),
    [((48, 80), (56, 70), 0.0524, 0.3339), ((0, 10), (10, 10), 0.6075, 1.0), ((10, 10), (0, 10), -1.0, -0.6075)],
)
def test_interval_of_two_rates_that_are_not_paired(before, after, low, high):
    """Newcombe 1998, Stat. Med. 17:873-890, table II: 56/70 - 48/80 = 0.2 [0.0524, 0.3339]; 10/10 - 0/10 = 1 [0.6075, 1]."""
    found = independent_rate_interval(before, after)

    assert (low, high) == (round(found.low, 4), round(found.high, 4))


def weighted_rate(*parts: tuple[float, int, int]) -> Interval:
    return weighted_interval([(weight, passed / n, wilson_interval(passed, n)) for weight, passed, n in parts])


def test_a_weighted_interval_adds_the_squares_of_the_distances():
    """By hand: 0.75 * 8/10 + 0.25 * 15/20, Wilson (0.4902, 0.9433) and (0.5313, 0.8881)."""
    down = math.hypot(0.75 * (0.8 - 0.4902), 0.25 * (0.75 - 0.5313))
    up = math.hypot(0.75 * (0.9433 - 0.8), 0.25 * (0.8881 - 0.75))

    found = weighted_rate((0.75, 8, 10), (0.25, 15, 20))

    assert (pytest.approx(0.7875 - down, abs=1e-4), pytest.approx(0.7875 + up, abs=1e-4)) == (found.low, found.high)


def test_one_part_of_all_the_weight_has_its_own_interval():
    """A category without traffic widens nothing."""
    found = weighted_rate((1.0, 8, 10), (0.0, 0, 3))

    assert rounded(wilson_interval(8, 10)) == rounded(found)


@pytest.mark.parametrize("rates", [(0.9, 0.5), (0.95, 0.95), (0.7, 0.99), (0.5, 0.2)])
def test_a_weighted_interval_holds_the_truth_as_often_as_it_says(rates: tuple[float, float]):
    """Exactly, over every outcome of 12 and 20 cases at these true rates: at least 93 of 100 at 95 %."""
    sizes, weights = (12, 20), (0.8, 0.2)
    truth = sum(weight * rate for weight, rate in zip(weights, rates, strict=True))
    held = 0.0
    for first in range(sizes[0] + 1):
        for second in range(sizes[1] + 1):
            chance = math.prod(math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
                               for n, k, rate in zip(sizes, (first, second), rates, strict=True))  # fmt: skip
            found = weighted_rate((weights[0], first, sizes[0]), (weights[1], second, sizes[1]))
            held += chance * (found.low <= truth <= found.high)

    assert held >= 0.93
