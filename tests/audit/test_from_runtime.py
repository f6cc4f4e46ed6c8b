"""What a real runtime tells is what monitoring counts: money by step, verdicts by id, and metrics under the names that alerts ask for."""

from pathlib import Path

from prometheus_client import CollectorRegistry
from test_alert_files import _METRIC, expressions

from promptops.audit.sources import read_traffic
from promptops.runtime.telemetry import EventsFile
from promptops.runtime.telemetry.prometheus import PrometheusObserver
from runtime.bundles import INPUTS, NAME, Scripted, failed, open_runtime


def test_each_call_of_a_request_is_told_with_its_price_and_its_cause(tmp_path: Path):
    """A failure, a retry, a repair, then the other model: nothing of what the reply cost is `not told`."""
    path = tmp_path / "e.jsonl"
    events = EventsFile(path)
    first = Scripted(lambda number: failed() if number == 1 else "no JSON")
    runtime = open_runtime(
        tmp_path,
        {"small": "small", "large": "large", "retry": {"share": 1.0, "backoff_s": 0}},
        small=Scripted(),
        large=first,
        observers=[events],
    )
    reply = runtime.complete(NAME, INPUTS, tenant="acme")
    runtime.feedback(reply.request_id, good=False)
    runtime.close()
    events.close()
    traffic = read_traffic(path)
    tally = traffic.totals("prompt")["prompt", NAME, ""]

    assert [1000, 1000, 1000] == [traffic.costs[NAME, kind][1] for kind in ("retry", "repair", "escalation")]
    assert (
        {"retry", "repair", "escalation"}
        <= {kind for _, kind in traffic.costs}
        <= {"model", "retry", "repair", "escalation"}
    )
    assert reply.cost_nanousd == sum(cost for _, cost in traffic.costs.values()) == tally.cost_nanousd
    assert (1, 0, 1, 1) == (tally.requests, tally.routed, tally.scored, tally.bad)


def test_alerts_ask_for_names_that_a_real_runtime_tells(tmp_path: Path):
    """Of a whole answer and a stand-in; only releases that expired have a metric of their own, which a test of alerts covers."""
    registry = CollectorRegistry()
    calls = Scripted(lambda number: failed("timeout") if number > 1 else '{"sentiment": "positive"}')
    runtime = open_runtime(
        tmp_path, {"cache": {"ttl_s": 0}, "retry": {"most": 0}}, small=calls, observers=[PrometheusObserver(registry)]
    )
    replies = [runtime.complete(NAME, INPUTS, tenant="acme") for _ in range(2)]
    runtime.feedback(replies[1].request_id, good=False)
    runtime.close()
    told = {sample.name for metric in registry.collect() for sample in metric.samples}

    assert ["model", "text"] == [reply.source for reply in replies]
    assert set(_METRIC.findall("\n".join(expressions()))) - told <= {"promptops_bundle_marked_requests_total"}
