"""One reply as every observer tells it: tenants hashed, values counted and capped, no text of a customer."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptops.core.jsontext import Json
    from promptops.runtime.base import Reply, Step

OTHER = "other"
_WHOLE = frozenset(("model", "cache", "semantic"))
_REFUSALS = frozenset(
    ("blocked", "refused", "rejected", "failed", "timeout", "small only", "dropped", "nothing", "retry", "hedge")
)
_QUOTING = frozenset(("model", "guardrails", "render", "fallback"))
"""Stages whose reasons may quote an answer or an input."""


def tenant_hash(tenant: str, salt: str = "") -> str:
    """A tenant as 12 hex digits. Without a secret `salt`, whoever can list the tenants can tell which is which."""
    raw = tenant.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=6, key=hashlib.sha256(salt.encode()).digest()).hexdigest()


class Labels:
    """Values of a label, at most `most` of them; later ones are `other`, so that no caller can make ever new time series."""

    def __init__(self, most: int, longest: int = 100) -> None:
        self._most, self._longest = most, longest
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        value = value[: self._longest]
        if value in self._seen:
            return value
        if len(self._seen) >= self._most:
            return OTHER
        self._seen.add(value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A model call as the steps of a reply tell it: seconds since the request came."""

    model: str
    outcome: str
    start_s: float
    end_s: float


def model_calls(reply: "Reply") -> tuple[ModelCall, ...]:
    """The calls that ended before the reply. A call starts when the step before it was taken."""
    calls, before = [], 0.0
    for step in reply.steps:
        if step.stage == "model" and step.decision not in {"retry", "hedge"}:
            model = step.reason.partition(":")[0][:100]
            calls.append(ModelCall(model=model, outcome=step.decision[:40], start_s=before, end_s=step.at_s))
        before = step.at_s
    return tuple(calls)


def why_degraded(reply: "Reply") -> str:
    """Which decision kept the whole answer away, in words of ours (`breaker refused`, `model timeout`); '' for a whole answer."""
    if reply.source in _WHOLE and not reply.degraded:
        return ""
    found = ""
    for step in reply.steps:
        if step.stage == "fallback":
            continue
        bad_call = step.stage == "model" and step.decision not in {"ok", "retry", "hedge"}
        if bad_call or step.decision in _REFUSALS:
            found = f"{step.stage} {step.decision}"
    return found or "no model was asked"


def told_reason(step: "Step", *, content: bool) -> str:
    """The reason of a step, left out where it may quote somebody and content was not asked for."""
    return step.reason[:300] if content or step.stage not in _QUOTING else ""


def masked(value: "Json") -> "Json":
    """A value of JSON with e-mail addresses, phone, card and account numbers in its texts replaced by their kind."""
    from promptops.core.personal import Masked

    return Masked().value(value)
