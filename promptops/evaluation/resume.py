"""Going on with a stored run: only if it would ask the same of the same model at the same price."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from promptops.core.errors import DataError, Problem
from promptops.evaluation.plan import Plan, Selection, make_plan
from promptops.project.project import Project
from promptops.project.store import Run, RunHeader

_SAME = (
    ("prompt_digest", "the prompt, its schemas, examples or knowledge"),
    ("model_identity", "the model that answers, or its settings"),
    ("golden_digest", "the golden cases"),
    ("suite_digest", "the suite: checks, schemas or gate"),
    ("rubric_digest", "the rubric"),
    ("judge_digest", "the judge: its prompt, model, parameters, votes or rubric"),
    ("price", "the price of the model"),
)


def plan_again(project: Project, run: Run, judge: str | None = None) -> Plan:
    """The plan of a stored run, made from the files as they are now; with another judge when one is named."""
    header = run.header
    selection = Selection.from_dict(header.selection, header.repeat)
    return make_plan(
        project, header.prompt, model=header.model, candidate=header.candidate, selection=selection, at=header.at,
        judge=str(header.judge.get("choice", "")) if judge is None else judge,
    )  # fmt: skip


def refuse_changes(plan: Plan, run: Run, *, allowed: tuple[str, ...] = ()) -> None:
    """Raises DataError that lists everything that is no longer as it was in the run, but for the `allowed` fields."""
    same_model = plan.evaluable.prompt.digest(dict(run.header.model_identity))
    now = replace(plan.header(datetime.fromisoformat(run.header.started_at)), prompt_digest=same_model)
    problems = [
        Problem(
            what=f"changed since run {run.id}: {what}",
            hint=f"start a new run with `promptops eval {run.header.prompt}`",
        )
        for field, what in _SAME
        if field not in allowed and _value(now, field) != _value(run.header, field)
    ]
    if problems:
        raise DataError(problems=problems)


def _value(header: RunHeader, field: str) -> object:
    value = getattr(header, field)
    return dict(value) if isinstance(value, Mapping) else value
