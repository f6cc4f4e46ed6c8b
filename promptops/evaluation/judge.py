"""The judge of a run: who judges, by what, and what its verdict on one answer is."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from promptops.core.digest import digest
from promptops.core.errors import DataError, PromptopsError
from promptops.core.jsontext import Json, at_pointer
from promptops.core.judging import (
    Judgement,
    JudgeTask,
    Mode,
    NotAVerdictError,
    Said,
    both_orders,
    combine,
    decided,
    judge_messages,
    prompt_fingerprint,
    read_verdict,
    verdict_schema,
)
from promptops.core.knowledge import Passage
from promptops.core.rubric import Rubric
from promptops.core.suite import JUDGE, Case, JudgeConfig
from promptops.core.text import estimate_tokens
from promptops.evaluation.asking import Asker
from promptops.evaluation.clients import open_remote
from promptops.evaluation.scoring import Scored
from promptops.gate.standing import JudgeStanding, standing_of
from promptops.models.base import Client, ModelRequest
from promptops.project.config import Config, ModelConfig, resolve_model
from promptops.project.project import Evaluable
from promptops.project.records import CALIBRATIONS, read_records
from promptops.project.store import JUDGE_KEYS, Store, Verdict

OFF = "none"
"""What `--judge` takes for no judge."""
_MAX_OUTPUT_TOKENS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSetup:
    """Everything that decides a verdict, known by `digest`; `calibration` is what was measured of exactly this judge.

    `choice` is what was asked for on the command line: '' for what the suite says.
    """

    rubric: Rubric
    models: tuple[ModelConfig, ...]
    votes: int
    mode: Mode
    reference: str
    params: Mapping[str, Json]
    max_error_rate: float
    digest: str
    choice: str = ""
    calibration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def standing(self) -> JudgeStanding:
        interval = self.calibration.get("j_interval")
        return standing_of(int(self.calibration.get("labels", 0)), interval[0] if interval else None)

    @property
    def planned_votes(self) -> int:
        return self.votes * len(self.models)

    @property
    def calls_per_answer(self) -> int:
        """Most calls one verdict takes."""
        return self.planned_votes * (2 if self.mode == "pairwise" else 1)

    @property
    def name(self) -> str:
        """`gpt-x`, or `a, b, c (3 votes each)`."""
        votes = f" ({self.votes} votes{' each' if len(self.models) > 1 else ''})" if self.votes > 1 else ""
        return ", ".join(model.alias for model in self.models) + votes

    def has_reference(self, case: Case) -> bool:
        """Whether the case states the right answer that the mode needs."""
        try:
            self.reference_of(case)
        except KeyError:
            return False
        return True

    def reference_of(self, case: Case) -> str:
        """The right answer of a case, '' where none is needed. Raises KeyError when it is needed and not there."""
        if self.mode == "reference_free":
            return ""
        found = at_pointer(dict(case.expected), self.reference)
        if not isinstance(found, str) or not found.strip():
            raise KeyError(self.reference)
        return found

    def estimate_tokens(self, case: Case, passages: tuple[Passage, ...], answer_tokens: int) -> int:
        """About how many input tokens judging an answer of that length takes, by each model once."""
        task = JudgeTask(category=case.category, inputs=_shown_inputs(case, passages), answer="", passages=passages,
                         reference=self.reference_of(case))  # fmt: skip
        messages = judge_messages(self.rubric, self.mode, task)
        return answer_tokens + sum(estimate_tokens(message.content) for message in messages)

    def estimate(self, answers: int, tokens: float) -> tuple[int, int]:
        """(calls, nano-dollars) at the most for judging that many answers of that many input tokens."""
        output = int(self.params.get("max_output_tokens", _MAX_OUTPUT_TOKENS))
        each = self.calls_per_answer // len(self.models)
        cost = sum(model.price.cost_nanousd(input_tokens=round(tokens), output_tokens=output) for model in self.models)
        return answers * self.calls_per_answer, answers * each * cost

    def connect(self, open_client: Callable[[ModelConfig], Client] | None = None) -> tuple[Client, ...]:
        """A client for each model. Raises DataError without a key, RefusedError for a host keys may not go to."""
        return tuple((open_client or open_remote)(model) for model in self.models)

    def header(self) -> dict[str, Json]:
        """What a run says of its judge."""
        standing, found = self.standing, self.calibration
        measured = (
            {
                name: found.get(name)
                for name in ("labels", "human_fails", "tpr", "tnr", "j", "j_interval", "flip_rate", "at")
            }
            if found
            else {}
        )
        return {
            "digest": self.digest, "name": self.name, "models": [model.alias for model in self.models], "rubric": self.rubric.name,
            "votes": self.votes, "mode": self.mode, "choice": self.choice, "max_error_rate": self.max_error_rate,
            "standing": standing.standing, "why": standing.why, "calibration": measured,
        }  # fmt: skip


def set_up_judge(config: Config, evaluable: Evaluable, choice: str = "") -> JudgeSetup | None:
    """The judge of a suite, or the one that was chosen instead; None when there is none.

    Raises DataError when no rubric says what to judge by, or nobody is named who could.
    """
    suite, rubric = evaluable.suite, evaluable.rubric
    where = f"golden/{suite.name}.yaml"
    if choice == OFF or (suite.judge is None and not choice):
        return None
    if rubric is None:
        raise DataError(
            f"nothing to judge {suite.name} by", where=where, hint="write a rubric, and name it: `rubric: NAME`"
        )
    found = suite.judge or JudgeConfig()
    names = (choice,) if choice else found.models or ((rubric.model,) if rubric.model else ())
    if not names:
        raise DataError("nobody is named who judges", where=where, hint="state judge.model, or use --judge MODEL")
    models = tuple(_judge_model(config, name) for name in names)
    votes = found.votes if found.votes is not None else rubric.votes
    if votes * len(models) % 2 == 0:
        raise DataError(
            f"{len(models)} judges with {votes} votes each can be split evenly",
            where=where,
            hint="make it an odd number",
        )
    params: Mapping[str, Json] = found.params or {
        "temperature": 0 if votes == 1 else 1,
        "max_output_tokens": _MAX_OUTPUT_TOKENS,
    }
    identity: dict[str, Json] = {
        "prompt": prompt_fingerprint(), "rubric": dict(rubric.document), "votes": votes, "mode": found.mode, "params": dict(params),
        "models": [{"provider": model.provider, "model": model.model, "url": model.base_url} for model in models],
        "reference": found.reference if found.mode != "reference_free" else "",
    }  # fmt: skip
    address = digest(identity)
    calibration = read_records(evaluable.tree, suite.name, CALIBRATIONS).get(address, {})
    return JudgeSetup(rubric=rubric, models=models, votes=votes, mode=found.mode, reference=found.reference, params=params,
                      max_error_rate=found.max_error_rate, digest=address, choice=choice, calibration=calibration)  # fmt: skip


def subject_of(config: Config, evaluable: Evaluable, identity: Mapping[str, Json], choice: str = "") -> str:
    """What evidence is bound to, with the judge as it is configured. Raises DataError for a judge that cannot be set up."""
    judge = set_up_judge(config, evaluable, choice)
    return evaluable.subject(identity, judge.digest if judge else "")


def _judge_model(config: Config, name: str) -> ModelConfig:
    model = resolve_model(config, name)
    if model.provider == "local":
        raise DataError(f"{name} cannot judge", why="local models answer prompts, they do not read rubrics",
                        hint="name a model of the configuration; a server on this machine needs no key")  # fmt: skip
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A verdict, and the calls that led to it as the store keeps them."""

    judgement: Judgement
    calls: tuple[Verdict, ...]


