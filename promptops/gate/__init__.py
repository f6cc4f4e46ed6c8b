"""Did a category get worse? Statistics over draws, as pure functions.

from promptops.gate import CaseDraws, GatePolicy, decide
"""

from typing import TYPE_CHECKING, Any

from promptops.core.suite import GatePolicy
from promptops.gate.draws import CaseDraws, DrawMore
from promptops.gate.verdict import CaseChange, CategoryVerdict, Comparison, Verdict

if TYPE_CHECKING:
    from promptops.gate.staged import decide

__all__ = ["CaseChange", "CaseDraws", "CategoryVerdict", "Comparison", "DrawMore", "GatePolicy", "Verdict", "decide"]


def __getattr__(name: str) -> Any:
    """Load numpy with the first decision, not with the first interval."""
    if name == "decide":
        from importlib import import_module

        return import_module("promptops.gate.staged").decide
    raise AttributeError(name)
