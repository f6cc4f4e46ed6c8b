"""What changed between two contents of a prompt: texts, schemas, settings, examples, knowledge, price, and measured quality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from promptops.core.compat import Bump, SchemaChange, needed_bump, schema_changes
from promptops.core.digest import digest, short
from promptops.core.errors import PromptopsError
from promptops.core.jsontext import Json
from promptops.core.prompt import Prompt, Role
from promptops.core.suite import Case, slice_rows
from promptops.core.text import estimate_tokens
from promptops.gate.stats import Interval, independent_rate_interval, redraw_interval
from promptops.project.config import Config, ModelConfig, resolve_model
from promptops.project.golden import first_cases
from promptops.project.project import Project
from promptops.project.store import Result, Run, Store
from promptops.project.suites import load_suite
from promptops.release.evidence import TEST_RESULT, Evidence
from promptops.release.sides import Side

SAMPLE = 50
_OUTPUT_TOKENS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageChange:
    """One message on both sides; None where it is not there."""

    role: Role
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """A model, parameter or other setting; None where it is not stated."""

    name: str
    before: Json
    after: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Few-shot rows or passages that came, went, or kept their name with another content."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Estimated tokens and cost of one request, over the same golden cases; cost is None for a model that is not configured."""

    model: str
    input_tokens: float
    output_limit: int
    cost_nanousd: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRow:
    """A category or slice on both sides over the same cases, with the interval of the difference of the pass rates."""

    name: str
    cases: int
    before: float
    after: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Pass rates over the same golden rows and checks: of two stored runs, or of the evidence two versions were released with.

    `before` and `after` name the runs or statements; `note` says what is to be known about signatures.
    """

    source: Literal["runs", "evidence"]
    before: str
    after: str
    model: str
    categories: tuple[QualityRow, ...]
    slices: tuple[QualityRow, ...]
    total: QualityRow
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptDiff:
    """Everything that differs; `why_no_quality` and `why_no_price` say what would be needed to measure the rest."""

    name: str
    before: Side
    after: Side
    messages: tuple[MessageChange, ...]
    schemas: tuple[SchemaChange, ...]
    settings: tuple[SettingChange, ...]
    examples: Counted
    knowledge: Counted
    same_content: bool
    bump: Bump
    prices: tuple[Price, Price] | None = None
    priced_cases: int = 0
    why_no_price: str = ""
    quality: Quality | None = None
    why_no_quality: str = ""
    answers_changed: bool = field(default=False)

    @property
    def changed_messages(self) -> tuple[MessageChange, ...]:
        return tuple(item for item in self.messages if item.before != item.after)

    @property
    def breaking(self) -> tuple[SchemaChange, ...]:
        return tuple(item for item in self.schemas if item.breaking)


EvidenceOf = Callable[[Sequence[str]], Sequence[Evidence]]
"""From subjects to what is stored about them."""


def compare_contents(
    project: Project, before: Side, after: Side, store: Store | None, evidence_of: EvidenceOf | None = None
) -> PromptDiff:
    """Everything that differs between two sides of one prompt; asks nobody and renders today's golden cases.

    Where no two stored runs can be compared, the evidence of two released versions is.
    """
    old, new = before.prompt, after.prompt
    schemas = schema_changes(old, new)
    same = old.identity({}) == new.identity({}) and old.model == new.model
    prices, priced, why_no_price = _prices(project, before, after)
    quality, why_no_quality = _quality(store, old, new) if store else (None, "no runs are stored here")
    if quality is None and evidence_of is not None and before.subject and after.subject:
        quality, why_no_quality = _attested(evidence_of([before.subject, after.subject]), before, after, why_no_quality)
    return PromptDiff(
        name=new.name, before=before, after=after, messages=_messages(old, new), schemas=schemas, settings=_settings(old, new),
        examples=_examples(old, new), knowledge=_knowledge(old, new), same_content=same,
        bump=needed_bump(schemas, same_content=same), prices=prices, priced_cases=priced, why_no_price=why_no_price,
        quality=quality, why_no_quality=why_no_quality, answers_changed=old.rules != new.rules,
    )  # fmt: skip


def _messages(old: Prompt, new: Prompt) -> tuple[MessageChange, ...]:
    """Messages paired by role and order: the n-th of a role with the n-th of that role."""
    before = [(item.role, item.template.source) for item in old.messages]
    found: list[MessageChange] = []
    used: set[int] = set()
    for message in new.messages:
        place = next(
            (index for index, (role, _) in enumerate(before) if role == message.role and index not in used), None
        )
        if place is not None:
            used.add(place)
        text = None if place is None else before[place][1]
        found.append(MessageChange(role=message.role, before=text, after=message.template.source))
    gone = [
        MessageChange(role=role, before=text, after=None)
        for index, (role, text) in enumerate(before)
        if index not in used
    ]
    return (*found, *gone)


def _settings(old: Prompt, new: Prompt) -> tuple[SettingChange, ...]:
    pairs: list[tuple[str, Json, Json]] = [("model", old.model or None, new.model or None)]
    params = sorted(old.params.keys() | new.params.keys())
    pairs += [(f"params.{key}", old.params.get(key), new.params.get(key)) for key in params]
    pairs.append(("untrusted", sorted(old.untrusted), sorted(new.untrusted)))
    before, after = ([dict(tool) for tool in side.tools] or None for side in (old, new))
    pairs.append(("tools", before, after))
    for key in ("query", "into", "top", "scope_input", "scope_files"):
        before, after = (getattr(side.knowledge, key, None) for side in (old, new))
        pairs.append((f"knowledge.{key}", _plain(before), _plain(after)))
    rules = sorted(old.rules.keys() | new.rules.keys())
    pairs += [(f"rules.{key}", _plain(old.rules.get(key)), _plain(new.rules.get(key))) for key in rules]
    return tuple(
        SettingChange(name=name, before=before, after=after) for name, before, after in pairs if before != after
    )


def _plain(value: Json) -> Json:
    return dict(value) if isinstance(value, Mapping) else value


def _examples(old: Prompt, new: Prompt) -> Counted:
    """Few-shot rows by their inputs."""
    sides = [
        {digest(dict(item.inputs)): (index, item.output) for index, item in enumerate(side.examples, 1)}
        for side in (old, new)
    ]
    return _counted(*({key: output for key, (_, output) in side.items()} for side in sides),
                    name=lambda key: f"row {(sides[1].get(key) or sides[0][key])[0]}")  # fmt: skip


def _knowledge(old: Prompt, new: Prompt) -> Counted:
    sides = [
        {item.id: [item.title, item.text, item.source] for item in side.knowledge.passages} if side.knowledge else {}
        for side in (old, new)
    ]
    return _counted(*sides, name=str)


def _counted(before: Mapping[str, Json], after: Mapping[str, Json], *, name: Callable[[str], str]) -> Counted:
    return Counted(
        added=tuple(name(key) for key in after if key not in before),
        removed=tuple(name(key) for key in before if key not in after),
        changed=tuple(name(key) for key in after if key in before and before[key] != after[key]),
    )


def _prices(project: Project, before: Side, after: Side) -> tuple[tuple[Price, Price] | None, int, str]:
    """Both sides rendered with the same first golden cases of today; (prices, number of cases, why there are none)."""
    try:
        suite = load_suite(after.tree, after.prompt.name, after.prompt)
        cases = list(islice(first_cases(after.tree, suite), SAMPLE))
    except PromptopsError as error:
        return None, 0, f"no golden cases to render: {error.problems[0].what}"
    usable = [case for case in cases if not any(before.prompt.input_problems(case.inputs))]
    if not usable:
        return None, 0, "the inputs of the golden cases do not fit the left side"
    try:
        found = tuple(_price(project.config, side.prompt, usable) for side in (before, after))
    except PromptopsError as error:
        return None, 0, f"a case could not be rendered: {error.problems[0].what}"
    return (found[0], found[1]), len(usable), ""


def _price(config: Config, prompt: Prompt, cases: Sequence[Case]) -> Price:
    total = 0
    for case in cases:
        rendered = prompt.render(case.inputs, prompt.passages_for(case.inputs))
        total += sum(estimate_tokens(message.content) for message in rendered)
    tokens, limit = total / len(cases), int(prompt.params.get("max_output_tokens", _OUTPUT_TOKENS))
    model = _model(config, prompt)
    cost = model.price.cost_nanousd(input_tokens=round(tokens), output_tokens=limit) if model else None
    return Price(model=prompt.model or config.default_model, input_tokens=tokens, output_limit=limit, cost_nanousd=cost)


def _model(config: Config, prompt: Prompt) -> ModelConfig | None:
    try:
        return resolve_model(config, prompt.model or config.default_model)
    except PromptopsError:
        return None


def _quality(store: Store, old: Prompt, new: Prompt) -> tuple[Quality | None, str]:
    """The newest pair of complete runs of both contents over the same rows, checks and model; (quality, why there is none)."""
    runs = [run for run in store.runs(new.name) if run.state == "complete"]
    before, after = (
        [run for run in runs if run.header.prompt_digest == side.digest(run.header.model_identity)]
        for side in (old, new)
    )
    if not before or not after:
        missing = "either side" if not before and not after else "the left side" if not before else "the right side"
        return None, f"no complete run of {missing} is stored"
    for right in after:
        for left in before:
            if left.id != right.id and _comparable(left, right):
                return _measured(store, left, right), ""
    return None, "the stored runs of both sides have other golden rows, checks or models"


def _attested(found: Sequence[Evidence], before: Side, after: Side, why: str) -> tuple[Quality | None, str]:
    """The newest test results of both subjects; (quality, why there is none)."""
    newest: dict[str, Evidence] = {}
    for item in found:
        if not item.fault and item.kind == TEST_RESULT:
            newest[f"sha256:{item.name.subject}"] = item
    if not {before.subject, after.subject} <= newest.keys():
        return None, f"{why}, and no evidence of both versions"
    left, right = newest[before.subject], newest[after.subject]
    if _measured_on(left) != _measured_on(right):
        return None, f"{why}, and the evidence of the versions has other golden rows, checks or models"
    rows = {key: _attested_rows(left, right, key) for key in ("categories", "slices")}
    total = _attested_row("total", left.predicate["promptops"]["total"], right.predicate["promptops"]["total"])
    if total is None:
        return None, f"{why}, and the evidence counts no scored case"
    doubts = [item.signature.why or item.signature.status for item in (left, right) if not item.counts]
    return Quality(source="evidence", before=short(left.digest), after=short(right.digest), model=str(right.predicate["promptops"]["model"].get("model", "")),
                   categories=rows["categories"], slices=rows["slices"], total=total,
                   note=f"not trusted: {doubts[0]}" if doubts else ""), ""  # fmt: skip


def _measured_on(item: Evidence) -> Json:
    parts = {entry["name"]: entry["digest"]["sha256"] for entry in item.predicate["configuration"]}
    model = item.predicate["promptops"][
        "model"
    ]  # settings of a local model are part of the prompt, not of what it is measured on
    return [
        parts.get("golden"),
        parts.get("suite"),
        parts.get("rubric"),
        model.get("provider"),
        model.get("model"),
        model.get("url"),
    ]


def _attested_rows(left: Evidence, right: Evidence, key: str) -> tuple[QualityRow, ...]:
    before = {row["name"]: row for row in left.predicate["promptops"][key]}
    made = [
        _attested_row(row["name"], before[row["name"]], row)
        for row in right.predicate["promptops"][key]
        if row["name"] in before
    ]
    return tuple(sorted((row for row in made if row), key=lambda row: (row.after - row.before, row.name)))


def _attested_row(name: str, before: Mapping[str, Json], after: Mapping[str, Json]) -> QualityRow | None:
    if not before["scored"] or not after["scored"]:
        return None
    old, new = (before["passed"], before["scored"]), (after["passed"], after["scored"])
    return QualityRow(name=name, cases=min(old[1], new[1]), before=old[0] / old[1], after=new[0] / new[1],
                      interval=independent_rate_interval(old, new))  # fmt: skip


def _comparable(left: Run, right: Run) -> bool:
    def parts(run: Run) -> tuple[Json, ...]:
        head = run.header
        return (head.golden_digest, head.suite_digest, head.rubric_digest, head.model, head.selection, head.slices)

    return parts(left) == parts(right)


def _measured(store: Store, left: Run, right: Run) -> Quality:
    before, after = _draws(store, left), _draws(store, right)
    rows: dict[str, list[str]] = {}
    for case_id in before.keys() & after.keys():
        result = after[case_id][0]
        for name in (result.category, *slice_rows(result.tags, right.header.slices)):
            rows.setdefault(name, []).append(case_id)
    categories = {item[0].category for item in after.values()}
    made = {name: _row(name, [(before[key][1], after[key][1]) for key in sorted(ids)]) for name, ids in rows.items()}
    every = [(before[key][1], after[key][1]) for key in sorted(before.keys() & after.keys())]
    named = sorted(made.values(), key=lambda row: (row.after - row.before, row.name))
    return Quality(source="runs", before=left.id, after=right.id, model=right.header.model, categories=tuple(row for row in named if row.name in categories),
                   slices=tuple(row for row in named if row.name not in categories), total=_row("total", every))  # fmt: skip


def _draws(store: Store, run: Run) -> dict[str, tuple[Result, list[float]]]:
    found: dict[str, tuple[Result, list[float]]] = {}
    for result in store.results(run.id):
        if result.passed is not None:
            found.setdefault(result.case_id, (result, []))[1].append(float(result.passed))
    return found


def _row(name: str, pairs: Sequence[tuple[list[float], list[float]]]) -> QualityRow:
    before, after = ([sum(pair[side]) / len(pair[side]) for pair in pairs] for side in (0, 1))
    return QualityRow(name=name, cases=len(pairs), before=sum(before) / len(before), after=sum(after) / len(after),
                      interval=redraw_interval([pair[0] for pair in pairs], [pair[1] for pair in pairs]))  # fmt: skip
