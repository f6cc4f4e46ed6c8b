"""Did a category get worse? Statistics over draws, as pure functions."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptops.gate.verdict import CategoryVerdict, Comparison, PairedCase, Verdict, decide_one_draw

__all__ = ["CategoryVerdict", "Comparison", "PairedCase", "Verdict", "decide_one_draw"]


def __getattr__(name: str) -> Any:
    """Load numpy and scipy with the first verdict, not with the first interval."""
    if name in __all__:
        from promptops.gate import verdict

        return getattr(verdict, name)
    raise AttributeError(name)
