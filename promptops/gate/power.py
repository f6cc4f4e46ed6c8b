"""How large a drop a comparison could have seen: "nothing found" means little without it."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from promptops.core.suite import GatePolicy

_TRIALS = 200
_STEPS = 7
WANTED_POWER = 0.8


def detectable_drop(
    rates: Sequence[float], *, rows: int, policy: GatePolicy, seed: int = 0, flip_rate: float = 0.0
) -> float | None:
    """Smallest drop of the pass rate (0..1) that the final test would flag in 80 % of comparisons; None if none would.

    By simulation: cases with these pass rates, a share of them broken for good, `policy.draws` fresh draws a side, the
    within-case test in its normal form against alpha / rows, and at least `net_losing` losing cases. `flip_rate` is the chance that
    two scorings of one answer differ: with 2 e (1 - e) = flip_rate, each score is wrong with probability e, whatever the answer.
    """
    from promptops.gate.stats import normal_quantile

    found = np.asarray(rates, dtype=np.float64)
    mean = float(found.mean()) if len(found) else 0.0
    if mean <= 0:
        return None
    rng = np.random.default_rng(seed)
    critical = normal_quantile(policy.alpha / rows)
    k = policy.draws
    error = (1 - sqrt(max(0.0, 1 - 2 * flip_rate))) / 2
    found = found * (1 - error) + (1 - found) * error
    before = rng.binomial(k, found, size=(_TRIALS, len(found)))
    again = rng.binomial(k, found, size=(_TRIALS, len(found)))
    luck = rng.random((_TRIALS, len(found)))
    broken = rng.binomial(k, error, size=(_TRIALS, len(found))) if error else 0

    def power(drop: float) -> float:
        after = np.where(luck < drop / mean, broken, again)
        successes = before + after
        variance = (successes * (2 * k - successes) / (4 * (2 * k - 1))).sum(axis=1)
        z = np.divide(
            (after - successes / 2).sum(axis=1) + 0.5, np.sqrt(variance), out=np.zeros(_TRIALS), where=variance > 0
        )
        losing = (after < before).sum(axis=1) - (after > before).sum(axis=1)
        return float(((z <= critical) & (losing >= policy.net_losing)).mean())

    if power(mean) < WANTED_POWER:
        return None
    low, high = 0.0, mean
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= WANTED_POWER else (middle, high)
    return high
