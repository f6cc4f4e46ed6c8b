"""Cases with chosen draws, and a provider that draws more of them and keeps count."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from promptops.gate import CaseDraws
from promptops.gate.draws import Side

Rates = Mapping[str, float]


@dataclass
class DrawSource:
    """draw_more for cases with these pass rates; a draw depends on seed, side, case and its number alone.

    `asked` are the calls as (side, how many cases, how many draws each). Numbers start at 1: draw 0 is `first_draws`.
    The candidate's draws in `harmed` fail whatever the rate.
    """

    before: Rates
    after: Rates
    seed: int = 0
    asked: list[tuple[Side, int, int]] = field(default_factory=list)
    given: dict[tuple[Side, str], int] = field(default_factory=dict)
    harmed: frozenset[tuple[str, int]] = frozenset()

    def draw(self, side: Side, case_id: str, number: int) -> float:
        rate = (self.before if side == "baseline" else self.after)[case_id]
        passes = random.Random(f"{self.seed} {side} {case_id} {number}").random() < rate
        return float(passes and not (side == "candidate" and (case_id, number) in self.harmed))

    def draw_more(self, side: Side, case_ids: Sequence[str], n: int) -> Mapping[str, Sequence[float]]:
        self.asked.append((side, len(case_ids), n))
        found: dict[str, Sequence[float]] = {}
        for case_id in case_ids:
            start = self.given.get((side, case_id), 1)
            self.given[side, case_id] = start + n
            found[case_id] = [self.draw(side, case_id, number) for number in range(start, start + n)]
        return found

    def cached(
        self, draws: int = 5, *, category_of: Callable[[str], str] = lambda case_id: case_id[0]
    ) -> list[CaseDraws]:
        """Baseline draws from before, numbered from -1 down."""
        return [
            CaseDraws(
                case_id=case_id, category=category_of(case_id),
                draws=tuple(self.draw("baseline", case_id, -number) for number in range(1, draws + 1)),
            )
            for case_id in self.before
        ]  # fmt: skip

    def first_draws(self, *, category_of: Callable[[str], str] = lambda case_id: case_id[0]) -> list[CaseDraws]:
        """One candidate draw of each case."""
        return [
            CaseDraws(case_id=case_id, category=category_of(case_id), draws=(self.draw("candidate", case_id, 0),))
            for case_id in self.after
        ]


def cases(category: str, draws: Sequence[Sequence[float]], **fields: object) -> list[CaseDraws]:
    """Cases `a0`, `a1`, ... of a category `a`."""
    return [
        CaseDraws(case_id=f"{category}{number}", category=category, draws=tuple(found), **fields)  # type: ignore[arg-type]
        for number, found in enumerate(draws)
    ]
