"""The way of a request, in one place: a generator that yields effects and returns a Reply.

kill switch -> outside documents -> exact cache -> semantic cache -> route -> retrieve -> render
  -> per call: reserve budget -> breaker -> switch again -> ask (deadline, retry, hedge) -> settle -> guardrails, one repair
  -> small rejected: large once -> store -> Reply
on any refusal: the fallback ladder, marked degraded
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from promptops.core.digest import digest
from promptops.core.errors import DataError
from promptops.core.prompt import Message
from promptops.runtime.base import Reply, Source
from promptops.runtime.cache import Kept, jittered, partition_of, tags_of
from promptops.runtime.calls import asked
from promptops.runtime.flow import Join, Work
from promptops.runtime.grounding import query_of
from promptops.runtime.job import SPARE_S, Flow, Good, Job, No, ask_state, make_reply
from promptops.runtime.ladder import degraded
from promptops.runtime.state import Entry, StateError

if TYPE_CHECKING:
    from promptops.core.knowledge import Passage
    from promptops.models.base import Answer
    from promptops.runtime.embedding import Vector
    from promptops.runtime.semantic import SemanticCache

_MOST_ATTEMPTS = 2


def answer(job: Job) -> Flow:
    """The Reply to a request. Raises nothing but the cancellation of its caller."""
    blocked = job.blocked()
    if blocked:
        job.step("switch", "blocked", blocked)
        return (yield from degraded(job, f"switched off: {blocked}"))
    yield from _documents_from_outside(job)
    reply = yield from _cached(job)
    if reply is not None:
        return reply
    if not job.lane.caches:
        return (yield from _reply_to(job, (yield from produce(job))))
    return (yield from _once_for_all(job))


def _once_for_all(job: Job) -> Flow:
    """Of identical requests one asks and the others wait; when it fails one of them tries once more, when it is cancelled one takes over."""
    place = (partition_of(job.request.tenant), job.key)
    flights = job.shared.flights
    flight, leads = flights.board(place)
    while True:
        if leads:
            result: Good | No | None = None
            try:
                result = yield from produce(job)
            finally:  # also when the caller of this request went away: one of the followers then takes over
                flights.land(place, flight, "given up" if result is None else result)
            return (yield from _reply_to(job, result))
        job.step("cache", "waits", "an identical request is being answered")
        found = yield Join(flight.future, max(0.0, job.left_s))
        if isinstance(found, Good):
            return make_reply(job, "cache", found.text, value=found.value, model=found.model, citations=found.citations, why=found.why)  # fmt: skip
        if found is None:
            return (yield from degraded(job, "deadline: an identical request took too long"))
        failed = isinstance(found, No)
        if failed and (found.final or flight.attempt >= _MOST_ATTEMPTS):
            return (yield from degraded(job, found.reason))
        flight, leads = flights.board_next(place, flight, flight.attempt + failed)


def produce(job: Job) -> Flow:
    """Ask the models: a guarded answer, or why there is none."""
    lane, request = job.lane, job.request
    first, second = _route(job)
    passages: tuple[Passage, ...] = job.outside if job.outside is not None else lane.library.retrieve(request.inputs)
    if lane.release.prompt.knowledge or job.outside is not None:
        job.step("retrieve", "found", f"{len(passages)} documents")
    try:
        messages = lane.release.prompt.render(request.inputs, passages)
    except DataError as error:
        job.step("render", "failed", str(error)[:300])
        return No(reason="the prompt cannot be rendered with these inputs", final=True)
    if sum(len(message.content) for message in messages) > lane.release.settings.max_input_chars:
        job.step("render", "refused", "too long")
        return No(reason="the request is too long", final=True)
    result: Good | No = yield from _guarded(job, first, messages, passages)
    failure = result.reason if isinstance(result, No) else "budget"
    if isinstance(result, No) and not result.final and second and second not in job.tried:
        job.step("route", second, f"{first} failed: {failure}")
        result = yield from _guarded(job, second, messages, passages)
    if isinstance(result, Good) and first == lane.large and result.model != first:
        return replace(result, why=f"the small model answered: {failure}")
    return result


def _route(job: Job) -> tuple[str, str]:
    """The model to ask, and the one to ask when it fails ('' for none)."""
    lane = job.lane
    if lane.small == lane.large:
        return lane.large, ""
    if lane.router is None:
        job.step("route", lane.large, "no router in the bundle")
        return lane.large, lane.small
    choice = lane.router.route(lane.routing_text(job.request.inputs), job.request.category)
    job.step("route", choice.target, choice.reason)
    return (lane.small, lane.large) if choice.target == "small" else (lane.large, lane.small)


def _guarded(job: Job, model: str, messages: tuple[Message, ...], passages: "tuple[Passage, ...]") -> Flow:
    """One model's answer after the guardrails, with one repair when only its form is wrong."""
    lane, repair = job.lane, job.lane.release.settings.guardrails.repair
    while True:
        found: tuple[str, Answer] | No = yield from asked(job, model, messages, passages)
        if isinstance(found, No):
            return found
        by, answer_ = found
        verdict = yield from lane.guard.judge(
            answer_.text, job.request, passages, latency_s=answer_.latency_s, cost_nanousd=answer_.cost_nanousd, left_s=job.left_s + SPARE_S / 2,
        )  # fmt: skip
        if not verdict.fault:
            job.step("guardrails", "passed")
            return Good(text=verdict.text, value=verdict.value, model=by, passages=passages, citations=verdict.citations)  # fmt: skip
        job.step("guardrails", "rejected", verdict.fault)
        if not (verdict.mendable and repair):
            return No(reason=f"guardrails: {verdict.fault}")
        repair = False
        job.step("guardrails", "repair", "asked again for the right form")
        messages = (
            *messages, Message(role="assistant", content=answer_.text),
            Message(role="user", content=f"This cannot be used: {verdict.fault}. Answer again, with the corrected JSON alone."),
        )  # fmt: skip


