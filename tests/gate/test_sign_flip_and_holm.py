"""The sign-flip guard against all sign patterns, and Holm's correction against its definition."""

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from promptops.gate.stats import holm, sign_flip_p


def by_enumeration(differences: Sequence[float]) -> float:
    """Share of sign patterns with a total at or below the observed one."""
    patterns = list(product((-1, 1), repeat=len(differences)))
    observed = sum(differences) + 1e-9
    totals = [sum(sign * abs(value) for sign, value in zip(pattern, differences, strict=True)) for pattern in patterns]
    return sum(total <= observed for total in totals) / len(patterns)


@settings(deadline=None)
@given(st.lists(st.sampled_from([n / 5 for n in range(-5, 6)] + [n / 3 for n in range(-3, 4)]), max_size=8))
def test_sign_flip_p_of_pass_rates_is_exact(differences: list[float]):
    """Means of up to 5 pass/fail draws lie on a grid: all 2^n signs are counted."""
    assert by_enumeration(differences) == pytest.approx(sign_flip_p(differences, seed=0))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.integers(0, 2**32))
def test_sign_flip_p_of_scores_is_near_exact(differences: list[float], seed: int):
    """Off the grid 1,999 random patterns: within five standard errors, plus the one that is always counted."""
    differences = [round(value, 3) for value in differences]
    expected = by_enumeration(differences)

    assert (
        abs(sign_flip_p(differences, seed=seed) - expected)
        <= 5 * (expected * (1 - expected) / 1_999) ** 0.5 + 1 / 2_000
    )


def test_sign_flip_p_of_equal_sizes_is_the_sign_test():
    """Seven of eight losing by the same size: Binomial(8, 1/2) >= 7."""
    expected = stats.binomtest(7, 8, alternative="greater").pvalue

    assert expected == pytest.approx(sign_flip_p([-0.2] * 7 + [0.2], seed=0))


def test_sign_flip_p_without_differences_is_one():
    """Nothing changed, nothing found."""
    assert [1.0, 1.0] == [sign_flip_p([], seed=0), sign_flip_p([0.0, 0.0], seed=0)]


def test_holm_by_hand():
    """Holm 1979: the smallest times 4, the next times 3 and so on, each raised to what came before, none above 1."""
    assert [0.04, 0.06, 0.06, 0.06] == pytest.approx(holm([0.01, 0.02, 0.03, 0.04]))
    assert [0.06, 0.04, 0.9, 0.06] == pytest.approx(holm([0.03, 0.01, 0.9, 0.02]))
    assert [1.0, 1.0, 1.0] == holm([0.6, 0.9, 0.5])


def closed_testing(p_values: Sequence[float]) -> list[float]:
    """Holm by the closure principle: the largest Bonferroni p of all subsets that hold the hypothesis."""
    subsets = [which for which in product((False, True), repeat=len(p_values)) if any(which)]

    def bonferroni(which: tuple[bool, ...]) -> float:
        return min(1.0, sum(which) * min(p for p, chosen in zip(p_values, which, strict=True) if chosen))

    return [max(bonferroni(which) for which in subsets if which[index]) for index in range(len(p_values))]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=7))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]):
    """The definition that proves the bound (Marcus, Peritz and Gabriel 1976), by brute force."""
    assert closed_testing(p_values) == pytest.approx(holm(p_values))
