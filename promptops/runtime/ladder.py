"""The fallback ladder: what still answers when no model does, from the best rung to the last."""

from collections.abc import Callable

from promptops.core.serving import FallbackStep
from promptops.runtime.base import Reply, Source
from promptops.runtime.cache import Kept, partition_of
from promptops.runtime.flow import Work
from promptops.runtime.job import SPARE_S, Flow, Job, ask_state, make_reply
from promptops.runtime.stand_in import StandIn, classifier_answer, queue_payload, rules_answer, search_answer
from promptops.runtime.state import StateError


def degraded(job: Job, reason: str) -> Flow:
    """The reply of the first rung that answers; there always is one, if only an empty text."""
    for step in job.lane.release.settings.fallback:
        reply: Reply | None = yield from _RUNGS[step.step](job, step, reason)
        if reply is not None:
            return reply
        job.step("fallback", "nothing", step.step)
    return make_reply(job, "text", "", why=reason)


def _stale(job: Job, _step: FallbackStep, reason: str) -> Flow:
    entry, shared = job.stale, job.shared
    if entry is None and job.lane.caches:
        partition = partition_of(job.request.tenant)
        job.key = job.key or job.lane.keys.key(job.request.inputs, job.request.category, job.outside)
        try:
            entry = yield from ask_state(job, lambda: shared.state.get(partition, job.key))
        except StateError:
            return None
    if entry is None or entry.age_s > job.lane.release.settings.cache.stale_s:
        return None
    kept = Kept.read(entry.value)
    if kept is None:
        return None
    passages = job.outside if job.outside is not None else job.lane.library.shown(job.request.inputs, kept.passages)
    return (yield from _stand_in(job, StandIn(text=kept.text, passages=passages), "stale", reason))


def _search(job: Job, step: FallbackStep, reason: str) -> Flow:
    found = search_answer(job.lane.release.prompt, job.lane.library, job.request, step)
    return (yield from _stand_in(job, found, "search", reason))


def _classifier(job: Job, step: FallbackStep, reason: str) -> Flow:
    passages = job.outside if job.outside is not None else job.lane.library.retrieve(job.request.inputs)
    found, confidence = classifier_answer(job.lane.classifier, job.lane.release.prompt, job.request, passages, step)
    if found is None:
        job.step("classifier", "unsure", f"{confidence:.2f} is below {step.min_confidence:g}")
    return (yield from _stand_in(job, found, "classifier", reason))


def _rules(job: Job, _step: FallbackStep, reason: str) -> Flow:
    passages = job.outside if job.outside is not None else job.lane.library.retrieve(job.request.inputs)
    found = rules_answer(job.lane.rules, job.lane.release.prompt, job.request, passages)
    return (yield from _stand_in(job, found, "rules", reason))


def _stand_in(job: Job, found: StandIn | None, source: Source, reason: str) -> Flow:
    """A reply from a rung, if the guardrails let it pass."""
    if found is None:
        return None
    verdict = yield from job.lane.guard.judge(found.text, job.request, found.passages, latency_s=0.0, cost_nanousd=0, left_s=job.left_s + SPARE_S)  # fmt: skip
    if verdict.fault:
        job.step("guardrails", "rejected", f"{source}: {verdict.fault}")
        return None
    return make_reply(job, source, verdict.text, value=verdict.value, citations=verdict.citations or found.citations, why=reason)  # fmt: skip


def _queue(job: Job, _step: FallbackStep, reason: str) -> Flow:
    queue, request = job.shared.queue, job.request
    if queue is None:
        return None
    payload = queue_payload(request, job.lane.release.version)
    key = f"{request.tenant}\n{request.prompt}\n{request.id}"  # ids are the caller's: two tenants may use the same
    put: Callable[[], str] = lambda: queue.put(key, payload)  # noqa: E731 - handed to a worker
    try:
        name = (yield Work(put, max(0.0, min(job.left_s + SPARE_S, 1.0)))) if queue.blocks else put()
    except (StateError, OSError, TimeoutError) as error:
        job.step("queue", "failed", type(error).__name__)
        return None
    return make_reply(job, "queue", "", why=reason, queued_id=name)


def _text(job: Job, step: FallbackStep, reason: str) -> Flow:
    yield from ()
    return make_reply(job, "text", step.text, why=reason)


_RUNGS: dict[str, Callable[[Job, FallbackStep, str], Flow]] = {
    "stale": _stale, "search": _search, "classifier": _classifier, "rules": _rules, "queue": _queue, "text": _text,
}  # fmt: skip
