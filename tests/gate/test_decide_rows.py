"""What the gate makes of the draws it is given: rows, groups, slices, estimands, refusals. Nothing is drawn again here."""

from math import inf, nan

import pytest
from draw_source import cases
from scipy import stats

from promptops.gate import CaseDraws, GatePolicy, Verdict, decide
from promptops.gate.stats import weighted_interval

PASSED, FAILED = [[1.0]], [[0.0]]


def test_one_draw_a_side_is_mcnemar():
    """Nine of 50 broke, none was fixed: p = 2^-9, one row, blocked."""
    found = decide(cases("a", PASSED * 50), cases("a", FAILED * 9 + PASSED * 41))
    row = found.verdicts[0]

    assert (Verdict.REGRESSED, 2**-9, (1, 1), 9, True) == (
        row.verdict,
        pytest.approx(row.p),
        row.draws,
        len(row.broken),
        found.blocked,
    )


def test_several_draws_without_more_are_tested_within_cases():
    """3 v 3 draws, two cases 3/3 -> 0/3: p = (1 / C(6, 3))^2, too few losing cases to block."""
    found = decide(cases("a", [[1, 1, 1]] * 2), cases("a", [[0, 0, 0]] * 2))

    assert (Verdict.CASES_BROKE, 1 / 400, False) == (
        found.verdicts[0].verdict,
        pytest.approx(found.verdicts[0].p),
        found.blocked,
    )


def test_improvement_is_the_mirror_of_a_regression():
    """Nine fixed, none broken: IMPROVED; the same draws exchanged: REGRESSED, with signs turned."""
    worse, better = cases("a", FAILED * 9 + PASSED * 41), cases("a", PASSED * 50)

    up, down = decide(worse, better).verdicts[0], decide(better, worse).verdicts[0]

    assert (Verdict.IMPROVED, Verdict.REGRESSED) == (up.verdict, down.verdict)
    assert (up.difference, up.interval.low, up.interval.high) == pytest.approx(
        (-down.difference, -down.interval.high, -down.interval.low)
    )
    assert [case.case_id for case in up.fixed] == [case.case_id for case in down.broken]


@pytest.mark.parametrize(
    ("count", "verdict"), [(1, Verdict.INCONCLUSIVE), (10, Verdict.INCONCLUSIVE), (200, Verdict.PASS)]
)
def test_C5_few_cases_are_inconclusive(count: int, verdict: Verdict):
    """Nothing changed: with 200 cases a drop of 10 points is ruled out, with 10 or one it is not. Neither blocks."""
    found = decide(cases("a", PASSED * count), cases("a", PASSED * count))

    assert (verdict, False, count) == (found.verdicts[0].verdict, found.blocked, found.verdicts[0].n)


def test_tolerance_of_a_category_decides_between_pass_and_inconclusive():
    """Twenty unchanged cases rule out a drop of 30 points, not one of 10."""
    found = decide(
        cases("a", PASSED * 20) + cases("b", PASSED * 20), cases("a", PASSED * 20) + cases("b", PASSED * 20),
        policy=GatePolicy(tolerances={"b": 0.3}),
    )  # fmt: skip

    assert {"a": Verdict.INCONCLUSIVE, "b": Verdict.PASS} == {item.category: item.verdict for item in found.verdicts}


@pytest.mark.parametrize("score", [nan, inf, -0.1, 1.1])
def test_C5_score_outside_its_range_is_refused(score: float):
    """NaN never passes, and never fails either: it is no draw."""
    with pytest.raises(ValueError, match=r"case 'x': need draws in \[0, 1\]"):
        CaseDraws(case_id="x", category="a", draws=(1.0, score))


def test_C5_case_without_a_draw_is_refused():
    """0/0 is not a rate."""
    with pytest.raises(ValueError, match="need draws"):
        CaseDraws(case_id="x", category="a", draws=())


def test_case_given_twice_is_refused():
    """It would count twice on one side."""
    with pytest.raises(ValueError, match="a case is given twice"):
        decide(cases("a", PASSED * 2), cases("a", PASSED) * 2)


def test_C2_sides_without_a_common_case_are_refused():
    """There is nothing to compare, which is not "no regression"."""
    with pytest.raises(ValueError, match="no case is on both sides"):
        decide(cases("a", PASSED), cases("b", PASSED))


