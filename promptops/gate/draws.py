"""What the gate is given: draws of cases, and a way to get more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["baseline", "candidate"]
DrawMore = Callable[[Side, Sequence[str], int], Mapping[str, Sequence[float]]]
"""draw_more(side, case_ids, n) -> {case_id: [n fresh draws]}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDraws:
    """The draws of one case on one side: pass/fail as 0 and 1, or scores in [0, 1].

    `slices` are further rows it counts in, such as `lang=ja`. Cases of one `group` share a document.
    Raises ValueError for no draw, or a score outside [0, 1] (NaN is outside).
    """

    case_id: str
    category: str
    draws: tuple[float, ...]
    group: str | None = None
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.draws or not all(0 <= draw <= 1 for draw in self.draws):
            raise ValueError(f"case {self.case_id!r}: need draws in [0, 1]")

    @property
    def rows(self) -> tuple[str, ...]:
        return (self.category, *self.slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is permuted as one: a case, or all cases of a group with their draws summed."""

    baseline: tuple[float, ...]
    candidate: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Mean candidate draw minus mean baseline draw."""
        return sum(self.candidate) / len(self.candidate) - sum(self.baseline) / len(self.baseline)


def units(case_ids: Sequence[str], groups: Mapping[str, str | None], baseline: Mapping[str, Sequence[float]],
          candidate: Mapping[str, Sequence[float]]) -> list[Unit]:  # fmt: skip
    """Cases as they are permuted: those of one group are summed draw by draw, as far as all of them have draws."""
    members: dict[str, list[str]] = {}
    for case_id in case_ids:
        group = groups[case_id]
        members.setdefault(f"group {group}" if group else f"case {case_id}", []).append(case_id)
    return [Unit(baseline=_summed(ids, baseline), candidate=_summed(ids, candidate)) for ids in members.values()]


def _summed(ids: Sequence[str], draws: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    if len(ids) == 1:
        return tuple(draws[ids[0]])
    return tuple(map(sum, zip(*(draws[case_id] for case_id in ids), strict=False)))
