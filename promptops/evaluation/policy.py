"""What a change would loosen: the gate, the checks, the cases. Judged by the base, named by whoever accepts it."""

from collections import Counter
from dataclasses import dataclass

from promptops.core.checks import Check, Completion, JsonSchemaCheck
from promptops.core.errors import PromptopsError
from promptops.core.outcome import OF_THE_MODEL
from promptops.core.schema import JsonSchema
from promptops.core.suite import GatePolicy, Suite
from promptops.project.golden import read_ids
from promptops.project.project import Evaluable
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


def _wider(before: float | None, after: float | None) -> bool:
    """Whether a limit on a ratio was lifted or raised."""
    return before is not None and (after is None or after > before)


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
