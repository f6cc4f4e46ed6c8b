"""Metrics for Prometheus (extra `prometheus`): few labels, each with a bound on its values."""

from typing import TYPE_CHECKING

from promptops.runtime.telemetry.record import Labels, model_calls, tenant_hash, why_degraded

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from promptops.runtime.base import Reply, Request

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48)


class PrometheusObserver:
    """An Observer. `tenants` adds requests and cost by hashed tenant, for at most so many tenants; later ones are `other`."""

    def __init__(self, registry: "CollectorRegistry | None" = None, *, tenants: int = 0, salt: str = "") -> None:
        from prometheus_client import REGISTRY, Counter, Histogram

        into = registry or REGISTRY
        self._salt = salt
        self._prompts, self._versions, self._models, self._events = Labels(500), Labels(2000), Labels(200), Labels(50)
        self._tenants = Labels(tenants) if tenants else None
        self._requests = Counter(
            "promptops_requests",
            "Requests by where their answer came from",
            ["prompt", "version", "source", "degraded"],
            registry=into,
        )
        self._seconds = Histogram(
            "promptops_request_seconds", "From request to answer", ["prompt"], buckets=_SECONDS, registry=into
        )
        self._cost = Counter("promptops_cost_usd", "What requests cost, in dollars", ["prompt", "model"], registry=into)
        self._tokens = Counter("promptops_tokens", "Tokens by kind", ["prompt", "model", "kind"], registry=into)
        self._calls = Counter(
            "promptops_model_calls", "Model calls by how they ended", ["model", "outcome"], registry=into
        )
        self._notices = Counter("promptops_notices", "What happened beside requests", ["event"], registry=into)
        self._marked = Counter(
            "promptops_bundle_marked_requests",
            "Requests served by a release that expired, or while the clock cannot be right",
            ["prompt", "version", "state"],
            registry=into,
        )
        if tenants:
            self._of_tenant = Counter(
                "promptops_tenant_requests", "Requests by hashed tenant", ["tenant"], registry=into
            )
            self._tenant_cost = Counter(
                "promptops_tenant_cost_usd", "Cost by hashed tenant, in dollars", ["tenant"], registry=into
            )

    def replied(self, request: "Request", reply: "Reply") -> None:
        prompt, version, model = self._prompts(reply.prompt), self._versions(reply.version), self._models(reply.model)
        self._requests.labels(prompt, version, reply.source, why_degraded(reply)).inc()
        self._seconds.labels(prompt).observe(reply.latency_s)
        if reply.cost_nanousd:
            self._cost.labels(prompt, model).inc(reply.cost_nanousd / 1e9)
        for step in reply.steps:
            if step.stage == "bundle":
                self._marked.labels(prompt, version, step.decision).inc()
        for kind, count in (("input", reply.input_tokens), ("output", reply.output_tokens)):
            if count:
                self._tokens.labels(prompt, model, kind).inc(count)
        for call in model_calls(reply):
            self._calls.labels(self._models(call.model), call.outcome).inc()
        if self._tenants is not None:
            tenant = self._tenants(tenant_hash(request.tenant, self._salt))
            self._of_tenant.labels(tenant).inc()
            self._tenant_cost.labels(tenant).inc(reply.cost_nanousd / 1e9)

    def noticed(self, event: str, reason: str) -> None:
        self._notices.labels(self._events(event)).inc()
