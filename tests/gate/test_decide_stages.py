"""The gate in stages, with every draw chosen: what is drawn again, what decides, and what it costs."""

from collections.abc import Sequence
from math import comb, nan

import pytest
from draw_source import DrawSource, cases

from promptops.gate import CaseDraws, Comparison, GatePolicy, Verdict, decide
from promptops.gate.draws import DrawMore

TWENTY = [f"a{number}" for number in range(20)]


def steady(before: float, after: float, ids: Sequence[str] = TWENTY) -> DrawSource:
    return DrawSource(before=dict.fromkeys(ids, before), after=dict.fromkeys(ids, after))


def words(found: Comparison) -> dict[str, Verdict]:
    return {item.category: item.verdict for item in found.verdicts}


def test_unchanged_category_is_passed_by_one_draw():
    """No row looks worse: nothing is drawn again."""
    source = steady(1, 1)

    found = decide(source.cached(), source.first_draws(), draw_more=source.draw_more)

    assert ({"a": Verdict.PASS}, False, {1: 20}, []) == (words(found), found.blocked, found.calls, source.asked)
    assert (1, (5, 1), 1.0, 1.0, (), ()) == (
        found.verdicts[0].stage, found.verdicts[0].draws, found.verdicts[0].p, found.verdicts[0].p_adjusted,
        found.verdicts[0].broken, found.verdicts[0].fixed,
    )  # fmt: skip


def test_broken_category_is_drawn_again_twice_and_blocked():
    """To 3 draws a side, then to 5; the candidate's first is kept, the baseline's are all new. p = 1 / C(10, 5)^20."""
    source = steady(1, 0)

    found = decide(source.cached(), source.first_draws(), draw_more=source.draw_more)
    row = found.verdicts[0]

    assert [("baseline", 20, 3), ("candidate", 20, 2), ("baseline", 20, 2), ("candidate", 20, 2)] == source.asked
    assert ({"a": Verdict.REGRESSED}, True, {1: 20, 2: 100, 3: 80}) == (words(found), found.blocked, found.calls)
    assert (3, (5, 5), 20, -1.0) == (row.stage, row.draws, len(row.broken), row.difference)
    assert comb(10, 5) ** -20 == pytest.approx(row.p, rel=1e-6)


def test_C5_cached_draws_screen_and_never_decide():
    """The recorded baseline passed everything; drawn today, it fails as the candidate does: the provider drifted."""
    source = steady(0, 0)
    recorded = cases("a", [[1] * 5] * 20)

    found = decide(recorded, source.first_draws(), draw_more=source.draw_more)
    row = found.verdicts[0]

    assert ({"a": Verdict.BASELINE_DRIFTED}, False, {1: 20, 2: 100}) == (words(found), found.blocked, found.calls)
    assert ((3, 3), 0.0, 0.0, 1.0, True) == (row.draws, row.baseline_rate, row.difference, row.p, row.drifted)


def test_drift_does_not_excuse_a_regression():
    """The baseline got worse since it was recorded, and the candidate is worse still: blocked, and said to have drifted."""
    source = DrawSource(before={i: float(int(i[1:]) < 10) for i in TWENTY}, after=dict.fromkeys(TWENTY, 0.0))

    found = decide(cases("a", [[1] * 5] * 20), source.first_draws(), draw_more=source.draw_more)

    assert (Verdict.REGRESSED, True, 10) == (
        found.verdicts[0].verdict,
        found.verdicts[0].drifted,
        len(found.verdicts[0].broken),
    )


def test_without_a_cache_the_first_draws_of_both_sides_are_kept():
    """One baseline draw a case was made for this comparison: 2 more a side, then 2 more. Both first draws are counted."""
    source = steady(1, 0)

    found = decide(source.cached(1), source.first_draws(), draw_more=source.draw_more)

    assert [("baseline", 20, 2), ("candidate", 20, 2)] * 2 == source.asked
    assert ({"a": Verdict.REGRESSED}, (5, 5), {1: 40, 2: 80, 3: 80}) == (
        words(found),
        found.verdicts[0].draws,
        found.calls,
    )


def test_C5_first_draws_from_the_store_screen_and_never_decide():
    """The candidate's stored answers are wrong, those of today are right: all five of the final test are new, and it passes."""
    source = steady(1, 1)

    found = decide(source.cached(), cases("a", [[0]] * 20), draw_more=source.draw_more, keep_first=False)

    assert ([("baseline", 20, 3), ("candidate", 20, 3)], {1: 20, 2: 120}) == (source.asked, found.calls)
    assert ((3, 3), 1.0, 0.0, False) == (
        found.verdicts[0].draws, found.verdicts[0].p, found.verdicts[0].difference, found.blocked,
    )  # fmt: skip


def test_only_suspicious_rows_are_drawn_again():
    """The cases of b are not asked again because a looks worse."""
    ids = [*TWENTY, *(f"b{number}" for number in range(25))]
    source = DrawSource(before=dict.fromkeys(ids, 1.0), after={i: float(i.startswith("b")) for i in ids})

    found = decide(source.cached(), source.first_draws(), draw_more=source.draw_more)

    assert ({20}, {"a": Verdict.REGRESSED, "b": Verdict.PASS}) == (
        {asked for _, asked, _ in source.asked},
        words(found),
    )
    assert {"a": (5, 5), "b": (5, 1)} == {item.category: item.draws for item in found.verdicts}


