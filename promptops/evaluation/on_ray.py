"""Evaluation on a Ray cluster: shares of a run go to a process on each CPU, and what comes back is counted here.

The only importer of ray, which takes a second to load: it is imported when a run begins.
"""

import asyncio
import os
import secrets
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from promptops.core.errors import DataError, EvaluationError, PromptopsError
from promptops.evaluation.admission import Stop
from promptops.evaluation.execute import (
    DRAIN_S,
    Executed,
    Options,
    Progress,
    all_evaluated,
    finish_all,
    state_of,
    with_kept,
)
from promptops.evaluation.judging import VerdictCount
from promptops.evaluation.plan import Clock, Plan
from promptops.evaluation.share import Counts, Sharer, ShareReport, Trouble
from promptops.evaluation.signals import stop_on_signals
from promptops.evaluation.workload import SHARE_LINES, Share, Workload, cut, pack
from promptops.models.base import Client
from promptops.project.config import check_places
from promptops.project.project import Project
from promptops.project.store import RunHeader, RunState, Seat, Store

SCHEME = "ray://"
_LANES = 2  # while one share ends, the next is under way
_ROUNDS = 4  # small runs are cut into as many shares a lane, so that all processes end at about the same time
_LOSSES = 5
_COUNT_EVERY_S = 0.5
_LEAVE_S = 10.0
_REACH_S, _TRIES, _AGAIN_S = 10.0, 3, 2.0
_OBJECTS_BYTES = 80 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Where runs are shared out: `address` '' is this machine alone, `workers` None a process for each CPU that is free."""

    project: Project
    address: str = ""
    workers: int | None = None

    def execute(
        self, plan: Plan, client: Client, store: Store, header: RunHeader, *, clock: Clock, options: Options,
        on_progress: Callable[[Progress], None], judges: Sequence[Client] = (),
    ) -> Executed:  # fmt: skip
        """As `execute.execute`, by many processes; what they answer is in the store as it comes."""
        asyncio.run(_close((client, *judges)))  # the processes have their own
        with ExitStack() as stack:
            try:
                ray = stack.enter_context(connected(self.address, cpus=self.workers or 1))
            except PromptopsError:  # nobody makes the run that was begun
                store.finish_run(header.id, "interrupted", clock().isoformat(timespec="seconds"))
                raise
            workers = self._workers(ray, most=max(1, -(-plan.planned // 8)))
            if client.paid or plan.judge:
                workers = min(workers, options.concurrency)
            drive = _Drive(ray, plan, client, store, header, project=self.project, workers=workers, options=options, on_progress=on_progress)  # fmt: skip
            return _conclude(drive, plan, store, header, clock)

    def spread(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """`map`, by many processes: at most a few items each are in memory, and what is lost with a process is done again."""
        with connected(self.address, cpus=self.workers or 1) as ray:
            remote = ray.remote(num_cpus=1, max_retries=_LOSSES, retry_exceptions=False)(_guarded)
            packed, waiting = ray.put(function), deque[Any]()
            most = 2 * self._workers(ray, 10_000)
            left = iter(items)
            while True:
                waiting.extend(remote.remote(packed, item) for item in islice(left, most - len(waiting)))
                if not waiting:
                    return
                try:
                    done, trouble = ray.get(waiting.popleft())
                except ray.exceptions.RayError as error:
                    raise EvaluationError("a worker was lost too often", why=str(error).strip().partition("\n")[0][:200]) from error  # fmt: skip
                if trouble:
                    raise trouble.error()
                yield done

    def _workers(self, ray: Any, most: int) -> int:
        if self.workers:
            return self.workers
        free = int(ray.available_resources().get("CPU", 0)) or int(ray.cluster_resources().get("CPU", 1))
        return max(1, min(free, most))


def _guarded(function: Callable[[Any], Any], item: Any) -> tuple[Any, Trouble | None]:
    try:
        return function(item), None
    except PromptopsError as error:
        return None, Trouble(code=error.exit_code, problems=error.problems)


def make_engine(named: str, project: Project, *, workers: int | None = None, writes: bool = True) -> RayEngine | None:
    """What `--engine` (`named`) or the configuration says; None for `local`.

    Its processes write to the run store unless `writes` is false. Raises DataError for anything else, or where it cannot work, RefusedError for a host that only a file of the project names.
    """
    name = named or project.config.engine
    if name.startswith(SCHEME) and not (named or "engine" in project.config.chosen):
        check_places("engine", [urlsplit(name).hostname or ""], os.environ)
    if name == "local":
        if workers:
            raise DataError("--workers is for --engine ray", hint="--concurrency says how many calls are in flight")
        return None
    if name != "ray" and not name.startswith(SCHEME):
        raise DataError(f"unknown engine {name[:60]!r}", hint="use local, ray, or ray://HOST:PORT")
    address = "" if name == "ray" else name
    if not address and "RAY_ADDRESS" in os.environ:
        address = os.environ["RAY_ADDRESS"]
    if writes:
        _check_store(address, project)
    return RayEngine(project=project, address=address, workers=workers)


def _check_store(address: str, project: Project) -> None:
    """Raises DataError for a cluster elsewhere and a store that is a file here."""
    host = urlsplit(address if "//" in address else f"//{address}").hostname or ""
    if project.store_at.url or host in ("", "auto", "local") or _is_here(host):
        return
    raise DataError(f"the run store is a file on this machine, and the cluster at {host[:80]} cannot write it", where=project.store_at.shown,
                    hint='share it: store = "postgresql://..."; see docs/scale.md')  # fmt: skip


def _is_here(host: str) -> bool:
    """Whether a name or address is one of this machine: only then a socket can be bound to it."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, None)[0]
        with socket.socket(family) as one:
            one.bind((place[0], 0))
    except OSError:
        return False
    return True


