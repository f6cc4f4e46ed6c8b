"""How a prompt is served: the `runtime:` section of its suite, with every default in one place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from promptops.core.money import parse_usd

if TYPE_CHECKING:
    from promptops.core.jsontext import Json

Dimension = Literal["tenant", "feature", "model"]
_nanousd = lru_cache(parse_usd)
LADDER = ("stale", "search", "classifier", "rules", "queue", "text")
"""Steps of the fallback ladder, in the order they are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Seconds an answer is served from the cache (0: never) and how old it may be as a fallback; `jitter` shortens by up to that share."""

    ttl_s: float = 3600.0
    stale_s: float = 86_400.0
    jitter: float = 0.1
    semantic: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    """A call may take the observed p99 times `factor`, clamped to `min_s`..`max_s`; `max_s` until `min_calls` were seen."""

    min_s: float = 0.5
    max_s: float = 10.0
    factor: float = 1.5
    min_calls: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """At most `most` retries a request, and `share` of all requests; `backoff_s` doubles, with full jitter."""

    most: int = 1
    share: float = 0.1
    backoff_s: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeSettings:
    """A second call after the live p95, for at most `share` of the requests; 0 is off."""

    share: float = 0.0
    min_calls: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """Rates over the last `window` calls, once there are `min_calls`; `usd_per_minute` '' is no limit of spending speed."""

    min_calls: int = 10
    window: int = 50
    error_rate: float = 0.5
    slow_s: float = 8.0
    slow_rate: float = 0.8
    open_s: float = 1.0
    longest_open_s: float = 30.0
    probes: int = 3
    usd_per_minute: str = ""

    @property
    def nanousd_per_minute(self) -> int | None:
        return _nanousd(self.usd_per_minute) if self.usd_per_minute else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """What may be spent in any `window_s` seconds: requests, tokens, dollars; one meter for each value of the dimensions in `per`.

    `only` restricts the rule to requests with these values. Beyond `soft` (a share of each limit) the small model answers.
    """

    name: str
    window_s: int
    per: tuple[Dimension, ...] = ("tenant",)
    only: Mapping[str, str] = field(default_factory=dict)
    requests: int | None = None
    tokens: int | None = None
    usd: str = ""
    soft: float | None = None

    @property
    def nanousd(self) -> int | None:
        return _nanousd(self.usd) if self.usd else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackStep:
    """A rung of the ladder; `text` for the step `text`, `min_score` (BM25) for `search`, `min_confidence` (0..1) for `classifier`."""

    step: str
    text: str = ""
    min_score: float = 0.0
    min_confidence: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSettings:
    """Another model that is asked beside `percent` of the requests; its answers are observed, never served."""

    model: str = ""
    percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """What an answer must keep to besides the suite's online checks.

    `links`: hosts that links may lead to (`*.example.com` covers subdomains); images and HTML are always removed from text.
    `grounded`: an answer without a valid citation is rejected. `repair`: one more call may mend an answer that breaks its schema.
    """

    links: tuple[str, ...] = ()
    grounded: bool = False
    repair: bool = True
    deadline_s: float = 1.0
    max_chars: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about serving one prompt; `small` and `large` are model aliases ('' means the prompt's own model)."""

    small: str = ""
    large: str = ""
    deadline_s: float = 3.0
    max_output_tokens: int = 1024
    max_input_chars: int = 200_000
    state_timeout_s: float = 0.05
    local_share: float = 0.1
    expires_days: int = 0
    cache: CacheSettings = field(default_factory=CacheSettings)
    timeout: TimeoutSettings = field(default_factory=TimeoutSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    hedge: HedgeSettings = field(default_factory=HedgeSettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    guardrails: GuardSettings = field(default_factory=GuardSettings)
    shadow: ShadowSettings = field(default_factory=ShadowSettings)
    budgets: tuple[BudgetRule, ...] = ()
    fallback: tuple[FallbackStep, ...] = (FallbackStep(step="stale"),)

    def as_json(self) -> "dict[str, Json]":
        """The document `parse_settings` reads, with every default written out."""
        return asdict(self)


_PARTS: Mapping[str, Any] = {
    "cache": CacheSettings, "timeout": TimeoutSettings, "retry": RetrySettings, "hedge": HedgeSettings, "breaker": BreakerSettings,
    "guardrails": GuardSettings, "shadow": ShadowSettings,
}  # fmt: skip
_LISTS: Mapping[str, Any] = {"budgets": BudgetRule, "fallback": FallbackStep}


def parse_settings(document: "Mapping[str, Json]") -> Settings:
    """Settings from a document that keeps to runtime.schema.json. Raises ValueError for an amount of money that is none."""
    fields: dict[str, Any] = {}
    for name, value in document.items():
        if name in _PARTS:
            fields[name] = _PARTS[name](**_tuples(value))
        elif name in _LISTS:
            fields[name] = tuple(_LISTS[name](**_tuples(item)) for item in value)
        else:
            fields[name] = value
    found = Settings(**fields)
    for rule in found.budgets:
        rule.nanousd  # noqa: B018 - parsed for its ValueError
    found.breaker.nanousd_per_minute  # noqa: B018
    return found


def settings_faults(settings: Settings) -> list[tuple[tuple[str | int, ...], str]]:
    """(path, what is wrong) for what a schema cannot say."""
    faults: list[tuple[tuple[str | int, ...], str]] = []
    names = [rule.name for rule in settings.budgets]
    for number, rule in enumerate(settings.budgets):
        if names.index(rule.name) != number:
            faults.append((("budgets", number, "name"), f"two budgets are called {rule.name!r}"))
        if rule.requests is None and rule.tokens is None and not rule.usd:
            faults.append((("budgets", number), "a budget needs requests, tokens or usd"))
    if settings.timeout.min_s > settings.timeout.max_s:
        faults.append((("timeout", "min_s"), "timeout.min_s is above timeout.max_s"))
    if settings.breaker.min_calls > settings.breaker.window:
        faults.append((("breaker", "min_calls"), "breaker.min_calls is above breaker.window: it could never open"))
    steps = [step.step for step in settings.fallback]
    if steps != sorted(set(steps), key=LADDER.index):
        faults.append((("fallback",), f"the steps must be in this order, each once: {', '.join(LADDER)}"))
    for number, step in enumerate(settings.fallback):
        if (step.step == "text") != bool(step.text):
            faults.append((("fallback", number), "the step `text`, and no other, needs a text"))
    if settings.shadow.percent and not settings.shadow.model:
        faults.append((("shadow",), "shadow.percent without shadow.model"))
    return faults


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
