"""Which pairs of runs are not compared: a verdict over different things would be none."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stored_runs import a_result, stored

from promptops.core.errors import DataError, EvaluationError
from promptops.evaluation.compare import compare_runs
from promptops.project.store import Result, Store, open_store

BASE, CANDIDATE = "20260101-000000-aaaaaa", "20260102-000000-bbbbbb"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def rows(count: int = 4) -> list[Result]:
    return [a_result(f"c{number}", number % 2 == 0, answer_key=f"k{number}") for number in range(count)]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"prompt": "other"}, "other prompt, triage against other; compare runs of one prompt"),
        ({"rubric_digest": "sha256:9"}, "other rubric content"),
        ({"suite_digest": "sha256:9"}, r"other suite \(checks, schemas or gate\)"),
        ({"selection": {"categories": ["billing"]}}, "other selection of cases"),
    ],
)
def test_C2_runs_over_different_things_are_refused(store: Store, header: dict[str, Any], problem: str):
    """Exit 2 says what differs and between which runs."""
    before, after = stored(store, BASE, rows()), stored(store, CANDIDATE, rows(), **header)

    with pytest.raises(DataError, match=f"{BASE} / {CANDIDATE}: not comparable: {problem}"):
        compare_runs(store, before, after)


def test_C2_everything_that_differs_is_named_at_once(store: Store):
    """One refusal lists all reasons."""
    before = stored(store, BASE, rows())
    after = stored(store, CANDIDATE, rows(), prompt="other", rubric_digest="sha256:9", suite_digest="sha256:9")

    with pytest.raises(DataError) as refused:
        compare_runs(store, before, after)

    assert [f"not comparable: other {what}" for what in ("prompt", "rubric content", "suite (checks, schemas or gate)")] == [
        problem.what for problem in refused.value.problems
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["running", "incomplete", "interrupted"])
@pytest.mark.parametrize("which", [BASE, CANDIDATE])
def test_C2_run_that_is_not_complete_is_refused(store: Store, state: Any, which: str):
    """Exit 3, not a verdict: a missing case could be the one that broke."""
    before, after = (
        stored(store, run_id, rows(), state=state if run_id == which else "complete") for run_id in (BASE, CANDIDATE)
    )

    with pytest.raises(EvaluationError, match=f"run {which} is {state}, a verdict needs every case"):
        compare_runs(store, before, after)


def test_C2_complete_run_that_lacks_results_is_refused(store: Store):
    """What a run says of its state is checked against its rows."""
    before, after = stored(store, BASE, rows()), stored(store, CANDIDATE, rows(3), planned=4)

    with pytest.raises(EvaluationError, match=f"run {CANDIDATE} has 3 of 4 results"):
        compare_runs(store, before, after)


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda cases: cases[:2], ["2 golden cases are gone: c2, c3"]),
        (lambda cases: [*cases, a_result("x", True)], ["1 golden cases are new: x"]),
        (lambda cases: [replace(cases[0], case_digest="new"), *cases[1:]], ["1 golden cases have other content: c0"]),
        (
            lambda cases: [a_result("y", True), replace(cases[1], case_digest="new"), cases[2]],
            ["2 golden cases are gone: c0, c3", "1 golden cases are new: y", "1 golden cases have other content: c1"],
        ),
        (lambda _: [], ["4 golden cases are gone: c0, c1, c2, c3"]),
    ],
)
def test_C3_changed_golden_cases_are_refused(
    store: Store, change: Callable[[list[Result]], list[Result]], problems: list[str]
):
    """Cases that are gone, new, or have the same id over other content are not paired."""
    before, after = stored(store, BASE, rows()), stored(store, CANDIDATE, change(rows()))

    with pytest.raises(DataError) as refused:
        compare_runs(store, before, after)

    assert [f"not comparable: {what}" for what in problems] == [
        f"{problem.what}: {problem.why}" for problem in refused.value.problems
    ]


def test_C3_long_list_of_cases_is_cut(store: Store):
    """The first five ids are enough to find the cause; the count is whole."""
    before, after = stored(store, BASE, rows(8)), stored(store, CANDIDATE, [a_result("x", True)])

    with pytest.raises(DataError) as refused:
        compare_runs(store, before, after)

    assert ("not comparable: 8 golden cases are gone", "c0, c1, c2, c3, c4, ...") == (
        refused.value.problems[0].what, refused.value.problems[0].why,
    )  # fmt: skip


def test_runs_of_other_models_and_prompts_texts_are_compared(store: Store):
    """What may differ is what is being judged: prompt text, model, candidate, commit."""
    before = stored(store, BASE, rows())
    after = stored(
        store, CANDIDATE, [replace(row, passed=True, cost_nanousd=3) for row in rows()],
        model="large", prompt_digest="sha256:9", subject="sha256:9", candidate="terse", commit="f00",
    )  # fmt: skip

    found = compare_runs(store, before, after)

    cost = found.spending[2]
    assert (BASE, CANDIDATE, 4, 0.5, ("cost", 0.0, 3.0)) == (
        found.baseline.id, found.candidate.id, found.same_answers, found.comparison.total.difference, (cost.name, cost.before, cost.after),
    )  # fmt: skip


def test_draws_of_a_case_are_averaged_and_same_answers_counted(store: Store):
    """A case passes with the share of its draws that pass; its answers are the same when all of them are."""
    before = stored(
        store, BASE,
        [a_result("a", True, answer_key="k:0"), a_result("a", False, draw=1, answer_key="k:1"), a_result("b", True)],
        repeat=2,
    )  # fmt: skip
    after = stored(
        store, CANDIDATE,
        [a_result("a", False, answer_key="k:0"), a_result("a", False, draw=1, answer_key="n:1"), a_result("b", True)],
        repeat=2,
    )  # fmt: skip

    found = compare_runs(store, before, after)

    assert (-0.25, 1) == (found.comparison.total.difference, found.same_answers)