@contextmanager
def connected(address: str, *, cpus: int = 1) -> Iterator[Any]:
    """Ray, connected for as long as the context is open; a connection that was there before stays.

    Without an address it is started here, for that many processes at least, and ends with the context.

    Raises DataError when it is not installed, EvaluationError when the cluster cannot be reached.
    """
    ray = _import()
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report what it runs to its makers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if address and address != "local":
                _join(ray, address)
            else:
                ray.init(address="local", num_cpus=max(os.cpu_count() or 1, cpus), include_dashboard=False, object_store_memory=_OBJECTS_BYTES,
                         log_to_driver=False, logging_level="error")  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError, ImportError) as error:
            shown = address or "this machine"
            raise EvaluationError(f"no Ray cluster at {shown[:100]}", why=str(error).strip().partition("\n")[0][:200],
                                  hint="start one with `ray start --head` (client port 10001); where it asks for a token, set RAY_AUTH_MODE=token; see docs/scale.md") from error  # fmt: skip
    try:
        with redirect_stdout(sys.stderr):  # where Ray says what it lost; stdout is for the result
            yield ray
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.shutdown()


def _join(ray: Any, address: str) -> None:
    """Connect to a cluster that is there; one that has just begun, or is busy, may take its time to give us a server of our own."""
    place = urlsplit(address)
    if place.scheme == "ray" and place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=_REACH_S).close()  # nobody there: say so at once
    for tries_left in reversed(range(_TRIES)):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, TimeoutError):
            if not tries_left:
                raise
            ray.shutdown()
            time.sleep(_AGAIN_S)
        else:
            return


