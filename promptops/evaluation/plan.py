"""What will be asked: the cases, the model, the price, and the digests a run is known by."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from promptops.core.digest import digest
from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json
from promptops.core.suite import Case
from promptops.core.text import estimate_tokens
from promptops.core.version import __version__
from promptops.evaluation.clients import identify, open_client, open_remote
from promptops.evaluation.databases import with_databases
from promptops.evaluation.judge import JudgeSetup, set_up_judge
from promptops.models.base import Client
from promptops.models.replay import RecordingClient, ReplayClient
from promptops.project.config import ModelConfig, resolve_model
from promptops.project.golden import read_case, read_case_lines, read_cases
from promptops.project.project import Evaluable, Project
from promptops.project.store import RunHeader, RunKind

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which cases, and how often each; empty means all. Draws are numbered from `first_draw`."""

    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    limit: int | None = None
    repeat: int = 1
    ids: frozenset[str] = frozenset()
    first_draw: int = 0

    @property
    def draws(self) -> range:
        return range(self.first_draw, self.first_draw + self.repeat)

    @property
    def is_everything(self) -> bool:
        return not (self.categories or self.tags or self.ids) and self.limit is None

    def accepts(self, case: Case) -> bool:
        return (
            (not self.categories or case.category in self.categories)
            and (not self.ids or case.id in self.ids)
            and all(_has_tag(case, tag) for tag in self.tags)
        )

    def as_dict(self) -> dict[str, Json]:
        return {"categories": sorted(self.categories), "tags": sorted(self.tags), "limit": self.limit,
                "ids": sorted(self.ids), "first_draw": self.first_draw}  # fmt: skip

    @classmethod
    def from_dict(cls, fields: Mapping[str, Json], repeat: int) -> "Selection":
        return cls(categories=tuple(fields["categories"]), tags=tuple(fields["tags"]), limit=fields["limit"], repeat=repeat,
                   ids=frozenset(fields["ids"]), first_draw=fields["first_draw"])  # fmt: skip


def _has_tag(case: Case, tag: str) -> bool:
    name, has_value, value = tag.partition("=")
    return case.tags.get(name) == value if has_value else name in case.tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One evaluation, ready to run; nothing has been asked yet."""

    evaluable: Evaluable
    candidate: str
    model: ModelConfig
    identity: Mapping[str, Json]
    selection: Selection
    planned: int
    commit: str
    dirty: bool
    at: str
    kind: RunKind = "eval"
    judge: JudgeSetup | None = None
    more: tuple[Case, ...] = ()

    @property
    def judge_digest(self) -> str:
        return self.judge.digest if self.judge else ""

    def connect_judges(self, *, record: Path | None = None, replay: Path | None = None) -> tuple[Client, ...]:
        """A client for each judge, as `connect`; none without a judge."""

        def one(model: ModelConfig) -> Client:
            if replay is not None:
                return ReplayClient(replay, model.model)
            client = open_remote(model)
            return RecordingClient(client, record, model.model) if record is not None else client

        return self.judge.connect(one) if self.judge else ()

    def connect(self, *, record: Path | None = None, replay: Path | None = None) -> Client:
        """A client for the model, writing recordings or reading nothing else.

        Raises DataError without a key, RefusedError for a host keys may not go to.
        """
        evaluable = self.evaluable
        if replay is not None:
            return ReplayClient(replay, self.model.model)
        client = open_client(
            self.model,
            evaluable.prompt,
            lambda: read_cases(evaluable.tree, evaluable.suite, evaluable.scan),
            more=self.more,
        )
        return RecordingClient(client, record, self.model.model) if record is not None else client

    def cases(self) -> Iterator[Case]:
        """The selected cases in file order, as a stream."""
        return _select(read_cases(self.evaluable.tree, self.evaluable.suite, self.evaluable.scan), self.selection)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The selected cases as numbered lines, in file order, for whoever parses them elsewhere."""
        evaluable, selection = self.evaluable, self.selection
        lines = read_case_lines(evaluable.tree, evaluable.suite, evaluable.scan)
        if selection.is_everything:
            yield from lines
            return
        taken = 0
        for number, line in lines:
            if selection.limit is not None and taken >= selection.limit:
                return
            if selection.accepts(read_case(evaluable.suite, number, line)):
                taken += 1
                yield number, line

    def header(self, now: datetime) -> RunHeader:
        evaluable = self.evaluable
        gate = evaluable.suite.gate
        identity = dict(self.identity)
        return RunHeader(
            id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}", prompt=evaluable.prompt.name, candidate=self.candidate,
            model=self.model.alias, model_identity=identity, prompt_digest=evaluable.prompt.digest(identity),
            golden_digest=evaluable.scan.digest, suite_digest=evaluable.suite_digest, rubric_digest=evaluable.rubric_digest,
            subject=evaluable.subject(identity, self.judge_digest), selection=self.selection.as_dict(), slices=evaluable.suite.slices,
            gate=asdict(gate),
            repeat=self.selection.repeat, commit=self.commit, dirty=self.dirty,
            started_at=now.isoformat(timespec="seconds"), planned=self.planned, version=__version__, at=self.at, price=asdict(self.model.price),
            kind=self.kind, judge=self.judge.header() if self.judge else {}, weights=dict(evaluable.suite.weights),
        )  # fmt: skip


