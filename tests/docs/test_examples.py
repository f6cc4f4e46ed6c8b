"""The examples of docs/examples do what they say, as they are written."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from conftest import PROMPT, REPOSITORY, Sandbox
from promptops.testing import bundle_for

EXAMPLES = REPOSITORY / "docs" / "examples"


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    bundle = bundle_for(PROMPT, tmp_path, root=sandbox.root)
    digest = "sha256:" + hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    return {
        "BUNDLE": str(bundle),
        "BUNDLE_DIGEST": digest,
        "OPENAI_API_KEY": "none",
        "EVENTS": str(tmp_path / "events.jsonl"),
    }


def test_the_fastapi_service_answers_logged_in_customers(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    """A login decides the tenant, wrong inputs are the caller's mistake, and events are written."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("fastapi_service", EXAMPLES / "fastapi_service.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_service", module)
    spec.loader.exec_module(module)
    question = {"inputs": {"feedback": "It was late and broken."}}
    login = {"Authorization": "Bearer secret-of-acme"}
    with TestClient(module.app) as client:
        answered = client.post(f"/answer/{PROMPT}", json=question, headers=login)
        again = client.post(f"/answer/{PROMPT}", json=question, headers={"Authorization": "Bearer secret-of-globex"})
        stranger = client.post(f"/answer/{PROMPT}", json=question)
        wrong = client.post(f"/answer/{PROMPT}", json={"inputs": {"other": "x"}}, headers=login)
    events = [json.loads(line) for line in Path(environment["EVENTS"]).read_text().splitlines()]

    assert (200, "negative", "model", "") == (
        answered.status_code,
        *(answered.json()["value"].values()),
        answered.json()["source"],
        answered.json()["degraded"],
    )
    assert ("model", 401, 422) == (again.json()["source"], stranger.status_code, wrong.status_code)
    assert ([PROMPT] * 2, 2) == ([event["prompt"] for event in events], len({event["tenant"] for event in events}))


def test_the_worker_answers_line_by_line(environment: dict[str, str]):
    """Answers come in the order of the questions."""
    lines = "".join(
        json.dumps({"tenant": "acme", "inputs": {"feedback": text}}) + "\n"
        for text in ("Late and broken.", "I love it, great!")
    )
    done = subprocess.run(
        [sys.executable, EXAMPLES / "sync_worker.py", PROMPT], input=lines, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | environment,
    )  # fmt: skip

    assert (0, ["negative", "positive"]) == (
        done.returncode,
        [json.loads(line)["value"]["sentiment"] for line in done.stdout.splitlines()],
    ), done.stderr
