"""What a run store keeps, as values, and how they become rows and are read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from promptops.core.jsontext import Json, canonical_json, parse_json

JUDGE_KEYS = "judge:"
"""Keys of what judges are asked begin so: their calls are counted apart."""
NO_LIMIT = 1_000_000_000
"""A minute, where a limit states none."""
BURST_MINUTES = 0.1
RunKind = Literal["eval", "baseline", "redraw", "judge"]
RunState = Literal["running", "complete", "incomplete", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What a run was: everything needed to say what it may be compared with."""

    id: str
    prompt: str
    candidate: str
    model: str
    model_identity: Mapping[str, Json]
    prompt_digest: str
    golden_digest: str
    suite_digest: str
    rubric_digest: str
    subject: str
    gate: Mapping[str, Json]
    selection: Mapping[str, Json]
    slices: tuple[str, ...]
    repeat: int
    commit: str
    dirty: bool
    started_at: str
    planned: int
    version: str
    at: str = ""
    kind: RunKind = "eval"
    price: Mapping[str, Json] = field(default_factory=dict)
    reuse: bool = True
    judge: Mapping[str, Json] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def judge_digest(self) -> str:
        """'' without a judge."""
        return str(self.judge.get("digest", ""))

    @property
    def judge_standing(self) -> str:
        """Whether its verdicts count (`counts`) or are shown alone; '' without a judge."""
        if not self.judge:
            return ""
        return "advisory" if self.judge.get("standing") == "advisory" else "counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as stored: its header, its state, and when it ended."""

    header: RunHeader
    state: RunState
    finished_at: str = ""

    @property
    def id(self) -> str:
        return self.header.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One draw of one case; `passed` is None when it could not be scored, `scores` are (check, passed, reason, value)."""

    case_id: str
    draw: int
    category: str
    tags: Mapping[str, str]
    group: str
    line: int
    case_digest: str
    answer_key: str
    outcome: str
    passed: bool | None
    value: float | None
    latency_s: float
    cost_nanousd: int
    scores: tuple[tuple[str, bool | None, str, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    key: str
    outcome: str
    text: str
    detail: str
    model: str
    input_tokens: int
    output_tokens: int
    usage_trusted: bool
    cost_nanousd: int
    latency_s: float
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one judge said once of one answer: (value 0..1, reason) by criterion, or why it could not be read.

    `swapped`: the answer was shown second in a comparison of two.
    """

    judge: str
    vote: int
    swapped: bool
    answer_key: str
    outcome: str
    detail: str
    scores: Mapping[str, tuple[float, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a run paid: every attempt counts. `possibly_nanousd` is the worst case of those whose answer never arrived.

    `judge_attempts` and `judge_nanousd` are the part of judges.
    """

    attempts: int
    paid_nanousd: int
    possibly_nanousd: int
    unknown: int
    judge_attempts: int = 0
    judge_nanousd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """The place of one of several processes that work on a run: together they stay under the caps. None is no cap."""

    run_id: str
    worker: str
    max_nanousd: int | None = None
    max_calls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """Requests and tokens a minute for one key on one server; every evaluation on this machine draws from the same."""

    key: str
    rpm: int | None = None
    tpm: int | None = None

    @property
    def limited(self) -> bool:
        return self.rpm is not None or self.tpm is not None


def dump(value: Any) -> str:
    return canonical_json(value).decode()


def read_run(header: str, state: Any, finished_at: str) -> Run:
    fields = parse_json(header)
    return Run(header=RunHeader(**{**fields, "slices": tuple(fields["slices"])}), state=state, finished_at=finished_at)


def answer_row(answer: StoredAnswer) -> tuple[Any, ...]:
    return (answer.key, answer.outcome, answer.text, answer.detail, answer.model, answer.input_tokens, answer.output_tokens,
            int(answer.usage_trusted), answer.cost_nanousd, answer.latency_s, answer.created_at)  # fmt: skip


def read_answer(row: Sequence[Any]) -> StoredAnswer:
    key, outcome, text, detail, model, tokens_in, tokens_out, trusted, cost, latency, created = row
    return StoredAnswer(key=key, outcome=outcome, text=text, detail=detail, model=model, input_tokens=tokens_in, output_tokens=tokens_out,
                        usage_trusted=bool(trusted), cost_nanousd=cost, latency_s=latency, created_at=created)  # fmt: skip


def result_row(run_id: str, result: Result) -> tuple[Any, ...]:
    passed = None if result.passed is None else int(result.passed)
    return (run_id, result.case_id, result.draw, result.category, dump(result.tags), result.group, result.line, result.case_digest,
            result.answer_key, result.outcome, passed, result.value, result.latency_s, result.cost_nanousd, dump(result.scores))  # fmt: skip


def read_result(row: tuple[Any, ...]) -> Result:
    (_, case_id, draw, category, tags, group, line, case_digest, key, outcome, passed, value, latency, cost, scores) = (
        row
    )
    return Result(case_id=case_id, draw=draw, category=category, tags=_tags(tags), group=group, line=line, case_digest=case_digest,
                  answer_key=key, outcome=outcome, passed=None if passed is None else bool(passed), value=value, latency_s=latency,
                  cost_nanousd=cost, scores=read_scores(scores))  # fmt: skip


def verdict_row(run_id: str, case_id: str, draw: int, verdict: Verdict) -> tuple[Any, ...]:
    return (run_id, case_id, draw, verdict.judge, verdict.vote, int(verdict.swapped), verdict.answer_key, verdict.outcome,
            verdict.detail, dump(dict(verdict.scores)))  # fmt: skip


def read_verdict(row: tuple[Any, ...]) -> Verdict:
    judge, vote, swapped, key, outcome, detail, scores = row
    found = {name: (value, reason) for name, (value, reason) in parse_json(scores).items()}
    return Verdict(
        judge=judge, vote=vote, swapped=bool(swapped), answer_key=key, outcome=outcome, detail=detail, scores=found
    )


# Most rows of a run say what others said, and reading them was mostly parsing the same few texts again.
@lru_cache(maxsize=1024)
def _tags(text: str) -> Mapping[str, str]:
    tags: Mapping[str, str] = parse_json(text)
    return tags


@lru_cache(maxsize=1024)
def read_scores(text: str) -> tuple[tuple[str, bool | None, str, float | None], ...]:
    return tuple((name, passed, reason, value) for name, passed, reason, value in parse_json(text))