def test_C2_verdict_is_over_common_cases_and_coverage_is_told():
    """Two of five cases are on one side only."""
    found = decide(cases("a", PASSED * 4), [*cases("a", PASSED * 3), *cases("b", PASSED)])

    assert (("a3", "b0"), 3, 0.6) == (found.unpaired, found.total.n, found.coverage)


def test_C3_category_that_vanished_blocks():
    """All cases of `b` are gone; that `a` passes does not help."""
    found = decide([*cases("a", PASSED * 3), *cases("b", PASSED)], cases("a", PASSED * 3))

    assert (("b",), True, ()) == (found.vanished, found.blocked, found.blocking)


def test_C3_category_whose_cases_are_all_others_now_vanished():
    """`b` still exists, but not one of its cases can be paired: no verdict on it, so it is not passed over in silence."""
    found = decide(
        [*cases("a", PASSED * 3), *cases("b", PASSED)],
        [*cases("a", PASSED * 3), CaseDraws(case_id="new", category="b", draws=(1.0,))],
    )

    assert (("b",), True, ["a"]) == (found.vanished, found.blocked, [item.category for item in found.verdicts])


def test_C3_slice_that_vanished_blocks():
    """Taking the tag off is as good as taking the cases out."""
    found = decide(cases("a", PASSED * 3, slices=("lang=ja",)), cases("a", PASSED * 3))

    assert (("lang=ja",), True) == (found.vanished, found.blocked)


def test_slice_is_judged_beside_the_categories():
    """Losses spread over three categories show in the slice that they share."""
    before = [
        CaseDraws(case_id=f"{c}{n}", category=c, draws=(1.0,), slices=("lang=ja",) if n < 4 else ())
        for c in "abc"
        for n in range(20)
    ]
    after = [
        CaseDraws(case_id=i.case_id, category=i.category, draws=(0.0,) if i.slices else (1.0,), slices=i.slices)
        for i in before
    ]

    found = {item.category: item for item in decide(before, after).verdicts}

    assert (Verdict.REGRESSED, 12, 2**-12) == (
        found["lang=ja"].verdict,
        found["lang=ja"].n,
        pytest.approx(found["lang=ja"].p),
    )
    assert {2**-4} == {found[name].p for name in "abc"}


@pytest.mark.parametrize("draws", [1, 3])
def test_cases_of_one_group_count_as_one(draws: int):
    """Ten cases about one document break: one thing happened, not ten, so p is 1 / C(2k, k) and nothing blocks."""
    before = cases("a", [[1.0] * draws] * 10, group="invoice-7")
    after = cases("a", [[0.0] * draws] * 10, group="invoice-7")

    grouped = decide(before, after).verdicts[0]
    alone = decide(cases("a", [[1.0] * draws] * 10), cases("a", [[0.0] * draws] * 10)).verdicts[0]

    # Sums of a group are graded, so with several draws its permutations are sampled: within 5 errors of 1/20.
    assert {1: 0.5, 3: 1 / 20}[draws] == pytest.approx(grouped.p, abs=0 if draws == 1 else 0.025)
    assert (Verdict.REGRESSED, False) == (alone.verdict, grouped.verdict is Verdict.REGRESSED)
    assert ((-1.0, 1.0), 10) == ((grouped.interval.low, grouped.interval.high), grouped.n)


def test_population_estimand_counts_cases_and_not_draws():
    """Five of 20 cases go 5/5 -> 0/5: certain for these cases, 1/32 for cases like them (sign flip of five)."""
    before, after = cases("a", [[1] * 5] * 20), cases("a", [[0] * 5] * 5 + [[1] * 5] * 15)

    population = decide(before, after, policy=GatePolicy(estimand="population")).verdicts[0]

    assert (1 / 32, Verdict.REGRESSED) == (pytest.approx(population.p), population.verdict)
    assert decide(before, after).verdicts[0].p < 1e-10


def test_population_interval_is_students_over_cases():
    """Differences of -1 (5 cases) and 0 (15): the t interval of their mean."""
    before, after = cases("a", [[1] * 5] * 20), cases("a", [[0] * 5] * 5 + [[1] * 5] * 15)

    found = decide(before, after, policy=GatePolicy(estimand="population")).verdicts[0].interval
    expected = stats.ttest_1samp([-1.0] * 5 + [0.0] * 15, 0).confidence_interval()

    assert (expected.low, expected.high) == pytest.approx((found.low, found.high))


