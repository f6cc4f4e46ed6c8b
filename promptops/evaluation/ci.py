"""A pull request judged: what changed, each changed prompt evaluated against the base, one state for the whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from promptops.core.errors import DataError, EvaluationError, ExitCode, Problem
from promptops.evaluation.against import Session, evaluate_against
from promptops.evaluation.casebook import Evaluation, read_evaluation
from promptops.evaluation.changed import Change, find_changes
from promptops.evaluation.lint import LintReport, lint_project
from promptops.evaluation.plan import Selection, make_plan
from promptops.project.project import Project

State = Literal["passed", "blocked", "not evaluated", "pending", "approved"]
"""`pending`: it needs a key that is not there; `approved`: evidence for exactly this content exists."""
Verdict = Literal["passed", "blocked", "not evaluated", "pending", "nothing changed", "bad input"]
Open = Callable[[str], AbstractContextManager[Session]]
REMOVED = "prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A changed prompt and what became of it; `detail` says why it is not evaluated, blocked without numbers, or pending."""

    change: Change
    state: State
    evaluation: Evaluation | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CiResult:
    """What `promptops ci` found: `base` and `head` are commits, `items` the changed prompts."""

    base: str
    head: str
    items: tuple[Checked, ...]
    lint: LintReport

    @property
    def verdict(self) -> Verdict:
        """A no outweighs an unknown, an unknown outweighs a yes."""
        if self.lint.problems:
            return "bad input"
        states = {item.state for item in self.items}
        order: tuple[Literal["blocked", "not evaluated", "pending"], ...] = ("blocked", "not evaluated", "pending")
        worst = next((state for state in order if state in states), None)
        return worst or ("passed" if states else "nothing changed")

    @property
    def exit_code(self) -> ExitCode:
        """Pending is no failure of the job that found it: the gate waits for the job that has the key."""
        return {"bad input": ExitCode.BAD_INPUT, "blocked": ExitCode.GATE, "not evaluated": ExitCode.NOT_EVALUATED}.get(
            self.verdict, ExitCode.OK
        )

    def as_dict(self) -> dict[str, Any]:
        """What a later job needs to know, bound to the content by its subject."""
        prompts = [{"name": item.change.name, "kind": item.change.kind, "parts": list(item.change.parts), "subject": item.change.subject,
                    "state": item.state, "detail": item.detail, "run": item.evaluation.run.id if item.evaluation else ""} for item in self.items]  # fmt: skip
        return {"verdict": self.verdict, "exit_code": int(self.exit_code), "base": self.base, "head": self.head, "prompts": prompts,
                "problems": [problem.as_dict() for problem in self.lint.problems]}  # fmt: skip


def check_change(
    project: Project, base: str, open_session: Open, *, model: str = "", keyless: bool = False, accepted: Iterable[str] = (),
    approved: Callable[[Change], bool] = lambda _: False,
) -> CiResult:  # fmt: skip
    """Lint all, then evaluate what changed since the merge base with `base`, and nothing else.

    With `keyless`, prompts whose model needs a key stay pending. One prompt that cannot be evaluated does not keep the others
    from being judged. Raises DataError or EvaluationError when the base cannot be found.
    """
    commit = project.git.merge_base(base)
    head, _ = project.git.state()
    lint = lint_project(project, project.names())
    if lint.problems:
        return CiResult(base=commit, head=head, items=(), lint=lint)
    names = frozenset(accepted)
    items = [
        Checked(change=change, state="approved", detail="evidence for exactly this content exists")
        if approved(change)
        else _check(change, commit, open_session, model=model, keyless=keyless, accepted=names)
        for change in find_changes(project, commit, model=model)
    ]
    return CiResult(base=commit, head=head, items=tuple(items), lint=lint)


def _check(
    change: Change, base: str, open_session: Open, *, model: str, keyless: bool, accepted: frozenset[str]
) -> Checked:
    if change.kind == "removed":
        if f"{REMOVED}.{change.name}" in accepted:
            return Checked(change=change, state="passed", detail="the prompt was removed; accepted by name")
        return Checked(
            change=change,
            state="blocked",
            detail=f"the prompt was removed; accept it with --accept-policy-change {REMOVED}.{change.name}",
        )
    if keyless and not change.keyless:
        return Checked(change=change, state="pending", detail="its model needs a key, which this job does not have")
    try:
        with open_session(change.name) as session:
            evaluation = _evaluate(session, change, base, model=model, accepted=accepted)
    except (EvaluationError, DataError) as error:
        if isinstance(error, EvaluationError) and error.exit_code >= ExitCode.INTERRUPTED:
            raise
        return Checked(change=change, state="not evaluated", detail=str(error))
    state: State = "not evaluated" if not evaluation.evaluated else "blocked" if evaluation.blocked else "passed"
    return Checked(change=change, state=state, evaluation=evaluation)


def _evaluate(session: Session, change: Change, base: str, *, model: str, accepted: frozenset[str]) -> Evaluation:
    if change.kind == "new":
        executed = session.run(
            make_plan(session.project, change.name, model=model, selection=Selection()), session.options
        )
        return read_evaluation(session.store, session.project, executed.run)
    result = evaluate_against(session, change.name, base, model=model, candidate="", selection=Selection())
    return read_evaluation(session.store, session.project, result.found.candidate, result.found, ref=base, changes=result.changes,
                           accepted=accepted)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAnswer:
    """What the one required status says of the results of earlier jobs."""

    verdict: Verdict
    why: tuple[Problem, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Anything but a yes fails: a skipped evaluation cannot pass."""
        if self.verdict in ("passed", "nothing changed"):
            return ExitCode.OK
        return (
            ExitCode.GATE
            if self.verdict == "blocked"
            else ExitCode.BAD_INPUT
            if self.verdict == "bad input"
            else ExitCode.NOT_EVALUATED
        )


def judge_results(results: Sequence[Mapping[str, Any]], head: str) -> GateAnswer:
    """The verdict over the result files of one or more jobs on the commit `head`.

    The first says what changed. What it left pending must be in a later one, with the same subject; a result of another
    commit counts as none.
    """
    usable = [result for result in results if result["head"] == head]
    if not usable:
        return GateAnswer(
            verdict="not evaluated",
            why=(
                Problem(
                    what="no result for this commit", why=f"looked for {head[:12]}", hint="run `promptops ci` first"
                ),
            ),
        )
    if any(result["verdict"] == "bad input" for result in usable):
        return GateAnswer(
            verdict="bad input", why=tuple(Problem(**problem) for result in usable for problem in result["problems"])
        )
    states: dict[tuple[str, str], Mapping[str, Any]] = {}
    for result in usable:
        for prompt in result["prompts"]:
            key = (prompt["name"], prompt["subject"])
            if key not in states or states[key]["state"] == "pending":
                states[key] = prompt
    wanted = {(prompt["name"], prompt["subject"]) for prompt in usable[0]["prompts"]}
    found = {key: states[key] for key in wanted}
    for verdict in ("blocked", "not evaluated", "pending"):
        guilty = [prompt for _, prompt in sorted(found.items()) if prompt["state"] == verdict]
        if guilty:
            return GateAnswer(
                verdict=verdict,
                why=tuple(Problem(what=f"{prompt['name']}: {verdict}", why=prompt["detail"]) for prompt in guilty),
            )
    return GateAnswer(verdict="passed" if found else "nothing changed")
