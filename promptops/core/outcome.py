"""The words for how a call to a model ended."""

from typing import Literal

Outcome = Literal[
    "ok", "refused", "filtered", "truncated", "tool_call", "bad_response", "stream", "timeout", "rate_limited", "auth", "quota",
    "server_error", "connection", "too_large", "not_recorded",
]  # fmt: skip
"""How a call ended. Only `ok` is an answer that is scored; none of the others is ever a wrong answer."""

OF_THE_MODEL: frozenset[str] = frozenset(("refused", "filtered", "truncated", "tool_call"))
"""The model was asked and did not give an answer that can be scored; the provider did its part."""

POSSIBLY_PAID: frozenset[str] = frozenset(("intent", "timeout", "connection", "stream", "too_large", "bad_response"))
"""Outcomes after which the provider may have charged for an answer that never arrived, or that nobody can read."""
