"""A random sample of what was answered, judged by the suite's rubric; the verdicts go back to the events."""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from promptops.audit.sources import open_source
from promptops.core.errors import DataError, EvaluationError
from promptops.core.suite import Case
from promptops.evaluation.calibrate import judge_plan
from promptops.evaluation.execute import Options, Progress
from promptops.evaluation.judge_session import JudgeItem, judge_answers
from promptops.evaluation.plan import Clock, Plan
from promptops.project.project import Project
from promptops.project.store import Store
from promptops.runtime.state.base import StateError
from promptops.runtime.telemetry.events import EventsFile
from promptops.runtime.telemetry.outbox import iso
from promptops.runtime.telemetry.stream import EventsStream, is_redis

_WHOLE = frozenset(("model", "cache", "semantic"))
_KEPT = ("id", "prompt", "version", "category", "language", "tenant", "feature")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Replies chosen by chance from `whole` whole answers of a prompt that have their texts; `judged` ids have a verdict of this judge already."""

    prompt: str
    plan: Plan
    chosen: tuple[Mapping[str, Any], ...]
    whole: int
    replies: int
    judged: frozenset[str]

    @property
    def open(self) -> tuple[Mapping[str, Any], ...]:
        """Those that are still to be judged."""
        return tuple(event for event in self.chosen if event["id"] not in self.judged)

    def estimate(self) -> tuple[int, int]:
        """(calls, nano-dollars) at the most for what is to be judged."""
        assert self.plan.judge, "a plan with a judge"
        tokens = [
            self.plan.judge.estimate_tokens(item.case, item.passages, len(item.answer) // 4)
            for item in map(self.item, self.open)
        ]
        return self.plan.judge.estimate(len(tokens), sum(tokens) / len(tokens)) if tokens else (0, 0)

    def item(self, event: Mapping[str, Any]) -> JudgeItem:
        case = Case(id=event["id"], category=event["category"], inputs=event["inputs"])
        return JudgeItem(case=case, passages=self.plan.evaluable.prompt.passages_for(case.inputs), answer=event["text"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge said of one reply: a line for the events, with its reason; `passed` None when there was no verdict."""

    event: Mapping[str, Any]
    passed: bool | None
    value: float | None
    reason: str


