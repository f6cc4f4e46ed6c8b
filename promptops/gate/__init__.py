"""Did a category get worse? Statistics over draws, as pure functions."""

from promptops.gate.verdict import CategoryVerdict, Comparison, PairedCase, Verdict, decide_one_draw

__all__ = ["CategoryVerdict", "Comparison", "PairedCase", "Verdict", "decide_one_draw"]
