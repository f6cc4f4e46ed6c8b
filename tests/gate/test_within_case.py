"""The within-case permutation test against all its permutations, McNemar and scipy."""

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from promptops.gate.stats import within_case_p

Side = Sequence[Sequence[float]]


def by_enumeration(baseline: Side, candidate: Side) -> float:
    """P(candidate's total <= observed) over every way to label the draws of each case, all equally likely."""
    pools = [(*before, *after) for before, after in zip(baseline, candidate, strict=True)]
    per_case = [
        [sum(pool[i] for i in chosen) for chosen in combinations(range(len(pool)), len(after))]
        for pool, after in zip(pools, candidate, strict=True)
    ]
    observed = sum(map(sum, candidate))
    totals = [sum(choice) for choice in product(*per_case)]
    return sum(total <= observed + 1e-9 for total in totals) / len(totals)


def a_side(cases: int, draws: int, value: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, ...]]]:
    return st.lists(st.tuples(*[value] * draws), min_size=cases, max_size=cases)


def two_sides(value: st.SearchStrategy[float], *, max_cases: int = 4) -> st.SearchStrategy[tuple[Side, Side]]:
    shapes = st.tuples(st.integers(1, max_cases), st.integers(1, 3), st.integers(1, 3))
    return shapes.flatmap(lambda shape: st.tuples(a_side(shape[0], shape[1], value), a_side(shape[0], shape[2], value)))


@settings(deadline=None)
@given(two_sides(st.sampled_from([0.0, 1.0])))
def test_pass_fail_p_is_the_share_of_relabellings(sides: tuple[Side, Side]):
    """Exact, for any number of draws on either side."""
    assert by_enumeration(*sides) == pytest.approx(within_case_p(*sides, seed=0))


@pytest.mark.parametrize(("broken", "fixed"), [(1, 0), (5, 0), (9, 1), (4, 4), (0, 6), (30, 12)])
def test_one_draw_a_side_is_the_exact_mcnemar_test(broken: int, fixed: int):
    """Of the cases that changed, the number that broke is Binomial(n, 1/2); those that did not change say nothing."""
    before = [(1.0,)] * broken + [(0.0,)] * fixed + [(1.0,)] * 7
    after = [(0.0,)] * broken + [(1.0,)] * fixed + [(1.0,)] * 7

    expected = stats.binomtest(broken, broken + fixed, alternative="greater").pvalue

    assert expected == pytest.approx(within_case_p(before, after, seed=0))


def test_one_case_is_fishers_exact_test():
    """5/5 -> 1/5: P(X <= 1) = (4 * 1 + ...) of the hypergeometric; as Fisher's test of the 2x2 table."""
    expected = stats.fisher_exact([[5, 0], [1, 4]], alternative="greater").pvalue

    assert expected == pytest.approx(within_case_p([(1,) * 5], [(1, 0, 0, 0, 0)], seed=0))


def test_sum_of_hypergeometric_cases_by_hand():
    """Two cases, 2 draws a side, 2/2 -> 0/2 each: each total of 0 has 1 of C(4, 2) = 6 labellings, so p = 1/36."""
    assert 1 / 36 == pytest.approx(within_case_p([(1, 1), (1, 1)], [(0, 0), (0, 0)], seed=0))


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_cases_that_never_vary_say_nothing(value: float):
    """p = 1 without a difference, and cases without one leave the p of the others as it is."""
    same = [(value, value)] * 3

    assert 1.0 == within_case_p(same, same, seed=0)
    assert within_case_p([(1, 1)], [(0, 0)], seed=0) == within_case_p([(1, 1), *same], [(0, 0), *same], seed=0)


@settings(max_examples=25, deadline=None)
@given(two_sides(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), st.integers(0, 2**32))
def test_score_p_by_monte_carlo_is_near_the_share_of_relabellings(sides: tuple[Side, Side], seed: int):
    """1,999 permutations: within five standard errors, plus the one that is always counted."""
    expected = by_enumeration(*sides)
    found = within_case_p(*sides, seed=seed)

    assert abs(found - expected) <= 5 * (expected * (1 - expected) / 1_999) ** 0.5 + 1 / 2_000


def test_score_p_is_never_zero_and_repeats_for_a_seed():
    """The observed labelling is one of them: p >= 1 / 2,000. Same seed, same p."""
    before, after = [(0.9, 0.8, 0.7)] * 15, [(0.1, 0.2, 0.3)] * 15

    assert 1 / 2_000 == within_case_p(before, after, seed=1)
    assert within_case_p(before[:2], after[:2], seed=7) == within_case_p(before[:2], after[:2], seed=7)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.05])
def test_score_p_of_many_cases_is_near_scipys_permutation_test(shift: float):
    """Above 15 varying cases the normal approximation: 40 cases, one draw a side, labels exchanged within pairs."""
    rng = np.random.default_rng(3)
    before = rng.uniform(0.2, 0.8, 40)
    after = np.clip(before + rng.normal(-shift, 0.1, 40), 0, 1)

    exact = stats.permutation_test(
        (after, before), lambda a, b, axis: (a - b).sum(axis=axis), permutation_type="samples", alternative="less",
        vectorized=True, n_resamples=20_000, rng=np.random.default_rng(4),
    )  # fmt: skip

    found = within_case_p([(value,) for value in before], [(value,) for value in after], seed=0)
    assert exact.pvalue == pytest.approx(found, abs=0.02)


def test_normal_p_of_scores_is_near_the_exact_p():
    """20 cases of 3 v 3 draws, scores 0 and 1 but for one hundredth, so that exact and normal answer the same question."""
    rng = np.random.default_rng(5)
    before, after = (rng.integers(0, 2, (20, 3)).astype(float) for _ in range(2))
    exact = within_case_p(before.tolist(), after.tolist(), seed=0)

    found = within_case_p((before * 0.99).tolist(), (after * 0.99).tolist(), seed=0)

    # Half a step of the total is what a normal curve misses of a discrete one; one step is 1 / sd = 0.26 of a z.
    assert exact == pytest.approx(found, abs=0.08)


@settings(deadline=None)
@given(two_sides(st.sampled_from([0.0, 1.0])))
def test_worse_and_better_share_only_the_observed_total(sides: tuple[Side, Side]):
    """P(<=) + P(>=) = 1 + P(=), so the two one-sided p sum to at least 1."""
    baseline, candidate = sides

    assert within_case_p(baseline, candidate, seed=0) + within_case_p(candidate, baseline, seed=0) >= 1 - 1e-9