def draw_sample(
    project: Project, prompt: str, address: str, *, many: int, seed: int, judge: str = "", hours: float = 0.0, now: Callable[[], float]
) -> Sample:  # fmt: skip
    """The `many` replies whose hash with the seed is lowest: the same events and seed give the same sample, and what comes later changes little of it.

    `hours`: only replies of the last so many (0: all). Raises DataError when no reply has its texts, or the judge needs a right answer to compare with.
    """
    plan = judge_plan(project, prompt, judge)
    assert plan.judge, "a plan with a judge"
    if plan.judge.mode != "reference_free":
        raise DataError(f"the judge of {prompt} works in mode {plan.judge.mode}", where=f"golden/{prompt}.yaml",
                        why="requests have no right answer to compare with", hint="use `mode: reference_free`")  # fmt: skip
    since = iso(now() - hours * 3600) if hours else ""
    lowest: list[tuple[int, str, Mapping[str, Any]]] = []
    replies = whole = 0
    judged: set[str] = set()
    for event in _events(address, prompt):
        if event["kind"] == "judged":
            if event.get("judge") == plan.judge.digest:
                judged.add(event["id"])
            continue
        if event["at"] < since or event["source"] not in _WHOLE:
            continue
        replies += 1
        if not _has_texts(event):
            continue
        whole += 1
        rank = -int.from_bytes(
            hashlib.blake2b(f"{seed}\0{event['id']}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        )
        if len(lowest) < many:
            heapq.heappush(lowest, (rank, event["id"], event))
        elif (rank, event["id"]) > lowest[0][:2]:
            heapq.heapreplace(lowest, (rank, event["id"], event))
    if not whole:
        why = (
            f"{replies} whole answers of it, none with inputs and text"
            if replies
            else "no whole answer of it is in these events"
        )
        raise DataError(f"nothing of {prompt} can be judged", where=address if not is_redis(address) else "", why=why,
                        hint="services keep texts with `promptops serve --content` or EventsFile(path, content=True)")  # fmt: skip
    chosen = tuple(event for _, _, event in sorted(lowest, key=lambda item: (item[2]["at"], item[1])))
    return Sample(prompt=prompt, plan=plan, chosen=chosen, whole=whole, replies=replies, judged=frozenset(judged))


def judge_sample(
    store: Store, sample: Sample, *, clock: Clock, options: Options, on_progress: Callable[[Progress], None]
) -> tuple[list[Verdict], int]:  # fmt: skip
    """A verdict on each reply that has none, and what they cost. Raises EvaluationError when it stops before the end, or nobody gave a verdict."""
    events = sample.open
    if not events:
        return [], 0
    found, ledger = judge_answers(
        store, sample.plan, [sample.item(event) for event in events], clock=clock, options=options, on_progress=on_progress)  # fmt: skip
    verdicts = [Verdict(event=event, passed=judged.judgement.passed, value=judged.judgement.value, reason=judged.judgement.reason)
                for event, judged in zip(events, found, strict=True)]  # fmt: skip
    if all(verdict.passed is None for verdict in verdicts):
        raise EvaluationError(f"the judge gave no verdict on {len(verdicts)} answers", why=verdicts[0].reason, hint="see `promptops judge calibrate`")  # fmt: skip
    return verdicts, ledger.paid_nanousd


def write_verdicts(
    address: str, sample: Sample, verdicts: Sequence[Verdict], *, cost_nanousd: int, clock: Clock
) -> int:
    """Add the verdicts to the events, each with its share of the cost; how many. Raises EvaluationError when they cannot be written."""
    assert sample.plan.judge, "a plan with a judge"
    given = [verdict for verdict in verdicts if verdict.passed is not None]
    now: Callable[[], float] = lambda: clock().timestamp()  # noqa: E731 - what the sinks take
    try:
        sink = (
            EventsStream(address, keep_days=0, clock=now, timeout_s=5)
            if is_redis(address)
            else EventsFile(Path(address), keep_days=0, clock=now)
        )
        for number, verdict in enumerate(given):
            cost = cost_nanousd * (number + 1) // len(given) - cost_nanousd * number // len(given)
            sink.tell({"kind": "judged", **{name: verdict.event[name] for name in _KEPT}, "replied_at": verdict.event["at"], "passed": verdict.passed,
                       "value": round(verdict.value or 0.0, 4), "judge": sample.plan.judge.digest, "cost_nanousd": cost})  # fmt: skip
        sink.flush()
        sink.close()
    except (OSError, StateError) as error:
        raise EvaluationError("the verdicts were not added to the events", why=str(error)[:200], hint="run it again: what was judged costs nothing") from error  # fmt: skip
    return len(given)


def _events(address: str, prompt: str) -> Iterator[dict[str, Any]]:
    """Replies and verdicts of a prompt; what is no whole event is left out, as monitoring counts it."""
    mark = orjson.dumps(prompt)
    with closing(open_source(address)) as lines:
        for line in lines:
            if mark not in line:
                continue
            try:
                event = orjson.loads(line)
                if event["kind"] in {"reply", "judged"} and event["prompt"] == prompt and isinstance(event["at"], str) and isinstance(event["id"], str):  # fmt: skip
                    yield event
            except (ValueError, KeyError, TypeError):
                continue


def _has_texts(event: Mapping[str, Any]) -> bool:
    names = all(isinstance(event.get(name), str) for name in _KEPT)
    return names and isinstance(event.get("inputs"), dict) and isinstance(event.get("text"), str) and bool(event["text"].strip())  # fmt: skip
