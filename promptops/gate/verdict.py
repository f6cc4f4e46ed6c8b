"""What a comparison says: one verdict a row, and what led to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from promptops.gate.stats import Interval


class Verdict(StrEnum):
    """The words of a gate, worst first. REGRESSED blocks; CASES_BROKE does when the policy says so."""

    REGRESSED = "REGRESSED"
    CASES_BROKE = "CASES BROKE"
    BASELINE_DRIFTED = "BASELINE DRIFTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    IMPROVED = "IMPROVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseChange:
    """A case whose draws differ: how many passed of how many, before and after (sums of scores for graded checks)."""

    case_id: str
    baseline: float
    baseline_draws: int
    candidate: float
    candidate_draws: int

    @property
    def difference(self) -> float:
        return self.candidate / self.candidate_draws - self.baseline / self.baseline_draws


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryVerdict:
    """The comparison of one category or slice value. Rates in 0..1; `difference` is candidate minus baseline.

    `draws` is (baseline, candidate) draws in the final test; `stage` is where the row was decided (1 to 3). `detectable` is
    the drop the design would have seen in 80 % of comparisons, None when the draws do not tell. `calls` are the draws of this
    comparison that its cases took on both sides; a case in several rows counts in each.
    """

    category: str
    verdict: Verdict
    n: int
    draws: tuple[int, int]
    baseline_rate: float
    candidate_rate: float
    difference: float
    interval: Interval
    p: float
    p_adjusted: float
    p_guard: float
    tolerance: float
    stage: int
    broken: tuple[CaseChange, ...]
    fixed: tuple[CaseChange, ...]
    detectable: float | None = None
    drifted: bool = False
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedTotal:
    """The total with each category counted by its share of the traffic; `share` (0..1) is how much of it these cases stand for."""

    baseline_rate: float
    candidate_rate: float
    difference: float
    interval: Interval
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All verdicts, worst first, the plain total, and where the suite weights its categories that by traffic; neither total decides.

    `calls` are fresh draws spent by stage. `vanished` are rows of the baseline without a case that both sides have,
    `unpaired` cases only one side has.
    """

    verdicts: tuple[CategoryVerdict, ...]
    total: CategoryVerdict
    alpha: float
    method: str
    block_on_broken: bool = False
    calls: Mapping[int, int] = field(default_factory=dict)
    vanished: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()
    weighted: WeightedTotal | None = None

    @property
    def blocking(self) -> tuple[CategoryVerdict, ...]:
        """Rows that stop a change."""
        words = {Verdict.REGRESSED, Verdict.CASES_BROKE} if self.block_on_broken else {Verdict.REGRESSED}
        return tuple(item for item in self.verdicts if item.verdict in words)

    @property
    def blocked(self) -> bool:
        """Whether the gate says no; a category that vanished is a no as well."""
        return bool(self.blocking or self.vanished)

    @property
    def coverage(self) -> float:
        """Share of cases that both sides have, 0..1."""
        return self.total.n / (self.total.n + len(self.unpaired))