def use_token(environment: MutableMapping[str, str], home: Path) -> None:
    """Show the token of a cluster that wants one: Ray's client does so only when it is told to, and else waits until it gives up."""
    if "RAY_AUTH_MODE" not in environment and (
        {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & environment.keys() or (home / ".ray" / "auth_token").exists()
    ):
        environment["RAY_AUTH_MODE"] = "token"


def _import() -> Any:
    use_token(os.environ, Path.home())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ImportError as error:
        raise DataError("--engine ray needs the package `ray`", hint="pip install 'promptops[ray]'") from error
    return ray


async def _close(clients: Sequence[Client]) -> None:
    for client in clients:
        await client.close()


def _conclude(drive: "_Drive", plan: Plan, store: Store, header: RunHeader, clock: Clock) -> Executed:
    """Run it, and write down how it ended, as a run in one process does."""
    state: RunState = "interrupted"
    try:
        asyncio.run(drive.run())
        progress = drive.progress
        counted = VerdictCount(plan.judge) if plan.judge else None
        for result in store.results(header.id) if counted else ():
            counted.add(result.category, result.scores)  # type: ignore[union-attr]
        state = state_of(progress, evaluated=all_evaluated(progress.errors, counted))
    except EvaluationError as error:
        raise with_kept(error, store, header) from error
    finally:
        with suppress(EvaluationError) if sys.exception() else nullcontext():
            store.close_seats(header.id)
            store.finish_run(header.id, state, clock().isoformat(timespec="seconds"))
    return Executed(run=store.run(header.id), progress=drive.progress)


@dataclass(slots=True)
class _Slot:
    """The place of one process; when it is lost, another takes its place."""

    concurrency: int
    actor: Any = None
    worker: str = ""
    last: Counts | None = None
    lost: Progress = field(default_factory=lambda: Progress(planned=0))
    losses: int = 0


class _Drive:
    """One run as its driver sees it: cuts shares, hands them out, and counts."""

    def __init__(self, ray: Any, plan: Plan, client: Client, store: Store, header: RunHeader, *, project: Project, workers: int, options: Options,
                 on_progress: Callable[[Progress], None]) -> None:  # fmt: skip
        from dataclasses import replace

        self._ray, self._plan, self._store, self._header, self._options, self._on_progress = (
            ray,
            plan,
            store,
            header,
            options,
            on_progress,
        )
        self._remote = ray.remote(num_cpus=1, max_restarts=0, max_concurrency=_LANES + 4, scheduling_strategy="SPREAD")(Sharer)  # fmt: skip
        self._load: Workload = pack(plan, client, project, header, replace(options, processes=workers))
        spread = plan.planned // (header.repeat * workers * _LANES * _ROUNDS)
        self._shares = cut(plan, max(1, min(SHARE_LINES, spread)))
        self._again: list[Share] = []
        every, more = divmod(options.concurrency, workers)
        self._slots = [_Slot(max(1, every + (place < more))) for place in range(workers)]
        self._finished = Progress(planned=header.planned)
        self.progress = Progress(planned=header.planned, max_cost_nanousd=options.cap.max_nanousd)

    async def run(self) -> None:
        ledger, cap = self._store.ledger(self._header.id), self._options.cap
        cap.calls += ledger.attempts
        cap.spent_nanousd += ledger.paid_nanousd + ledger.possibly_nanousd
        self._store.open_seats(self._header.id, calls=cap.calls, booked_nanousd=cap.spent_nanousd)
        self._before = ledger
        self._packed = self._ray.put(self._load)
        for slot in self._slots:
            self._fill(slot, careful=self._options.careful)
        lanes = [asyncio.ensure_future(self._lane(slot)) for slot in self._slots for _ in range(_LANES)]
        board = asyncio.ensure_future(self._watch())
        try:
            async with stop_on_signals(self._stop, lanes, DRAIN_S):
                await finish_all(lanes)
        finally:
            board.cancel()
            await self._leave()
        self._count_up()

    def _fill(self, slot: _Slot, *, careful: bool) -> None:
        slot.worker = secrets.token_hex(6)
        cap = self._options.cap
        seat = Seat(run_id=self._header.id, worker=slot.worker, max_nanousd=cap.max_nanousd, max_calls=cap.max_calls)
        slot.actor = self._remote.remote(self._packed, seat, concurrency=slot.concurrency, careful=careful)

    async def _lane(self, slot: _Slot) -> None:
        """Hand one share after the other to the process of a slot."""
        while not self.progress.stopped_by:
            share = self._again.pop() if self._again else next(self._shares, None)
            if share is None:
                return
            await self._hand_out(slot, share)

    async def _hand_out(self, slot: _Slot, share: Share) -> None:
        """Until a process has been through it: what a lost one had stored is not asked again."""
        for _ in range(_LOSSES):
            actor = slot.actor
            try:
                report: ShareReport = await actor.work.remote(share)
            except self._ray.exceptions.RayActorError:
                self._replace(slot, actor)
                if self.progress.stopped_by:
                    return
                continue
            except (self._ray.exceptions.RayError, ConnectionError) as error:
                raise EvaluationError("the Ray cluster is gone", why=str(error).strip().partition("\n")[0][:200], hint="start it again") from error  # fmt: skip
            self._take(report, share)
            return
        first, last = share.lines[0][0], share.lines[-1][0]
        raise EvaluationError(f"a worker was lost {_LOSSES} times on rows {first} to {last}", where=self._plan.evaluable.suite.cases_path,
                              why="killed, out of memory, or its node is gone", hint="look into Ray's logs (/tmp/ray/session_latest/logs)")  # fmt: skip

    def _replace(self, slot: _Slot, lost: Any) -> None:
        """Fill a slot again; the other lane of the slot may have done so."""
        if slot.actor is not lost:
            return
        slot.losses += 1
        self._store.vacate_seat(self._header.id, slot.worker)
        if slot.last:
            _add(slot.lost, slot.last.total)
            slot.last = None
        if not self.progress.stopped_by:
            self._fill(slot, careful=True)

    def _take(self, report: ShareReport, share: Share) -> None:
        if report.trouble:
            raise report.trouble.error()
        for slot in self._slots:
            if slot.last:
                slot.last.shares.pop(share.number, None)
        _add(self._finished, report.progress)
        if report.stopped_by and not self.progress.stopped_by:
            self._stop(report.stopped_by, report.stop_detail)
        self._count_up()

    def _stop(self, reason: Stop, detail: str = "") -> None:
        """No process begins another call."""
        if self.progress.stopped_by:
            return
        self.progress.stopped_by, self.progress.stop_detail = reason, detail
        for slot in self._slots:
            slot.actor.stop.remote(reason, detail)

    async def _watch(self) -> None:
        """Ask the processes how far they are, for the board."""
        while True:
            await asyncio.sleep(_COUNT_EVERY_S)
            for slot in self._slots:
                with suppress(self._ray.exceptions.RayError):
                    actor = slot.actor
                    found: Counts = await actor.counts.remote()
                    if slot.actor is actor:
                        slot.last = found
            self._count_up()

    def _count_up(self) -> None:
        """Finished shares, and what is known of those under way."""
        progress, now = self.progress, Progress(planned=self._header.planned)
        _add(now, self._finished)
        totals = Progress(planned=0)
        for slot in self._slots:
            _add(totals, slot.lost)
            if slot.last:
                _add(totals, slot.last.total)
                for share in slot.last.shares.values():
                    _add(now, share)
        for name in ("done", "passed", "failed", "errors", "categories"):
            setattr(progress, name, getattr(now, name))
        for name in ("reused", "judged", "in_flight", "rate_limited"):
            setattr(progress, name, getattr(totals, name))
        progress.calls = self._before.attempts + totals.calls
        progress.cost_nanousd = totals.cost_nanousd
        self._on_progress(progress)

    async def _leave(self) -> None:
        """Let the processes write what they have, count them a last time, and end them."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(self._part(slot) for slot in self._slots)), _LEAVE_S)
        for slot in self._slots:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(slot.actor)
        ledger, cap = self._store.ledger(self._header.id), self._options.cap
        cap.calls += ledger.attempts - self._before.attempts
        cap.spent_nanousd += (
            ledger.paid_nanousd + ledger.possibly_nanousd - self._before.paid_nanousd - self._before.possibly_nanousd
        )

    async def _part(self, slot: _Slot) -> None:
        with suppress(self._ray.exceptions.RayError):
            slot.last = await slot.actor.counts.remote()
            slot.last.shares.clear()
            slot.last.total.in_flight = 0
            await slot.actor.leave.remote()


def _add(total: Progress, more: Progress) -> None:
    for name in ("done", "passed", "failed", "errors", "reused", "calls", "judged", "in_flight", "rate_limited", "cost_nanousd"):  # fmt: skip
        setattr(total, name, getattr(total, name) + getattr(more, name))
    for category, (done, passed) in more.categories.items():
        row = total.categories.setdefault(category, [0, 0])
        row[0] += done
        row[1] += passed
