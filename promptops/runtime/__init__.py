"""What ships in a service: a released bundle, answered within budget and deadline.

Importing this package loads the standard library only; the rest comes with the first bundle.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptops.core.serving import BudgetRule
    from promptops.runtime.base import Citation, Observer, Queue, Reply, Request, Retriever, Step
    from promptops.runtime.models import Endpoint
    from promptops.runtime.runtime import Runtime

_BASE = "promptops.runtime.base"
_HOME = {
    "Runtime": "promptops.runtime.runtime", "Endpoint": "promptops.runtime.models", "BudgetRule": "promptops.core.serving",
    "Citation": _BASE, "Observer": _BASE, "Queue": _BASE, "Reply": _BASE, "Request": _BASE, "Retriever": _BASE, "Step": _BASE,
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


__all__ = ["BudgetRule", "Citation", "Endpoint", "Observer", "Queue", "Reply", "Request", "Retriever", "Runtime", "Step"]  # fmt: skip