class Judge:
    """Asks the judges of one run; votes that cannot change the verdict any more are not asked for."""

    def __init__(self, setup: JudgeSetup, askers: Sequence[Asker], store: Store) -> None:
        self.setup, self._askers, self._store = setup, askers, store
        self._fixed = [digest([{"provider": model.provider, "model": model.model, "url": model.base_url}, dict(setup.params)])
                       for model in setup.models]  # fmt: skip

    async def judge(
        self, case: Case, passages: tuple[Passage, ...], answer: str, *, first_vote: int = 0, suffix: str = ""
    ) -> Judged:
        """The verdict on an answer. Votes are numbered from `first_vote`: other numbers are other votes. Raises Stopped."""
        setup = self.setup
        try:
            reference = setup.reference_of(case)
        except KeyError:
            why = f"the case states no expected{setup.reference}"
            return Judged(judgement=Judgement(passed=None, value=None, reason=why, unread=(why,)), calls=())
        task = JudgeTask(
            category=case.category,
            inputs=_shown_inputs(case, passages),
            answer=answer,
            passages=passages,
            reference=reference,
        )
        planned = setup.planned_votes
        turns = [(who, first_vote + vote) for vote in range(setup.votes) for who in range(len(setup.models))]
        votes: list[Mapping[str, Said] | str] = []
        calls: list[Verdict] = []
        at_once = planned // 2 + 1
        while turns and not (votes and decided(setup.rubric, case.category, setup.mode, votes, planned)):
            going, turns, at_once = turns[:at_once], turns[at_once:], 1
            for vote, made in await _all([self._vote(task, who, number, suffix) for who, number in going]):
                votes.append(vote)
                calls += made
        return Judged(judgement=combine(setup.rubric, case.category, setup.mode, votes, planned), calls=tuple(calls))

    async def _vote(
        self, task: JudgeTask, who: int, number: int, suffix: str
    ) -> tuple[Mapping[str, Said] | str, list[Verdict]]:
        orders = (False, True) if self.setup.mode == "pairwise" else (False,)
        asked = await _all([self._ask(task, who, number, suffix, swapped=swapped) for swapped in orders])
        said = [one for one, _ in asked]
        calls = [call for _, call in asked]
        unread = next((one for one in said if isinstance(one, str)), None)
        if unread is not None:
            return unread, calls
        read = [one for one in said if not isinstance(one, str)]
        return (both_orders(*read) if len(read) > 1 else read[0]), calls

    async def _ask(
        self, task: JudgeTask, who: int, number: int, suffix: str, *, swapped: bool
    ) -> tuple[Mapping[str, Said] | str, Verdict]:
        setup, criteria = self.setup, self.setup.rubric.criteria_for(task.category)
        schema = verdict_schema(criteria, setup.mode)
        request = ModelRequest(messages=judge_messages(setup.rubric, setup.mode, task, swapped=swapped), params=setup.params,
                               output_format="json", output_schema=schema, draw=number)  # fmt: skip
        content = digest([self._fixed[who], [message.as_dict() for message in request.messages], schema])
        key = f"{JUDGE_KEYS}{content}:{number}{suffix}"
        self._askers[who].forget()  # it is looked up right here
        answer = await self._askers[who].ask(request, key, self._store.find_answer(key))
        said: Mapping[str, Said] | str
        if answer.outcome != "ok":
            said = f"{answer.outcome}: {answer.detail}" if answer.detail else answer.outcome
            outcome = answer.outcome
        else:
            outcome = "ok"
            try:
                said = read_verdict(answer.text, criteria, setup.mode, swapped=swapped)
            except NotAVerdictError as error:
                said, outcome = str(error), "unreadable"
        scores = {} if isinstance(said, str) else {name: (item.value, item.reason) for name, item in said.items()}
        return said, Verdict(judge=setup.models[who].alias, vote=number, swapped=swapped, answer_key=answer.key, outcome=outcome,
                             detail=said if isinstance(said, str) else "", scores=scores)  # fmt: skip


