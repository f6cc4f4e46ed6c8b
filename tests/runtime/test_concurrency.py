"""Many requests at once: one call for many, budgets that hold, probes that are counted."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptops.runtime import Reply, Runtime
from promptops.runtime.state import MemoryState
from runtime.bundles import GOOD, INPUTS, NAME, Scripted, failed, ok, open_runtime
from runtime.clock import FakeClock
from runtime.state_contract import together


def at_once(runtime: Runtime, count: int, request: Callable[[int], dict[str, Any]], release: Scripted | None = None) -> list[Reply]:  # fmt: skip
    """Replies to requests that are all under way before the model answers any of them."""

    async def main() -> list[Reply]:
        if release is not None:
            release.held = asyncio.Event()
        tasks = [asyncio.ensure_future(runtime.acomplete(NAME, **request(number))) for number in range(count)]
        for _ in range(20):
            await asyncio.sleep(0)
        if release is not None and release.held is not None:
            release.held.set()
        return list(await asyncio.gather(*tasks))

    return asyncio.run(main())


def test_T4_identical_requests_make_one_call(tmp_path: Path) -> None:
    """200 at once, cold: one paid call a tenant, and everybody gets its answer."""
    model = Scripted()
    runtime = open_runtime(tmp_path, small=model)

    replies = at_once(runtime, 200, lambda n: {"inputs": INPUTS, "tenant": "ab"[n % 2]}, model)

    assert (2, {GOOD}, 2000) == (model.calls, {reply.text for reply in replies}, sum(reply.cost_nanousd for reply in replies))  # fmt: skip
    assert 0 == len(runtime._shared.flights)


def test_T4_a_failing_leader_is_followed_by_one_more_call(tmp_path: Path) -> None:
    """When the first fails, one of those who wait tries once more; when that fails too, all get the fallback."""
    model = Scripted(lambda _: failed("auth"))
    runtime = open_runtime(tmp_path, {"fallback": [{"step": "text", "text": "later"}]}, small=model)

    replies = at_once(runtime, 200, lambda _: {"inputs": INPUTS}, model)

    assert (2, {"later"}, {"small: auth"}) == (model.calls, {reply.text for reply in replies}, {reply.degraded for reply in replies})  # fmt: skip


def test_T4_a_second_try_that_succeeds_serves_all_who_wait(tmp_path: Path) -> None:
    """Only the first caller gets the fallback."""
    model = Scripted(lambda number: failed("auth") if number == 1 else GOOD)
    runtime = open_runtime(tmp_path, small=model)

    replies = at_once(runtime, 50, lambda _: {"inputs": INPUTS}, model)

    assert (2, 49, 1) == (model.calls, sum(reply.text == GOOD for reply in replies), sum(bool(reply.degraded) for reply in replies))  # fmt: skip


def test_T4_a_cancelled_leader_does_not_cancel_those_who_wait(tmp_path: Path) -> None:
    """The caller of the first request goes away: another takes over, nobody else notices."""
    model = Scripted()
    runtime = open_runtime(tmp_path, small=model)

    async def main() -> list[Any]:
        model.held = asyncio.Event()
        tasks = [asyncio.ensure_future(runtime.acomplete(NAME, INPUTS)) for _ in range(10)]
        while not model.calls:  # noqa: ASYNC110 - until the model was asked
            await asyncio.sleep(0)
        tasks[0].cancel()
        while model.calls < 2:  # noqa: ASYNC110 - until the model was asked
            await asyncio.sleep(0.001)
        model.held.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(main())

    assert isinstance(first, asyncio.CancelledError)
    assert {GOOD} == {reply.text for reply in others}


def test_T4_threads_share_a_call_too(tmp_path: Path) -> None:
    """Single-flight holds between threads without an event loop."""
    model = Scripted()
    runtime = open_runtime(tmp_path, small=model)

    replies = together(32, lambda: runtime.complete(NAME, INPUTS))

    assert (1, {GOOD}) == (model.calls, {reply.text for reply in replies})
    runtime.close()


BUDGET = {"budgets": [{"name": "calls", "window_s": 3600, "requests": 66}], "cache": {"ttl_s": 0, "stale_s": 0}}


def test_T9_500_coroutines_never_pass_a_budget_of_66(tmp_path: Path) -> None:
    """Exactly 66 calls are made; afterwards nothing is reserved."""
    model, state = Scripted(), MemoryState()
    runtime = open_runtime(tmp_path, BUDGET, small=model, state=state)

    replies = at_once(runtime, 500, lambda n: {"inputs": {"feedback": str(n)}}, model)

    assert (66, 66, 0) == (model.calls, sum(reply.source == "model" for reply in replies), state.reserved())


def test_T9_64_threads_never_pass_a_money_budget(tmp_path: Path) -> None:
    """Worst cases are reserved, real costs settled: what is spent stays below the limit, and all of it is used."""
    limit = 64 * 1000 // 4
    rule = {"name": "money", "window_s": 3600, "usd": f"0.{limit + 3_000_000:09}"}
    model, state = Scripted(lambda _: ok(cost_nanousd=1000)), MemoryState()
    runtime = open_runtime(tmp_path, {**BUDGET, "budgets": [rule]}, small=model, state=state)
    number = iter(range(10_000))

    replies = together(64, lambda: [runtime.complete(NAME, {"feedback": str(next(number))}) for _ in range(4)])

    spent = sum(reply.cost_nanousd for batch in replies for reply in batch)
    assert (model.calls * 1000, 0) == (spent, state.reserved())
    assert spent <= limit + 3_000_000
    runtime.close()


def test_T11_the_first_requests_of_unknown_tenants_have_the_default_budget(tmp_path: Path) -> None:
    """Each new tenant gets the same meter of its own, also when its first requests come together."""
    model = Scripted()
    rule = {"name": "each", "window_s": 3600, "requests": 3, "per": ["tenant"]}
    runtime = open_runtime(tmp_path, {**BUDGET, "budgets": [rule]}, small=model)

    at_once(runtime, 100, lambda n: {"inputs": {"feedback": str(n)}, "tenant": ["a", "A", "a ", "a|b", "b", "\u00e9", "e\u0301"][n % 7]}, model)  # fmt: skip

    assert 21 == model.calls


def test_T10_a_call_without_outcome_is_charged_as_its_worst_case(tmp_path: Path) -> None:
    """A timeout may have been paid for: the budget counts what was reserved; a call that was never sent counts nothing."""
    state = MemoryState()
    rule = {"name": "money", "window_s": 3600, "tokens": 1_000_000, "per": []}
    settings = {**BUDGET, "budgets": [rule], "retry": {"most": 0}, "max_output_tokens": 50}
    model = Scripted(lambda number: failed("timeout") if number == 1 else failed("connection", sent=False))
    runtime = open_runtime(tmp_path, settings, small=model, state=state)
    meter = f"{NAME}/money/tokens/"

    runtime.complete(NAME, INPUTS)
    charged = state.used(meter, 3600)
    runtime.complete(NAME, INPUTS)

    sent = sum(len(message.content.encode()) + 16 for message in model.requests[0].messages)
    assert charged >= sent + 50
    assert (charged, 0) == (state.used(meter, 3600), state.reserved())


def test_T36_a_caller_that_goes_away_gives_everything_back(tmp_path: Path) -> None:
    """Reservation settled at its worst case, no failure counted, no flight left, the slot free."""
    model, state = Scripted(), MemoryState()
    runtime = open_runtime(tmp_path, {"budgets": BUDGET["budgets"], "breaker": {"min_calls": 1}}, small=model, state=state)  # fmt: skip

    async def main() -> None:
        model.held = asyncio.Event()
        tasks = [asyncio.ensure_future(runtime.acomplete(NAME, {"feedback": str(n)})) for n in range(20)]
        while model.calls < 20:  # noqa: ASYNC110 - until the model was asked
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    model.held = None

    assert (0, 0) == (state.reserved(), len(runtime._shared.flights))
    assert "closed" == next(iter(runtime._shared.breakers.values())).state
    assert "model" == runtime.complete(NAME, INPUTS).source


def test_T15_the_breaker_opens_within_min_calls_and_what_is_in_flight(tmp_path: Path) -> None:
    """All calls fail: after min_calls and those under way no call is made until a pause is over, and everyone is answered."""
    clock, model = FakeClock(), Scripted(lambda _: failed("server_error"))
    settings = {"breaker": {"min_calls": 10, "open_s": 1, "probes": 2}, "retry": {"most": 0}, "fallback": [{"step": "text", "text": "x"}]}  # fmt: skip
    runtime = open_runtime(tmp_path, settings, small=model, clock=clock)

    for batch in range(10):
        at_once(runtime, 8, lambda n, batch=batch: {"inputs": {"feedback": f"{batch}-{n}"}}, model)
    opened = model.calls
    clock.advance(1)
    at_once(runtime, 100, lambda n: {"inputs": {"feedback": f"again {n}"}}, model)

    assert opened <= 10 + 8
    assert opened + 2 == model.calls


def test_T17_half_open_lets_exactly_k_probes_through_and_T19_then_closes(tmp_path: Path) -> None:
    """Of 100 requests at once k ask; when all k succeed, the next requests are answered by the model again."""
    clock = FakeClock()
    model = Scripted(lambda _: failed("server_error"))
    settings = {"breaker": {"min_calls": 5, "open_s": 1, "probes": 3}, "retry": {"most": 0}}
    runtime = open_runtime(tmp_path, settings, small=model, clock=clock)
    for number in range(5):
        runtime.complete(NAME, {"feedback": str(number)})
    model.script, before = lambda _: GOOD, model.calls
    clock.advance(1)

    replies = at_once(runtime, 100, lambda n: {"inputs": {"feedback": f"probe {n}"}}, model)

    assert (5, 3, 3) == (before, model.calls - before, sum(reply.source == "model" for reply in replies))
    assert "model" == runtime.complete(NAME, {"feedback": "after"}).source


def test_T18_one_tenants_bad_requests_open_nothing(tmp_path: Path) -> None:
    """Requests the provider refuses to read, a wrong key, a refusal and our own limit say nothing about the provider."""
    kinds = [failed("bad_response", detail="HTTP 400 from x"), failed("auth"), failed("refused"), failed("rate_limited"), failed("truncated")]  # fmt: skip
    model = Scripted(lambda number: kinds[number % 5] if number <= 100 else GOOD)
    runtime = open_runtime(tmp_path, {"breaker": {"min_calls": 2}}, small=model)
    for number in range(100):
        runtime.complete(NAME, {"feedback": str(number)}, tenant="bad")

    assert (100, "model") == (model.calls, runtime.complete(NAME, INPUTS, tenant="good").source)


def test_T20_retries_add_a_tenth_and_no_storm(tmp_path: Path) -> None:
    """With the breaker out of the way, a provider that fails everything is called at most 1.2 times a request."""
    model = Scripted(lambda _: failed("server_error"))
    settings = {"retry": {"most": 3, "share": 0.1, "backoff_s": 0}, "breaker": {"error_rate": 1, "min_calls": 1000, "window": 1000}}  # fmt: skip
    runtime = open_runtime(tmp_path, settings, small=model)
    for number in range(100):
        runtime.complete(NAME, {"feedback": str(number)})

    assert 100 < model.calls <= 120


def test_the_provider_that_asks_to_wait_is_left_alone(tmp_path: Path) -> None:
    """Nothing is asked before the time that Retry-After named."""
    clock = FakeClock()
    model = Scripted(lambda number: failed("rate_limited", retry_after_s=2.0) if number == 1 else GOOD)
    runtime = open_runtime(tmp_path, small=model, clock=clock)
    runtime.complete(NAME, INPUTS)
    clock.advance(1.9)
    early = runtime.complete(NAME, INPUTS)
    clock.advance(0.2)

    assert ("small: the provider asked to wait", "model", 2) == (early.degraded, runtime.complete(NAME, INPUTS).source, model.calls)  # fmt: skip


def test_T1_no_tenant_ever_sees_an_answer_of_another(tmp_path: Path) -> None:
    """The same questions from tenants whose names look alike: each is asked and answered for each tenant anew."""
    model = Scripted()
    runtime = open_runtime(tmp_path, small=model)
    tenants = ["a", "b", "A", "a|b", "b|a", "\u00e9", "e\u0301", "a\0b", " a", "default"]
    sources = [
        runtime.complete(NAME, {"feedback": str(n)}, tenant=tenant).source for tenant in tenants for n in range(50)
    ]

    assert ({"model"}, 500) == (set(sources), model.calls)


def child(runtime: Runtime, queue: Any) -> None:
    replies = [runtime.complete(NAME, {"feedback": f"{os.getpid()} {number}"}) for number in range(5)]
    queue.put([reply.source for reply in replies])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_T35_a_forked_worker_serves_with_threads_and_locks_of_its_own(tmp_path: Path) -> None:
    """The parent has asked through its loop thread before the fork; children and parent go on."""
    runtime = open_runtime(tmp_path)
    runtime.complete(NAME, INPUTS)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=child, args=(runtime, queue)) for _ in range(3)]
    for process in children:
        process.start()
    found = [queue.get(timeout=60) for _ in children]
    for process in children:
        process.join(60)

    assert [["model"] * 5] * 3 == found
    assert "cache" == runtime.complete(NAME, INPUTS).source
    runtime.close()


def test_T35_several_event_loops_and_threads_use_one_runtime(tmp_path: Path) -> None:
    """Each loop has its own connections; nothing is bound to the loop that came first."""
    runtime = open_runtime(tmp_path)
    found: list[str] = []

    def loop(number: int) -> None:
        found.append(asyncio.run(runtime.acomplete(NAME, {"feedback": str(number)})).source)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert ["model"] * 8 == found
    assert "model" == runtime.complete(NAME, {"feedback": "sync"}).source
    runtime.close()
