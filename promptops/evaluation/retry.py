"""The only layer that asks again: how often, how long to wait, and never more than a fifth of the calls."""

import random
from dataclasses import dataclass

from promptops.evaluation.breaker import OPEN_AT
from promptops.models.base import Answer

_AGAIN = {"connection": 3, "timeout": 1, "server_error": 3, "stream": 2, "bad_response": 1, "rate_limited": 8}
_FIRST_S, _LONGEST_S = 0.25, 20.0
SHARE = 0.2
LEAST = OPEN_AT - 1  # as many calls fail before the breaker opens: a short outage loses no case of a small run


@dataclass(slots=True, kw_only=True)
class RetryPolicy:
    """Backoff with jitter (Brooker 2015, AWS Architecture Blog), inside a budget of 20 % of the planned calls, at least 7.

    A run of fewer than 35 calls may thus exceed 1.2 calls a case: with one retry for five cases, a single reset connection would
    leave it without a verdict, and seven more calls are no storm.

    Waiting because the provider asked for it, or because the breaker is open, uses no budget: it adds no load.
    """

    planned: int
    rng: random.Random
    used: int = 0

    @property
    def budget(self) -> int:
        return max(LEAST, int(SHARE * self.planned))

    def delay_s(self, answer: Answer, tries: int, *, breaker_open: bool) -> float | None:
        """Seconds to wait before asking again after `tries` calls; None to leave it at this answer."""
        if tries > _AGAIN.get(answer.outcome, 0) and not (breaker_open and answer.outcome in _AGAIN):
            return None
        asked = answer.retry_after_s is not None
        if not asked and not breaker_open:
            if self.used >= self.budget:
                return None
            self.used += 1
        ceiling = min(_LONGEST_S, _FIRST_S * 2 ** (tries - 1))
        return self.rng.uniform(ceiling / 2, ceiling)