def is_readable(text: str, setup: JudgeSetup) -> bool:
    """Whether a judge's message is worth keeping: a verdict on the criteria of some category."""
    for criteria in (setup.rubric.criteria, *setup.rubric.by_category.values()):
        try:
            read_verdict(text, criteria, setup.mode)
        except NotAVerdictError:
            continue
        return True
    return False


def with_verdict(scored: Scored, judgement: Judgement, *, may_block: bool) -> Scored:
    """The scores of an answer with the judge's; it decides over pass and fail only where it may."""
    rows: list[tuple[str, bool | None, str, float | None]] = [
        (JUDGE, judgement.passed, judgement.reason, judgement.value)
    ]
    rows += [(f"{JUDGE}.{item.id}", item.passed, item.reason, item.value) for item in judgement.criteria]
    passed, value = scored.passed, scored.value
    if may_block:
        value = judgement.value
        unsure = any(row[1] is None for row in scored.scores)  # a check could not run: only a no is sure then
        passed = scored.passed if scored.passed is False or (unsure and judgement.passed) else judgement.passed
    return Scored(passed=passed, value=value, scores=(*scored.scores, *rows))


def _shown_inputs(case: Case, passages: tuple[Passage, ...]) -> dict[str, Json]:
    """The inputs, without documents that are shown as passages."""
    ids = {passage.id for passage in passages}
    return {name: value for name, value in case.inputs.items() if not (ids and _is_documents(value, ids))}


def _is_documents(value: Json, ids: set[str]) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and str(item.get("id", "")) in ids for item in value)
    )


async def _all(calls: Sequence[Any]) -> list[Any]:
    """All results in order, each call brought to its end; then the first error is raised, one of ours before others."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    errors = [item for item in found if isinstance(item, BaseException)]
    if errors:
        raise next((error for error in errors if isinstance(error, PromptopsError)), errors[0])
    return list(found)
