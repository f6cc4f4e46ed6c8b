"""What a change would loosen: the gate, the checks, the cases. Judged by the base, named by whoever accepts it."""

from collections import Counter
from dataclasses import dataclass, replace

from promptops.core.checks import Check, Completion, JsonSchemaCheck
from promptops.core.errors import DataError, PromptopsError
from promptops.core.outcome import OF_THE_MODEL
from promptops.core.rubric import Rubric
from promptops.core.schema import JsonSchema
from promptops.core.suite import GatePolicy, ReviewPolicy, Suite
from promptops.evaluation.judge import JudgeSetup, set_up_judge
from promptops.evaluation.plan import Plan
from promptops.project.config import Config, load_config
from promptops.project.golden import read_ids
from promptops.project.project import Evaluable
from promptops.project.rubrics import load_rubric
from promptops.project.store import Run, Store
from promptops.project.tree import Tree

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """One thing that became weaker; `name` is what `--accept-policy-change` takes."""

    name: str
    what: str


def policy_changes(tree: Tree, before: Suite, after: Evaluable) -> tuple[PolicyChange, ...]:
    """Everything the suite of today asks less of than the suite of the base did."""
    return (
        *_gate(before.gate, after.suite.gate),
        *_checks(before, after.suite),
        *_cases(tree, before, after),
        *_review(before.review, after.suite.review),
        *_schemas(before, after.suite),
    )


def _gate(before: GatePolicy, after: GatePolicy) -> list[PolicyChange]:
    weaker = (
        ("alpha", before.alpha, after.alpha, after.alpha < before.alpha),
        ("tolerance", before.tolerance, after.tolerance, after.tolerance > before.tolerance),
        ("draws", before.draws, after.draws, after.draws < before.draws),
        ("estimand", before.estimand, after.estimand, after.estimand != before.estimand),
        (
            "block_on_broken",
            before.block_on_broken,
            after.block_on_broken,
            before.block_on_broken and not after.block_on_broken,
        ),
        ("by", list(before.by), list(after.by), not set(before.by) <= set(after.by)),
        *(
            (name, getattr(before, name), getattr(after, name), _wider(getattr(before, name), getattr(after, name)))
            for name in ("max_p50_ratio", "max_p99_ratio", "max_cost_ratio")
        ),
        ("approvals", before.approvals, after.approvals, after.approvals < before.approvals),
        ("min_cases", before.min_cases, after.min_cases, after.min_cases < before.min_cases),
        (
            "unanswered",
            dict(before.unanswered),
            dict(after.unanswered),
            any(before.fails(name) and not after.fails(name) for name in OF_THE_MODEL),
        ),
        ("min_pass", before.min_pass, after.min_pass, (before.min_pass or 0) > (after.min_pass or 0)),
    )
    found = [
        PolicyChange(name=f"gate.{name}", what=f"gate.{name}: {old} -> {new}")
        for name, old, new, loosened in weaker
        if loosened
    ]
    found += [
        PolicyChange(
            name=f"gate.min_pass.{name}", what=f"gate.min_pass of {name}: {floor} -> {after.min_pass_by.get(name)}"
        )
        for name, floor in before.min_pass_by.items()
        if after.min_pass_by.get(name, 0) < floor
    ]
    found += [
        PolicyChange(
            name=f"tolerance.{name}",
            what=f"tolerance of {name}: {before.tolerance_of(name)} -> {after.tolerance_of(name)}",
        )
        for name in sorted(after.tolerances.keys() | before.tolerances.keys())
        if after.tolerance_of(name) > before.tolerance_of(name)
    ]
    return found


def judge_changes(config: Config, tree: Tree, before: Suite, after: Plan) -> tuple[PolicyChange, ...]:
    """What today's judge and rubric ask less of than those of the base; another judge is a change by itself, whoever is the stricter."""
    base = _judge_of_base(config, tree, before, after)
    if base is None:
        return ()
    now = after.judge
    if now is None:
        return (PolicyChange(name="judge", what=f"judge {base.name} is gone"),)
    found: list[PolicyChange] = []
    if now.digest != base.digest:
        found.append(
            PolicyChange(
                name="judge",
                what=f"judge {now.name} is not the judge of the base: its prompt, model, votes, parameters or rubric differ",
            )
        )
    if base.standing.may_block and not now.standing.may_block:
        found.append(
            PolicyChange(
                name="judge.calibration", what=f"the judge's verdicts counted and do not any more: {now.standing.why}"
            )
        )
    numbers = (("judge.votes", base.planned_votes, now.planned_votes, now.planned_votes < base.planned_votes),
               ("judge.max_error_rate", base.max_error_rate, now.max_error_rate, now.max_error_rate > base.max_error_rate),
               ("rubric.pass_at", base.rubric.pass_at, now.rubric.pass_at, now.rubric.pass_at < base.rubric.pass_at))  # fmt: skip
    found += [PolicyChange(name=name, what=f"{name}: {old} -> {new}") for name, old, new, weaker in numbers if weaker]
    for category in ("", *sorted(base.rubric.by_category.keys() | now.rubric.by_category.keys())):
        found += _criteria(base.rubric, now.rubric, category)
    return tuple(dict.fromkeys(found))


