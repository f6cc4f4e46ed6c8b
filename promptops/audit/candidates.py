"""Requests that would make good golden cases: what people or a judge found bad, what guardrails refused, and what no case is like."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson

from promptops.audit.sources import open_source
from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.core.outcome import OF_THE_MODEL
from promptops.core.personal import Masked
from promptops.core.prompt import Prompt
from promptops.evaluation.clients import input_names
from promptops.evaluation.coverage import Ground
from promptops.evaluation.traffic import MAX_ROWS, Request, Traffic
from promptops.models.base import ModelRequest
from promptops.models.local import input_text
from promptops.runtime.telemetry.stream import is_redis, shown_address

Kind = Literal["escalated", "edited", "thumbs down", "low score", "rejected", "refused", "uncovered"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they are taken: what people said comes before what machines did."""
_BY: Mapping[str, Kind] = {"escalation": "escalated", "edit": "edited", "thumbs": "thumbs down", "judge": "low score"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An input to be labelled, with personal data masked unless it was to be kept; `id` is one of the `requests` that asked it."""

    kind: Kind
    reason: str
    id: str
    requests: int
    category: str
    inputs: Mapping[str, Json]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """`replies` had their texts, of `all_replies`; `found` counts inputs by kind before the choice; `unfit` are no inputs once masked."""

    chosen: tuple[Candidate, ...]
    replies: int
    all_replies: int
    found: Mapping[str, int]
    skipped: Mapping[str, int]
    unfit: int
    masked: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class _Asked:
    """One input: how often, and what spoke against its answers, with the words for it."""

    inputs: Mapping[str, Json]
    id: str
    category: str
    number: int
    requests: int = 0
    said: dict[Kind, list[str]] = field(default_factory=dict)
    score: float = 1.0

    @property
    def kind(self) -> Kind | None:
        return next((kind for kind in KINDS if kind in self.said), None)


def find_candidates(
    address: str, prompt: Prompt, golden: Sequence[Mapping[str, Json]], *, most: int, radius: float | None, keep_pii: bool, max_case_bytes: int
) -> Candidates:  # fmt: skip
    """At most `most` inputs that are no golden case: at most half of them for what is uncovered, if there is enough of the rest.

    Failures of networks and providers are no reason: they say nothing about the input. Raises DataError when no event of the prompt has its texts.
    """
    names = input_names(prompt)

    def text_of(inputs: Mapping[str, Json]) -> str:
        return input_text(ModelRequest(messages=(), inputs=inputs), names)

    def is_known(asked: _Asked) -> bool:
        """Whether it is a case already, as it was sent or with its personal data masked."""
        return text_of(asked.inputs) in there or text_of(_masked(asked.inputs, Masked())) in there

    reading = _Reading(prompt, text_of, max_case_bytes)
    with closing(open_source(address)) as lines:
        for line in lines:
            reading.add(line)
    if not reading.asked:
        where = shown_address(address) if is_redis(address) else address
        why = (
            f"{reading.replies} replies of it, none with inputs that fit"
            if reading.replies
            else "there is no reply of it"
        )
        raise DataError(
            f"nothing of {prompt.name} to suggest",
            where=where,
            why=why,
            hint="services keep texts with `promptops serve --content`",
        )
    known = [text_of(inputs) for inputs in golden]
    there = set(known)
    troubled = [(text, asked) for text, asked in reading.asked.items() if asked.kind and not is_known(asked)]
    troubled.sort(
        key=lambda item: (
            KINDS.index(item[1].kind or "uncovered"),
            -len(item[1].said[item[1].kind or "uncovered"]),
            item[1].score,
            item[1].number,
        )
    )
    first = troubled[: -(-most // 2)]
    uncovered = _uncovered(reading, address, [*known, *(text for text, _ in first)], most - len(first), radius)
    rest = troubled[len(first) : most - len(uncovered)]
    masked, unfit, chosen = Masked(), 0, []
    for _, asked, kind, reason in (
        *((text, asked, asked.kind or "uncovered", _reason(asked)) for text, asked in (*first, *rest)),
        *((text, asked, "uncovered", reason) for text, asked, reason in uncovered),
    ):
        inputs = asked.inputs if keep_pii else _masked(asked.inputs, masked)
        if any(prompt.input_problems(inputs)):
            unfit += 1
            continue
        chosen.append(
            Candidate(
                kind=kind,
                reason=reason,
                id=asked.id,
                requests=asked.requests,
                category=asked.category,
                inputs=inputs,
                text=text_of(inputs),
            )
        )
    found: Counter[str] = Counter(asked.kind for _, asked in troubled if asked.kind)
    return Candidates(chosen=tuple(chosen), replies=reading.with_texts, all_replies=reading.replies, found=dict(found), skipped=dict(reading.skipped),
                      unfit=unfit, masked=dict(masked.counts))  # fmt: skip


def _uncovered(
    reading: "_Reading", address: str, covered: Sequence[str], many: int, radius: float | None
) -> list[tuple[str, _Asked, str]]:
    """What would cover most, as long as no case is like it."""
    if many <= 0 or not covered:
        return []
    requests = tuple(Request(text=text, inputs=asked.inputs, line=asked.number, weight=asked.requests, category=asked.category) for text, asked in reading.asked.items())  # fmt: skip
    ground = Ground(
        Traffic(path=shown_address(address), requests=requests, rows=reading.with_texts), covered, radius=radius
    )
    by_number = {asked.number: (text, asked) for text, asked in reading.asked.items()}
    found = []
    for item in ground.suggest(many):
        if item.distance > ground.radius:
            text, asked = by_number[item.line]
            found.append((text, asked, f"the nearest case is {item.distance:.2f} away"))
    return found


def _masked(inputs: Mapping[str, Json], masked: Masked) -> Mapping[str, Json]:
    return {name: masked.value(value) for name, value in inputs.items()}


def _reason(asked: _Asked) -> str:
    """All that spoke against its answers, the strongest first."""
    return "; ".join(
        f"{kind} {len(said)} times" if len(said) > 1 and not any(said) else f"{kind}{': ' + next((word for word in said if word), '') if any(said) else ''}"
        for kind in KINDS
        if (said := asked.said.get(kind))
    )  # fmt: skip


class _Reading:
    """Replies of a prompt with their texts, the same input once, and what was said of them."""

    def __init__(self, prompt: Prompt, text_of: Callable[[Mapping[str, Json]], str], max_case_bytes: int) -> None:
        self._prompt, self._text_of, self._longest = prompt, text_of, max_case_bytes
        self.asked: dict[str, _Asked] = {}
        self.skipped: Counter[str] = Counter()
        self.replies = self.with_texts = 0
        self._of_id: dict[str, _Asked] = {}

    def add(self, line: bytes) -> None:
        """Take in one line; what is no event is left out, as monitoring counts it."""
        try:
            event = orjson.loads(line)
            if event["kind"] == "reply" and event["prompt"] == self._prompt.name:
                self._reply(event)
            elif event["kind"] == "notice" and event["event"] == "feedback_bad":
                request, _, by = event["reason"].partition(" ")
                self._say(request, _BY.get(by, "thumbs down"), "")
            elif event["kind"] == "judged" and event["passed"] is False:
                self._say(event["id"], "low score", f"{float(event['value']):.2f}", score=float(event["value"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return

    def _reply(self, event: dict[str, Any]) -> None:
        self.replies += 1
        inputs = event.get("inputs")
        if not isinstance(inputs, dict):
            return
        if len(orjson.dumps(inputs)) > self._longest:
            self.skipped[f"more than max_case_bytes = {self._longest} bytes"] += 1
            return
        if any(self._prompt.input_problems(inputs)):
            self.skipped["its inputs are not those of the prompt"] += 1
            return
        text = self._text_of(inputs)
        asked = self.asked.get(text)
        if asked is None:
            if len(self.asked) >= MAX_ROWS:
                self.skipped[f"beyond {MAX_ROWS} different inputs"] += 1
                return
            asked = self.asked[text] = _Asked(
                inputs=inputs, id=str(event["id"]), category=str(event["category"]), number=len(self.asked) + 1
            )
        self.with_texts += 1
        asked.requests += 1
        self._of_id[str(event["id"])] = asked
        for step in event["steps"]:
            if step["stage"] == "guardrails" and step["decision"] == "rejected":
                self._say(event["id"], "rejected", step["reason"])
            elif step["stage"] == "model" and step["decision"] in OF_THE_MODEL:
                self._say(event["id"], "refused", step["decision"])

    def _say(self, request: str, kind: Kind, why: str, *, score: float = 1.0) -> None:
        asked = self._of_id.get(request)
        if asked is not None:
            asked.said.setdefault(kind, []).append(why[:80])
            asked.score = min(asked.score, score)
