"""What holds for every comparison: order, false alarms, and that more harm never helps."""

import random
from dataclasses import replace

import numpy as np
import pytest
from draw_source import DrawSource
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from promptops.gate import CaseDraws, GatePolicy, Verdict, decide
from promptops.gate.stats import within_case_p

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
RATES = st.sampled_from([0.0, 0.3, 0.8, 1.0])
POLICIES = st.sampled_from([GatePolicy(), GatePolicy(estimand="population"), GatePolicy(draws=3, block_on_broken=True)])


@st.composite
def sources(draw: st.DrawFn, *, least: int = 2) -> DrawSource:
    """Two categories of a few cases with rates on both sides."""
    ids = [f"{category}{number}" for category in "ab" for number in range(draw(st.integers(least, 8)))]
    before, after = ({case_id: draw(RATES) for case_id in ids} for _ in range(2))
    return DrawSource(before=before, after=after, seed=draw(st.integers(0, 99)))


@QUICK
@given(sources(), st.sampled_from([1, 5]), POLICIES, st.randoms(use_true_random=False))
def test_verdicts_do_not_depend_on_the_order_of_cases(
    source: DrawSource, kept: int, policy: GatePolicy, order: random.Random
):
    """The same cases in any order on either side: the same comparison, to the last digit."""
    again = replace(source, asked=[], given={})
    before, after = source.cached(kept), source.first_draws()
    shuffled = [order.sample(side, len(side)) for side in (before, after)]

    assert decide(before, after, policy=policy, draw_more=source.draw_more, seed=3) == decide(
        *shuffled, policy=policy, draw_more=again.draw_more, seed=3
    )


@QUICK
@given(sources(), POLICIES, st.booleans())
def test_calls_are_the_draws_that_were_asked_for(source: DrawSource, policy: GatePolicy, recorded: bool):
    """By stage: the first draws, then what draw_more was asked for; never more than `draws` a side."""
    first = source.first_draws()
    before = source.cached(5 if recorded else 1)

    found = decide(before, first, policy=policy, draw_more=source.draw_more)

    fresh = len(first) if recorded else 2 * len(first)
    assert fresh + sum(count * n for _, count, n in source.asked) == sum(found.calls.values())
    assert all(max(row.draws[1], row.draws[0] if row.stage > 1 else 0) <= policy.draws for row in found.verdicts)


@QUICK
@given(
    st.integers(5, 8), st.sampled_from([1, 5]), POLICIES,
    st.frozensets(st.tuples(st.integers(0, 7), st.integers(0, 4)), min_size=1, max_size=8),
)  # fmt: skip
def test_more_harm_never_turns_a_block_into_a_pass(
    cases: int, kept: int, policy: GatePolicy, harm: frozenset[tuple[int, int]]
):
    """Further candidate draws of a regressed row flipped from pass to fail, early or late: still blocked, p no larger."""
    ids = [f"a{number}" for number in range(8)]
    source = DrawSource(
        before=dict.fromkeys(ids, 1.0), after={i: 0.15 if n < cases else 0.8 for n, i in enumerate(ids)}, seed=len(harm)
    )
    harmed = replace(source, asked=[], given={}, harmed=frozenset((f"a{number}", place) for number, place in harm))

    found = decide(source.cached(kept), source.first_draws(), policy=policy, draw_more=source.draw_more)
    assume(found.blocked)
    worse = decide(source.cached(kept), harmed.first_draws(), policy=policy, draw_more=harmed.draw_more)

    assert worse.blocked
    assert worse.verdicts[0].p <= found.verdicts[0].p + 1e-12


def null_p_values(*, draws: tuple[int, int], cases: int, runs: int) -> np.ndarray:
    """p of comparisons in which both sides have the same rates, from 0.05 to 0.95."""
    rng = np.random.default_rng(11)
    rates = np.linspace(0.05, 0.95, cases)[:, None]
    found = []
    for run in range(runs):
        before, after = ((rng.random((cases, k)) < rates).astype(float).tolist() for k in draws)
        found.append(within_case_p(before, after, seed=run))
    return np.array(found)


@pytest.mark.parametrize("draws", [(1, 1), (5, 1), (5, 5)])
def test_p_is_not_too_small_when_nothing_changed(draws: tuple[int, int]):
    """P(p <= x) <= x under the null, in 600 comparisons and up to four standard errors, at all levels that matter."""
    found = null_p_values(draws=draws, cases=20, runs=600)

    for level in (0.01, 0.05, 0.1, 0.2, 0.5):
        assert (found <= level).mean() <= level + 4 * (level * (1 - level) / 600) ** 0.5


@pytest.mark.parametrize("kept", [1, 5])
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_unchanged_prompts_are_seldom_blocked(kept: int, rate: float):
    """Noisy cases, three rows, 80 comparisons: at most 5 % false alarms up to three standard errors, that is 9."""
    alarms = 0
    for seed in range(80):
        rates = {f"{category}{number}": rate for category in "abc" for number in range(12)}
        source = DrawSource(before=rates, after=rates, seed=seed)
        alarms += decide(source.cached(kept), source.first_draws(), draw_more=source.draw_more, seed=seed).blocked

    assert alarms <= 9


@pytest.mark.parametrize("kept", [1, 5])
def test_large_drops_are_found(kept: int):
    """A gate that never blocks has no false alarms either: six of 20 cases broken for good, 24 of 30 times."""
    found = 0
    for seed in range(30):
        rates = {f"a{number}": 0.95 for number in range(20)}
        source = DrawSource(before=rates, after=rates | {f"a{number}": 0.0 for number in range(6)}, seed=seed)
        found += decide(source.cached(kept), source.first_draws(), draw_more=source.draw_more, seed=seed).blocked

    assert found >= 24


@QUICK
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25), st.integers(0, 99))
@example([(0.0, 5e-324)], 0)
def test_verdict_agrees_with_its_numbers(scores: list[tuple[float, float]], seed: int):
    """Scores of two runs: the interval holds the difference, p are ordered, and only a small p blocks."""
    before, after = (
        [CaseDraws(case_id=f"a{n}", category="a", draws=(pair[side],)) for n, pair in enumerate(scores)]
        for side in (0, 1)
    )

    row = decide(before, after, seed=seed).verdicts[0]

    assert row.interval.low - 1e-9 <= row.difference <= row.interval.high + 1e-9
    assert 0 < row.p <= row.p_adjusted <= 1
    assert (row.verdict is Verdict.REGRESSED) == (row.p_adjusted <= 0.05)
    assert len(row.broken) + len(row.fixed) <= row.n