def _judge_of_base(config: Config, tree: Tree, before: Suite, after: Plan) -> JudgeSetup | None:
    try:
        rubric = load_rubric(tree, before.rubric) if before.rubric else None
        base = replace(after.evaluable, suite=before, rubric=rubric, tree=tree)
        return set_up_judge(_config_at(tree, config), base, after.judge.choice if after.judge else "")
    except DataError:  # the base named a rubric or a model that cannot be read today
        return None


def _config_at(tree: Tree, today: Config) -> Config:
    """The models as they were at the base; today's where that cannot be read."""
    try:
        return load_config(tree)
    except DataError:
        return today


def _criteria(before: Rubric, after: Rubric, category: str) -> list[PolicyChange]:
    where = f" of {category}" if category else ""
    now = {criterion.id: criterion for criterion in after.criteria_for(category)}
    found: list[PolicyChange] = []
    for old in before.criteria_for(category):
        new = now.get(old.id)
        if new is None:
            found.append(PolicyChange(name=f"rubric.{old.id}", what=f"criterion {old.id}{where} is gone"))
        elif old.hard and not new.hard:
            found.append(PolicyChange(name=f"rubric.{old.id}", what=f"criterion {old.id}{where} is not hard any more"))
        elif new.pass_from < old.pass_from:
            found.append(
                PolicyChange(
                    name=f"rubric.{old.id}",
                    what=f"criterion {old.id}{where} passes from {new.pass_from}, not {old.pass_from}",
                )
            )
    return found


def _wider(before: float | None, after: float | None) -> bool:
    """Whether a limit on a ratio was lifted or raised."""
    return before is not None and (after is None or after > before)


def _review(before: ReviewPolicy | None, after: ReviewPolicy | None) -> list[PolicyChange]:
    """A required review that is asked for less, less often, or no longer; one that is not required holds nothing up."""
    if before is None or not before.required:
        return []
    if after is None or not after.required:
        return [PolicyChange(name="review", what="a periodic review is no longer required")]
    if after.every_days <= before.every_days and after.sample >= before.sample:
        return []
    what = f"{before.sample} answers every {before.every_days} days -> {after.sample} every {after.every_days}"
    return [PolicyChange(name="review", what=f"review: {what}")]


def _checks(before: Suite, after: Suite) -> list[PolicyChange]:
    found: list[PolicyChange] = []
    for category in ("", *sorted(before.by_category.keys() | after.by_category.keys())):
        where = f" of {category}" if category else ""
        old, new = _by_name(before.checks_for(category)), _by_name(after.checks_for(category))
        if category and old == _by_name(before.checks) and new == _by_name(after.checks):
            continue
        for name, check in old.items():
            if name not in new:
                found.append(PolicyChange(name=f"check.{name}", what=f"check {name}{where} is gone"))
            elif _options(new[name]) != _options(check):
                found.append(PolicyChange(name=f"check.{name}", what=f"check {name}{where} has other options"))
    return list(dict.fromkeys(found))


def _by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def _options(check: Check) -> object:
    """What a check was configured with; its schemas are compared on their own."""
    return None if check.kind == "json_schema" else check


def _cases(tree: Tree, before: Suite, after: Evaluable) -> list[PolicyChange]:
    try:
        old, new = read_ids(tree, before.cases_path), read_ids(after.tree, after.suite.cases_path)
    except PromptopsError:
        return [PolicyChange(name="cases", what="the golden cases of the base cannot be read")]
    gone = sorted(old.keys() - new.keys())
    found = [
        PolicyChange(name=f"category.{name}", what=f"category {name} is gone")
        for name in sorted(set(old.values()) - set(new.values()))
    ]
    if gone:
        named = ", ".join(gone[:_NAMED]) + (", ..." if len(gone) > _NAMED else "")
        found.append(PolicyChange(name="cases", what=f"{len(gone)} golden cases are gone: {named}"))
    return found


def _schemas(before: Suite, after: Suite) -> list[PolicyChange]:
    old, new = before.settings.get("schemas", {}), after.settings.get("schemas", {})
    return [
        PolicyChange(name=f"schema.{category}", what=f"category {category} has no schema of its own any more")
        for category in sorted(old.keys() - new.keys())
    ]


def loosened_schemas(store: Store, run: Run, before: Suite, after: Suite) -> list[PolicyChange]:
    """Categories whose schema accepts answers of this run that the schema of the base refuses.

    Whether one schema is looser than another cannot be decided in general; what it let through here can.
    """
    counts: Counter[str] = Counter()
    for result in store.results(run.id):
        old, new = _schema_of(before, result.category), _schema_of(after, result.category)
        answer = store.find_answer(result.answer_key) if old is not None and new is not None and old != new else None
        if answer is None or old is None or new is None:
            continue
        completion = Completion.of(answer.text, "json")
        if not completion.json_error and new.accepts(completion.value) and not old.accepts(completion.value):
            counts[result.category] += 1
    return [
        PolicyChange(
            name=f"schema.{category}", what=f"{count} answers of {category} fit their schema only since it was loosened"
        )
        for category, count in sorted(counts.items())
    ]


def _schema_of(suite: Suite, category: str) -> JsonSchema | None:
    """What the json_schema check of a category compares with."""
    for check in suite.checks_for(category):
        if isinstance(check, JsonSchemaCheck):
            return check.by_category.get(category, check.default)
    return None
