"""Does a model beat something simpler? Simple answers and models on the same cases, by the same checks and the same statistics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from promptops.core.bill import bill_for
from promptops.core.errors import DataError
from promptops.core.suite import Case
from promptops.evaluation.against import Session
from promptops.evaluation.call_cost import CallCost, call_cost, model_month
from promptops.evaluation.compare import case_draws, compare_draws, run_scores
from promptops.evaluation.plan import Plan, Selection, make_plan
from promptops.evaluation.summary import Row, Summary, summarize
from promptops.gate import CaseDraws, CategoryVerdict, Comparison, Verdict, decide
from promptops.models.local import LOCAL_MODELS
from promptops.project.golden import read_cases
from promptops.project.project import Evaluable
from promptops.project.store import Run

Choice = Literal["simple", "model", "unclear"]
Advice = Literal[
    "use the simpler one",
    "use the model",
    "use both",
    "too few cases to tell",
    "no model measured",
    "nothing to compare",
]
_ORDER = ("constant", "rules", "search", "nearest", "extractive", "classifier", "boosted")
_EXACT = frozenset(("equals", "json_schema", "tool_call"))
_LABELS_EACH = 50
_LONG_WORDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way to answer, with its stored run; `why_not` says why a simple one could not be tried."""

    name: str
    simple: bool
    summary: Summary | None = None
    why_not: str = ""
    calls: CallCost | None = None

    def month_nanousd(self, per_day: int) -> int:
        """The bill of 30 days when it answers everything alone, retries and repairs included: as `promptops cost` reckons."""
        return model_month(self.calls, per_day=per_day).nanousd if self.calls else 0

    def row(self, name: str) -> Row | None:
        """What it does in a category or slice."""
        rows = (*self.summary.categories, *self.summary.slices) if self.summary else ()
        return next((row for row in rows if row.name == name), None)

    @property
    def thousand_nanousd(self) -> int:
        """The same of 1,000 requests."""
        return (
            bill_for(self.calls.assumptions, {"large": self.calls.price}, requests=1_000).nanousd if self.calls else 0
        )

    @property
    def rate(self) -> float:
        return (self.summary.total.rate or 0.0) if self.summary else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAdvice:
    """What one category or slice says: `needed` is about how many cases would tell, when they are too few."""

    verdict: CategoryVerdict
    choice: Choice
    needed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivalry:
    """The best simple answer against one model. `mixed` is the total when each category goes to what it is better with,
    against the model alone; `simple_share` of the cases then need no model.
    """

    model: Measured
    simple: Measured
    comparison: Comparison
    rows: tuple[RowAdvice, ...]
    advice: Advice
    mixed: CategoryVerdict | None = None
    simple_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A question of the decision, its answer here, the measured fact that decided it, and what follows; `otherwise`: from the other answer."""

    question: str
    answer: bool
    fact: str
    then: str
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    prompt: str
    measured: tuple[Measured, ...]
    rivalries: tuple[Rivalry, ...]
    nodes: tuple[Node, ...]
    cases: int
    trained_on: int

    @property
    def simple(self) -> tuple[Measured, ...]:
        """Simple answers that were measured, best first; of equal ones the simplest."""
        found = [item for item in self.measured if item.simple and item.summary]
        return tuple(sorted(found, key=lambda item: (-item.rate, _ORDER.index(item.name.removeprefix("local:")))))

    @property
    def advice(self) -> Advice:
        if not self.rivalries:
            return "no model measured" if self.simple else "nothing to compare"
        return self.rivalries[0].advice


def measure_alternatives(
    session: Session, name: str, *, models: Sequence[str] = (), more: Sequence[Case] = ()
) -> Alternatives:
    """Run every simple answer that applies, take stored runs of models (or make those named), and compare.

    `more` are labelled rows that learners may use and that are never scored. Runs of the same content that are there are
    used again. Raises DataError for names that are none, EvaluationError when a model could not be evaluated.
    """
    evaluable = session.project.load(name)
    measured = [_simple(session, evaluable, local, more) for local in _ORDER if local in LOCAL_MODELS]
    measured += [
        _measured(session, evaluable, model, run, simple=False)
        for model, run in _models(session, name, evaluable, models)
    ]
    found = Alternatives(prompt=name, measured=tuple(measured), rivalries=(), nodes=_nodes(evaluable, measured, len(more)),
                         cases=evaluable.scan.count, trained_on=len(more))  # fmt: skip
    rivals = sorted((item for item in measured if not item.simple), key=lambda item: -item.rate)
    rivalries = tuple(_rivalry(session, evaluable, model, found.simple[0]) for model in rivals) if found.simple else ()
    return Alternatives(
        prompt=name,
        measured=found.measured,
        rivalries=rivalries,
        nodes=(*found.nodes, _tolerance_node(evaluable, rivalries[0] if rivalries else None)),
        cases=found.cases,
        trained_on=found.trained_on,
    )


def _simple(session: Session, evaluable: Evaluable, local: str, more: Sequence[Case]) -> Measured:
    try:
        plan = make_plan(
            session.project,
            evaluable.prompt.name,
            model=f"local:{local}",
            selection=Selection(),
            judge="none",
            more=more,
        )
        run = _stored(session, plan) or session.run(plan, session.options).run
    except DataError as error:
        return Measured(
            name=f"local:{local}",
            simple=True,
            why_not=error.problems[0].what + (f": {error.problems[0].why}" if error.problems[0].why else ""),
        )
    return _measured(session, evaluable, f"local:{local}", run, simple=True)


def _measured(session: Session, evaluable: Evaluable, name: str, run: Run, *, simple: bool) -> Measured:
    calls = call_cost(session.store, run, session.project.config, evaluable.suite)
    return Measured(name=name, simple=simple, summary=summarize(session.store, run), calls=calls)


def _models(session: Session, name: str, evaluable: Evaluable, wanted: Sequence[str]) -> Iterator[tuple[str, Run]]:
    """The named models, evaluated if need be; without names those of stored complete runs on the cases of today."""
    for model in wanted:
        plan = make_plan(session.project, name, model=model, selection=Selection(), judge="none")
        yield model, _stored(session, plan) or session.run(plan, session.options).run
    if wanted:
        return
    seen: set[str] = set()
    for run in session.store.runs(name):
        header = run.header
        today = (header.golden_digest, header.suite_digest, header.selection) == (
            evaluable.scan.digest,
            evaluable.suite_digest,
            Selection().as_dict(),
        )
        if (
            today
            and run.state == "complete"
            and not header.candidate
            and header.model_identity.get("provider") != "local"
            and header.model not in seen
        ):
            seen.add(header.model)
            yield header.model, run


def _stored(session: Session, plan: Plan) -> Run | None:
    wanted = plan.header(session.clock())
    for run in session.store.runs(wanted.prompt):
        header = run.header
        same = (header.subject, header.selection, header.repeat, header.kind) == (
            wanted.subject,
            wanted.selection,
            1,
            "eval",
        )
        if same and run.state == "complete":
            return run
    return None


# What the numbers say


def _rivalry(session: Session, evaluable: Evaluable, model: Measured, simple: Measured) -> Rivalry:
    assert model.summary
    assert simple.summary
    policy = evaluable.suite.gate
    comparison = compare_draws(session.store, model.summary.run, simple.summary.run, policy=policy).comparison
    rows = tuple(_row(verdict) for verdict in comparison.verdicts)
    categories = {row.verdict.category: row.choice for row in rows if "=" not in row.verdict.category}
    before = case_draws(run_scores(session.store, model.summary.run).values(), policy)
    after = {item.case_id: item for item in case_draws(run_scores(session.store, simple.summary.run).values(), policy)}
    mixed = [after[item.case_id] if categories.get(item.category) == "simple" else item for item in before]
    advice = _advise(comparison, categories)
    share = sum(categories.get(item.category) == "simple" for item in before) / len(before)
    total = decide(before, _regrouped(mixed, before), policy=policy).total if advice == "use both" else None
    return Rivalry(
        model=model, simple=simple, comparison=comparison, rows=rows, advice=advice, mixed=total, simple_share=share
    )


def _regrouped(mixed: Sequence[CaseDraws], like: Sequence[CaseDraws]) -> list[CaseDraws]:
    return [CaseDraws(case_id=old.case_id, category=old.category, draws=new.draws, group=old.group, slices=old.slices)
            for new, old in zip(mixed, like, strict=True)]  # fmt: skip


def _row(verdict: CategoryVerdict) -> RowAdvice:
    """REGRESSED: the model is better here. PASS and IMPROVED: a loss beyond the tolerance is ruled out."""
    if verdict.verdict is Verdict.REGRESSED:
        return RowAdvice(verdict=verdict, choice="model")
    if verdict.verdict in (Verdict.PASS, Verdict.IMPROVED):
        return RowAdvice(verdict=verdict, choice="simple")
    return RowAdvice(verdict=verdict, choice="unclear", needed=cases_needed(verdict))


def cases_needed(verdict: CategoryVerdict) -> int:
    """About how many cases would rule out a loss beyond the tolerance, if the rates stayed as they are.

    The half width of an interval shrinks with the square root of the cases; with a measured loss at or beyond the tolerance, it
    has to shrink to the distance between both, at least to two points.
    """
    half = (verdict.interval.high - verdict.interval.low) / 2
    room = max(abs(verdict.difference + verdict.tolerance), 0.02)
    return max(verdict.n + 1, ceil(verdict.n * (half / room) ** 2))


def _advise(comparison: Comparison, categories: Mapping[str, Choice]) -> Advice:
    choices = set(categories.values())
    if choices == {"simple"} and not comparison.blocked:
        return "use the simpler one"
    if choices == {"model"}:
        return "use the model"
    if "simple" in choices:
        return "use both"
    return "use the model" if "model" in choices else "too few cases to tell"


# The decision, question by question


def _nodes(evaluable: Evaluable, measured: Sequence[Measured], more: int) -> tuple[Node, ...]:
    suite, prompt, scan = evaluable.suite, evaluable.prompt, evaluable.scan
    checks = [*suite.checks, *(check for found in suite.by_category.values() for check in found)]
    exact = [check.name for check in checks if check.kind in _EXACT]
    deterministic = prompt.output_format == "json" and bool(exact)
    least = min(scan.categories.values()) if scan.categories else 0
    words = _median_words(evaluable)
    known = [item for item in measured if item.simple and item.summary]
    best = max(known, key=lambda item: item.rate, default=None)
    floor = suite.gate.min_pass
    reached = best is not None and floor is not None and best.rate >= floor
    checkable = ("rules, a classifier or a search can give it", "wording matters: extractive answers or a model")
    labels = (
        "a classifier is worth training",
        f"below {_LABELS_EACH} a category a classifier mostly guesses; --train FILE adds rows",
    )
    text = ("rules will miss much of it", "short inputs suit rules and a search index")
    enough = ("ship it, and keep the model for what it cannot do", "measure a model, and compare")
    return (
        _node("Is there one right answer that code can check?", deterministic,
              f"answers are {prompt.output_format}, {len(exact)} of {len(checks)} checks compare with a stated value or schema", checkable),
        _node("Are there labels to learn from?", least + more >= _LABELS_EACH,
              f"{scan.count} golden cases, {least} in the smallest category" + (f", {more} further rows" if more else ""), labels),
        _node("Is the input free text?", words >= _LONG_WORDS, f"half of the inputs have more than {words} words", text),
        _node("Does something simple already do well enough?", reached,
              (f"{best.name} passes {100 * best.rate:.0f}%" if best else "nothing simple applies") + (f", gate.min_pass is {100 * floor:.0f}%" if floor is not None else ", the suite states no gate.min_pass"),
              enough),
    )  # fmt: skip


def _node(question: str, answer: bool, fact: str, ways: tuple[str, str]) -> Node:  # noqa: FBT001 - the answer is the point
    """`ways`: what follows from yes, and from no."""
    return Node(question=question, answer=answer, fact=fact, then=ways[not answer], otherwise=ways[answer])


def _tolerance_node(evaluable: Evaluable, rivalry: Rivalry | None) -> Node:
    """Whether the error of the simpler answer is within what the suite tolerates."""
    ways = (
        "the simpler one serves these categories",
        "the model serves where it is better; more cases decide the rest",
    )
    tolerated = f"a loss of {100 * evaluable.suite.gate.tolerance:.0f} points is tolerated"
    question = "Is what the simpler one loses within the tolerance?"
    if rivalry is None:
        return _node(
            question,
            answer=False,
            fact=f"{tolerated}; no model was measured",
            ways=(ways[0], "measure a model: nothing is known of the loss"),
        )
    rows = [row for row in rivalry.rows if "=" not in row.verdict.category]
    held = sum(row.choice == "simple" for row in rows)
    total = rivalry.comparison.total
    fact = (f"{tolerated}; {rivalry.simple.name} differs by {100 * total.difference:+.1f} points [{100 * total.interval.low:+.1f}, {100 * total.interval.high:+.1f}] "
            f"from {rivalry.model.name}, and a larger loss is ruled out in {held} of {len(rows)} categories")  # fmt: skip
    return _node(question, answer=held > 0, fact=fact, ways=ways)


def _median_words(evaluable: Evaluable) -> int:
    """Words of the inputs; in scripts without blanks two characters count as one."""
    from promptops.core.text import terms

    names = evaluable.prompt.untrusted or tuple(sorted(evaluable.prompt.input_names))
    counts = sorted(
        len(terms(" ".join(str(case.inputs.get(name, "")) for name in names)))
        for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)
    )
    return counts[len(counts) // 2]


def usable_rows(rows: Sequence[Case], evaluable: Evaluable) -> tuple[list[Case], int]:
    """Rows that may be learnt from, and how many are golden cases in disguise: learning those would be learning the answers."""
    golden = {_words(case.inputs) for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)}
    kept = [row for row in rows if _words(row.inputs) not in golden]
    return kept, len(rows) - len(kept)


def _words(inputs: Mapping[str, object]) -> str:
    return " ".join(" ".join(str(value).casefold().split()) for _, value in sorted(inputs.items()))