def test_holm_corrects_for_rows_that_were_not_drawn_again():
    """Five of 10 cases of a row break at 5 draws a side; p is multiplied by all 30 rows."""
    ids = [f"{chr(97 + row)}{number}" for row in range(30) for number in range(10)]
    broken = {f"a{number}" for number in range(5)}
    source = DrawSource(before=dict.fromkeys(ids, 1.0), after={i: float(i not in broken) for i in ids})

    found = decide(source.cached(), source.first_draws(), draw_more=source.draw_more)

    assert ("a", Verdict.REGRESSED, comb(10, 5) ** -5, 30 * comb(10, 5) ** -5) == (
        found.verdicts[0].category, found.verdicts[0].verdict, pytest.approx(found.verdicts[0].p), pytest.approx(found.verdicts[0].p_adjusted),
    )  # fmt: skip


def test_two_broken_cases_warn_and_block_only_when_the_policy_says_so():
    """p is tiny, but fewer than three cases lose: CASES BROKE. The sign-flip p of two cases is 1/4 at best."""
    source = DrawSource(before=dict.fromkeys(TWENTY, 1.0), after={i: float(i not in ("a0", "a1")) for i in TWENTY})
    policy = GatePolicy(screen=0.5)

    found = decide(source.cached(), source.first_draws(), policy=policy, draw_more=source.draw_more)
    strict = decide(
        source.cached(), source.first_draws(), draw_more=source.draw_more,
        policy=GatePolicy(screen=0.5, block_on_broken=True),
    )  # fmt: skip

    assert (Verdict.CASES_BROKE, 0.25, False) == (found.verdicts[0].verdict, found.verdicts[0].p_guard, found.blocked)
    assert (Verdict.CASES_BROKE, True) == (strict.verdicts[0].verdict, strict.blocked)


@pytest.mark.parametrize(("draws", "calls"), [(1, {1: 20, 2: 20}), (2, {1: 20, 2: 60}), (4, {1: 20, 2: 100, 3: 40})])
def test_policy_draws_are_the_most_that_are_made(draws: int, calls: dict[int, int]):
    """The last stage is the one that reaches `draws` a side."""
    source = steady(1, 0)

    found = decide(source.cached(), source.first_draws(), policy=GatePolicy(draws=draws), draw_more=source.draw_more)

    assert ((draws, draws), Verdict.REGRESSED, calls) == (
        found.verdicts[0].draws,
        found.verdicts[0].verdict,
        found.calls,
    )


def test_cases_shared_by_two_suspicious_rows_are_drawn_once():
    """A slice and a category over the same cases: 20 cases, not 40."""
    source = steady(1, 0)
    sliced = [cases("a", [c.draws], slices=("lang=ja",))[0] for c in source.first_draws()]
    after = [type(c)(case_id=f"a{n}", category="a", draws=c.draws, slices=c.slices) for n, c in enumerate(sliced)]

    found = decide(source.cached(), after, draw_more=source.draw_more)

    assert ({"a": Verdict.REGRESSED, "lang=ja": Verdict.REGRESSED}, {1: 20, 2: 100, 3: 80}) == (
        words(found),
        found.calls,
    )


def test_total_is_made_of_the_draws_that_the_rows_show():
    """With one category the total is that category, also after both sides were drawn again."""
    source = DrawSource(before={i: float(int(i[1:]) < 10) for i in TWENTY}, after=dict.fromkeys(TWENTY, 0.0))

    found = decide(cases("a", [[1] * 5] * 20), source.first_draws(), draw_more=source.draw_more)

    assert (found.verdicts[0].baseline_rate, found.verdicts[0].difference, found.verdicts[0].draws) == (
        found.total.baseline_rate, found.total.difference, found.total.draws,
    )  # fmt: skip


def short(draw_more: DrawMore) -> DrawMore:
    return lambda side, ids, n: {i: draws[:-1] for i, draws in draw_more(side, ids, n).items()}


def long(draw_more: DrawMore) -> DrawMore:
    return lambda side, ids, n: draw_more(side, ids, n + 1)


def missing(draw_more: DrawMore) -> DrawMore:
    return lambda side, ids, n: draw_more(side, ids[1:], n)


def not_a_number(draw_more: DrawMore) -> DrawMore:
    return lambda side, ids, n: {i: [nan] * len(draws) for i, draws in draw_more(side, ids, n).items()}


def out_of_range(draw_more: DrawMore) -> DrawMore:
    return lambda side, ids, n: {i: [1.01] * len(draws) for i, draws in draw_more(side, ids, n).items()}


@pytest.mark.parametrize("broken", [short, long, missing, not_a_number, out_of_range])
def test_C5_wrong_draws_are_refused(broken):
    """Too few, too many, a case left out, NaN, or a score outside [0, 1]: no verdict is made of them."""
    source = steady(1, 0)

    with pytest.raises(ValueError, match=r"draw_more gave \d+ of 3 draws in \[0, 1\] for 'a0'"):
        decide(source.cached(), source.first_draws(), draw_more=broken(source.draw_more))


def test_calls_of_a_row_are_the_draws_its_cases_took_here():
    """Recorded draws were paid before, and a row that looks the same is not drawn again: one draw of each of ten cases."""
    baseline = [CaseDraws(case_id=f"c{number}", category="a", draws=(1.0,) * 5) for number in range(10)]
    candidate = [CaseDraws(case_id=f"c{number}", category="a", draws=(1.0,)) for number in range(10)]

    found = decide(baseline, candidate, draw_more=lambda *_: {})

    assert [10] == [verdict.calls for verdict in found.verdicts]
