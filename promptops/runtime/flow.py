"""Effects a request waits for, and the two drivers that perform them: one for asyncio, one for plain threads.

The pipeline is a generator. It yields an effect and is sent its result, so the same code decides for both worlds and tests
can play any answer without network. A driver raises an effect's exception inside the generator.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from promptops.models.base import Answer, Client, ModelRequest


@dataclass(frozen=True, slots=True)
class Call:
    """Ask a model; the result is an Answer, `timeout` when none came within `timeout_s`."""

    model: str
    request: "ModelRequest"
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Start:
    """Begin a call without waiting for it; the result is a Handle."""

    call: Call


@dataclass(frozen=True, slots=True)
class WaitAny:
    """The first of these calls to end within `timeout_s`, as (position, Answer), or None; calls that ended before count."""

    handles: "Sequence[Handle]"
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Work:
    """Run a function in a worker thread: its result, what it raises, or TimeoutError after `timeout_s`."""

    function: Callable[[], Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for what another request is working on; its result, or None after `timeout_s`."""

    future: "Future[Any]"
    timeout_s: float


Effect = Call | Start | WaitAny | Work | Sleep | Join
Flow = Generator[Effect, Any, Any]


class Handle(Protocol):
    """A call that was begun."""

    def cancel(self) -> object: ...


class Clients(Protocol):
    """Clients of models, for the event loop that is running."""

    def client(self, model: str) -> "Client": ...


