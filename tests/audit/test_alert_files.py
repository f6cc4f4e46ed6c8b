"""The rules and the dashboard that are shipped ask for metrics that services tell, and alert when they should."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from conftest import REPOSITORY
from promptops.runtime.base import Reply, Request, Step
from promptops.runtime.telemetry.prometheus import PrometheusObserver

FILES = REPOSITORY / "docs" / "monitoring"
RULES = FILES / "prometheus-rules.yml"
_METRIC = re.compile(r"\bpromptops_[a-z_]+\b")
_RECORDED = re.compile(r"\bpromptops:[a-z0-9_:]+\b")
_LABEL = re.compile(r"[{,]\s*([a-z_]+)\s*(?:=~|!~|!=|=)")
_BY = re.compile(r"by \(([a-z_, ]+)\)")


def expressions() -> list[str]:
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    panels = json.loads((FILES / "grafana-dashboard.json").read_text())["panels"]
    return rules + [target["expr"] for panel in panels for target in panel["targets"]]


def told() -> tuple[set[str], set[str]]:
    """Names and labels of what a service really has at /metrics."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    steps = (Step("bundle", "expired", "", 0.0), Step("model", "ok", "small: 0.1 s", 0.1))
    observer.replied(
        Request(id="1", prompt="triage", inputs={}),
        Reply(text="", source="model", prompt="triage", version="v1", request_id="1", cost_nanousd=5, latency_s=0.1, model="small",
              input_tokens=2, output_tokens=1, steps=steps),
    )  # fmt: skip
    observer.noticed("feedback_bad", "1 thumbs")
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return {sample.name for sample in samples}, {label for sample in samples for label in sample.labels}


def test_every_metric_and_label_that_is_asked_for_is_told_by_services():
    """A dashboard of names that do not exist shows nothing, and an alert on them never fires."""
    names, labels = told()
    recorded = {rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "record" in rule}  # fmt: skip
    text = "\n".join(expressions())
    by = {label for found in _BY.findall(text) for label in found.split(", ")}

    assert (set(), set()) == (set(_METRIC.findall(text)) - names, set(_RECORDED.findall(text)) - recorded)
    assert set() == (set(_LABEL.findall(text)) | by) - labels


def test_the_dashboard_has_panels_that_do_not_overlap():
    """Grafana takes any JSON; a panel has an id, a place and a query of its own."""
    panels = json.loads((FILES / "grafana-dashboard.json").read_text())["panels"]
    places = [tuple(panel["gridPos"].values()) for panel in panels]

    assert len(panels) == len({panel["id"] for panel in panels}) == len(set(places))
    assert all(panel["targets"] and panel["title"] for panel in panels)


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        assert not os.environ.get("CI"), "promtool is missing: .ci/run unpacks it from Debian's prometheus"
        pytest.skip("no promtool here")
    return found


def test_promtool_accepts_the_rules_and_they_alert(promtool: str, tmp_path: Path):
    """Each alert comes of series that deserve it, and of no others."""
    tests = tmp_path / "rules.test.yml"
    tests.write_text((Path(__file__).parent / "prometheus-rules.test.yml").read_text().replace("RULES", str(RULES)))
    for command in (("check", "rules", str(RULES)), ("test", "rules", str(tests))):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
