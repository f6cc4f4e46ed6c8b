"""Thresholds with a bound: tests of fixed hypotheses in a fixed order on data that chose nothing else (learn then test).

Source: Angelopoulos, Bates, Candes, Jordan and Lei 2021, Learn then Test (arXiv 2110.01052).
"""

from collections.abc import Sequence
from math import ceil, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_BETS = 10
_NUISANCE = 0.005
_GRID = 21


def upper_rate(errors: int, total: int, *, confidence: float = 0.95) -> float:
    """One-sided upper bound for an error rate, 1.0 without observations. Source: Clopper and Pearson 1934, Biometrika 26:404."""
    from scipy.special import betaincinv

    if not 0 <= errors <= total:
        raise ValueError(f"{errors} of {total} is not a rate")
    return 1.0 if errors == total else float(betaincinv(errors + 1, total - errors, confidence))


def lower_rate(errors: int, total: int, *, confidence: float = 0.95) -> float:
    """One-sided lower bound for an error rate, 0.0 without errors; the mirror of `upper_rate`."""
    return 1.0 - upper_rate(total - errors, total, confidence=confidence) if total else 0.0


def rate_p_value(errors: int, total: int, max_rate: float) -> float:
    """Return p of "the error rate is above `max_rate`": the exact binomial chance of so few errors."""
    from scipy.special import bdtr

    return float(bdtr(errors, total, max_rate)) if total else 1.0


def clean_needed(max_rate: float, *, alpha: float = 0.05) -> int:
    """Observations without a single error that prove a rate of at most `max_rate`: 299 for 1 %, 149 for 2 %."""
    return ceil(log(alpha) / log(1.0 - max_rate))


def loss_p_value(losses: "Floats", max_loss: float, *, bound: float = 1.0) -> float:
    """Return p of "the mean loss is above `max_loss`" for independent losses within [-bound, bound].

    Valid for every distribution and every number of losses: `paired_loss_p` when all are -1, 0 or 1, else `betting_p`.
    """
    import numpy as np

    values = np.asarray(losses, dtype=np.float64)
    if bound == 1.0 and bool(np.isin(values, (-1.0, 0.0, 1.0)).all()):
        return paired_loss_p(int((values > 0).sum()), int((values < 0).sum()), len(values), max_loss)
    return betting_p(values, max_loss, bound=bound)


def paired_loss_p(lost: int, won: int, total: int, max_loss: float) -> float:
    """Return p of "P(lost) - P(won) is above `max_loss`" for `total` paired cases; exact.

    The largest chance of a net loss this small, over all rates of discordant cases within their 99.5 % upper bound, plus 0.5 %.
    Source: Berger and Boos 1994, J. Am. Stat. Assoc. 89:1012 (p maximised over a confidence set of the nuisance parameter).
    """
    import numpy as np

    if not total or max_loss >= 1:
        return 1.0 if not total else 0.0
    highest = max(0.0, (upper_rate(lost + won, total, confidence=1 - _NUISANCE) - max_loss) / 2)
    highest = min(highest, (1 - max_loss) / 2)
    turn = np.exp(2j * np.pi * np.arange(2 * total + 1) / (2 * total + 1))
    worst = 0.0
    for rate in np.linspace(0.0, highest, _GRID):
        lose, win = rate + max_loss, rate
        wave = ((1 - lose - win) + lose / turn + win * turn) ** total
        pmf = np.fft.ifft(wave).real  # place k is a net loss of k, places from the end are net gains
        below = float(pmf[: lost - won + 1].sum() + pmf[total + 1 :].sum()) if lost >= won else float(pmf[total + 1 : 2 * total + 2 + lost - won].sum())  # fmt: skip
        worst = max(worst, below)
    return min(1.0, worst + _NUISANCE)


def betting_p(losses: "Floats", max_loss: float, *, bound: float = 1.0) -> float:
    """As `loss_p_value` for losses of any kind: capital of ten fixed bets, half of it on the boldest, and Markov's inequality.

    Source: Waudby-Smith and Ramdas 2024, J. R. Stat. Soc. B 86:1.
    """
    import numpy as np

    if not len(losses):
        return 1.0
    values = (losses / bound + 1.0) / 2.0
    mean = (max_loss / bound + 1.0) / 2.0
    if mean >= 1.0:
        return 0.0
    boldest = 0.999 / (1.0 - mean)
    bets = np.geomspace(boldest / 50.0, boldest, _BETS)
    capital = np.log1p(np.outer(bets, mean - values)).sum(axis=1)
    shares = np.full(_BETS, 0.5 / (_BETS - 1))
    shares[-1] = 0.5
    return float(min(1.0, np.exp(-np.logaddexp.reduce(capital + np.log(shares)))))


def cases_needed(max_loss: float, *, alpha: float = 0.05) -> int:
    """Cases on which nothing is lost or won that prove a mean loss of at most `max_loss` (about 3.5 divided by it)."""
    if max_loss <= 0:
        raise ValueError("no number of cases proves a loss of nothing")
    low, high = 1, 2
    while paired_loss_p(0, 0, high, max_loss) > alpha:
        low, high = high, high * 2
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if paired_loss_p(0, 0, middle, max_loss) > alpha else (low, middle)
    return high


def fixed_sequence(p_values: Sequence[float], *, alpha: float = 0.05) -> int | None:
    """Place of the last hypothesis rejected before the first that is not; None when the first already stands."""
    place = None
    for index, p in enumerate(p_values):
        if p > alpha:
            break
        place = index
    return place
