"""Step-down min-P of two exported runs, against all sign patterns."""

from collections.abc import Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from promptops.gate.min_p import min_p

ROWS = ("a", "b")
ERROR = 5 * (0.25 / 9_999) ** 0.5
"""Five standard errors of a share of 9,999 resamples."""


def by_enumeration(drops: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """(raw, adjusted) p of two rows from all sign patterns: Westfall and Young 1993, algorithm 2.8, step-down min-P."""
    patterns = list(product((-1, 1), repeat=len(drops)))
    totals = {
        row: [sum(sign * drop.get(row, 0) for sign, drop in zip(pattern, drops, strict=True)) for pattern in patterns]
        for row in ROWS
    }

    def tail(row: str, total: float) -> float:
        return sum(other >= total - 1e-9 for other in totals[row]) / len(patterns)

    observed = {row: sum(drop.get(row, 0) for drop in drops) for row in ROWS}
    raw = {row: tail(row, observed[row]) for row in ROWS}
    resampled = {row: [tail(row, total) for total in totals[row]] for row in ROWS}
    first, last = sorted(ROWS, key=lambda row: raw[row])
    both = [min(pair) for pair in zip(resampled[first], resampled[last], strict=True)]
    adjusted_first = sum(p <= raw[first] + 1e-9 for p in both) / len(patterns)
    adjusted_last = sum(p <= raw[last] + 1e-9 for p in resampled[last]) / len(patterns)
    return {first: (raw[first], adjusted_first), last: (raw[last], max(adjusted_first, adjusted_last))}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({}, optional={row: st.sampled_from([-1.0, 1.0]) for row in ROWS}), min_size=1, max_size=6
    ),
    st.integers(0, 2**32),
)
def test_min_p_of_two_rows_is_near_all_sign_patterns(drops: list[dict[str, float]], seed: int):
    """Raw p are exact for pass/fail; adjusted ones within the error of 9,999 resamples. Cases may count in both rows."""
    expected = by_enumeration(drops)

    worse, _ = min_p(drops, ROWS, seed=seed)

    assert {row: p for row, (p, _) in expected.items()} == pytest.approx({row: worse[row].raw for row in ROWS})
    assert {row: p for row, (_, p) in expected.items()} == pytest.approx(
        {row: worse[row].adjusted for row in ROWS}, abs=ERROR
    )


@given(
    st.lists(
        st.fixed_dictionaries({}, optional={row: st.sampled_from([-1.0, -0.5, 1.0]) for row in "abcd"}), max_size=12
    ),
    st.integers(0, 2**32),
)
@settings(max_examples=20, deadline=None)
def test_adjusted_p_is_monotone_and_at_least_raw(drops: list[dict[str, float]], seed: int):
    """A row with a smaller p is never adjusted to more than one with a larger p, and no p shrinks."""
    for found in min_p(drops, "abcd", seed=seed):
        ordered = sorted(found.values(), key=lambda item: item.raw)

        assert sorted(item.adjusted for item in ordered) == [item.adjusted for item in ordered]
        assert all(0 < item.raw <= item.adjusted <= 1 for item in ordered)


def test_one_row_is_mcnemar():
    """Nothing to correct for: 9 broke, 1 fixed."""
    expected = stats.binomtest(9, 10, alternative="greater").pvalue

    worse, better = min_p([{"a": 1.0}] * 9 + [{"a": -1.0}], ["a"], seed=0)

    assert expected == pytest.approx(worse["a"].raw)
    assert expected == pytest.approx(worse["a"].adjusted, abs=ERROR)
    assert 1 - stats.binom.cdf(0, 10, 0.5) == pytest.approx(better["a"].raw)


def test_rows_that_cannot_reach_a_small_p_cost_nothing():
    """Twenty categories in which one case broke have p = 1/2 at best: the row with 8 broken is corrected for itself alone.

    Bonferroni would multiply by 21; this is why min-P is used where small categories abound.
    """
    drops = [{"large": 1.0}] * 8 + [{f"small{number}": 1.0} for number in range(20)]
    rows = ["large", *(f"small{number}" for number in range(20))]

    worse, _ = min_p(drops, rows, seed=0)

    assert 1 / 256 == pytest.approx(worse["large"].raw)
    assert 1 / 256 == pytest.approx(worse["large"].adjusted, abs=0.003)


def test_rows_without_a_change_have_p_one():
    """No draw differs: nothing to flip."""
    worse, better = min_p([{"a": 0.0}, {"b": 0.0}], ROWS, seed=0)

    assert {(1.0, 1.0)} == {(p.raw, p.adjusted) for found in (worse, better) for p in found.values()}


@pytest.mark.parametrize("rest", [5e-324, 0.1 + 0.2 - 0.3])
def test_what_rounding_leaves_is_no_change(rest: float):
    """Sums of scores that are equal but for their last bits: p = 1, and other rows keep theirs."""
    worse, _ = min_p([{"a": rest}, *[{"b": 1.0}] * 5], ROWS, seed=0)

    assert {"a": 1.0, "b": 1 / 32} == pytest.approx({row: found.raw for row, found in worse.items()})
