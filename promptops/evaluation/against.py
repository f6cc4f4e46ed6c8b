"""A candidate judged against what the prompt was in a commit: screen with one draw, draw both again where it looks worse."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from promptops.core.errors import EvaluationError
from promptops.core.suite import Suite
from promptops.evaluation.compare import RunComparison, compare_draws, run_scores
from promptops.evaluation.execute import Executed, Options, Progress, execute
from promptops.evaluation.plan import Clock, Plan, Selection, make_plan
from promptops.evaluation.policy import PolicyChange, judge_changes, loosened_schemas, policy_changes
from promptops.evaluation.session import start_run
from promptops.evaluation.verdicts import save_verdict, verdict_of
from promptops.gate.draws import Side
from promptops.project.git import GitTree
from promptops.project.project import Project
from promptops.project.prompts import FOLDER, load_prompt, prompt_names
from promptops.project.store import Run, Store
from promptops.project.suites import load_suite
from promptops.project.tree import SplitTree


class NewPromptError(EvaluationError):
    """The prompt was not there at the base: nothing to compare it with."""


MAX_AGE = timedelta(days=30)
"""A recorded baseline older than this is not used: providers change under a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """The comparison, the policy it was judged by (that of the base), and what the change would loosen."""

    found: RunComparison
    ref: str
    cached: bool
    changes: tuple[PolicyChange, ...]


@dataclass(slots=True, kw_only=True)
class Session:
    """What every run of one comparison shares."""

    project: Project
    store: Store
    options: Options
    clock: Clock
    on_progress: Callable[[Progress], None]

    def run(self, plan: Plan, options: Options) -> Executed:
        """A whole run. Raises EvaluationError when it lacks answers, with the exit code of a signal that ended it."""
        executed = start_run(
            plan,
            plan.connect(),
            self.store,
            clock=self.clock,
            options=options,
            on_progress=self.on_progress,
        )
        return _complete(executed)


def evaluate_against(
    session: Session, name: str, ref: str, *, model: str, candidate: str, selection: Selection, judge: str = ""
) -> Against:
    """Evaluate the prompt (or a candidate of it) and judge it against the prompt at `ref`, on the golden cases of today.

    The base is read from git objects; the work tree is not touched. Raises EvaluationError when a side cannot be evaluated
    in full: that is never a verdict. Raises DataError for bad input.
    """
    project = session.project
    after = make_plan(
        project, name, model=model, candidate=candidate, selection=replace(selection, repeat=1), judge=judge
    )
    before, suite, changes = _base(project, name, ref, after, model=model, judge=judge)
    paid = after.model.provider != "local"
    fresh = replace(session.options, reuse=session.options.reuse and not paid)
    recorded = find_baseline(session, before)
    baseline = recorded or session.run(before, fresh).run
    executed = session.run(after, session.options)
    if recorded and session.store.models_of(recorded.id) != session.store.models_of(executed.run.id):
        recorded, baseline = None, session.run(before, fresh).run  # another model answers under the same name today
    # An answer from the store may be old: it screens, and does not decide.
    keep_first = not (paid and executed.progress.reused)
    redraw = _Redraw(session, before, after, kept={"baseline": int(recorded is None), "candidate": int(keep_first)})
    found = compare_draws(
        session.store, baseline, executed.run, policy=suite.gate, draw_more=redraw.draw_more, keep_first=keep_first
    )
    loosened = loosened_schemas(session.store, executed.run, suite, after.evaluable.suite)
    save_verdict(project.root, verdict_of(found, (*changes, *loosened)))
    return Against(found=found, ref=ref, cached=recorded is not None, changes=(*changes, *loosened))


def find_baseline(session: Session, plan: Plan) -> Run | None:
    """The newest recorded baseline of exactly this content and model that is not too old."""
    wanted = plan.header(session.clock())
    for run in session.store.runs(plan.evaluable.prompt.name):
        header = run.header
        same = (header.subject, header.selection, header.model, header.judge_standing) == (
            wanted.subject, wanted.selection, wanted.model, wanted.judge_standing)  # fmt: skip
        if header.kind == "baseline" and run.state == "complete" and same and not is_expired(run, session.clock):
            return run
    return None


def is_expired(run: Run, clock: Clock) -> bool:
    from datetime import datetime

    return clock() - datetime.fromisoformat(run.header.started_at) > MAX_AGE


