"""A provider that breaks connections, hangs, limits or refuses: what `promptops eval` does, keeps and says."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from conftest import Sandbox
from faults import server as provider
from faults.provider_runs import CASES, Command, answer_others, asked, configure, right_answers, rows, unless
from faults.server import Call, Fault, FaultServer, failure

EVAL = ("eval", "--model", "small")
BAD = "delivery-03"


def evaluate(call: Command, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of the one run."""
    finished = call(*EVAL, "--json", *options)
    assert "Traceback" not in finished.err + finished.out
    (run,) = finished.json["runs"]
    return finished.code, run


@pytest.mark.parametrize(
    ("fault", "transport"), [(provider.reset, "http"), (provider.reset_within, "sdk")], ids=["E1-http", "E4-sdk"]
)
def test_E1_E4_a_lost_answer_is_asked_again_three_times_and_each_attempt_counted(
    sandbox: Sandbox, call: Command, fault: Fault, transport: str
):
    """One layer retries; the other cases are done, the run is no verdict, and retry asks for that case alone."""
    with FaultServer(unless(sandbox, {BAD: fault})) as server:
        configure(sandbox, server.url, transport=transport)
        code, run = evaluate(call)
        attempts = asked(sandbox, server.calls)

        server.script = right_answers(sandbox)
        again = call("retry", run["run"], "--json")

    assert (3, {"connection": 1}, CASES - 1) == (code, run["outcomes"], run["total"]["passed"])
    assert (4, CASES + 3, CASES + 3) == (attempts.count(BAD), len(attempts), run["calls"])
    assert 0 < run["possibly_paid_nanousd"]
    assert (0, [BAD]) == (again.code, asked(sandbox, server.calls[CASES + 3 :]))


def test_E1_the_last_line_says_how_to_ask_again(sandbox: Sandbox, call: Command):
    """A run with a hole is no verdict, and the next command fills it."""
    with FaultServer(unless(sandbox, {BAD: provider.reset})) as server:
        configure(sandbox, server.url)
        finished = call(*EVAL)

    (run_id,) = rows(sandbox, "select id from runs")[0]
    assert (3, f"next: promptops retry {run_id}") == (finished.code, finished.out.strip().splitlines()[-1])
    assert "this is no verdict" in finished.out.splitlines()[0]


@pytest.mark.parametrize("fault", [provider.hang, provider.drip], ids=["E2", "E3"])
def test_E2_E3_the_deadline_ends_a_call_that_hangs_or_drips(sandbox: Sandbox, call: Command, fault: Fault):
    """One more try, both sockets closed, and both attempts possibly paid."""
    with FaultServer(unless(sandbox, {BAD: fault})) as server:
        configure(sandbox, server.url)
        answer_others(sandbox, call, BAD)
        configure(sandbox, server.url, timeout_s=0.4)
        code, run = evaluate(call)

    assert (3, {"timeout": 1}, 2) == (code, run["outcomes"], run["calls"])
    assert [CASES, CASES + 1] == server.left
    worst = rows(sandbox, "select cost_nanousd from attempts where outcome = 'timeout'")
    assert (2, True) == (len(worst), run["possibly_paid_nanousd"] == sum(cost for (cost,) in worst) > 0)


def test_E5_all_workers_wait_as_long_as_the_provider_asks(sandbox: Sandbox, call: Command):
    """Nobody calls within the two seconds, not even workers whose calls were fine."""

    async def slowly(wire: provider.Wire) -> None:
        await provider.asyncio.sleep(1.2)  # the others end when the 429 has long been read
        await right(wire.call)(wire)

    right = right_answers(sandbox)
    limited = failure(429, Retry_After="2")
    with FaultServer(lambda one: limited if one.number == 1 else slowly if one.number <= 4 else right(one)) as server:
        configure(sandbox, server.url)
        code, run = evaluate(call, "--concurrency", "4")

    assert (0, CASES, CASES + 1) == (code, run["total"]["passed"], run["calls"])
    assert 2 <= server.calls[4].at - server.calls[0].at