class Workers:
    """Threads of one process, and an event loop in a thread of its own for callers that have none; made when first needed."""

    def __init__(self, threads: int = 16) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None

    @property
    def has_loop(self) -> bool:
        return self._loop is not None

    @property
    def pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="promptops")
        return self._pool

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    loop = asyncio.new_event_loop()
                    thread = threading.Thread(target=loop.run_forever, name="promptops-loop", daemon=True)
                    thread.start()
                    self._loop, self._loop_thread = loop, thread
        return self._loop

    def submit(self, work: "Coroutine[Any, Any, Any]") -> "Future[Any]":
        """Run a coroutine in the loop thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Wait for what was given to the threads, and end the loop."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=False)
            self._pool = None
        if self._loop is not None and self._loop_thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join(timeout_s)
            if not self._loop.is_running():
                self._loop.close()
            self._loop = self._loop_thread = None


async def drive_async(flow: Flow, clients: Clients, workers: Workers) -> Any:
    """Run a flow in this event loop. When the caller cancels, the flow sees CancelledError and must not wait any more."""
    result: Any = None
    failure: BaseException | None = None
    while True:
        try:
            effect = flow.send(result) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            return stop.value
        result = failure = None
        try:
            if isinstance(effect, Call):
                result = await _answered(effect, clients)
            else:
                result = await _performed(effect, clients, workers)
        except BaseException as error:  # noqa: BLE001 - raised in the flow, which decides; cancellation comes back from it
            failure = error


def drive_sync(flow: Flow, clients: Clients, workers: Workers) -> Any:
    """Run a flow in this thread; model calls go through the loop thread."""
    result: Any = None
    failure: BaseException | None = None
    while True:
        try:
            effect = flow.send(result) if failure is None else flow.throw(failure)
        except StopIteration as stop:
            return stop.value
        result = failure = None
        try:
            result = _performed_here(effect, clients, workers)
        except BaseException as error:  # noqa: BLE001 - as above
            failure = error


async def _answered(call: Call, clients: Clients) -> "Answer":
    """The client's answer, or `timeout`. A client that breaks its promise and raises is a `bad_response`.

    The client is looked up in the loop that will use it.
    """
    client = clients.client(call.model)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    deadlines = _DEADLINES.get(loop) or _DEADLINES.setdefault(loop, _Deadlines())
    due = _Due(task, loop.time() + call.timeout_s, task.cancelling())
    deadlines.add(loop, due)
    try:
        return await client.answer(call.request)
    except asyncio.CancelledError:
        if not due.passed or task.cancelling() - 1 > due.cancelling:  # the caller cancels, perhaps at the same time
            raise
        return _late(call)
    except TimeoutError:
        return _late(call)
    except Exception as error:  # noqa: BLE001 - a client of a plug-in may raise anything; the request must go on
        from promptops.models.base import Answer

        return Answer(outcome="bad_response", detail=f"the client raised {type(error).__name__}")
    finally:
        deadlines.remove(due)
        if due.passed:
            task.uncancel()


def _late(call: Call) -> "Answer":
    from promptops.models.base import Answer

    return Answer(outcome="timeout", detail=f"no answer within {call.timeout_s:.2f} s", latency_s=call.timeout_s)


@dataclass(slots=True, eq=False)
class _Due:
    """The task that waits for a call, when it is to stop waiting, and how often it was being cancelled at the start."""

    task: "asyncio.Task[Any]"
    at: float
    cancelling: int
    passed: bool = False


class _Deadlines:
    """The deadlines of all calls under way in one event loop, with one timer for the next of them.

    `asyncio.timeout` makes a timer for each call, and nearly all of them are cancelled unused: four times the cost.
    """

    def __init__(self) -> None:
        self._due: set[_Due] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, loop: asyncio.AbstractEventLoop, due: _Due) -> None:
        self._due.add(due)
        if self._timer is None or due.at < self._timer.when():
            self._wake(loop, due.at)

    def remove(self, due: _Due) -> None:
        self._due.discard(due)
        if not self._due and self._timer is not None:  # a timer holds its loop
            self._timer.cancel()
            self._timer = None

    def _wake(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, now = None, loop.time()
        for due in [item for item in self._due if item.at <= now]:
            self._due.discard(due)
            due.passed = True
            due.task.cancel()
        if self._due:
            self._wake(loop, min(item.at for item in self._due))


_DEADLINES: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Deadlines]" = weakref.WeakKeyDictionary()


async def _performed(effect: "Work | Join | Start | WaitAny | Sleep", clients: Clients, workers: Workers) -> Any:
    match effect:
        case Work(function, timeout_s):
            future = asyncio.get_running_loop().run_in_executor(workers.pool, function)
            return await asyncio.wait_for(future, timeout_s)
        case Join(future=joined, timeout_s=timeout_s):
            done, _ = await asyncio.wait([asyncio.wrap_future(joined)], timeout=timeout_s)
            return joined.result() if done and not joined.cancelled() else None
        case Start(call):
            return asyncio.ensure_future(_answered(call, clients))
        case WaitAny(handles, timeout_s):
            tasks: list[Any] = list(handles)
            await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return next(((number, task.result()) for number, task in enumerate(tasks) if task.done()), None)
        case Sleep(seconds):
            return await asyncio.sleep(seconds)


def _performed_here(effect: Effect, clients: Clients, workers: Workers) -> Any:
    match effect:
        case Call():
            return _result_of(workers.submit(_answered(effect, clients)), None)
        case Work(function, timeout_s):
            return _result_of(workers.pool.submit(function), timeout_s)
        case Join(future=joined, timeout_s=timeout_s):
            done, _ = wait([joined], timeout=timeout_s)
            return joined.result() if done and not joined.cancelled() else None
        case Start(call):
            return workers.submit(_answered(call, clients))
        case WaitAny(handles, timeout_s):
            futures: list[Any] = list(handles)
            wait(futures, timeout=timeout_s, return_when=FIRST_COMPLETED)
            return next(((number, future.result()) for number, future in enumerate(futures) if future.done()), None)
        case Sleep(seconds):
            return threading.Event().wait(seconds)


def _result_of(begun: "Future[Any]", timeout_s: float | None) -> Any:
    """What was begun elsewhere; it is called off when nobody waits for it any more."""
    try:
        return begun.result(timeout_s)
    except BaseException:
        begun.cancel()
        raise
