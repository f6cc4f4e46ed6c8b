"""Is a golden set enough: counts against minimums and what the gate can see, twins, leaks, doubtful labels, cases anything solves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from promptops.core.checks import Completion
from promptops.core.errors import DataError
from promptops.core.jsontext import Json, canonical_json
from promptops.core.suite import Case, GatePolicy, slice_rows
from promptops.evaluation.clients import input_names, open_client
from promptops.evaluation.label_errors import LabelCheck, check_labels
from promptops.evaluation.near_duplicates import MAX_CHARS, Pair, near_duplicates
from promptops.evaluation.scoring import score
from promptops.models.base import ModelRequest
from promptops.models.local import LocalClient, input_text
from promptops.models.local.folds import labelled
from promptops.project.config import resolve_model
from promptops.project.golden import read_cases
from promptops.project.project import Evaluable, Project

Level = Literal["too few", "narrow", "production", "multi-purpose"]
MINIMUMS: tuple[tuple[Level, int], ...] = (("narrow", 50), ("production", 100), ("multi-purpose", 200))
ASSUMED_RATE = 0.9
MAX_CASES = 50_000
_SIMPLE = ("constant", "rules", "nearest")
_TRIED = 500
_POWER_CASES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRow:
    """A category, a slice value or the total; `detectable` is the smallest drop (0..1) the gate would see there, None: none.

    `needed` is about how many cases would let it see a drop as large as the tolerance; 0 when these do, None beyond 2,000.
    """

    name: str
    cases: int
    detectable: float | None
    needed: int | None = 0
    twins: int = 0
    trivial: int = 0

    @property
    def level(self) -> Level:
        return next((word for word, least in reversed(MINIMUMS) if self.cases >= least), "too few")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A golden case and what it is (nearly) equal to: an example of the prompt or a row of the training file."""

    case: str
    other: str
    kind: Literal["example", "training"]
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenStats:
    """`solved`: how many of `tried` cases each simple answer passes; `trivial`: cases that all of them pass."""

    prompt: str
    total: SizeRow
    categories: tuple[SizeRow, ...]
    slices: tuple[SizeRow, ...]
    tolerance: Mapping[str, float]
    twins: tuple[Pair, ...]
    leaks: tuple[Leak, ...]
    labels: LabelCheck
    solved: Mapping[str, int]
    not_tried: Mapping[str, str]
    tried: int
    trivial: tuple[str, ...]
    cut: int = 0


def golden_stats(project: Project, name: str, *, train: Sequence[Case] = (), seed: int = 0) -> GoldenStats:
    """Everything about a golden set that can be said without asking a model. Raises DataError when it does not load."""
    evaluable = project.load(name)
    if evaluable.scan.count > MAX_CASES:
        raise DataError(f"{evaluable.scan.count} cases are more than {MAX_CASES}", where=evaluable.scan.path, hint="split the set")  # fmt: skip
    cases = list(read_cases(evaluable.tree, evaluable.suite, evaluable.scan))
    read = input_names(evaluable.prompt)
    texts = {case.id: _text(case.inputs, read) for case in cases}
    twins = near_duplicates(texts)
    leaks = _leaks(evaluable, texts, read, train)
    solved, not_tried, tried = _solved(project, evaluable, cases, seed)
    trivial = sorted(set.intersection(*solved.values())) if len(solved) > 1 else []
    twin_ids = {case for pair in twins for case in (pair.first, pair.second)}
    sizes = _sizes(evaluable, cases, twin_ids, set(trivial))
    return GoldenStats(
        prompt=name, total=sizes[0][0], categories=sizes[1], slices=sizes[2], tolerance={row.name: evaluable.suite.gate.tolerance_of(row.name) for row in (*sizes[1], *sizes[2])},
        twins=tuple(twins), leaks=leaks, labels=_labels(cases, read, seed), solved={local: len(found) for local, found in solved.items()},
        not_tried=not_tried, tried=tried, trivial=tuple(trivial), cut=sum(len(text) > MAX_CHARS for text in texts.values()),
    )  # fmt: skip


def _text(inputs: Mapping[str, Json], read: tuple[str, ...]) -> str:
    return input_text(ModelRequest(messages=(), inputs=inputs), read)


def _leaks(
    evaluable: Evaluable, texts: Mapping[str, str], read: tuple[str, ...], train: Sequence[Case]
) -> tuple[Leak, ...]:
    others = {f"example {number}": _text(example.inputs, read) for number, example in enumerate(evaluable.prompt.examples, 1)}  # fmt: skip
    others |= {f"training {row.id}, line {row.line}": _text(row.inputs, read) for row in train}
    if not others:
        return ()
    every = {f"golden {case}": text for case, text in texts.items()} | others
    found: list[Leak] = []
    for pair in near_duplicates(every):
        ours, theirs = sorted((pair.first, pair.second), key=lambda key: not key.startswith("golden "))
        if ours.startswith("golden ") and not theirs.startswith("golden "):
            kind, _, other = theirs.partition(" ")
            found.append(Leak(case=ours.removeprefix("golden "), other=other, kind="example" if kind == "example" else "training", similarity=pair.similarity))  # fmt: skip
    return tuple(found)