def test_scores_are_compared_by_their_size():
    """Twenty scores fall from 0.9 to 0.4 while no check flips between pass and fail."""
    found = decide(cases("a", [[0.9]] * 20), cases("a", [[0.4]] * 20)).verdicts[0]

    assert (Verdict.REGRESSED, -0.5, 20) == (found.verdict, pytest.approx(found.difference), len(found.broken))


def test_cases_that_broke_are_listed_worst_first():
    """By the drop, then by id."""
    before = cases("a", [[1, 1], [1, 1], [1, 1], [0, 0]])
    after = cases("a", [[1, 0], [0, 0], [0, 0], [1, 1]])

    row = decide(before, after).verdicts[0]

    assert [("a1", 2, 0), ("a2", 2, 0), ("a0", 2, 1)] == [(c.case_id, c.baseline, c.candidate) for c in row.broken]
    assert [("a3", 0, 2)] == [(c.case_id, c.baseline, c.candidate) for c in row.fixed]


def test_detectable_drop_needs_several_draws():
    """One draw a side does not tell how steady the cases are."""
    single = decide(cases("a", PASSED * 50), cases("a", PASSED * 50)).verdicts[0]

    assert single.detectable is None


def test_guard_counts_cases_that_lose_less_those_that_win():
    """Three cases break for good, one wins a draw: the sign-flip p is 2/16, which is enough, but three less one is not three."""
    before = cases("a", [[1] * 5] * 3 + [[1, 1, 1, 1, 0]] + [[1] * 5] * 6)
    after = cases("a", [[0] * 5] * 3 + [[1] * 5] * 7)

    row = decide(before, after).verdicts[0]
    alone = decide(before[:3] + before[4:], after[:3] + after[4:]).verdicts[0]

    assert (Verdict.CASES_BROKE, 2 / 16) == (row.verdict, pytest.approx(row.p_guard))
    assert (Verdict.REGRESSED, 1 / 8) == (alone.verdict, pytest.approx(alone.p_guard))


def test_a_total_by_traffic_counts_categories_by_weight_and_decides_nothing():
    """Nine of 50 in a rare category broke, all of 10 of a common one are fixed: 0.1 * -0.18 + 0.9 * 1, and still blocked."""
    before = cases("a", PASSED * 50) + cases("b", FAILED * 10)
    after = cases("a", FAILED * 9 + PASSED * 41) + cases("b", PASSED * 10)

    plain = decide(before, after)
    found = decide(before, after, weights={"a": 0.1, "b": 0.9})

    assert found.weighted is not None
    assert (pytest.approx(0.1), pytest.approx(0.1 * 0.82 + 0.9), pytest.approx(0.882), 1.0, True) == (
        found.weighted.baseline_rate, found.weighted.candidate_rate, found.weighted.difference, found.weighted.share, found.blocked,
    )  # fmt: skip
    rows = {row.category: row for row in found.verdicts}
    assert found.weighted.interval == weighted_interval([(0.1, rows["a"].difference, rows["a"].interval), (0.9, rows["b"].difference, rows["b"].interval)])  # fmt: skip
    assert (plain.verdicts, plain.total, None) == (found.verdicts, found.total, plain.weighted)


def test_a_total_by_traffic_is_of_the_categories_at_hand():
    """Cases of a quarter of the traffic: weights are scaled to them, and the share is said; without any of it there is no such total."""
    same = cases("a", PASSED * 5)

    part = decide(same, same, weights={"a": 0.25, "b": 0.75}).weighted

    assert part is not None
    assert (1.0, 1.0, 0.25) == (part.baseline_rate, part.candidate_rate, part.share)
    assert decide(same, same, weights={"a": 0.0, "b": 1.0}).weighted is None


def test_a_total_by_traffic_needs_no_verdict_on_categories():
    """A policy that judges slices only still has cases with categories."""
    same = cases("a", PASSED * 5, slices=("lang=en",))

    found = decide(same, same, policy=GatePolicy(by=("lang",)), weights={"a": 1.0})

    assert found.weighted is not None
