"""May a judge block a change? Only when enough people have labelled what it judged, and it tells good from bad."""

from dataclasses import dataclass
from typing import Literal

Standing = Literal["blocking", "doubtful", "advisory"]
MIN_LABELS = 50
WANTED_LABELS = 100
WANTED_FAILS = 30
REFUSED_BELOW = 0.3
DOUBTED_BELOW = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeStanding:
    """`blocking`: its verdicts count; `doubtful`: they count, with a warning; `advisory`: they are shown and count for nothing."""

    standing: Standing
    why: str

    @property
    def may_block(self) -> bool:
        return self.standing != "advisory"


def standing_of(labels: int, j_low: float | None) -> JudgeStanding:
    """The standing of a judge with that many labelled answers and that lower 95 % bound of J (TPR + TNR - 1); see docs/judge.md."""
    if labels < MIN_LABELS:
        why = f"uncalibrated: {labels} of the {MIN_LABELS} labelled answers it takes" if labels else "uncalibrated"
        return JudgeStanding(standing="advisory", why=why)
    if j_low is None:
        return JudgeStanding(
            standing="advisory",
            why="the labels are all passes or all fails, so they do not tell whether it can tell them apart",
        )
    if j_low < REFUSED_BELOW:
        return JudgeStanding(standing="advisory", why=f"its J may be as low as {j_low:.2f}, below {REFUSED_BELOW}")
    if j_low < DOUBTED_BELOW:
        return JudgeStanding(standing="doubtful", why=f"its J may be as low as {j_low:.2f}, below {DOUBTED_BELOW}")
    return JudgeStanding(standing="blocking", why=f"its J is at least {j_low:.2f}")
