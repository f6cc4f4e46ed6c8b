"""Runs that are killed, interrupted or shared: nothing that was paid is lost, and nobody mixes two processes up."""

import json
import random
import signal
from collections.abc import Callable

import pytest
from slow_server import COST_NANOUSD, WORST_NANOUSD, deliver, finish, paid_project, resume, start

from conftest import PROMPT, Outcome, Sandbox

CONCURRENCY = 4


def run_row(outcome: Outcome) -> tuple[int, str, int, int]:
    """(exit code, state, results, calls in the ledger)."""
    (row,) = outcome.json["runs"]
    return outcome.code, row["state"], row["total"]["n"], row["calls"]


def test_E17_a_run_killed_at_random_points_is_finished_by_resume(sandbox: Sandbox):
    """After each kill -9 all answered cases are on disk; only calls in flight are asked again; a further resume asks nothing."""
    rng = random.Random(17)
    with paid_project(sandbox, cases=40) as server:
        command = ["eval", PROMPT, "--concurrency", str(CONCURRENCY)]
        kept = []
        for _ in range(3):
            calls_before = server.calls
            process = start(sandbox, *command)
            server.wait_for(calls_before + rng.randint(1, 12))
            process.kill()
            finish(process)
            kept.append(sandbox.run("runs", "show", "--json").json["total"]["n"])
            command = ["eval", "--resume", "--concurrency", str(CONCURRENCY)]
        finished, calls, repeats = resume(sandbox), server.calls, server.repeats
        again = resume(sandbox)

    intents = finished.json["runs"][0]["calls"]
    assert (0, "complete", 40, intents) == run_row(finished) == run_row(again)
    assert sorted(kept) == kept
    assert (40, calls) == (len(server.asked), server.calls)
    assert repeats <= intents - 40 <= 3 * CONCURRENCY


def test_E17_what_a_killed_run_may_have_paid_is_counted_as_possibly_paid(sandbox: Sandbox):
    """A call whose answer never arrived counts with the most it can have cost, also against a later cap."""
    with paid_project(sandbox, cases=8) as server:
        server.hold()
        process = start(sandbox, "eval", PROMPT, "--concurrency", "2")
        server.wait_for(2)
        process.kill()
        finish(process)
        server.release()
        stopped = resume(sandbox, "--max-cost", "0.0035")

    (row,) = stopped.json["runs"]
    assert (3, 2 * WORST_NANOUSD) == (stopped.code, row["possibly_paid_nanousd"])
    assert 3 * COST_NANOUSD == row["paid_nanousd"]