def _base(
    project: Project, name: str, ref: str, after: Plan, *, model: str, judge: str
) -> tuple[Plan, Suite, tuple[PolicyChange, ...]]:
    """The prompt as it was, on today's cases; the suite as it was; and what the change loosens."""
    commit = project.git.commit(ref)
    tree = GitTree(project.git, commit)
    if name not in prompt_names(tree):
        raise NewPromptError(
            f"no prompt {name} at {ref}",
            why="a new prompt has no baseline",
            hint=f"`promptops eval {name}` evaluates it alone",
        )
    mixed = replace(project, tree=SplitTree(FOLDER, tree, project.tree))
    plan = make_plan(mixed, name, model=model, selection=after.selection, judge=judge)
    plan = replace(plan, commit=commit, dirty=False)
    if f"{name}.yaml" not in tree.names("golden"):
        return plan, after.evaluable.suite, ()
    suite = load_suite(tree, name, load_prompt(tree, name))
    return (
        plan,
        suite,
        (*policy_changes(tree, suite, after.evaluable), *judge_changes(project.config, tree, suite, after)),
    )


def _complete(executed: Executed) -> Executed:
    run = executed.run
    if run.state != "complete":
        spent = executed.progress.stopped_by == "budget"
        go_on = f"`promptops eval --resume {run.id}` or `promptops retry {run.id}`"
        error = EvaluationError(
            f"run {run.id} of {run.header.prompt} is {run.state}" + ", the budget is used up" * spent, why="without every answer there is no verdict; this is not a regression",
            hint=go_on if run.header.kind == "baseline" else "raise the cap and run it again" if spent else "run the same command again",
        )  # fmt: skip
        error.exit_code = executed.exit_code
        raise error
    return executed


@dataclass(slots=True)
class _Redraw:
    """Draws both sides again in one go, interleaved, when the gate first asks for either.

    `kept` is how many draws of a case each side brings into the final test.
    """

    session: Session
    before: Plan
    after: Plan
    kept: dict[Side, int]
    drawn: dict[Side, dict[str, list[float]]] = field(default_factory=lambda: {"baseline": {}, "candidate": {}})
    given: dict[Side, dict[str, int]] = field(default_factory=lambda: {"baseline": {}, "candidate": {}})

    def draw_more(self, side: Side, case_ids: Sequence[str], n: int) -> Mapping[str, Sequence[float]]:
        given, drawn = self.given[side], self.drawn[side]
        short = [case_id for case_id in case_ids if len(drawn.get(case_id, ())) - given.get(case_id, 0) < n]
        if short:
            self._draw(side, short, n)
        result: dict[str, Sequence[float]] = {}
        for case_id in case_ids:
            start = given.get(case_id, 0)
            result[case_id] = drawn[case_id][start : start + n]
            given[case_id] = start + n
        return result

    def _draw(self, side: Side, case_ids: Sequence[str], n: int) -> None:
        """`n` draws of the side that was asked for, and as many of the other as it will need next to it."""
        had = self.kept
        sides: tuple[tuple[Side, Plan], ...] = (("baseline", self.before), ("candidate", self.after))
        target = had[side] + self.given[side].get(case_ids[0], 0) + n
        other: Side = "candidate" if side == "baseline" else "baseline"
        wanted = {side: n, other: max(0, target - had[other] - len(self.drawn[other].get(case_ids[0], ())))}
        plans: dict[Side, Plan] = {
            which: self._plan(plan, case_ids, wanted[which], had[which] + len(self.drawn[which].get(case_ids[0], ())))
            for which, plan in sides
            if wanted[which]
        }
        runs = asyncio.run(self._execute(list(plans.values())))
        for which, run in zip(plans, runs, strict=True):
            for case_id, scores in run_scores(self.session.store, run).items():
                if len(scores.passed) != run.header.repeat:
                    raise EvaluationError(f"the judge gave no verdict on case {case_id}", why="a final test needs every draw",
                                          hint="run the same command again")  # fmt: skip
                self.drawn[which].setdefault(case_id, []).extend(scores.draws)

    def _plan(self, plan: Plan, case_ids: Sequence[str], n: int, first: int) -> Plan:
        selection = Selection(ids=frozenset(case_ids), repeat=n, first_draw=first)
        return replace(plan, selection=selection, planned=n * len(case_ids), kind="redraw")

    async def _execute(self, plans: Sequence[Plan]) -> list[Run]:
        session = self.session
        share = replace(session.options, concurrency=max(1, session.options.concurrency // len(plans)),
                        reuse=plans[0].model.provider == "local")  # fmt: skip

        async def one(plan: Plan) -> Run:
            header = plan.header(session.clock())
            session.store.begin_run(header)
            executed = await execute(
                plan,
                plan.connect(),
                session.store,
                header,
                clock=session.clock,
                options=share,
                on_progress=session.on_progress,
                judges=plan.connect_judges(),
            )
            return _complete(executed).run

        return list(await asyncio.gather(*(one(plan) for plan in plans)))


def record_baseline(session: Session, name: str, *, model: str, at: str, draws: int, judge: str = "") -> Run:
    """Draw every case `draws` times, asking anew, and keep the run as the baseline of this content."""
    plan = make_plan(session.project, name, model=model, selection=Selection(repeat=draws), at=at, judge=judge)
    options = replace(session.options, reuse=plan.model.provider == "local")
    return session.run(replace(plan, kind="baseline"), options).run
