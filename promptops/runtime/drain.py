"""Answer what a queue kept: at least once, results written before a job counts as done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, JsonError, parse_json

if TYPE_CHECKING:
    from promptops.runtime.queue import DurableQueue, Job
    from promptops.runtime.runtime import Runtime

_FIRST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How many jobs were answered and written, and how many were given back."""

    answered: int
    given_back: int


def drain(
    queue: "DurableQueue",
    runtime: "Runtime",
    write: "Callable[[dict[str, Json]], None]",
    *,
    most: int,
    deadline_s: float,
    lease_s: float = 120.0,
) -> Drained:
    """Take jobs until none is left or `most` were taken. A job is done once `write` returned for its answer.

    What gets no whole answer is given back, to be taken again after 5, 10, 20 ... seconds. The runtime should have no queue of
    its own. Raises StateError when the queue cannot be used, and what `write` raises; the job is then taken again later.
    """
    answered = given_back = 0
    while answered + given_back < most:
        jobs = queue.take(lease_s=lease_s)
        if not jobs:
            break
        job = jobs[0]
        result, why = _answer(job, runtime, deadline_s)
        if result is None:
            queue.again(job, after_s=_FIRST_PAUSE_S * 2 ** (job.tries - 1), reason=why)
            given_back += 1
        else:
            write(result)
            queue.done(job)
            answered += 1
    return Drained(answered=answered, given_back=given_back)


def _answer(job: "Job", runtime: "Runtime", deadline_s: float) -> "tuple[dict[str, Json] | None, str]":
    try:
        asked = parse_json(job.payload)
        reply = runtime.complete(
            asked["prompt"], asked["inputs"], tenant=asked["tenant"], feature=asked["feature"], category=asked["category"],
            request_id=asked["id"], deadline_s=deadline_s,
        )  # fmt: skip
    except (JsonError, DataError, KeyError, TypeError) as error:
        return None, f"not a request this bundle answers: {error}"[:300]
    if reply.degraded:
        return None, reply.degraded
    return {
        "job": job.id, "id": reply.request_id, "tenant": asked["tenant"], "feature": asked["feature"], "prompt": reply.prompt,
        "version": reply.version, "text": reply.text, "value": reply.value, "source": reply.source, "cost_nanousd": reply.cost_nanousd,
        "citations": [{"id": item.id, "title": item.title} for item in reply.citations], "waited_s": round(job.waited_s, 3),
    }, ""  # fmt: skip
