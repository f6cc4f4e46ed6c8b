"""Spans and metrics for OpenTelemetry, under the names of its conventions for generative AI (extra `otel`)."""

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from promptops.core.version import __version__
from promptops.runtime.telemetry.record import Labels, masked, model_calls, tenant_hash, told_reason, why_degraded

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from promptops.runtime.base import Reply, Request

_SCOPE = "promptops"
_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]


class OtelObserver:
    """An Observer: a span for each request with its decisions as events, a client span for each model call, and metrics.

    Spans are children of the span that is current where the request was made. `models` names the models behind aliases.
    `content` adds inputs and answers to spans: texts of customers, masked as in events. Tenants are hashed on spans and are no label of a metric.
    """

    def __init__(
        self, *, provider: str = "openai", models: Mapping[str, str] | None = None, salt: str = "", content: bool = False,
        tracer_provider: "TracerProvider | None" = None, meter_provider: "MeterProvider | None" = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:  # fmt: skip
        from opentelemetry import metrics, trace

        self._provider, self._models, self._salt, self._content, self._clock_ns = (
            provider,
            dict(models or {}),
            salt,
            content,
            clock_ns,
        )
        self._features, self._events = Labels(100), Labels(50)
        self._prompts, self._versions, self._aliases = Labels(500), Labels(2000), Labels(200)
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._requests = meter.create_counter(
            "promptops.requests", "{request}", "Requests by where their answer came from."
        )
        self._cost = meter.create_counter("promptops.cost", "USD", "What requests cost.")
        self._notices = meter.create_counter("promptops.notices", "{event}", "What happened beside requests.")
        self._latency = meter.create_histogram(
            "promptops.request.duration", "s", "From request to answer.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def replied(self, request: "Request", reply: "Reply") -> None:
        self._count(request, reply)
        self._trace(request, reply)

    def noticed(self, event: str, reason: str) -> None:
        self._notices.add(1, {"event": self._events(event)})

    def _count(self, request: "Request", reply: "Reply") -> None:
        common = {"gen_ai.prompt.name": self._prompts(reply.prompt), "promptops.prompt.version": self._versions(reply.version), "promptops.source": reply.source,
                  "promptops.feature": self._features(request.feature)}  # fmt: skip
        self._requests.add(1, common | {"promptops.degraded": why_degraded(reply)})
        self._latency.record(reply.latency_s, common)
        if reply.cost_nanousd:
            self._cost.add(reply.cost_nanousd / 1e9, common)
        for call in model_calls(reply):
            error = {} if call.outcome == "ok" else {"error.type": call.outcome}
            self._duration.record(call.end_s - call.start_s, self._of_model(self._aliases(call.model)) | error)
        for kind, count in (("input", reply.input_tokens), ("output", reply.output_tokens)):
            if count:
                self._tokens.record(count, self._of_model(self._aliases(reply.model)) | {"gen_ai.token.type": kind})

    def _of_model(self, alias: str) -> dict[str, str]:
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self._provider,
            "gen_ai.request.model": self._models.get(alias, alias),
        }

    def _trace(self, request: "Request", reply: "Reply") -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        end = self._clock_ns()
        start = end - int(reply.latency_s * 1e9)
        span = self._tracer.start_span(f"promptops {reply.prompt}", kind=SpanKind.INTERNAL, start_time=start)
        if not span.is_recording():
            return
        degraded = why_degraded(reply)
        span.set_attributes({
            "gen_ai.prompt.name": reply.prompt, "promptops.prompt.version": reply.version, "promptops.request.id": reply.request_id[:100],
            "promptops.source": reply.source, "promptops.degraded": degraded, "promptops.tenant": tenant_hash(request.tenant, self._salt),
            "promptops.feature": request.feature[:100], "promptops.cost.nanousd": reply.cost_nanousd, "promptops.calls": reply.calls,
            "gen_ai.usage.input_tokens": reply.input_tokens, "gen_ai.usage.output_tokens": reply.output_tokens,
        })  # fmt: skip
        if self._content:
            span.set_attribute(
                "promptops.inputs", json.dumps(masked(dict(request.inputs)), ensure_ascii=False, default=str)
            )
            span.set_attribute("promptops.output", masked(reply.text))
        for step in reply.steps:
            span.add_event(
                f"{step.stage} {step.decision}",
                {"reason": masked(told_reason(step, content=self._content))},
                start + int(step.at_s * 1e9),
            )
        if degraded:
            span.set_status(Status(StatusCode.ERROR, degraded))
        context = set_span_in_context(span)
        for call in model_calls(reply):
            attributes = self._of_model(call.model)
            child = self._tracer.start_span(f"chat {attributes['gen_ai.request.model']}", context, SpanKind.CLIENT, attributes,
                                            start_time=start + int(call.start_s * 1e9))  # fmt: skip
            if call.outcome != "ok":
                child.set_attribute("error.type", call.outcome)
                child.set_status(Status(StatusCode.ERROR, call.outcome))
            elif reply.calls == 1:
                child.set_attributes(
                    {"gen_ai.usage.input_tokens": reply.input_tokens, "gen_ai.usage.output_tokens": reply.output_tokens}
                )
            child.end(start + int(call.end_s * 1e9))
        span.end(end)
