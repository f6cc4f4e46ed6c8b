"""What a service tells of its requests: whole, bounded, and without a customer's words."""

import json
import os
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from promptops.runtime.base import Citation, Reply, Request, Step
from promptops.runtime.telemetry import EventsFile, Labels, read_events, tenant_hash
from promptops.runtime.telemetry.events import MAX_LINE_BYTES
from promptops.runtime.telemetry.record import ModelCall, model_calls, why_degraded

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
AT = 1_790_000_000.0
SECRET = "my card is 4111"
REQUEST = Request(id="r1", prompt="triage", inputs={"ticket": SECRET}, tenant="acme", feature="inbox")
REPLY = Reply(
    text=f"sorry, {SECRET}", source="model", prompt="triage", version="v1.2.0", request_id="r1", cost_nanousd=1_500_000, latency_s=0.25,
    model="small", calls=2, input_tokens=100, output_tokens=20, citations=(Citation(id="d1"),),
    steps=(Step("cache", "miss", "", 0.001), Step("route", "small", "easy", 0.01), Step("model", "timeout", f"small: {SECRET}", 0.1),
           Step("model", "retry", "small, after 0.02 s", 0.12), Step("model", "ok", "small: ", 0.22), Step("guardrails", "passed", SECRET, 0.24)),
)  # fmt: skip
DEGRADED = replace(
    REPLY, source="text", text="Try later", degraded="breaker open", calls=0, cost_nanousd=0, model="", input_tokens=0, output_tokens=0,
    steps=(Step("cache", "miss", "", 0.001), Step("breaker", "refused", "small: open", 0.01), Step("fallback", "text", f"open: {SECRET}", 0.02)),
)  # fmt: skip