def _documents_from_outside(job: Job) -> Flow:
    """Documents of a retriever outside of the bundle come before the cache: they are part of its key."""
    retriever = job.lane.retriever
    if retriever is None:
        return
    prompt, request = job.lane.release.prompt, job.request
    top = prompt.knowledge.top if prompt.knowledge else 4
    try:
        found = yield Work(lambda: tuple(retriever.search(query_of(prompt, request.inputs), top=top, tenant=request.tenant)),
                           max(0.0, min(job.left_s / 2, 1.0)))  # fmt: skip
    except TimeoutError:
        found = ()
        job.step("retrieve", "failed", "the retriever took too long")
    except Exception as error:  # noqa: BLE001 - a retriever of the application may raise anything
        found = ()
        job.step("retrieve", "failed", f"the retriever raised {type(error).__name__}")
    job.outside = found


def _cached(job: Job) -> Flow:
    """The reply from the cache, exact first, or None."""
    lane, request = job.lane, job.request
    job.key = lane.keys.key(request.inputs, request.category, job.outside)
    if not lane.caches:
        return None
    partition = partition_of(request.tenant)
    shared = job.shared
    try:
        entry: Entry | None = yield from ask_state(job, lambda: shared.state.get(partition, job.key))
    except StateError:
        return None
    if entry is None:
        job.step("cache", "miss")
        return (yield from _similar(job, partition))
    ttl_s = jittered(lane.release.settings.cache.ttl_s, lane.release.settings.cache.jitter, job.key)
    if entry.age_s >= ttl_s:
        job.stale = entry
        job.step("cache", "miss", f"the entry is {entry.age_s:.0f} s old")
        return None
    return (yield from _served(job, entry, "cache", partition, job.key))


def _similar(job: Job, partition: str) -> Flow:
    """The reply to a request that the calibrated matcher takes for the same, or None."""
    lane, shared, request = job.lane, job.shared, job.request
    semantic = lane.semantic
    if semantic is None or job.outside is not None:
        return None
    place, text, vector = _question(job, semantic)
    decision = semantic.find(place, text, request.category, vector=vector)
    if decision.entry is None:
        job.step("semantic", "miss", decision.reason)
        return None
    key = decision.entry.key
    try:
        entry: Entry | None = yield from ask_state(job, lambda: shared.state.get(partition, key))
    except StateError:
        return None
    settings = lane.release.settings.cache
    reply = None
    if entry is not None and entry.age_s < jittered(settings.ttl_s, settings.jitter, key):
        reply = yield from _served(job, entry, "semantic", partition, key)
    if reply is None:
        semantic.forget(place, key)
        if lane.warm is not None:
            lane.warm.forget(partition, place, key)
    return reply


def _question(job: Job, semantic: "SemanticCache") -> "tuple[str, str, Vector]":
    """What the semantic cache compares, computed once for looking it up and for keeping it: partition, text, vector."""
    if job.question is None:
        text = semantic.text(job.request.inputs)
        job.question = job.lane.semantic_partition(job.request), text, semantic.embed(text)
    return job.question