def make_plan(
    project: Project, name: str, *, model: str, candidate: str = "", selection: Selection, at: str = "", judge: str = "",
    more: Sequence[Case] = (),
) -> Plan:  # fmt: skip
    """Read, check and count everything for one evaluation; `judge` is a model in place of the suite's, or `none`.

    `more` are labelled rows that a local model learns from and that are never scored.

    Raises DataError when an input is wrong or no case is selected.
    """
    source = project.at(at) if at else project
    evaluable = source.load(name, candidate)
    evaluable = replace(evaluable, suite=with_databases(evaluable.suite, project.config, project.root))
    _check_selection(evaluable, selection)
    config = resolve_model(project.config, model or evaluable.prompt.model or project.config.default_model)
    learnt = digest([[case.id, case.digest] for case in more]) if more else ""
    identity = identify(config, evaluable.prompt, evaluable.scan.digest, learnt)
    count = _count(evaluable, selection)
    if count == 0:
        raise DataError("no case is selected", where=evaluable.suite.cases_path, why="the filters match none",
                        hint="see `promptops show " + name + "` for categories and tags")  # fmt: skip
    commit, dirty = (project.git.commit(at), False) if at else project.git.state()
    plan = Plan(evaluable=evaluable, candidate=candidate, model=config, identity=identity, selection=selection,
                planned=count * selection.repeat, commit=commit, dirty=dirty, at=commit if at else "",
                judge=set_up_judge(project.config, evaluable, judge), more=tuple(more))  # fmt: skip
    _check_references(plan)
    _try_rendering(plan)
    return plan


def _check_selection(evaluable: Evaluable, selection: Selection) -> None:
    known = evaluable.scan.categories
    for category in selection.categories:
        if category not in known:
            raise DataError(
                f"no case has the category {category[:60]!r}",
                where=evaluable.suite.cases_path,
                hint=did_you_mean(category, known),
            )


def _count(evaluable: Evaluable, selection: Selection) -> int:
    if selection.tags or selection.ids:
        return sum(1 for _ in _select(read_cases(evaluable.tree, evaluable.suite, evaluable.scan), selection))
    known = evaluable.scan.categories
    count = (
        sum(known[category] for category in set(selection.categories)) if selection.categories else evaluable.scan.count
    )
    return count if selection.limit is None else min(count, selection.limit)


def _select(cases: Iterator[Case], selection: Selection) -> Iterator[Case]:
    taken = 0
    for case in cases:
        if selection.limit is not None and taken >= selection.limit:
            return
        if selection.accepts(case):
            taken += 1
            yield case


def _check_references(plan: Plan) -> None:
    """Raises DataError that lists the cases without the right answer that the judge compares with."""
    judge = plan.judge
    if judge is None or judge.mode == "reference_free":
        return
    problems = [
        Problem(what=f"case {case.id!r} states no expected{judge.reference}", where=f"{plan.evaluable.suite.cases_path}:{case.line}",
                why=f"the judge works in mode {judge.mode}", hint="write a right answer, or use reference_free")
        for case in plan.cases() if not judge.has_reference(case)
    ]  # fmt: skip
    if problems:
        raise DataError(problems=problems)


def _try_rendering(plan: Plan) -> None:
    """Render the first case, so that a template that fails does so before anything is paid."""
    prompt = plan.evaluable.prompt
    case = next(plan.cases())
    prompt.render(case.inputs, prompt.passages_for(case.inputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would cost, from token estimates; `sampled` cases were measured and scaled to `calls`."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost_nanousd: int
    sampled: int
    judge_calls: int = 0
    judge_cost_nanousd: int = 0


def estimate(plan: Plan, sample: int = 500) -> Estimate:
    """Estimate calls, tokens and cost without asking anything; the output is taken at its limit (400 tokens if none), every vote as asked."""
    prompt = plan.evaluable.prompt
    limit = prompt.params.get("max_output_tokens", 400)
    tokens = judge_tokens = count = 0
    for case in plan.cases():
        if count == sample:
            break
        messages = prompt.render(case.inputs, prompt.passages_for(case.inputs))
        tokens += sum(estimate_tokens(message.content) for message in messages)
        judge_tokens += plan.judge.estimate_tokens(case, prompt.passages_for(case.inputs), limit) if plan.judge else 0
        count += 1
    calls = plan.planned
    input_tokens, output_tokens = round(tokens / count * calls), calls * int(limit)
    judge_calls, judge_cost = plan.judge.estimate(calls, judge_tokens / count) if plan.judge else (0, 0)
    return Estimate(calls=calls, input_tokens=input_tokens, output_tokens=output_tokens, sampled=count,
                    judge_calls=judge_calls, judge_cost_nanousd=judge_cost,
                    cost_nanousd=plan.model.price.cost_nanousd(input_tokens=input_tokens, output_tokens=output_tokens))  # fmt: skip
