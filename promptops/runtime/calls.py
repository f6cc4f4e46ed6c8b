"""One paid call: budget, breaker, switch, the call itself perhaps hedged, and the account of it."""

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from promptops.models.base import ModelRequest
from promptops.runtime.breaker import Permit, Refused, verdict_of
from promptops.runtime.budget import NOTHING, Spend, settled, used_of, worst_tokens
from promptops.runtime.flow import Call, Sleep, Start, WaitAny
from promptops.runtime.job import Flow, Job, No, ask_state
from promptops.runtime.state import Denied, Grant, StateError

if TYPE_CHECKING:
    from promptops.core.knowledge import Passage
    from promptops.core.prompt import Message
    from promptops.models.base import Answer

_SHORTEST_CALL_S = 0.02
_LEASE_SPARE_S = 5.0
_RETRIED = frozenset(("connection", "server_error", "stream", "timeout", "bad_response"))


def asked(job: Job, model: str, messages: "tuple[Message, ...]", passages: "tuple[Passage, ...]") -> Flow:
    """(model, answer) after at most the allowed retries, or No."""
    lane, settings = job.lane, job.lane.release.settings
    prompt = lane.release.prompt
    request = ModelRequest(
        messages=messages, params=lane.params, output_format=prompt.output_format, inputs=job.request.inputs, passages=passages,
        output_schema=prompt.output_schema.document if prompt.output_schema else None,
    )  # fmt: skip
    if not job.earned:
        job.earned = True
        lane.retries.earn()
        lane.hedges.earn()
    tries = 0
    while True:
        found: tuple[str, Answer] | No = yield from _paid_call(job, model, request)
        if isinstance(found, No):
            return found
        by, answer_ = found
        if answer_.outcome == "ok":
            job.step("model", "ok", f"{by}: {answer_.latency_s:.2f} s")
            return found
        job.step("model", answer_.outcome, f"{by}: {answer_.detail}"[:300])
        failure = No(reason=f"{by}: {answer_.outcome}")
        if answer_.outcome not in _RETRIED or verdict_of(answer_) == "neutral" or tries >= settings.retry.most:
            return failure
        pause_s = settings.retry.backoff_s * 2**tries * random.random()  # noqa: S311 - spread, not secrecy
        if job.left_s < pause_s + _SHORTEST_CALL_S or not lane.retries.take():
            return failure
        tries += 1
        if pause_s > 0:
            yield Sleep(pause_s)
        job.step("model", "retry", f"{by}, after {pause_s:.2f} s")


@dataclass(slots=True)
class _Ticket:
    """Leave for one call: what was reserved, and the breaker's permit."""

    model: str
    worst: Spend
    grants: list[tuple[Any, Grant]]
    permit: Permit


def _paid_call(job: Job, model: str, request: "ModelRequest") -> Flow:
    """(model, answer) of one call, hedged by a second one where that is allowed, or No."""
    timeout_s = _timeout_s(job, model)
    if timeout_s < _SHORTEST_CALL_S:
        return No(reason="deadline: no time left for a model", final=True)
    ticket: _Ticket | No = yield from _admitted(job, model, request, timeout_s)
    if isinstance(ticket, No):
        return ticket
    hedge_s = job.lane.hedge_after_s(ticket.model)
    tickets = [ticket]
    try:
        if hedge_s is None or hedge_s >= timeout_s:
            answer_: Answer = yield Call(job.lane.client(ticket.model), request, timeout_s)
        else:
            answer_ = yield from _hedged(job, tickets, request, timeout_s, hedge_s)
    except BaseException:
        # The caller went away. What was sent may be charged: the worst case stays counted. It says nothing about the provider.
        for item in tickets:
            _settle(job, item, item.worst)
            job.lane.breaker(item.model).released(item.permit)
        raise
    _finish(job, tickets[0], answer_)
    job.tried.add(tickets[0].model)
    return tickets[0].model, answer_


def _hedged(job: Job, tickets: list[_Ticket], request: "ModelRequest", timeout_s: float, hedge_s: float) -> Flow:
    """The first good answer of two calls, the second begun after `hedge_s`; its ticket comes first afterwards, the other is settled."""
    first = yield Start(Call(job.lane.client(tickets[0].model), request, timeout_s))
    handles = [first]
    try:
        done = yield WaitAny(handles, hedge_s)
        if done is None and job.lane.hedges.take():
            second = yield from _admitted(job, tickets[0].model, request, timeout_s - hedge_s)
            if isinstance(second, _Ticket):
                job.step("model", "hedge", f"no answer within the p95 of {hedge_s:.2f} s")
                tickets.append(second)
                handles.append((yield Start(Call(job.lane.client(second.model), request, timeout_s - hedge_s))))
        while done is None:
            done = yield WaitAny(handles, timeout_s)
        number, answer_ = done
        if answer_.outcome != "ok" and len(handles) == 2:
            other = yield WaitAny([handles[1 - number]], timeout_s)
            if other is not None and other[1].outcome == "ok":
                _finish(job, tickets.pop(number), answer_)
                return other[1]
    finally:
        for handle in handles:
            handle.cancel()
    if len(tickets) == 2:
        loser = tickets.pop(1 - number)
        _settle(job, loser, loser.worst)
        job.lane.breaker(loser.model).released(loser.permit)
    return answer_