def _served(job: Job, entry: Entry, source: Source, partition: str, key: str) -> Flow:
    """The reply from an entry, if it still passes the guardrails; else the entry is dropped."""
    shared = job.shared
    kept = Kept.read(entry.value)
    verdict = None
    if kept is not None:
        passages = job.outside if job.outside is not None else job.lane.library.shown(job.request.inputs, kept.passages)
        verdict = yield from job.lane.guard.judge(kept.text, job.request, passages, latency_s=0.0, cost_nanousd=0, left_s=job.left_s)  # fmt: skip
    if kept is None or verdict is None or verdict.fault:
        job.step("cache", "dropped", verdict.fault if verdict else "it cannot be read")
        shared.later(shared.state, lambda: shared.state.drop(partition, key))
        return None
    job.step(source, "hit", f"{entry.age_s:.0f} s old")
    return make_reply(job, source, verdict.text, value=verdict.value, model=kept.model, citations=verdict.citations)


def _reply_to(job: Job, result: Good | No) -> Flow:
    if isinstance(result, No):
        return (yield from degraded(job, result.reason))
    if job.lane.caches and not result.why:
        _store(job, result)
    return make_reply(job, "model", result.text, value=result.value, model=result.model, citations=result.citations, why=result.why)  # fmt: skip


def _store(job: Job, good: Good) -> None:
    """Keep a complete, guarded answer; nobody waits for it."""
    lane, request, shared = job.lane, job.request, job.shared
    settings, release = lane.release.settings.cache, lane.release
    ids = tuple(passage.id for passage in good.passages)
    value = Kept(text=good.text, model=good.model, passages=ids, citations=good.citations).as_bytes()
    partition, key = partition_of(request.tenant), job.key
    tags = tags_of(release.name, release.version, request.tenant, ids)
    keep_s = max(settings.ttl_s, settings.stale_s)
    shared.later(shared.state, lambda: shared.state.put(partition, key, value, keep_s=keep_s, tags=tags))
    if lane.semantic is not None and job.outside is None:
        place, text, vector = _question(job, lane.semantic)
        said = digest(good.text)
        lane.semantic.add(place, key, text, answer=said, ttl_s=settings.ttl_s, vector=vector, owner=partition)
        if lane.warm is not None:
            lane.warm.add(partition, place, key, text=text, answer=said, keep_s=settings.ttl_s)


def audit(job: Job, served: Reply) -> Flow:
    """Answer a semantic hit again, and tell the cache whether it was right: a bound that does not hold switches it off."""
    from promptops.runtime.semantic import same_answer

    semantic = job.lane.semantic
    if semantic is None:
        return
    found: Good | No = yield from produce(job)
    if isinstance(found, Good) and not found.why:
        same = same_answer((served.text, served.value), (found.text, found.value))
        if same is None:
            job.shared.notice(
                "semantic_cache_undecided", f"{job.request.prompt}: an audited text says it in other words"
            )
            return
        question = semantic.text(job.request.inputs)
        near = semantic.find(job.lane.semantic_partition(job.request), question, job.request.category).entry
        semantic.audit.record(same=same, cached=near.text if near is not None else "", asked=question)
        seen = semantic.audit.state()
        rate = f"{seen.wrong} of {seen.audited} audited hits were wrong, {seen.low:.1%} to {seen.high:.1%} with 95 % confidence"
        job.shared.notice(
            "semantic_audit_right" if same else "semantic_audit_wrong",
            f"{job.request.prompt}: {rate}, {job.cost_nanousd} nano-dollars",
        )
        if semantic.audit.is_broken:
            job.shared.notice("semantic_cache_off", f"{job.request.prompt}: audited hits broke the error bound")


def shadow(job: Job, served: Reply) -> Flow:
    """Ask another model beside a request that was answered. What it says is observed and never served."""
    model = job.lane.release.settings.shadow.model
    passages = job.outside if job.outside is not None else job.lane.library.retrieve(job.request.inputs)
    messages = job.lane.release.prompt.render(job.request.inputs, passages)
    found: Good | No = yield from _guarded(job, model, messages, passages)
    if isinstance(found, No):
        verdict = f"no answer ({found.reason})"
    else:
        same = found.value == served.value if served.value is not None else found.text == served.text
        verdict = "the same answer" if same else "another answer"
    job.shared.notice("shadow", f"{job.request.prompt} on {model}: {verdict}, {job.cost_nanousd} nano-dollars")
