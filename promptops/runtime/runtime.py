"""The Runtime an application imports: one bundle at a time, reloaded when its pointer moves, asked from anywhere."""

import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptops.core.errors import DataError, Problem, PromptopsError, RefusedError, did_you_mean
from promptops.runtime.base import Observer, Queue, Reply, Request, Retriever, Switch

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from promptops.core.jsontext import Json
    from promptops.core.serving import BudgetRule
    from promptops.models.base import Client
    from promptops.runtime.breaker import Forced
    from promptops.runtime.bundle import Bundle, Release, Trust
    from promptops.runtime.flow import Flow
    from promptops.runtime.job import Job
    from promptops.runtime.lane import Lane, Shared
    from promptops.runtime.models import Endpoint, Models
    from promptops.runtime.state import State

_FEEDBACK = ("thumbs", "edit", "escalation", "judge")
_IDS = os.urandom(4).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    """One bundle in service. Requests that began with it end with it."""

    bundle: "Bundle"
    live: "Mapping[str, Lane]"
    canary: "Mapping[str, Lane]"
    models: "Models"


class Runtime:
    """Answers requests from a bundle. Use one for a process; all methods may be called from any thread, loop or forked child."""

    def __init__(self, path: "Path", trust: "Trust", shared: "Shared", *, endpoints: "Mapping[str, Endpoint]", clients: "Mapping[str, Client]",
                 retrievers: Mapping[str, Retriever], databases: Mapping[str, str], poll_s: float) -> None:  # fmt: skip
        """Use `Runtime.load`."""
        # Not with this module: asyncio and the stages come with the first bundle, so that importing a Runtime costs little.
        from promptops.runtime import flow, pipeline
        from promptops.runtime.job import Job

        self._flow, self._pipeline, self._new_job = flow, pipeline, Job
        self._path, self._trust, self._shared = path, trust, shared
        self._endpoints, self._clients, self._retrievers, self._poll_s = endpoints, clients, retrievers, poll_s
        self._databases = databases
        self._reloading = threading.Lock()
        self._pid = os.getpid()
        self._count = 0
        self._stamp = self._pointer_stamp()
        self._looked_at = shared.clock()
        self._shadows: set[Future[Any]] = set()
        self._serving = self._open(self._read())

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, models: "Mapping[str, Endpoint] | Endpoint | None" = None, trusted_keys: Sequence[str] = (), digest: str = "",
        allow_unsigned: bool = False, state: "State | None" = None, switch: Switch | None = None, observers: Sequence[Observer] = (),
        queue: Queue | None = None, retrievers: Mapping[str, Retriever] | None = None, budgets: "Sequence[BudgetRule]" = (),
        clients: "Mapping[str, Client] | None" = None, poll_s: float = 1.0, clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time, databases: Mapping[str, str] | None = None,
    ) -> "Runtime":  # fmt: skip
        """A runtime for the bundle at `path`: a folder, a .tar, or a folder with a `current.json` that is followed.

        `models` says where each model alias is, or one Endpoint for all. One of `trusted_keys` (lines `ssh-ed25519 AAAA...`),
        `digest` (of the manifest) and `allow_unsigned` must say why the bundle is believed. `clients` stand in for models in
        tests; `databases` says where SQL answers are run, by the name that a check gives (else PROMPTOPS_DATABASE_<NAME>); `wall_clock` (Unix seconds) decides only what is marked as expired. Raises RefusedError for a bundle that is not to be used, DataError for settings that do not fit it.
        """
        from pathlib import Path

        from promptops.runtime.bundle import Trust
        from promptops.runtime.flow import Workers
        from promptops.runtime.lane import Shared, budget_rules
        from promptops.runtime.models import Endpoint
        from promptops.runtime.state import MemoryState

        if switch is None:
            from promptops.runtime.switch import Switch as Flags

            switch = Flags()
        shared = Shared(
            state=state if state is not None else MemoryState(clock=clock), local=MemoryState(clock=clock, max_entries=0), switch=switch,
            observers=tuple(observers), queue=queue, budgets=budget_rules(budgets), workers=Workers(), clock=clock,
            wall_clock=wall_clock,
        )  # fmt: skip
        shared.share_breakers()
        endpoints = {"*": models} if isinstance(models, Endpoint) else dict(models or {})
        trust = Trust(keys=tuple(trusted_keys), digest=digest, unsigned=allow_unsigned)
        return cls(Path(path), trust, shared, endpoints=endpoints, clients=dict(clients or {}), retrievers=dict(retrievers or {}), databases=dict(databases or {}), poll_s=poll_s)  # fmt: skip

    @property
    def bundle(self) -> "Bundle":
        """What is being served."""
        return self._serving.bundle

    def complete(self, prompt: str, inputs: "Mapping[str, Json]", *, tenant: str = "default", feature: str = "", category: str = "",
                 deadline_s: float | None = None, request_id: str = "") -> Reply:  # fmt: skip
        """The Reply, for code without an event loop. Raises DataError for a prompt that is not there or inputs that do not fit it."""
        serving, job = self._job(prompt, inputs, tenant=tenant, feature=feature, category=category, deadline_s=deadline_s, request_id=request_id)  # fmt: skip
        reply: Reply = self._flow.drive_sync(self._pipeline.answer(job), serving.models, self._shared.workers)
        self._replied(serving, job, reply)
        return reply

    async def acomplete(self, prompt: str, inputs: "Mapping[str, Json]", *, tenant: str = "default", feature: str = "", category: str = "",
                        deadline_s: float | None = None, request_id: str = "") -> Reply:  # fmt: skip
        """As `complete`, in an event loop."""
        serving, job = self._job(prompt, inputs, tenant=tenant, feature=feature, category=category, deadline_s=deadline_s, request_id=request_id)  # fmt: skip
        reply: Reply = await self._flow.drive_async(self._pipeline.answer(job), serving.models, self._shared.workers)
        self._replied(serving, job, reply)
        return reply

    async def astream(self, prompt: str, inputs: "Mapping[str, Json]", **options: Any) -> "AsyncIterator[str | Reply]":
        """The answer in pieces as they may be shown, and the Reply as the last item; options as of `acomplete`.

        Guardrails judge whole answers, so the first piece comes when the answer is complete: no word is shown that is taken back.
        """
        from promptops.core.text import sentences

        reply = await self.acomplete(prompt, inputs, **options)
        position = 0
        for sentence in sentences(reply.text):
            end = reply.text.index(sentence, position) + len(sentence)
            yield reply.text[position:end]
            position = end
        if position < len(reply.text):
            yield reply.text[position:]
        yield reply

    def feedback(self, request_id: str, *, good: bool, by: str = "thumbs") -> None:
        """Tell the observers how a reply did: `by` is thumbs, edit, escalation or judge. Raises DataError for another word or no id.

        `promptops monitor` joins it with the reply by its id and watches the rate of bad answers. No text is taken.
        """
        if by not in _FEEDBACK:
            raise DataError(f"feedback by {by[:40]!r}", hint=f"one of {', '.join(_FEEDBACK)}")
        if not request_id or len(request_id) > 100 or any(char.isspace() for char in request_id):
            raise DataError(f"{request_id[:100]!r} is not the id of a request", hint="give reply.request_id")
        self._shared.notice("feedback_good" if good else "feedback_bad", f"{request_id} {by}")

    def reload(self) -> bool:
        """Serve what is at the path now; False when that is what is served already.

        Raises PromptopsError when it may not be used: the bundle in service stays.
        """
        with self._reloading:
            found = self._read()
            if found.digest == self._serving.bundle.digest:
                return False
            problems = found.follows(self._serving.bundle)
            if problems:
                raise RefusedError(problems=problems)
            self._serving = self._open(found)
        self._shared.notice("bundle_loaded", found.digest)
        return True

    def force_breaker(self, model: str, state: "Forced") -> None:
        """Hold the breakers of a model open or closed; '' lets them decide again."""
        serving = self._serving
        lanes = [*serving.live.values(), *serving.canary.values()]
        for lane in lanes:
            if model in lane.aliases:
                lane.breaker(model).forced = state

    def invalidate(self, *, prompt: str = "", version: str = "", tenant: str = "", document: str = "") -> int:
        """Forget cached answers of a prompt, one version of it, one of its documents, or of a tenant; how many there were."""
        from promptops.runtime.cache import partition_of

        given = [bool(prompt), bool(tenant)]
        if sum(given) != 1 or ((version or document) and not prompt) or (version and document):
            raise ValueError("give a prompt (with a version or a document), or a tenant")
        serving = self._serving
        if not document:
            for lane in (*serving.live.values(), *serving.canary.values()):
                lane.invalidate(prompt=prompt, version=version, tenant=tenant)
        if tenant:
            return self._shared.state.invalidate(f"tenant:{partition_of(tenant)}")
        tag = (
            f"document:{prompt}:{document}"
            if document
            else f"prompt:{prompt}@{version}"
            if version
            else f"prompt:{prompt}"
        )
        return self._shared.state.invalidate(tag)

    def close(self) -> None:
        """End threads and connections of this process; what was to be written is written. Do not use the runtime afterwards."""
        workers, models = self._shared.workers, self._serving.models
        for lane in (*self._serving.live.values(), *self._serving.canary.values()):
            lane.close()
        if self._shared.board is not None:
            self._shared.board.close()
        if workers.has_loop:
            workers.submit(models.close()).result(5)
        workers.close()
        self._shared.state.close()

    async def aclose(self) -> None:
        """As `close`, for the connections of this event loop too."""
        import asyncio

        await self._serving.models.close()
        await asyncio.to_thread(self.close)

    def _job(self, prompt: str, inputs: "Mapping[str, Json]", *, tenant: str, feature: str, category: str, deadline_s: float | None,
             request_id: str) -> "tuple[_Serving, Job]":  # fmt: skip
        if self._pid != os.getpid():
            self._after_fork()
        self._follow_pointer()
        serving = self._serving
        if not str(tenant or "").strip():
            raise DataError("a request needs a tenant", why="it would share budget and cache with others", hint="leave it out for `default`")  # fmt: skip
        if deadline_s is not None and not deadline_s > 0:
            raise DataError(f"deadline_s is {deadline_s!r}", hint="give seconds above 0")
        lane = self._lane(serving, prompt, tenant)
        problems = list(lane.release.prompt.input_problems(inputs))
        if problems:
            raise DataError(problems=problems)
        if not request_id:
            self._count += 1
            request_id = f"{_IDS}-{self._pid}-{self._count}"
        request = Request(
            id=request_id, prompt=prompt, inputs=inputs, tenant=tenant, feature=feature, category=category,
            deadline_s=lane.release.settings.deadline_s if deadline_s is None else deadline_s,
        )  # fmt: skip
        job = self._new_job(request=request, lane=lane, shared=self._shared, started=self._shared.clock())
        state, reason = lane.expiry_state()
        if state:
            job.step("bundle", state, reason)
        return serving, job

    def _lane(self, serving: _Serving, prompt: str, tenant: str) -> "Lane":
        """The live release, or the canary for the tenants that a hash puts there: a tenant always sees the same one."""
        channel = serving.bundle.channels.get(prompt)
        if channel is None:
            raise DataError(
                f"the bundle has no prompt {prompt[:80]!r}", hint=did_you_mean(prompt, serving.bundle.channels)
            )
        canary = serving.canary.get(prompt)
        if canary is not None and sticky(prompt, tenant) < channel.percent * 100:
            return canary
        return serving.live[prompt]

    def _replied(self, serving: _Serving, job: "Job", reply: Reply) -> None:
        self._shared.replied(job.request, reply)
        wanted, semantic = job.lane.release.settings.shadow, job.lane.semantic
        if wanted.percent and reply.source == "model" and sticky("shadow", reply.request_id) < wanted.percent * 100:
            self._beside(serving, job, lambda again: self._pipeline.shadow(again, reply))
        if reply.source == "semantic" and semantic is not None and semantic.audit.wants():
            self._beside(serving, job, lambda again: self._pipeline.audit(again, reply))

    def _beside(self, serving: _Serving, job: "Job", flow: "Callable[[Job], Flow]") -> None:
        """Run a flow for a request that has its reply; nobody waits for it."""
        again = self._new_job(request=job.request, lane=job.lane, shared=self._shared, started=self._shared.clock())
        future = self._shared.workers.submit(self._flow.drive_async(flow(again), serving.models, self._shared.workers))
        self._shadows.add(future)
        future.add_done_callback(self._shadows.discard)

    def _read(self) -> "Bundle":
        from promptops.runtime.bundle import load_bundle
        from promptops.runtime.pointer import POINTER, read_pointer

        pointer = read_pointer(self._path)
        if pointer is None:
            return load_bundle(self._path, self._trust)
        bundle = load_bundle(self._path / pointer.bundle, self._trust)
        if bundle.digest != pointer.digest:
            raise RefusedError(f"{POINTER} names another bundle than is there", where=str(self._path), why=f"it is {bundle.digest}")  # fmt: skip
        return bundle

    def _open(self, bundle: "Bundle") -> _Serving:
        live = {name: self._ready(channel.live, bundle) for name, channel in bundle.channels.items()}
        canary = {
            name: self._ready(channel.canary, bundle) for name, channel in bundle.channels.items() if channel.canary
        }
        unknown = sorted(self._retrievers.keys() - live.keys())
        if unknown:
            raise DataError(f"a retriever for {unknown[0]!r}, which is not in the bundle", hint=did_you_mean(unknown[0], live))  # fmt: skip
        return _Serving(bundle=bundle, live=live, canary=canary, models=self._models(bundle, [*live.values(), *canary.values()]))  # fmt: skip

    def _ready(self, release: "Release", bundle: "Bundle") -> "Lane":
        from promptops.runtime.lane import Lane, with_databases

        lane = Lane(
            with_databases(release, self._databases),
            bundle.models,
            self._shared,
            retriever=self._retrievers.get(release.name),
        )
        lane.guard.warm()
        lane.expiry_state()
        return lane

    def _models(self, bundle: "Bundle", lanes: "Sequence[Lane]") -> "Models":
        """Clients for every model that may be asked. Raises DataError naming all aliases without an endpoint."""
        from promptops.runtime.models import Models, local_client

        clients: dict[str, Client] = dict(self._clients)
        endpoints: dict[str, Endpoint] = {}
        problems: list[Problem] = []
        for lane in lanes:
            for alias in lane.aliases:
                if alias in clients:
                    clients.setdefault(lane.client(alias), clients[alias])  # it stands in for a local model, too
                    continue
                spec = bundle.models[alias]
                if spec.provider == "local":
                    found = local_client(spec.model, lane.release.prompt)
                    if found is None:
                        problems.append(
                            Problem(what=f"local:{spec.model} cannot run in a service", where=lane.release.name)
                        )
                    else:
                        clients[lane.client(alias)] = found
                    continue
                endpoint = self._endpoints.get(alias, self._endpoints.get("*"))
                if endpoint is None:
                    problems.append(Problem(what=f"nothing says where model {alias!r} is", hint=f"models={{{alias!r}: Endpoint(...)}}"))  # fmt: skip
                else:
                    endpoint.check()
                    endpoints[alias] = endpoint
        if problems:
            raise DataError(problems=problems)
        _load_what_requests_need(over_http=bool(endpoints), semantic=any(lane.semantic is not None for lane in lanes))
        return Models(bundle.models, endpoints, clients)

    def _pointer_stamp(self) -> tuple[int, int] | None:
        from promptops.runtime.pointer import POINTER

        try:
            state = (self._path / POINTER).stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino

    def _follow_pointer(self) -> None:
        """Look at the pointer now and then, while requests come; a bundle is read in a worker thread."""
        now = self._shared.clock()
        if now - self._looked_at < self._poll_s:
            return
        self._looked_at = now
        stamp = self._pointer_stamp()
        if stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            self._shared.workers.pool.submit(self._try_reload)

    def _try_reload(self) -> None:
        try:
            self.reload()
        except PromptopsError as error:
            self._shared.notice("bundle_refused", str(error)[:500])

    def _after_fork(self) -> None:
        """A forked child has the bundle and none of the threads, locks and connections of its parent."""
        from promptops.runtime.cache import Flights
        from promptops.runtime.flow import Workers

        self._pid = os.getpid()
        self._reloading = threading.Lock()
        shared = self._shared
        shared.workers, shared.flights = Workers(), Flights()
        shared.breakers.clear()
        shared.latencies.clear()
        shared.state.after_fork()
        shared.share_breakers()
        shared.local.after_fork()
        self._shadows = set()
        self._serving.models.after_fork()
        for lane in (*self._serving.live.values(), *self._serving.canary.values()):
            lane.after_fork()


def sticky(salt: str, name: str) -> int:
    """A number in 0..9999 that the two texts decide."""
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()) % 10_000  # fmt: skip


def _load_what_requests_need(*, over_http: bool, semantic: bool) -> None:
    """Import now what the first request would import: a second then, in an event loop, is a second for all who wait."""
    from importlib import import_module

    wanted = ["promptops.models.http", "aiohttp"] if over_http else []
    wanted += ["numpy"] if semantic else []
    for name in wanted:
        import_module(name)
