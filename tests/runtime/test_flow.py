"""The two drivers perform the same effects with the same results."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from promptops.models.base import Answer, ModelRequest
from promptops.runtime.flow import Call, Flow, Join, Sleep, Start, WaitAny, Work, Workers, drive_async, drive_sync


class Models:
    """A model that echoes, one that hangs, one that raises."""

    paid = False

    def __init__(self, name: str = "") -> None:
        self.name = name

    def client(self, model: str) -> "Models":
        return Models(model)

    async def answer(self, request: ModelRequest) -> Answer:
        if self.name == "hangs":
            await asyncio.Event().wait()
        if self.name == "raises":
            raise ZeroDivisionError
        return Answer(outcome="ok", text=self.name)

    async def close(self) -> None: ...


@pytest.fixture(params=["async", "sync"])
def drive(request: pytest.FixtureRequest) -> Any:
    workers = Workers()
    yield (
        (lambda flow: asyncio.run(drive_async(flow, Models(), workers)))
        if request.param == "async"
        else (lambda flow: drive_sync(flow, Models(), workers))
    )
    workers.close()


def call(model: str, timeout_s: float = 30) -> Call:
    return Call(model, ModelRequest(messages=()), timeout_s)


def test_calls_end_in_outcomes(drive: Callable[[Flow], Any]) -> None:
    """A model that hangs is a timeout, one that raises a bad response; nothing is raised in the flow."""

    def flow() -> Flow:
        found = []
        for effect in (call("echo"), call("hangs", 0.01), call("raises")):
            answer = yield effect
            found.append(answer.outcome)
        return found

    assert ["ok", "timeout", "bad_response"] == drive(flow())


def test_the_first_of_two_calls_wins(drive: Callable[[Flow], Any]) -> None:
    """Waiting gives nothing while no call has ended, then the one that did."""

    def flow() -> Flow:
        slow = yield Start(call("hangs"))
        nothing = yield WaitAny([slow], 0.01)
        quick = yield Start(call("echo"))
        number, answer = yield WaitAny([slow, quick], 30)
        slow.cancel()
        return nothing, number, answer.text

    assert (None, 1, "echo") == drive(flow())


def test_work_returns_raises_or_runs_out_of_time(drive: Callable[[Flow], Any]) -> None:
    """What a function raises is raised in the flow, and so is its deadline."""
    free = threading.Event()

    def flow() -> Flow:
        found = [(yield Work(lambda: 7, 30))]
        for work in (lambda: {}["x"], lambda: free.wait(30)):
            try:
                yield Work(work, 0.05)
            except (KeyError, TimeoutError) as error:
                found.append(type(error).__name__)
        free.set()
        yield Sleep(0)
        return found

    assert [7, "KeyError", "TimeoutError"] == drive(flow())


def test_joining_gives_the_result_of_another_or_nothing(drive: Callable[[Flow], Any]) -> None:
    """A result that is there, one that never comes, and one that was given up."""

    def flow() -> Flow:
        done: Future[str] = Future()
        done.set_result("done")
        given_up: Future[str] = Future()
        given_up.cancel()
        return [(yield Join(done, 30)), (yield Join(Future(), 0.01)), (yield Join(given_up, 0.01))]

    assert ["done", None, None] == drive(flow())


def test_of_many_calls_in_one_loop_each_ends_at_its_own_deadline() -> None:
    """Of 20 calls that hang, those with a short deadline time out while those with a long one go on; the one that answers, answers."""

    def flow(model: str, timeout_s: float) -> Flow:
        return (yield call(model, timeout_s))

    async def main() -> tuple[list[str], int, bool]:
        workers = Workers()
        long = [asyncio.ensure_future(drive_async(flow("hangs", 60), Models(), workers)) for _ in range(10)]
        short = [drive_async(flow("hangs", 0.01 * number), Models(), workers) for number in range(1, 11)]
        found = await asyncio.gather(*short, drive_async(flow("echo", 60), Models(), workers))
        waiting = [task.done() for task in long].count(False)
        for task in long:
            task.cancel()
        ended = await asyncio.gather(*long, return_exceptions=True)
        return (
            [answer.outcome for answer in found],
            waiting,
            all(isinstance(item, asyncio.CancelledError) for item in ended),
        )

    assert (["timeout"] * 10 + ["ok"], 10, True) == asyncio.run(main())


def test_a_caller_that_cancels_at_the_deadline_is_cancelled() -> None:
    """Its cancellation is not taken for the deadline's own, even when both come before the call can end."""

    class Both:
        async def answer(self, _request: ModelRequest) -> Answer:
            task = asyncio.current_task()
            assert task is not None
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()  # as a caller would, while the deadline's cancellation is on its way
            raise AssertionError

    class Only:
        def client(self, _model: str) -> Both:
            return Both()

    def flow() -> Flow:
        return (yield call("any", 0.01))

    async def main() -> None:
        task = asyncio.ensure_future(drive_async(flow(), Only(), Workers()))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_T36_cancelling_the_caller_runs_the_clean_up_of_the_flow() -> None:
    """The flow sees the cancellation where it waits, cleans up, and the caller is cancelled."""
    seen: list[str] = []

    def flow() -> Flow:
        try:
            yield call("hangs")
        finally:
            seen.append("released")

    async def main() -> None:
        task = asyncio.ensure_future(drive_async(flow(), Models(), Workers()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ["released"] == seen