def events_of(path: Path) -> list[dict]:
    return list(read_events(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_a_reply_is_one_line_that_monitoring_can_read(path: Path):
    """Everything a dashboard needs, and the decisions with their times."""
    events = EventsFile(path, clock=lambda: AT)
    events.replied(REQUEST, REPLY)
    events.noticed("breaker_open", "small: 10 of 10 failed")
    events.close()
    reply, notice = events_of(path)
    steps = reply.pop("steps")

    assert {
        "at": "2026-09-21T14:13:20.000Z", "kind": "reply", "id": "r1", "prompt": "triage", "version": "v1.2.0", "tenant": tenant_hash("acme"),
        "feature": "inbox", "category": "", "source": "model", "degraded": "", "model": "small", "calls": 2, "cost_nanousd": 1_500_000,
        "latency_ms": 250.0, "input_tokens": 100, "output_tokens": 20, "citations": 1, "queued_id": "",
        "language": "en", "input_chars": 15, "output_chars": 22,
    } == reply  # fmt: skip
    assert {"stage": "route", "decision": "small", "reason": "easy", "at_ms": 10.0} == steps[1]
    assert {
        "at": "2026-09-21T14:13:20.000Z",
        "kind": "notice",
        "event": "breaker_open",
        "reason": "small: 10 of 10 failed",
    } == notice


def test_T34_no_text_of_a_customer_is_told_unless_asked_for(path: Path):
    """Inputs, answers, and reasons that may quote them are content; a tenant is always a hash."""
    plain, full = EventsFile(path), EventsFile(path.with_name("full.jsonl"), content=True, mask=False)
    for events in (plain, full):
        events.replied(REQUEST, REPLY)
        events.replied(REQUEST, DEGRADED)
        events.close()
    told = path.read_text()
    full_reply = events_of(path.with_name("full.jsonl"))[0]

    assert (False, False) == (SECRET in told, "acme" in told)
    assert ({"ticket": SECRET}, REPLY.text) == (full_reply["inputs"], full_reply["text"])


def test_T34_a_line_is_never_longer_than_8_kib(path: Path):
    """Huge texts, reasons and names are cut, and said to be."""
    huge = "long \n\x00\u2028 😀 \ud800" * 20_000
    steps = tuple(Step("route" * 50, "x" * 5000, huge, 0.1) for _ in range(500))
    reply = replace(REPLY, text=huge, version=huge, model=huge, request_id=huge, steps=steps)
    request = replace(REQUEST, inputs={"ticket": huge}, feature=huge, category=huge, tenant=huge)
    events = EventsFile(path, content=True)
    events.replied(request, reply)
    events.noticed(huge, huge)
    events.close()
    lines = path.read_bytes().split(b"\n")[:-1]

    assert (2, True) == (len(lines), max(map(len, lines)) < MAX_LINE_BYTES)
    assert [True, None] == [json.loads(line).get("cut") for line in lines]


def test_T34_files_are_rotated_and_old_ones_go(path: Path):
    """The space is bounded by `max_bytes` times the files kept, and reading goes from old to new."""
    events = EventsFile(path, max_bytes=5000, keep=2)
    for number in range(300):
        events.noticed(str(number), "")
        events.flush()
    events.close()
    files = sorted(found.name for found in path.parent.iterdir() if not found.name.startswith("."))
    numbers = [int(event["event"]) for event in events_of(path)]

    assert ["events.jsonl", "events.jsonl.1", "events.jsonl.2"] == files
    assert list(range(numbers[0], 300)) == numbers


def test_a_file_that_somebody_moved_is_made_again(path: Path):
    """Other rotation works, too: events go on in a new file of the name."""
    events = EventsFile(path)
    events.noticed("one", "")
    events.flush()
    path.rename(path.with_name("kept"))
    events.noticed("two", "")
    events.close()

    assert [["two"], ["one"]] == [
        [event["event"] for event in events_of(path.with_name(name))] for name in ("events.jsonl", "kept")
    ]


def test_two_writers_share_a_file_through_rotations(path: Path):
    """Lines of several processes do not tear each other, and none is lost with a rotation."""
    writers = [EventsFile(path, max_bytes=4000, keep=50) for _ in range(2)]
    for number in range(60):
        writers[number % 2].noticed(str(number), "x" * 100)
        writers[number % 2].flush()
    for writer in writers:
        writer.close()

    assert {str(number) for number in range(60)} == {event["event"] for event in events_of(path)}


def test_T34_a_disk_that_is_too_slow_drops_events_and_counts_them(path: Path):
    """Memory is bounded; what was dropped is a number in the file."""
    events = EventsFile(path)
    with events._writing:  # the disk does not answer
        for _ in range(10_250):
            events.noticed("e", "")
        waiting = len(events._waiting)
    events.close()
    found = Counter(event["kind"] for event in events_of(path))
    dropped = sum(event["count"] for event in events_of(path) if event["kind"] == "dropped")

    assert (10_000, 10_250) == (waiting, found["notice"] + dropped)
    assert 250 == dropped


def test_torn_lines_are_left_out(path: Path):
    """A writer that was killed leaves half a line; the rest is read."""
    path.write_bytes(b'{"kind": "no\n\xff\xfe\n[1]\n{"kind": "notice"}\n{"kind": "re')

    assert [{"kind": "notice"}] == events_of(path)


def test_T35_a_forked_child_writes_its_own_events_only(path: Path):
    """What waited in the parent is written once, by the parent."""
    events = EventsFile(path)
    with events._writing:
        events.noticed("parent", "")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                events.noticed("child", "")
                events.flush()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
    events.close()

    assert (0, ["child", "parent"]) == (
        os.waitstatus_to_exitcode(status),
        sorted(event["event"] for event in events_of(path)),
    )


def test_the_calls_of_a_reply_are_read_from_its_steps():
    """Each ended call with its model, outcome and time; retries and hedges are decisions, not calls."""
    assert (
        ModelCall(model="small", outcome="timeout", start_s=0.01, end_s=0.1),
        ModelCall(model="small", outcome="ok", start_s=0.12, end_s=0.22),
    ) == model_calls(REPLY)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (REPLY, ""),
        (DEGRADED, "breaker refused"),
        (replace(DEGRADED, steps=()), "no model was asked"),
        (replace(DEGRADED, steps=(*REPLY.steps[:3], *DEGRADED.steps[2:])), "model timeout"),
        (replace(DEGRADED, steps=(Step("switch", "blocked", "flag", 0.0),)), "switch blocked"),
    ],
)
def test_why_an_answer_is_degraded_is_a_word_of_ours(reply: Reply, expected: str):
    """A label of a metric has few values, whatever the reasons say."""
    assert expected == why_degraded(reply)


def test_a_salt_makes_tenants_unguessable():
    """The same tenant is the same hash under one salt, and another under the next."""
    assert (True, False, False) == (
        tenant_hash("acme", "s") == tenant_hash("acme", "s"), tenant_hash("acme", "s") == tenant_hash("acme", "t"), "acme" in tenant_hash("acme")
    )  # fmt: skip


def test_T34_labels_are_capped():
    """The first values keep their name, later ones share one, and long ones are cut."""
    labels = Labels(2, longest=3)

    assert ["a", "bbb", "other", "a"] == [labels(value) for value in ("a", "bbbbb", "c", "a")]


