"""What requests to one release share, and what all requests of a process share."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from promptops.core.serving import BreakerSettings, BudgetRule
from promptops.runtime.base import Observer, Queue, Reply, Request, Retriever, Switch
from promptops.runtime.breaker import Breaker
from promptops.runtime.budget import Meters
from promptops.runtime.bundle import ModelSpec, Release
from promptops.runtime.cache import Flights, Keys, partition_of
from promptops.runtime.flow import Workers
from promptops.runtime.grounding import Library
from promptops.runtime.guardrails import Guard
from promptops.runtime.pace import ExtraCalls, Latencies
from promptops.runtime.router import Router, parse_router, routing_text
from promptops.runtime.stand_in import open_classifier, open_rules
from promptops.runtime.state import MemoryState, State, StateError

if TYPE_CHECKING:
    from promptops.core.jsontext import Json
    from promptops.core.money import Price
    from promptops.runtime.board import Board
    from promptops.runtime.semantic import SemanticCache
    from promptops.runtime.warm import Warm

_KEPT_METERS = 4096


@dataclass(slots=True, kw_only=True)
class Shared:
    """One for a Runtime. What survives a change of the bundle: state, breakers, observed latencies."""

    state: State
    local: MemoryState
    switch: Switch
    observers: tuple[Observer, ...]
    queue: Queue | None
    budgets: tuple[BudgetRule, ...]
    workers: Workers
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    flights: Flights = field(default_factory=Flights)
    breakers: dict[tuple[str, BreakerSettings], Breaker] = field(default_factory=dict)
    latencies: dict[str, Latencies] = field(default_factory=dict)
    board: "Board | None" = None

    def share_breakers(self) -> None:
        """Exchange open breakers with other processes, where the state can."""
        from promptops.runtime.board import Board, SharesBreakers

        if isinstance(self.state, SharesBreakers):
            self.board = Board(self.state, self._by_place)
            self.board.start()

    def _by_place(self) -> dict[str, list[Breaker]]:
        found: dict[str, list[Breaker]] = {}
        for (place, _), breaker in list(self.breakers.items()):
            found.setdefault(place, []).append(breaker)
        return found

    def later(self, state: State, call: Callable[[], Any]) -> None:
        """Do what nobody waits for: at once where that takes no time, else in a worker thread."""
        if state.blocks:
            self.workers.pool.submit(self._try, call)
        else:
            self._try(call)

    def notice(self, event: str, reason: str) -> None:
        for observer in self.observers:
            try:
                observer.noticed(event, reason)
            except Exception:  # noqa: BLE001, S112 - an observer that fails must not fail a request
                continue

    def replied(self, request: Request, reply: Reply) -> None:
        for observer in self.observers:
            try:
                observer.replied(request, reply)
            except Exception:  # noqa: BLE001, S112 - as above
                continue

    def _try(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except StateError as error:
            self.notice("state_failed", str(error)[:200])


class Lane:
    """A release made ready: its guardrails, index, router and keys."""

    def __init__(self, release: Release, models: Mapping[str, ModelSpec], shared: Shared, *, retriever: Retriever | None = None) -> None:  # fmt: skip
        settings = release.settings
        own = release.prompt.model
        self.release, self.retriever, self._models, self._shared = release, retriever, models, shared  # fmt: skip
        self.large, self.small = settings.large or own, settings.small or own
        self.caches = settings.cache.ttl_s > 0
        self.library = Library(release.prompt)
        self.guard = Guard(release)
        self.rules = open_rules(release.prompt) if any(step.step == "rules" for step in settings.fallback) else None
        self.classifier = open_classifier(release)
        self.router: Router | None = parse_router(release.router) if release.router is not None else None
        self._told = ""
        self._new_budgets()
        self.params = {"max_output_tokens": settings.max_output_tokens, **release.prompt.params}
        self.budgets = (*settings.budgets, *shared.budgets)
        self._meters: dict[tuple[str, str, str], Meters] = {}
        self._breakers: dict[str, Breaker] = {}
        self._latencies: dict[str, Latencies] = {}
        specs = [[models[alias].provider, models[alias].model] for alias in (self.small, self.large)]
        self._parts = [release.digest, release.version, specs, release.knowledge_digest, settings.max_output_tokens]
        self.keys = Keys(self._parts)
        self.warm: Warm | None = None
        self.semantic = self._semantic()
        self.schema_tokens = _schema_bytes(release)

    @property
    def aliases(self) -> frozenset[str]:
        """The models this release may ask."""
        return frozenset({self.small, self.large, self.release.settings.shadow.model} - {""})

    def client(self, model: str) -> str:
        """The name its client has among all: a local model answers by the rules of one release."""
        if self._models[model].provider == "local":
            return f"{self.release.name}/{self.release.version}/{model}"
        return model

    def price(self, model: str) -> "Price":
        return self._models[model].price

    def meters(self, tenant: str, feature: str, model: str) -> Meters:
        """What a call for them is counted on."""
        place = (tenant, feature, model)
        found = self._meters.get(place)
        if found is None:
            if len(self._meters) >= _KEPT_METERS:
                self._meters.clear()
            found = self._meters[place] = Meters.of(self.budgets, prompt=self.release.name, tenant=tenant, feature=feature, model=model)  # fmt: skip
        return found

    def breaker(self, model: str) -> Breaker:
        """The breaker of a model; releases and tenants that ask the same model share it."""
        found = self._breakers.get(model)
        if found is None:
            name, settings, shared = self._name_of(model), self.release.settings.breaker, self._shared
            notice = lambda event, reason: shared.notice(event, f"{name}: {reason}")  # noqa: E731
            found = shared.breakers.setdefault((name, settings), Breaker(settings, shared.clock, notice))
            self._breakers[model] = found
        return found

    def latencies(self, model: str) -> Latencies:
        found = self._latencies.get(model)
        if found is None:
            found = self._latencies[model] = self._shared.latencies.setdefault(self._name_of(model), Latencies())
        return found

    def _name_of(self, model: str) -> str:
        """A model by what it is, not by the alias of one bundle."""
        spec = self._models[model]
        return f"{spec.provider}/{spec.model}"

    def hedge_after_s(self, model: str) -> float | None:
        """When a second call may begin: the live p95; None when hedging is off or not enough was seen."""
        hedge, seen = self.release.settings.hedge, self.latencies(model)
        return seen.p95_s if hedge.share > 0 and seen.count >= hedge.min_calls else None

    def semantic_partition(self, request: Request) -> str:
        """What must be equal before two questions are compared: tenant, version, models, documents, category, the other inputs."""
        assert self.semantic is not None
        return self.semantic.partition([partition_of(request.tenant), request.category, *self._parts], request.inputs)

    def _semantic(self) -> "SemanticCache | None":
        """The semantic cache of a bundle whose matcher was calibrated; None until then."""
        if self.release.cache is None or not self.release.settings.cache.semantic or not self.caches:
            return None
        from promptops.runtime.matcher import parse_matcher
        from promptops.runtime.semantic import SemanticCache

        matcher = parse_matcher(self.release.cache)
        if matcher.threshold is None:
            return None
        cache = SemanticCache(matcher, clock=self._shared.clock)
        self.warm = self._warmed(cache)
        return cache

    def _warmed(self, cache: "SemanticCache") -> "Warm | None":
        """What exchanges questions with other replicas, where the state can; one release of a bundle and matcher each."""
        from promptops.core.jsontext import canonical_json
        from promptops.runtime.warm import SharesQuestions, Warm

        state = self._shared.state
        if not isinstance(state, SharesQuestions):
            return None
        matcher = hashlib.blake2b(canonical_json(cache.matcher.as_json())).hexdigest()
        release = hashlib.blake2b(canonical_json([*self._parts, matcher]), digest_size=16).hexdigest()
        name, version = self.release.name, self.release.version
        warm = Warm(cache, state.questions(release), tags=(f"prompt:{name}", f"prompt:{name}@{version}"),
                    notice=lambda event, reason: self._shared.notice(event, f"{name} {version}: {reason}"))  # fmt: skip
        warm.start()
        return warm

    def invalidate(self, *, prompt: str = "", version: str = "", tenant: str = "") -> None:
        """Forget questions whose answers were invalidated; those of a document go when their answer is asked for."""
        if self.semantic is None:
            return
        if tenant:
            self.semantic.drop(partition_of(tenant))
        elif prompt == self.release.name and version in {"", self.release.version}:
            self.semantic.clear()

    def close(self) -> None:
        if self.warm is not None:
            self.warm.close()

    def routing_text(self, inputs: "Mapping[str, Json]") -> str:
        return routing_text(inputs)

    def expiry_state(self) -> tuple[str, str]:
        """What a wall clock says against this release, two '' for nothing; observers hear of every change once."""
        expiry = self.release.expiry
        if expiry is None:
            return "", ""
        state, reason = expiry.state(self._shared.wall_clock())
        if state != self._told:
            self._told = state
            event = f"bundle_{state}" if state else "bundle_current"
            self._shared.notice(event, f"{self.release.name} {self.release.version}: {reason or 'it has not expired'}")
        return state, reason

    def after_fork(self) -> None:
        self.library.after_fork()
        self._breakers.clear()
        self._latencies.clear()
        self.warm = None
        self.semantic = self._semantic()
        self._new_budgets()

    def _new_budgets(self) -> None:
        self.retries = ExtraCalls(self.release.settings.retry.share)
        self.hedges = ExtraCalls(self.release.settings.hedge.share)


def with_databases(release: Release, given: Mapping[str, str]) -> Release:
    """The release with the databases of its checks connected. Raises DataError when nothing says where one is."""
    from promptops.core.checks import Sql

    every = (release.checks, *release.checks_by_category.values())
    if not any(isinstance(check, Sql) and check.database for checks in every for check in checks):
        return release
    from dataclasses import replace

    from promptops.runtime.databases import Databases, connected

    opened = Databases(given)
    by_category = {name: tuple(connected(check, opened) for check in checks) for name, checks in release.checks_by_category.items()}  # fmt: skip
    return replace(release, checks=tuple(connected(check, opened) for check in release.checks), checks_by_category=by_category)  # fmt: skip


def _schema_bytes(release: Release) -> int:
    """The schema of the answer is part of what is sent."""
    from promptops.core.jsontext import canonical_json

    schema = release.prompt.output_schema
    return len(canonical_json(schema.document)) if schema else 0


def budget_rules(rules: Sequence[BudgetRule]) -> tuple[BudgetRule, ...]:
    """Rules of the service for all prompts, checked like those of a suite. Raises ValueError."""
    from promptops.core.serving import Settings, settings_faults

    for rule in rules:
        rule.nanousd  # noqa: B018 - parsed for its ValueError
    faults = settings_faults(Settings(budgets=tuple(rules)))
    if faults:
        raise ValueError("; ".join(what for _, what in faults))
    return tuple(rules)