def _labels(cases: Sequence[Case], read: tuple[str, ...], seed: int) -> LabelCheck:
    by_id = {case.id: case for case in cases}
    rows = labelled("labels", cases, read)
    ordered = [by_id[row.id] for row in rows]
    columns: dict[str, list[Json]] = {"category": [case.category for case in ordered]}
    for field in sorted({key for case in cases for key in case.expected}):
        values = [case.expected.get(field) for case in ordered]
        given = [value for value in values if value is not None]
        if all(isinstance(value, str | bool | int) for value in given) and len(
            {canonical_json(value) for value in given}
        ) <= max(2, len(given) // 3):
            columns[f"expected.{field}"] = values
    if len({row.text for row in rows}) < 2:
        return LabelCheck(accuracy={}, skipped={"category": "there are not two different cases"}, suspects=())
    return check_labels(rows, columns, seed=seed)


def _solved(
    project: Project, evaluable: Evaluable, cases: Sequence[Case], seed: int
) -> tuple[dict[str, set[str]], dict[str, str], int]:
    """The cases each simple answer passes, each predicted from the others; of a large set, 500 at random."""
    import random

    some = cases if len(cases) <= _TRIED else random.Random(seed).sample(list(cases), _TRIED)  # noqa: S311 - a sample, not a secret
    found: dict[str, set[str]] = {}
    failed: dict[str, str] = {}
    for local in _SIMPLE:
        try:
            client = open_client(resolve_model(project.config, f"local:{local}"), evaluable.prompt, lambda: some)
        except DataError as error:
            failed[local] = error.problems[0].what
            continue
        assert isinstance(client, LocalClient)
        found[local] = {case.id for case in some if _passes(client, evaluable, case)}
    return found, failed, len(some)


def _passes(client: LocalClient, evaluable: Evaluable, case: Case) -> bool:
    prompt = evaluable.prompt
    value = client.model.respond(ModelRequest(messages=(), inputs=case.inputs, output_format=prompt.output_format))
    text = value if isinstance(value, str) else canonical_json(value).decode()
    passages = prompt.passages_for(case.inputs)
    checks = evaluable.suite.checks_for(case.category)
    return score(checks, Completion.of(text, prompt.output_format), case.facts(passages)).passed is True


def _sizes(
    evaluable: Evaluable, cases: Sequence[Case], twins: set[str], trivial: set[str]
) -> tuple[tuple[SizeRow, ...], tuple[SizeRow, ...], tuple[SizeRow, ...]]:
    policy = evaluable.suite.gate
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        for name in ("", case.category, *slice_rows(case.tags, evaluable.suite.slices)):
            counts.setdefault(name, Counter()).update(cases=1, twins=case.id in twins, trivial=case.id in trivial)
    judged = max(1, len(counts) - 1)

    @cache
    def detectable(number: int) -> float | None:
        return _detectable(min(number, _POWER_CASES), judged, policy)

    @cache
    def enough(tolerance: float) -> int | None:
        """The fewest cases that do, within a twentieth."""
        if not _sees(detectable(_POWER_CASES), tolerance):
            return None
        low, high = 1, _POWER_CASES
        while high - low > max(1, high // 20):
            middle = (low + high) // 2
            low, high = (low, middle) if _sees(detectable(middle), tolerance) else (middle, high)
        return high

    def needed(name: str) -> int | None:
        tolerance = policy.tolerance_of(name)
        if not name or _sees(detectable(counts[name]["cases"]), tolerance):
            return 0
        most = enough(tolerance)
        return None if most is None else max(counts[name]["cases"] + 1, most)

    def rows(names: Iterator[str]) -> tuple[SizeRow, ...]:
        return tuple(SizeRow(name=name or "total", cases=counts[name]["cases"], twins=counts[name]["twins"], trivial=counts[name]["trivial"],
                             detectable=detectable(counts[name]["cases"]), needed=needed(name)) for name in names)  # fmt: skip

    names = sorted(name for name in counts if name)
    return (
        rows(iter([""])),
        rows(name for name in names if "=" not in name),
        rows(name for name in names if "=" in name),
    )


def _sees(drop: float | None, tolerance: float) -> bool:
    return drop is not None and drop <= tolerance


def _detectable(cases: int, rows: int, policy: GatePolicy) -> float | None:
    from promptops.gate.power import detectable_drop

    return detectable_drop([ASSUMED_RATE] * cases, rows=rows, policy=policy)
