"""Kill flags from an application's own OpenFeature provider: asked once in the request's way, then from the watcher."""

from contextlib import suppress
from typing import TYPE_CHECKING

from promptops.runtime.flags import KILL_ALL

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient

MAX_PAIRS = 10_000


class OpenFeatureKills:
    """The flags `promptops.kill` and `promptops.kill.<prompt>`, evaluated for a tenant by any OpenFeature provider.

    A pair of prompt and tenant that was asked for since the watcher's last look is read from memory; another asks the provider
    in its request. A provider that fails leaves the last answer in force; a pair that never got one may not run. Answers of
    10,000 pairs are kept.
    """

    def __init__(self, client: "OpenFeatureClient") -> None:
        self._client = client
        self._reasons: dict[tuple[str, str], str] = {}
        self._used: set[tuple[str, str]] = set()
        self._fresh: frozenset[tuple[str, str]] = frozenset()

    def reason(self, name: str, tenant: str) -> str:
        pair = (name, tenant)
        known = pair in self._fresh or pair in self._used
        self._used.add(pair)
        found = self._reasons.get(pair) if known else None
        return self._ask(pair) if found is None else found

    def refresh(self) -> None:
        """Ask again for the pairs that were used since the last look."""
        used, self._used = self._used, set()
        for pair in list(used):
            self._ask(pair)
        self._fresh = frozenset(used)

    def _ask(self, pair: tuple[str, str]) -> str:
        from openfeature.evaluation_context import EvaluationContext
        from openfeature.exception import ErrorCode

        name, tenant = pair
        context = EvaluationContext(targeting_key=tenant, attributes={"tenant": tenant, "prompt": name})
        reason = ""
        for key in (KILL_ALL, f"{KILL_ALL}.{name}"):
            details = self._client.get_boolean_details(key, False, context)
            if details.error_code is ErrorCode.FLAG_NOT_FOUND:
                continue
            if details.error_code is not None:
                last = self._reasons.get(pair)
                return (
                    f"flag {key} was never read from OpenFeature ({details.error_code.value})" if last is None else last
                )
            if details.value:
                reason = f"flag {key} is on"
                break
        self._reasons.pop(pair, None)
        self._reasons[pair] = reason
        if len(self._reasons) > MAX_PAIRS:
            # No lock, which a fork could leave held: a thread that comes between only leaves one pair more for a while.
            with suppress(RuntimeError, StopIteration):
                self._reasons.pop(next(iter(self._reasons)), None)
        return reason
