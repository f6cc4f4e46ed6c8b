"""A run in numbers, computed by hand from results chosen by the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_runs import a_result, stored

from promptops.evaluation.summary import WORST, CheckRow, Row, percentile, summarize
from promptops.gate.stats import Interval, weighted_interval, wilson_interval
from promptops.project.store import Store, open_store

RUN = "20260101-000000-aaaaaa"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def test_rows_count_each_result_in_its_category_slices_and_total(store: Store):
    """Passed, failed and unscored draws are counted apart; cost and latency cover all of them."""
    run = stored(
        store, RUN,
        [
            a_result("a", True, tags={"lang": "en"}, latency_s=0.25, cost_nanousd=5),
            a_result("b", False, tags={"lang": "ja", "noise": "ocr"}, latency_s=0.5, cost_nanousd=7),
            a_result("c", None, outcome="timeout", scores=(), latency_s=4.0, cost_nanousd=11),
            a_result("d", True, category="account", tags={"lang": "ja"}, latency_s=1.0),
        ],
        slices=("lang",),
    )  # fmt: skip

    found = summarize(store, run)

    numbers = {"scored": 1, "passed": 1, "unscored": 0, "cost_nanousd": 0, "p50_s": 1.0, "p99_s": 1.0}
    assert (
        Row(name="total", scored=3, passed=2, unscored=1, cost_nanousd=23, p50_s=0.5, p99_s=4.0),
        (
            Row(name="account", **numbers),
            Row(name="billing", scored=2, passed=1, unscored=1, cost_nanousd=23, p50_s=0.5, p99_s=4.0),
        ),
        (
            Row(name="lang=en", **{**numbers, "cost_nanousd": 5, "p50_s": 0.25, "p99_s": 0.25}),
            Row(name="lang=ja", scored=2, passed=1, unscored=0, cost_nanousd=7, p50_s=0.5, p99_s=1.0),
        ),
        {"timeout": 1},
        4,
    ) == (found.total, found.categories, found.slices, found.outcomes, found.stored)


def test_checks_are_counted_by_verdict(store: Store):
    """Each check has how often it passed, failed and could not run; a case without scores counts for none."""
    rows = [
        a_result("a", False, scores=(("equals", True, "", None), ("length", False, "", 0.5))),
        a_result("b", None, scores=(("equals", None, "", None), ("length", True, "", 1.0))),
        a_result("c", None, scores=()),
    ]

    found = summarize(store, stored(store, RUN, rows))

    assert (
        CheckRow(name="equals", passed=1, failed=0, unscored=1),
        CheckRow(name="length", passed=1, failed=1, unscored=0),
    ) == found.checks


def test_coverage_is_the_share_of_planned_draws_with_a_score(store: Store):
    """Unscored and missing draws are both not covered: 2 of 8."""
    rows = [a_result("a", True), a_result("b", False), a_result("c", None)]

    assert 0.25 == summarize(store, stored(store, RUN, rows, planned=8, state="incomplete")).coverage


def test_run_without_results_has_no_rates(store: Store):
    """An empty run is shown, with nothing that could be taken for a rate."""
    found = summarize(store, stored(store, RUN, [], planned=3, state="interrupted"))

    assert (0.0, None, None, (), ()) == (
        found.coverage, found.total.rate, found.total.interval, found.categories, found.worst,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("passed", "scored", "rate", "low", "high"),
    [
        # Newcombe 1998, Stat. Med. 17:857-872, table I, method 3 (Wilson without continuity correction)
        (81, 263, 0.3080, 0.2553, 0.3662),
        (15, 148, 0.1014, 0.0624, 0.1605),
        (0, 20, 0.0, 0.0, 0.1611),
        (1, 29, 0.0345, 0.0061, 0.1718),
    ],
)
def test_rate_comes_with_its_wilson_interval(passed: int, scored: int, rate: float, low: float, high: float):
    """The published examples are met to four places."""
    row = Row(name="x", scored=scored, passed=passed, unscored=9, cost_nanousd=0, p50_s=0.0, p99_s=0.0)

    assert row.rate is not None
    assert row.interval is not None
    assert (rate, Interval(low=low, high=high)) == (
        round(row.rate, 4),
        Interval(low=round(row.interval.low, 4), high=round(row.interval.high, 4)),
    )


@pytest.mark.parametrize(
    ("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (4, 2, 4), (99, 50, 99), (100, 50, 99), (101, 51, 100), (200, 100, 198)]
)  # fmt: skip
def test_percentile_is_the_nearest_rank(count: int, p50: int, p99: int):
    """Of 1, 2, .., n the percentile p is ceil(p n): the smallest value with at least that share at or below it."""
    values = [float(number) for number in range(1, count + 1)]

    assert (float(p50), float(p99)) == (percentile(values, 0.50), percentile(values, 0.99))


@given(
    st.lists(st.floats(0, 1e6), max_size=40).map(sorted), st.sampled_from([0.0, 0.01, 0.29, 0.5, 0.57, 0.9, 0.99, 1.0])
)
def test_percentile_is_a_value_with_that_share_at_or_below_it(values: list[float], share: float):
    """The definition of the nearest rank, for any values; 0.0 without values."""
    found = percentile(values, share)

    if not values:
        assert 0.0 == found
    else:
        needed = max(1, round(share * 1000) * len(values) / 1000)
        assert sum(value <= found for value in values) >= needed
        assert sum(value < found for value in values) < needed


def test_worst_are_failed_cases_first_then_lowest_value_then_id(store: Store):
    """A failed case says more than an unscored one; passed ones are never shown."""
    rows = [
        a_result("a", None, value=None),
        a_result("b", False, value=0.5),
        a_result("c", True, value=1.0),
        a_result("d", False, value=0.0),
        a_result("e", False, value=0.5),
        a_result("f", None, value=0.2),
    ]

    found = summarize(store, stored(store, RUN, rows))

    assert ["d", "b", "e", "a", "f"] == [item.case_id for item in found.worst]


def test_worst_of_many_are_the_worst_of_all(store: Store):
    """However many cases fail, and in whatever order, the eight worst are kept."""
    rows = [a_result(f"{number:04}", False, value=(1000 - number) / 1000) for number in range(1000)]

    found = summarize(store, stored(store, RUN, rows))

    assert [f"{number:04}" for number in range(999, 999 - WORST, -1)] == [item.case_id for item in found.worst]


@pytest.mark.parametrize(
    ("gate", "missed"),
    [
        ({}, []),
        ({"min_pass": 0.5}, ["unscored"]),
        ({"min_pass": 0.51}, ["billing", "unscored"]),
        ({"min_pass": 0.51, "min_pass_by": {"billing": 0.4}}, ["unscored"]),
        ({"min_pass_by": {"lang=ja": 0.1}}, ["lang=ja"]),
        ({"min_pass_by": {"lang=en": 1.0}}, []),
        ({"min_pass_by": {"account": 1.0}}, []),
    ],
)
def test_floor_is_missed_below_it_or_without_a_score(store: Store, gate: dict[str, object], missed: list[str]):
    """`min_pass` is for categories, `min_pass_by` for categories and slices; a rate equal to its floor is enough."""
    rows = [
        a_result("a", True, tags={"lang": "en"}),
        a_result("b", False, tags={"lang": "ja"}),
        a_result("c", True, category="account"),
        a_result("d", None, category="unscored"),
    ]
    settings = {
        "by": ["category"],
        "alpha": 0.05,
        "tolerance": 0.1,
        "tolerances": {},
        "min_pass": None,
        "min_pass_by": {},
    }

    found = summarize(store, stored(store, RUN, rows, slices=("lang",), gate=settings | gate))

    assert missed == [row.name for row in found.missed_floors]


def test_a_weighted_rate_counts_categories_by_their_traffic(store: Store):
    """1 of 2 of three quarters of the traffic, 1 of 1 of the rest: 0.625; a category without a score is no part of it."""
    rows = [
        a_result("a", True),
        a_result("b", False),
        a_result("c", True, category="account"),
        a_result("d", None, category="spam"),
    ]

    found = summarize(store, stored(store, RUN, rows, weights={"billing": 0.6, "account": 0.2, "spam": 0.2})).weighted

    assert found is not None
    assert (pytest.approx(0.625), pytest.approx(0.8)) == (found.rate, found.share)
    wanted = weighted_interval([(0.25, 1.0, wilson_interval(1, 1)), (0.75, 0.5, wilson_interval(1, 2))])
    assert (found.interval.low, found.interval.high) == pytest.approx((wanted.low, wanted.high))