def test_E17_a_killed_run_begins_again_with_one_call_in_flight(sandbox: Sandbox):
    """One, then two: whatever killed it may do so again, and each kill repeats what is in flight. Others begin with all."""
    with paid_project(sandbox, cases=20) as server:
        server.hold()
        process = start(sandbox, "eval", PROMPT, "--concurrency", str(CONCURRENCY))
        server.wait_for(CONCURRENCY)
        process.kill()
        finish(process)
        server.release()
        server.wait_until_idle()
        resume(sandbox, "--concurrency", str(CONCURRENCY), "--max-calls", str(CONCURRENCY + 3))

    assert (CONCURRENCY + 3, True) == (server.calls, server.most_in_flight <= 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_E18_E19_one_signal_lets_calls_in_flight_end_and_says_how_to_go_on(
    sandbox: Sandbox, number: signal.Signals, code: int
):
    """No new call is made, the answers in flight are kept, and the last line is the command that goes on."""
    with paid_project(sandbox, cases=30) as server:
        server.hold()
        process = start(sandbox, "eval", PROMPT, "--concurrency", str(CONCURRENCY))
        server.wait_for(CONCURRENCY)
        process.send_signal(number)
        server.release()
        stopped = finish(process)
        finished = resume(sandbox)

    run = finished.json["runs"][0]["run"]
    assert (code, f"next: promptops eval --resume {run}") == (stopped.code, stopped.out.strip().splitlines()[-1])
    assert f"{CONCURRENCY} of 30 results kept" in stopped.out
    assert (0, "complete", 30, 30) == run_row(finished)
    assert 30 == server.calls


def test_E18_an_interrupted_run_waits_for_a_silent_provider_five_seconds_at_most(sandbox: Sandbox):
    """A provider that does not answer cannot hold an interrupted run."""
    with paid_project(sandbox, cases=8) as server:
        server.hold()
        process = start(sandbox, "eval", PROMPT, "--concurrency", "2", "--json")
        server.wait_for(2)
        process.send_signal(signal.SIGINT)
        stopped = finish(process)

    assert (130, "interrupted", 0, 2) == run_row(stopped)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_E18_a_second_signal_stops_now_and_leaves_the_store_whole(sandbox: Sandbox, number: signal.Signals, code: int):
    """What is in flight is given up; what it may have cost stays in the ledger."""
    with paid_project(sandbox, cases=8) as server:
        server.hold()
        process = start(sandbox, "eval", PROMPT, "--concurrency", "2", "--json")
        server.wait_for(2)
        deliver(process, number)
        process.send_signal(number)
        stopped = finish(process)
        server.release()
        finished = resume(sandbox)

    assert (code, "interrupted", 0, 2) == run_row(stopped)
    assert (0, "complete", 8, 10) == run_row(finished)


def test_S5_S14_a_run_in_use_is_refused_to_a_second_process_but_can_be_read(sandbox: Sandbox):
    """The second process says who has the run and asks nothing; `runs show` sees whole rows meanwhile."""
    with paid_project(sandbox, cases=8) as server:
        first = start(sandbox, "eval", PROMPT, "--concurrency", "2")
        server.wait_for(5)
        server.hold()
        run = sandbox.run("runs", "list", "--json").json["runs"][0]["run"]
        second = resume(sandbox, run)
        shown = sandbox.run("runs", "show", run, "--json").json
        server.release()
        finish(first)

    (problem,) = second.json["error"]["problems"]
    assert (3, f"run {run} is in use by pid {first.pid}") == (second.code, problem["what"])
    assert ("running", 8) == (shown["state"], shown["planned"])
    assert shown["total"]["n"] == shown["total"]["passed"]
    assert (8, 0) == (server.calls, server.repeats)


def test_S5_different_runs_go_together(sandbox: Sandbox):
    """Two evaluations of one project share the store without waiting for each other's end."""
    with paid_project(sandbox, cases=8) as server:
        server.hold()
        both = [start(sandbox, "eval", PROMPT, "--no-cache", "--json", "--concurrency", "4") for _ in range(2)]
        server.wait_for(8)
        server.release()
        ended = [finish(process) for process in both]

    assert [(0, "complete", 8, 8)] * 2 == [run_row(outcome) for outcome in ended]


def test_S6_the_lock_of_a_killed_process_is_taken_over(sandbox: Sandbox, call: Callable[..., Outcome]):
    """A lock file and a pid left behind hold nobody up, even when another process has that pid now."""
    with paid_project(sandbox, cases=4) as server:
        server.hold()
        process = start(sandbox, "eval", PROMPT)
        server.wait_for(4)
        process.kill()
        finish(process)
        server.release()
        (owner,) = sandbox.path(".promptops/locks").glob("*.pid")
        left_behind = owner.read_text()
        owner.write_text("1")
        resumed = call("eval", "--resume", "--json")

    assert (str(process.pid), 0, "complete") == (left_behind, resumed.code, resumed.json["runs"][0]["state"])


def test_a_run_can_be_watched_while_another_process_makes_it(sandbox: Sandbox):
    """`runs watch` ends with the run and shows it; its progress lines count what is done."""
    with paid_project(sandbox, cases=6) as server:
        server.hold()
        maker = start(sandbox, "eval", PROMPT, "--log-format", "json")
        server.wait_for(6)
        watcher = start(sandbox, "runs", "watch", "--every", "0.1")
        assert watcher.stderr is not None
        first_line = watcher.stderr.readline().decode()
        server.release()
        made, watched = finish(maker), finish(watcher)

    assert (0, 0) == (made.code, watched.code)
    assert first_line.endswith(f"{PROMPT}: 0/6 done, 0 passed\n")
    assert "6/6 cases pass" in watched.out


def test_json_logs_are_one_object_a_line(sandbox: Sandbox, call: Callable[..., Outcome]):
    """`--log-format json` writes progress that a machine reads, and nothing else, to stderr."""
    with paid_project(sandbox, cases=3):
        logged = call("eval", "--log-format", "json")

    last = [json.loads(line) for line in logged.err.splitlines()][-1]
    assert {
        "event": "progress", "prompt": PROMPT, "done": 3, "planned": 3, "passed": 3, "failed": 0, "errors": 0, "reused": 0,
        "calls": 3, "in_flight": 0, "rate_limited": 0, "cost_nanousd": 3 * COST_NANOUSD, "stopped_by": "",
    } == last  # fmt: skip