def test_prometheus_counts_requests_calls_and_money():
    """The figures of a dashboard, in a registry of one's own."""
    from prometheus_client import CollectorRegistry

    from promptops.runtime.telemetry.prometheus import PrometheusObserver

    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    observer.replied(REQUEST, REPLY)
    observer.replied(REQUEST, DEGRADED)
    observer.noticed("breaker_open", "why")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert [1, 1, 2, 0.0015, 100, 1, 1, 1] == [
        value("promptops_requests_total", prompt="triage", version="v1.2.0", source="model", degraded=""),
        value("promptops_requests_total", prompt="triage", version="v1.2.0", source="text", degraded="breaker refused"),
        value("promptops_request_seconds_count", prompt="triage"),
        value("promptops_cost_usd_total", prompt="triage", model="small"),
        value("promptops_tokens_total", prompt="triage", model="small", kind="input"),
        value("promptops_model_calls_total", model="small", outcome="timeout"),
        value("promptops_model_calls_total", model="small", outcome="ok"),
        value("promptops_notices_total", event="breaker_open"),
    ]


def test_T34_prometheus_shows_no_tenant_and_a_bounded_number_of_series():
    """A thousand tenants, prompts and events make no thousand series."""
    from prometheus_client import CollectorRegistry, generate_latest

    from promptops.runtime.telemetry.prometheus import PrometheusObserver

    registry = CollectorRegistry()
    observer = PrometheusObserver(registry, tenants=10)
    for number in range(1000):
        observer.replied(replace(REQUEST, tenant=f"tenant-{number}"), replace(REPLY, model=f"m{number}"))
        observer.noticed(f"event-{number}", "")
    text = generate_latest(registry).decode()
    series = Counter(line.partition("{")[0] for line in text.splitlines() if not line.startswith("#"))

    assert (11, 51, 200) == (
        series["promptops_tenant_requests_total"],
        series["promptops_notices_total"],
        series["promptops_cost_usd_total"],
    )
    assert "tenant-" not in text


def test_otel_spans_follow_the_conventions_for_generative_ai():
    """A span for the request below the caller's, with its decisions; a client span for each model call."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from promptops.runtime.telemetry.otel import OtelObserver

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observer = OtelObserver(tracer_provider=provider, models={"small": "gpt-5-mini"}, clock_ns=lambda: 10**18)
    with provider.get_tracer("app").start_as_current_span("handler") as handler:
        observer.replied(REQUEST, REPLY)
    failed, answered, request, _ = exporter.get_finished_spans()
    start = 10**18 - 250_000_000

    assert ("promptops triage", handler.get_span_context().span_id, start, 10**18) == (
        request.name, request.parent.span_id, request.start_time, request.end_time,
    )  # fmt: skip
    assert ["cache miss", "route small", "model timeout", "model retry", "model ok", "guardrails passed"] == [
        event.name for event in request.events
    ]
    assert ("triage", "v1.2.0", "model", tenant_hash("acme"), 100) == tuple(
        request.attributes[key] for key in ("gen_ai.prompt.name", "promptops.prompt.version", "promptops.source", "promptops.tenant", "gen_ai.usage.input_tokens")
    )  # fmt: skip
    assert {request.context.span_id} == {failed.parent.span_id, answered.parent.span_id}
    assert ("chat gpt-5-mini", "CLIENT", start + 120_000_000, start + 220_000_000) == (
        answered.name, answered.kind.name, answered.start_time, answered.end_time,
    )  # fmt: skip
    assert {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini", "error.type": "timeout",
    } == dict(failed.attributes)  # fmt: skip
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_otel_metrics_have_the_names_of_the_conventions():
    """Durations of model calls and tokens under gen_ai names; requests, cost and notices under ours; no tenant in any label."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from promptops.runtime.telemetry.otel import OtelObserver

    reader = InMemoryMetricReader()
    observer = OtelObserver(meter_provider=MeterProvider([reader]))
    observer.replied(REQUEST, REPLY)
    observer.replied(REQUEST, DEGRADED)
    observer.noticed("breaker_open", "why")
    found = {
        metric.name: [
            (dict(point.attributes), getattr(point, "sum", getattr(point, "value", None)))
            for point in metric.data.data_points
        ]
        for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    }
    model = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "small"}

    assert [(model | {"gen_ai.token.type": "input"}, 100), (model | {"gen_ai.token.type": "output"}, 20)] == found[
        "gen_ai.client.token.usage"
    ]
    assert [model | {"error.type": "timeout"}, model] == [
        labels for labels, _ in found["gen_ai.client.operation.duration"]
    ]
    assert [1, 1] == [value for _, value in found["promptops.requests"]]
    assert [0.0015] == [value for _, value in found["promptops.cost"]]
    assert [({"event": "breaker_open"}, 1)] == found["promptops.notices"]
    assert not [labels for points in found.values() for labels, _ in points if "acme" in str(labels)]


