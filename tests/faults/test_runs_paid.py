"""What is paid: caps that hold with many calls in flight, one call a distinct request, and answers that serve later runs."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from slow_server import COST_NANOUSD, WORST_NANOUSD, Reply, a_row, paid_project

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]


def the_run(outcome: Outcome) -> dict[str, Any]:
    (row,) = outcome.json["runs"]
    return row


def usd(nanousd: int) -> str:
    return f"{nanousd / 10**9:.7f}"


@pytest.mark.parametrize("calls", [1, 5, 40])
def test_E21_the_cost_cap_holds_with_32_calls_in_flight(sandbox: Sandbox, call: Call, calls: int):
    """Every call costs the most it can: exactly as many are made as the cap pays for, and what came is kept."""
    dearest = Reply(extra={"usage": {"prompt_tokens": 100, "completion_tokens": 50}})
    with paid_project(sandbox, cases=64, reply=lambda *_: dearest) as server:
        stopped = call("eval", "--json", "--concurrency", "32", "--max-cost", usd(calls * WORST_NANOUSD))

    run = the_run(stopped)
    assert (3, "incomplete", calls) == (stopped.code, run["state"], run["total"]["n"])
    assert (calls, calls * WORST_NANOUSD) == (server.calls, run["paid_nanousd"])


def test_E21_room_that_cheap_answers_give_back_is_used(sandbox: Sandbox, call: Call):
    """Reservations are settled: the run goes on until the next worst case would not fit, and never past the cap."""
    cap = 6 * WORST_NANOUSD
    with paid_project(sandbox, cases=64) as server:
        stopped = call("eval", "--json", "--concurrency", "32", "--max-cost", usd(cap))

    paid = the_run(stopped)["paid_nanousd"]
    assert (3, server.calls * COST_NANOUSD) == (stopped.code, paid)
    assert cap - WORST_NANOUSD < paid <= cap
    assert server.most_in_flight <= 6


def test_E21_a_stopped_run_says_budget_and_goes_on_with_a_higher_cap(sandbox: Sandbox, call: Call):
    """The cap is of the run, not of the command: what was paid before counts, what is stored is not asked again."""
    with paid_project(sandbox, cases=10) as server:
        stopped = call("eval", "--max-calls", "3")
        same = call("eval", "--resume", "--max-calls", "3", "--json")
        calls_then = server.calls
        finished = call("eval", "--resume", "--max-calls", "10", "--json")
        again = call("eval", "--resume", "--json")

    assert (3, 3, 3, 3) == (stopped.code, same.code, calls_then, the_run(same)["calls"])
    assert "the budget of this run is used up; 3 of 10 results kept, no verdict" in stopped.out
    assert f"next: promptops eval --resume {the_run(same)['run']}" in stopped.out
    assert [(0, "complete", 10)] * 2 == [(out.code, the_run(out)["state"], server.calls) for out in (finished, again)]


@pytest.mark.parametrize("cap", ["0", "0.0000001"])
def test_E21_a_cap_below_one_call_asks_nothing(sandbox: Sandbox, call: Call, cap: str):
    """A budget of nothing buys nothing."""
    with paid_project(sandbox) as server:
        stopped = call("eval", "--max-cost", cap, "--json")

    assert (3, 0, 0) == (stopped.code, server.calls, the_run(stopped)["total"]["n"])


def test_E21_calls_are_capped_although_retries_want_more(sandbox: Sandbox, call: Call):
    """--max-calls counts attempts, not cases."""
    with paid_project(sandbox, cases=4, reply=lambda *_: Reply(status=500)) as server:
        stopped = call("eval", "--max-calls", "5", "--concurrency", "2", "--json")

    assert (3, 5, 5) == (stopped.code, server.calls, the_run(stopped)["calls"])


@pytest.mark.parametrize(
    ("options", "what"), [(("--max-cost", "1 USD"), "--max-cost"), (("--max-cost", "-1"), "--max-cost"), (("--max-calls", "-1"), "--max-calls")]
)  # fmt: skip
def test_E21_a_cap_that_is_no_amount_is_refused(sandbox: Sandbox, call: Call, options: tuple[str, ...], what: str):
    """A typing error never becomes a run without a cap."""
    with paid_project(sandbox) as server:
        refused = call("eval", *options, "--json")

    assert (2, 0) == (refused.code, server.calls)
    assert what in refused.json["error"]["problems"][0]["what"]


def same_feedback(sandbox: Sandbox, *counts: int) -> None:
    texts = [f"Text {number}." for number, count in enumerate(counts) for _ in range(count)]
    sandbox.write_rows([a_row(number, text) for number, text in enumerate(texts)])


def test_E22_identical_cases_share_one_paid_call(sandbox: Sandbox, call: Call):
    """One call for each distinct request, in flight together or not; every case has its own result."""
    with paid_project(sandbox) as server:
        same_feedback(sandbox, 9, 4, 1)
        evaluated = call("eval", "--json", "--concurrency", "32")

    run = the_run(evaluated)
    assert (0, 14, 14, 3) == (evaluated.code, run["total"]["n"], run["total"]["passed"], run["calls"])
    assert [1, 1, 1] == list(server.asked.values())


def test_E22_k_draws_without_cache_are_k_calls_each(sandbox: Sandbox, call: Call):
    """--no-cache asks identical cases and stored answers again, each draw once."""
    with paid_project(sandbox) as server:
        same_feedback(sandbox, 3, 1)
        call("eval")
        evaluated = call("eval", "--json", "--no-cache", "--repeat", "3", "--concurrency", "32")

    assert (0, 12, 12) == (evaluated.code, the_run(evaluated)["total"]["n"], the_run(evaluated)["calls"])
    assert [1 + 9, 1 + 3] == sorted(server.asked.values(), reverse=True)


def test_E22_draws_are_answers_of_their_own(sandbox: Sandbox, call: Call):
    """With caching on, --repeat k asks each distinct request k times, and a later run with fewer draws asks nothing."""
    with paid_project(sandbox) as server:
        same_feedback(sandbox, 2, 1)
        call("eval", "--repeat", "3")
        calls = server.calls
        call("eval", "--repeat", "2", "--json")

    assert (6, 6) == (calls, server.calls)


def test_an_answer_asked_again_is_the_one_its_run_shows(sandbox: Sandbox, call: Call):
    """A run with --no-cache shows the answers it scored, and the run before it keeps its own."""
    reply = {text: json.dumps({"sentiment": text}) for text in ("positive", "negative")}
    with paid_project(
        sandbox, cases=2, reply=lambda _, before: Reply(text=reply["negative" if before > 1 else "positive"])
    ):
        first, second = the_run(call("eval", "--json")), the_run(call("eval", "--no-cache", "--json"))
        shown = [call("view", run["run"], "--case", "case-000", "--json").json for run in (first, second)]

    assert [(True, reply["positive"]), (False, reply["negative"])] == [
        (case["passed"], case["answer"]) for case in shown
    ]


def test_a_resumed_run_without_cache_stays_without_cache(sandbox: Sandbox, call: Call):
    """The rest of a run is asked as its beginning was, whatever the store has from other runs."""
    with paid_project(sandbox, cases=4) as server:
        call("eval")
        call("eval", "--no-cache", "--max-calls", "2")
        finished = call("eval", "--resume", "--json")

    assert (0, 4, 8) == (finished.code, the_run(finished)["calls"], server.calls)


def test_only_changed_cases_are_paid_in_the_next_run(sandbox: Sandbox, call: Call):
    """An edit of one case, a new expectation and another order cost one call; a changed prompt costs them all."""
    with paid_project(sandbox, cases=6) as server:
        call("eval")
        rows = sandbox.rows()
        rows[0]["inputs"]["feedback"] = "Another text."
        rows[1]["expected"]["sentiment"] = "negative"
        sandbox.write_rows(list(reversed(rows)))
        changed = the_run(call("eval", "--json"))
        calls = server.calls
        sandbox.replace(f"prompts/{PROMPT}/prompt.md", "You label", "You carefully label")
        call("eval")

    assert (7, 5, 1) == (calls, changed["total"]["passed"], changed["calls"])
    assert 7 + 6 == server.calls
