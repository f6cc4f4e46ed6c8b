"""A run in numbers: one row per category and slice value, and the worst cases. Computed from the stored rows alone."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from promptops.core.suite import JUDGE, GatePolicy, slice_rows
from promptops.gate.stats import Interval, weighted_interval, wilson_interval
from promptops.project.store import Ledger, Result, Run, Store

WORST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One category, slice value or the total. `passed` of `scored` draws passed; `unscored` ones are neither."""

    name: str
    scored: int
    passed: int
    unscored: int
    cost_nanousd: int
    p50_s: float
    p99_s: float
    floor: float | None = None

    @property
    def rate(self) -> float | None:
        return self.passed / self.scored if self.scored else None

    @property
    def interval(self) -> Interval | None:
        return wilson_interval(self.passed, self.scored) if self.scored else None

    @property
    def below_floor(self) -> bool:
        """Whether the rate misses its floor; without a scored draw it does."""
        return self.floor is not None and (self.rate is None or self.rate < self.floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedRate:
    """The pass rate with each category counted by its share of the traffic; `share` (0..1) is how much of it was scored."""

    rate: float
    interval: Interval
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """How often one check passed, failed, and could not run."""

    name: str
    passed: int
    failed: int
    unscored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """What the judge of a run said of a category or of all: `passed` of `judged`; `missed` got no verdict, `spared` failed a check."""

    name: str
    judged: int
    passed: int
    missed: int
    spared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """`categories` and `slices` by name; `worst` are failed cases first, lowest value first; `outcomes` count answers not ok."""

    run: Run
    total: Row
    categories: tuple[Row, ...]
    slices: tuple[Row, ...]
    checks: tuple[CheckRow, ...]
    outcomes: Mapping[str, int]
    worst: tuple[Result, ...]
    ledger: Ledger
    stored: int
    untrusted_usage: int
    judged: tuple[JudgedRow, ...] = ()

    @property
    def judged_total(self) -> JudgedRow | None:
        """None without a judge."""
        if not self.judged:
            return None
        sums = [sum(getattr(row, name) for row in self.judged) for name in ("judged", "passed", "missed", "spared")]
        return JudgedRow(name="total", judged=sums[0], passed=sums[1], missed=sums[2], spared=sums[3])

    @property
    def too_few_verdicts(self) -> tuple[JudgedRow, ...]:
        """Categories that lack more verdicts than the suite lets pass."""
        most = float(self.run.header.judge.get("max_error_rate", 0.0))
        return tuple(row for row in self.judged if row.missed > most * (row.judged + row.missed))

    @property
    def weighted(self) -> WeightedRate | None:
        """None when the suite weighted no category, and when those scored have no traffic."""
        weights = self.run.header.weights
        parts = [(weights.get(row.name, 0.0), row.rate, row.interval) for row in self.categories]
        scored = [
            (weight, rate, interval) for weight, rate, interval in parts if rate is not None and interval is not None
        ]
        share = sum(weight for weight, _, _ in scored)
        if share <= 0:
            return None
        scored = [(weight / share, rate, interval) for weight, rate, interval in scored]
        return WeightedRate(rate=sum(weight * rate for weight, rate, _ in scored), interval=weighted_interval(scored), share=min(1.0, share))  # fmt: skip

    @property
    def coverage(self) -> float:
        """Share of planned draws with a score, 0..1."""
        return self.total.scored / self.run.header.planned

    @property
    def missed_floors(self) -> tuple[Row, ...]:
        return tuple(row for row in (*self.categories, *self.slices) if row.below_floor)


@dataclass(slots=True)
class _Tally:
    scored: int = 0
    passed: int = 0
    unscored: int = 0
    cost_nanousd: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, result: Result) -> None:
        self.scored += result.passed is not None
        self.passed += result.passed is True
        self.unscored += result.passed is None
        self.cost_nanousd += result.cost_nanousd
        self.latencies.append(result.latency_s)

    def row(self, name: str, floor: float | None = None) -> Row:
        ordered = sorted(self.latencies)
        return Row(name=name, scored=self.scored, passed=self.passed, unscored=self.unscored, cost_nanousd=self.cost_nanousd,
                   p50_s=percentile(ordered, 0.50), p99_s=percentile(ordered, 0.99), floor=floor)  # fmt: skip


def percentile(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile of sorted values; 0.0 without values."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def gate_policy(run: Run) -> GatePolicy:
    """The gate a run was made with, from its header."""
    return GatePolicy(**{**run.header.gate, "by": tuple(run.header.gate["by"])})


def summarize(store: Store, run: Run) -> Summary:
    """One pass over the results of a run."""
    total, categories, slices = _Tally(), dict[str, _Tally](), dict[str, _Tally]()
    checks: dict[str, Counter[bool | None]] = {}
    judged: dict[str, Counter[str]] = {}
    outcomes: Counter[str] = Counter()
    worst: list[Result] = []
    for result in store.results(run.id):
        total.add(result)
        categories.setdefault(result.category, _Tally()).add(result)
        for name in slice_rows(result.tags, run.header.slices):
            slices.setdefault(name, _Tally()).add(result)
        if run.header.judge:
            judged.setdefault(result.category, Counter())[_judged(result)] += 1
        for name, passed, _, _ in result.scores:
            checks.setdefault(name, Counter())[passed] += 1
        if result.outcome != "ok":
            outcomes[result.outcome] += 1
        if result.passed is not True:
            worst.append(result)
            if len(worst) > 50 * WORST:
                worst = _worst(worst)
    gate = gate_policy(run)
    return Summary(
        run=run, total=total.row("total"), ledger=store.ledger(run.id), untrusted_usage=store.untrusted_usage(run.id), outcomes=dict(outcomes), worst=tuple(_worst(worst)),
        categories=tuple(tally.row(name, gate.floor(name, is_category=True)) for name, tally in sorted(categories.items())),
        slices=tuple(tally.row(name, gate.floor(name, is_category=False)) for name, tally in sorted(slices.items())),
        checks=tuple(CheckRow(name=name, passed=counts[True], failed=counts[False], unscored=counts[None])
                     for name, counts in sorted(checks.items())),
        stored=total.scored + total.unscored,
        judged=tuple(JudgedRow(name=name, judged=found["pass"] + found["fail"], passed=found["pass"], missed=found["missed"], spared=found["spared"])
                     for name, found in sorted(judged.items())),
    )  # fmt: skip


def _judged(result: Result) -> str:
    for name, passed, _, _ in result.scores:
        if name == JUDGE:
            return "missed" if passed is None else "pass" if passed else "fail"
    return "spared"


def _worst(results: list[Result]) -> list[Result]:
    return sorted(results, key=lambda item: (item.passed is None, item.value or 0.0, item.case_id))[:WORST]