def _in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("value", ["soon", "-5", "NaN", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_E6_a_retry_after_that_says_nothing_is_backed_off_from(sandbox: Sandbox, call: Command, value: str):
    """The run goes on by itself."""
    right, limited = right_answers(sandbox), failure(429, Retry_After=value)
    with FaultServer(lambda one: limited if one.number == 1 else right(one)) as server:
        configure(sandbox, server.url)
        code, run = evaluate(call)

    assert (0, CASES, CASES + 1) == (code, run["total"]["passed"], run["calls"])


def test_E6_a_date_is_waited_for(sandbox: Sandbox, call: Command):
    """Two seconds ahead, cut to whole seconds: at least one."""
    right = right_answers(sandbox)
    with FaultServer(lambda one: failure(429, Retry_After=_in_seconds(2)) if one.number == 1 else right(one)) as server:
        configure(sandbox, server.url)
        code, _ = evaluate(call, "--concurrency", "1")

    assert code == 0
    assert 1 <= server.calls[1].at - server.calls[0].at


@pytest.mark.parametrize("value", ["86400", _in_seconds(86_400), "1e300"], ids=["seconds", "date", "huge"])
def test_E6_a_wait_of_a_day_stops_the_run(sandbox: Sandbox, call: Command, value: str):
    """Nobody sits in front of it for that long; going on later is one command."""
    with FaultServer(lambda _: failure(429, Retry_After=value)) as server:
        configure(sandbox, server.url)
        finished = call(*EVAL, "--concurrency", "1")

    assert (3, 1) == (finished.code, len(server.calls))
    assert "the provider asks to wait" in finished.out.splitlines()[0]
    assert "next: promptops eval --resume " in finished.out


_FINAL = {"quota": failure(429, code="insufficient_quota"), "401": failure(401), "403": failure(403)}


@pytest.mark.parametrize("fault", _FINAL.values(), ids=_FINAL)
def test_E7_a_refused_key_or_quota_stops_at_the_first_answer(sandbox: Sandbox, call: Command, fault: Fault):
    """No retry, nothing else asked, and the message says what to check."""
    with FaultServer(lambda _: fault) as server:
        configure(sandbox, server.url)
        finished = call(*EVAL, "--concurrency", "1")

    assert (3, 1) == (finished.code, len(server.calls))
    assert "STOPPED" in finished.out.splitlines()[0]
    assert "check" in finished.out.splitlines()[0]


def test_E7_workers_in_flight_are_the_only_other_calls(sandbox: Sandbox, call: Command):
    """With 8 workers at most 8 calls learn it."""
    with FaultServer(lambda _: failure(401)) as server:
        configure(sandbox, server.url)
        code, _ = evaluate(call, "--concurrency", "8")

    assert (3, True) == (code, len(server.calls) <= 8)


def test_E8_a_burst_of_errors_costs_at_most_a_fifth_more_calls(sandbox: Sandbox, call: Command):
    """110 answers, every fourth call fails: at most 132 calls, and what is missing is said."""
    right = right_answers(sandbox)
    with FaultServer(lambda one: failure(500) if one.number % 4 == 0 else right(one)) as server:
        configure(sandbox, server.url)
        code, run = evaluate(call, "--repeat", "5")

    assert (3, {"server_error"}) == (code, set(run["outcomes"]))
    assert 5 * CASES < len(server.calls) <= 1.2 * 5 * CASES


def test_E8_a_provider_that_stays_away_stops_the_run_and_resume_finishes_it(sandbox: Sandbox, call: Command):
    """The breaker opens, probes, gives up; nothing is scored, nothing is lost."""
    with FaultServer(lambda _: failure(500)) as server:
        configure(sandbox, server.url, patience_s=1)
        finished = call(*EVAL)
        down = len(server.calls)

        server.script = right_answers(sandbox)
        (run_id,) = rows(sandbox, "select id from runs")[0]
        resumed = call("eval", "--resume", run_id, "--json")

    assert (3, True) == (finished.code, down <= 1.2 * CASES)
    assert "the provider does not answer" in finished.out.splitlines()[0]
    assert (0, 1.0, CASES) == (
        resumed.code,
        resumed.json["runs"][0]["coverage"],
        resumed.json["runs"][0]["total"]["passed"],
    )


def test_E16_a_short_outage_loses_no_answer(sandbox: Sandbox, call: Command):
    """Two seconds without the provider: the run waits, and ends with every case answered, small as it is."""
    right = right_answers(sandbox)

    def down_for_two_seconds(one: Call) -> Fault:
        fifth = server.calls[4].at if len(server.calls) > 4 else one.at
        return provider.reset if 5 <= one.number and one.at - fifth < 2 else right(one)

    with FaultServer(down_for_two_seconds) as server:
        configure(sandbox, server.url, patience_s=20)
        code, run = evaluate(call)

    assert (0, {}, CASES) == (code, run["outcomes"], run["total"]["passed"])
    assert 2 <= server.calls[-1].at - server.calls[4].at