def test_T34_otel_metrics_have_a_bounded_number_of_series():
    """A thousand prompts, versions, models, features and events share what is beyond the caps; a tenant is in none."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from promptops.runtime.telemetry.otel import OtelObserver

    reader = InMemoryMetricReader()
    observer = OtelObserver(meter_provider=MeterProvider([reader]))
    for number in range(1000):
        step = Step("model", "ok", f"m{number}: ", 0.1)
        reply = replace(REPLY, prompt=f"p{number}", model=f"m{number}", steps=(step,))
        observer.replied(replace(REQUEST, tenant=f"tenant-{number}", feature=f"f{number}"), reply)
        observer.noticed(f"event-{number}", "")
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    series = {metric.name: [dict(point.attributes) for point in metric.data.data_points] for metric in scope.metrics}
    features = {labels["promptops.feature"] for labels in series["promptops.requests"]}

    assert (501, 101, 201, 402, 51) == (
        len(series["promptops.requests"]), len(features), len(series["gen_ai.client.operation.duration"]),
        len(series["gen_ai.client.token.usage"]), len(series["promptops.notices"]),
    )  # fmt: skip
    assert "tenant-" not in str(series)


def test_many_threads_hand_over_without_losing_an_event(path: Path):
    """Observers are called from any thread."""
    events = EventsFile(path)
    threads = [threading.Thread(target=lambda: [events.noticed("e", "") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events.close()

    assert 1600 == len(events_of(path))


def test_texts_that_were_asked_for_have_personal_data_masked(path: Path):
    """Addresses and numbers that have a form are replaced in inputs, answers and reasons; `mask=False` is for who may keep them."""
    events = EventsFile(path, content=True)
    request = replace(
        REQUEST,
        inputs={"ticket": "write to ana@example.com, card 4111 1111 1111 1111", "items": [{"by": "bob@example.com"}]},
    )
    events.replied(
        request,
        replace(
            REPLY, text="I wrote to ana@example.com", steps=(Step("guardrails", "rejected", "ana@example.com", 0.1),)
        ),
    )
    events.close()
    (event,) = events_of(path)

    assert {"ticket": "write to <email>, card <card>", "items": [{"by": "<email>"}]} == event["inputs"]
    assert ("I wrote to <email>", "<email>") == (event["text"], event["steps"][0]["reason"])


def test_what_a_step_cost_is_told_with_it(path: Path):
    """Steps that cost nothing have no such member; of a shadow model only the price is told."""
    events = EventsFile(path)
    events.replied(REQUEST, replace(REPLY, steps=(Step("cache", "miss", "", 0.1), Step("model", "ok", "", 0.2, 77))))
    events.noticed("shadow", "triage on big: another answer, 500 nano-dollars")
    events.close()
    reply, shadow = events_of(path)

    assert [None, 77] == [step.get("cost_nanousd") for step in reply["steps"]]
    assert "500 nano-dollars" == shadow["reason"]


DAYS = 86_400.0


def test_events_older_than_the_window_are_removed_while_the_service_runs(path: Path):
    """From rotated files and from the file being written; the newer lines of the same file stay, and writing goes on."""
    now = AT
    events = EventsFile(path, keep_days=7, clock=lambda: now, monotonic=lambda: now)
    for day in range(10):
        now = AT + day * DAYS
        events.noticed(f"day {day}", "")
        events.flush()
        if day == 4:  # a rotation in between
            path.rename(path.with_name("events.jsonl.1"))
    events.prune()
    first = [event["event"] for event in events_of(path)]
    events.noticed("after", "")
    events.flush()
    now = AT + 14 * DAYS
    events.prune()
    second = [event["event"] for event in events_of(path)]
    events.close()

    assert [f"day {day}" for day in range(2, 10)] == first
    assert ["day 7", "day 8", "day 9", "after"] == second


def test_the_thread_that_writes_enforces_the_window(path: Path):
    """Nobody has to ask: the first thing a service writes removes what is too old."""
    path.with_name("events.jsonl.1").write_bytes(
        b'{"at":"2020-01-01T00:00:00.000Z","kind":"notice","event":"old","reason":""}\n{"at": to'
    )
    looked = threading.Event()
    events = EventsFile(path, keep_days=7)
    look_after = events._look_after
    events._look_after = lambda: (look_after(), looked.set())  # type: ignore[method-assign]
    events.noticed("new", "")

    assert looked.wait(60)
    events.close()
    assert (["new"], False) == (
        [event["event"] for event in events_of(path)],
        path.with_name("events.jsonl.1").exists(),
    )


def test_no_window_removes_nothing(path: Path):
    path.write_bytes(b'{"at":"2020-01-01T00:00:00.000Z","kind":"notice","event":"old","reason":""}\n')
    events = EventsFile(path, keep_days=0)
    events.prune()
    events.close()

    assert ["old"] == [event["event"] for event in events_of(path)]
