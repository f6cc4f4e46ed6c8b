"""Budgets: the holds of one call under the rules that apply to it, and what it used in the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor
from typing import TYPE_CHECKING

from promptops.core.outcome import POSSIBLY_PAID
from promptops.core.serving import BudgetRule
from promptops.runtime.cache import partition_of
from promptops.runtime.state import Hold

if TYPE_CHECKING:
    from promptops.models.base import Answer

_PER_MESSAGE_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What a call takes, or may take at most."""

    requests: int = 1
    tokens: int = 0
    nanousd: int = 0


NOTHING = Spend(requests=0)


@dataclass(frozen=True, slots=True)
class Meters:
    """The meters one call is counted on: (meter, unit, limit, window in seconds, soft share of the limit), in a fixed order."""

    found: tuple[tuple[str, str, int, int, float | None], ...]

    @classmethod
    def of(cls, rules: Sequence[BudgetRule], *, prompt: str, tenant: str, feature: str, model: str) -> "Meters":
        values = {"tenant": tenant, "feature": feature, "model": model}
        found: list[tuple[str, str, int, int, float | None]] = []
        for rule in rules:
            if any(values[name] != wanted for name, wanted in rule.only.items()):
                continue
            # Hashed one by one: no name can be mistaken for two, and no tenant is readable in the state.
            place = ":".join(partition_of(values[name]) for name in rule.per)
            for unit, limit in (("requests", rule.requests), ("tokens", rule.tokens), ("nanousd", rule.nanousd)):
                if limit is not None:
                    found.append((f"{prompt}/{rule.name}/{unit}/{place}", unit, limit, rule.window_s, rule.soft))
        return cls(tuple(found))

    def holds(self, spend: Spend, *, share: float = 1.0) -> tuple[Hold, ...]:
        """The holds for a spend; `share` scales the limits for a process that is on its own. What costs nothing needs no money."""
        amounts = {"requests": spend.requests, "tokens": spend.tokens, "nanousd": spend.nanousd}
        return tuple([
            Hold(meter=meter, amount=amount, limit=limit if share == 1 else floor(limit * share), window_s=window_s,
                 soft=None if soft is None else floor(limit * share * soft))
            for meter, unit, limit, window_s, soft in self.found
            if (amount := amounts[unit]) or unit != "nanousd"
        ])  # fmt: skip


def used_of(holds: Sequence[Hold], spend: Spend) -> list[int]:
    """What settles these holds."""
    units = {"requests": spend.requests, "tokens": spend.tokens, "nanousd": spend.nanousd}
    return [units[_unit_of(hold.meter)] for hold in holds]


@lru_cache(maxsize=4096)
def _unit_of(meter: str) -> str:
    return meter.split("/", 3)[2]


def worst_tokens(contents: Sequence[str]) -> int:
    """More input tokens than these messages can have: a token is at least one byte."""
    total = sum(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in contents)
    return total + _PER_MESSAGE_TOKENS * len(contents)


def settled(answer: "Answer", worst: Spend) -> Spend:
    """What a call used: what the provider says, nothing if it was never sent, the worst case if nobody can know."""
    if not answer.sent:
        return NOTHING
    if answer.outcome in POSSIBLY_PAID:
        return worst
    return Spend(tokens=answer.input_tokens + answer.output_tokens, nanousd=answer.cost_nanousd)