def _admitted(job: Job, model: str, request: "ModelRequest", timeout_s: float) -> Flow:
    """A ticket for one call, perhaps for the small model when the budget says so, or No."""
    blocked = job.blocked()
    if blocked:
        job.step("switch", "blocked", blocked)
        return No(reason=f"switched off: {blocked}", final=True)
    lane = job.lane
    only_one = model == lane.small
    grant = yield from _reserve(job, model, request, timeout_s, pass_soft=only_one)
    if isinstance(grant, Denied) and not only_one:
        kind = "soft" if grant.soft else "hard"
        job.step("budget", "small only", f"the {kind} limit of {grant.hold.meter.split('/')[1]} is reached")
        model = lane.small
        grant = yield from _reserve(job, model, request, timeout_s, pass_soft=True)
    if isinstance(grant, Denied):
        reason = f"budget: {grant.hold.meter.split('/')[1]} is spent, {grant.retry_after_s:.0f} s until there is room"
        job.step("budget", "refused", reason)
        return No(reason=reason, final=True)
    grants, worst = grant
    permit = lane.breaker(model).admit(timeout_s=timeout_s)
    ticket = _Ticket(model, worst, grants, permit if isinstance(permit, Permit) else Permit())
    if isinstance(permit, Refused):
        job.step("breaker", "refused", f"{model}: {permit.reason}")
        _settle(job, ticket, NOTHING)
        return No(reason=f"{model}: {permit.reason}")
    return ticket


def _reserve(job: Job, model: str, request: "ModelRequest", timeout_s: float, *, pass_soft: bool) -> Flow:
    """([grants], worst case) or Denied. Without the shared state, this process spends its own share."""
    lane, shared = job.lane, job.shared
    tokens = worst_tokens([message.content for message in request.messages]) + lane.schema_tokens
    most = int(request.params["max_output_tokens"])
    price = lane.price(model)
    worst = Spend(tokens=tokens + most, nanousd=price.cost_nanousd(input_tokens=tokens, output_tokens=most))
    if not lane.budgets:
        return [], worst
    meters = lane.meters(job.request.tenant, job.request.feature, model)
    holds = meters.holds(worst)
    if not holds:
        return [], worst
    lease_s = timeout_s + _LEASE_SPARE_S
    given_up = False
    state = shared.state

    def reserve() -> Grant | Denied:
        found = state.reserve(holds, lease_s=lease_s, pass_soft=pass_soft)
        if given_up and isinstance(found, Grant):
            state.settle(found, [0] * len(holds))
        return found

    try:
        found: Grant | Denied = yield from ask_state(job, reserve)
    except StateError:
        given_up = True
        own = meters.holds(worst, share=lane.release.settings.local_share)
        found = shared.local.reserve(own, lease_s=lease_s, pass_soft=pass_soft)
        job.step("budget", "local share", "the shared state did not answer")
        state = shared.local
    if isinstance(found, Denied):
        return found
    job.step("budget", "reserved", f"at most {worst.tokens} tokens")
    return [(state, found)], worst


def _settle(job: Job, ticket: _Ticket, spend: Spend) -> None:
    for state, grant in ticket.grants:
        amounts = used_of(grant.holds, spend)
        job.shared.later(state, partial(state.settle, grant, amounts))
    ticket.grants.clear()


def _finish(job: Job, ticket: _Ticket, answer_: "Answer") -> None:
    """Account for a call that ended."""
    spend = settled(answer_, ticket.worst)
    _settle(job, ticket, spend)
    job.lane.breaker(ticket.model).ended(
        ticket.permit, verdict_of(answer_), latency_s=answer_.latency_s, cost_nanousd=spend.nanousd,
        retry_after_s=answer_.retry_after_s or 0.0 if answer_.outcome == "rate_limited" else 0.0,
    )  # fmt: skip
    if answer_.outcome == "ok":
        job.lane.latencies(ticket.model).add(answer_.latency_s)
    job.calls += spend.requests
    job.cost_nanousd += spend.nanousd
    job.input_tokens += answer_.input_tokens
    job.output_tokens += answer_.output_tokens


def _timeout_s(job: Job, model: str) -> float:
    """The observed p99 times a factor, clamped, and never beyond the deadline."""
    settings, seen = job.lane.release.settings.timeout, job.lane.latencies(model)
    wanted = settings.max_s
    if seen.count >= settings.min_calls:
        wanted = min(settings.max_s, max(settings.min_s, seen.p99_s * settings.factor))
    return min(wanted, job.left_s)
