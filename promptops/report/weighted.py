"""The total by traffic: each category counted by its share of what users send, beside the plain total and never instead of the categories."""

from collections.abc import Mapping
from typing import Any

from promptops.evaluation.summary import WeightedRate
from promptops.gate.verdict import WeightedTotal
from promptops.report.tables import percent

BY_TRAFFIC = "total, by traffic"
_NAMED = 8


def weights_line(weights: Mapping[str, float], share: float) -> str:
    """What the total by traffic is made of: the shares of the suite, heaviest first, and how much of them was scored."""
    heaviest = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name} {percent(weight)}" for name, weight in heaviest[:_NAMED])
    more = f", and {len(heaviest) - _NAMED} more" if len(heaviest) > _NAMED else ""
    partly = "" if share > 1 - 1e-9 else f"; these cases stand for {percent(share)} of it"
    return f"by traffic: {named}{more} (the suite's weights{partly}); it decides nothing, each category is judged by itself"


def weighted_json(weights: Mapping[str, float], found: WeightedRate | WeightedTotal | None) -> dict[str, Any] | None:
    """Rates and differences in 0..1; None where the suite weights nothing."""
    if found is None:
        return None
    if isinstance(found, WeightedTotal):
        figures = {"baseline": found.baseline_rate, "candidate": found.candidate_rate, "difference": found.difference}
    else:
        figures = {"rate": found.rate}
    return {**figures, "interval": [found.interval.low, found.interval.high], "share": found.share, "weights": dict(weights)}  # fmt: skip
