"""A month's bill from rates, tokens and prices: stage by stage, exact, and what each assumption is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from promptops.core.money import Price

DAYS = 30
"""Of a month."""
Source = Literal["measured", "configured", "assumed", "given"]
Unit = Literal["share", "tokens", "times", "nano-dollars"]
Role = Literal["large", "small", "shadow"]
ROLES: Mapping[Role, str] = {"large": "", "small": "small_", "shadow": "shadow_"}
"""What the keys of a model's tokens begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A figure the bill rests on; `low` and `high` are still believable, `where` says where it comes from. Shares are 0..1."""

    key: str
    what: str
    value: float
    low: float
    high: float
    source: Source
    where: str
    unit: Unit = "share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of serving: its calls (of a model, or answers without one) and their cost in that time."""

    name: str
    calls: int
    nanousd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    requests: int
    stages: tuple[Stage, ...]

    @property
    def nanousd(self) -> int:
        return sum(stage.nanousd for stage in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """What the bill becomes when one assumption is at its low and at its high end, all others as they are."""

    assumption: Assumption
    low_nanousd: int
    high_nanousd: int

    @property
    def nanousd(self) -> int:
        return abs(self.high_nanousd - self.low_nanousd)


def month_bill(assumptions: Sequence[Assumption], prices: Mapping[Role, Price], *, per_day: int) -> Bill:
    """The bill of 30 days at so many requests a day."""
    return bill_for(assumptions, prices, requests=DAYS * per_day)


def bill_for(assumptions: Sequence[Assumption], prices: Mapping[Role, Price], *, requests: int) -> Bill:
    """The bill of so many requests; each stage is rounded up to a whole nano-dollar.

    Order as in the runtime: exact cache, semantic cache, router, answer, a large model where the small one is rejected, a repair of the
    form, retries and second calls of all these; beside it audits of hits, the shadow model and a judge. What is not assumed does not happen.
    """
    given = {item.key: Fraction(item.value).limit_denominator(10**9) for item in assumptions}

    def value(key: str, default: int = 0) -> Fraction:
        return given.get(key, Fraction(default))

    def each(role: Role) -> Fraction:
        """Cost of one call."""
        if role not in prices:
            return Fraction(0)
        price, prefix = prices[role], ROLES[role]
        tokens_in = value(f"{prefix}input_tokens") * value("length", 1)
        cost = (
            tokens_in * price.input_nanousd_per_mtok + value(f"{prefix}output_tokens") * price.output_nanousd_per_mtok
        )
        return cost / 1_000_000 * value(f"{prefix}billed", 1)

    whole = Fraction(requests)
    exact = whole * value("exact_hits")
    semantic = (whole - exact) * value("semantic_hits")
    asked = whole - exact - semantic
    small = asked * value("small_share")
    large = asked - small
    again = small * value("small_rejected")
    repaired = (large + again) * value("repairs")
    audits = semantic * value("audited_hits")
    calls = small + large + again + repaired
    answers = small * each("small") + (large + again + repaired) * each("large")
    audit_cost = audits * (value("small_share") * each("small") + (1 - value("small_share")) * each("large"))
    shadow, judged = asked * value("shadowed"), whole * value("judged")
    stages = (
        ("exact cache", exact, Fraction(0)), ("semantic cache, embedding built in", semantic, Fraction(0)),
        ("small model", small, small * each("small")), ("large model", large, large * each("large")),
        ("small rejected, large asked", again, again * each("large")), ("repairs", repaired, repaired * each("large")),
        ("retries", calls * value("retries"), answers * value("retries")),
        ("second calls (hedging)", calls * value("hedges"), answers * value("hedges")),
        ("audit of cache hits", audits, audit_cost), ("shadow model", shadow, shadow * each("shadow")),
        ("judge", judged, judged * value("judge_cost")),
    )  # fmt: skip
    return Bill(requests=requests, stages=tuple(Stage(name=name, calls=round(number), nanousd=ceil(cost)) for name, number, cost in stages
                                                if number > 0 or name == "large model"))  # fmt: skip


def swings(assumptions: Sequence[Assumption], prices: Mapping[Role, Price], *, per_day: int) -> tuple[Swing, ...]:
    """Every assumption that can be otherwise, the one that moves the bill of a month most first."""

    def at(index: int, value: float) -> int:
        item = assumptions[index]
        changed = Assumption(key=item.key, what=item.what, value=value, low=item.low, high=item.high, source=item.source, where=item.where, unit=item.unit)  # fmt: skip
        return month_bill([*assumptions[:index], changed, *assumptions[index + 1 :]], prices, per_day=per_day).nanousd

    found = [Swing(assumption=item, low_nanousd=at(index, item.low), high_nanousd=at(index, item.high))
             for index, item in enumerate(assumptions) if item.low != item.high]  # fmt: skip
    return tuple(sorted(found, key=lambda swing: (-swing.nanousd, swing.assumption.key)))
