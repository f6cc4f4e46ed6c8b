"""promptops serve and promptops queue, as processes that start, are told to stop, and are looked into."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from conftest import PROMPT, Sandbox
from promptops.runtime.queue.sqlite import SqliteQueue
from promptops.runtime.testing import HandSwitch, ScriptedModel, open_runtime
from promptops.testing import bundle_for

PATIENCE_S = 60.0
QUESTION = [{"role": "user", "content": "It works."}]
ANSWER = {"choices": [{"message": {"role": "assistant", "content": '{"sentiment": "positive"}'}, "finish_reason": "stop"}], "model": "m",
          "usage": {"prompt_tokens": 1, "completion_tokens": 1}}  # fmt: skip


class HeldModel:
    """An OpenAI-compatible server whose answers wait until `release` is set."""

    def __init__(self) -> None:
        self.asked, self.release = threading.Event(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.set()
                outer.release.wait(PATIENCE_S)
                body = json.dumps(ANSWER).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def held() -> Iterator[HeldModel]:
    model = HeldModel()
    yield model
    model.release.set()
    model.server.shutdown()
    model.server.server_close()


@contextmanager
def serving(bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command as a process, and the document it prints once it serves."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PROMPTOPS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "promptops", "serve", str(bundle), "--port", "0", "--allow-unsigned", "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        lines = []
        while not lines or lines[-1] != "}\n":
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line)
        yield process, json.loads("".join(lines))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def client_of(said: dict[str, Any]) -> openai.OpenAI:
    return openai.OpenAI(base_url=said["url"] + "/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)


def test_a_bundle_is_served_and_a_stop_finishes_what_was_begun(sandbox: Sandbox, tmp_path: Path, held: HeldModel):
    """SIGTERM while a model is being asked: the caller gets the answer, the process ends with 0."""
    bundle = bundle_for(PROMPT, tmp_path, root=sandbox.root, model="small")
    events = tmp_path / "events.jsonl"
    with serving(bundle, "--base-url", held.url, "--events", str(events), "--otel") as (process, said):
        answers: list[str | None] = []

        def ask() -> None:
            extra = {"promptops": {"deadline_s": 60}}
            with client_of(said) as client:
                found = client.chat.completions.create(model=PROMPT, messages=QUESTION, extra_body=extra)
            answers.append(found.choices[0].message.content)

        thread = threading.Thread(target=ask)
        thread.start()
        assert held.asked.wait(PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        held.release.set()
        thread.join(PATIENCE_S)
        code = process.wait(PATIENCE_S)

    assert ([PROMPT], 0, ['{"sentiment": "positive"}']) == (said["prompts"], code, answers)
    assert ["model"] == [json.loads(line)["source"] for line in events.read_text().splitlines()]


def test_T30_a_served_prompt_follows_the_kill_command(sandbox: Sandbox, tmp_path: Path, call: Any):
    """`promptops kill` reaches the running service through the flags file."""
    bundle = bundle_for(PROMPT, tmp_path, root=sandbox.root)
    flags = str(tmp_path / "flags.json")
    call("kill", "--all", "--off", "--flags", flags)
    with serving(bundle, "--flags", flags) as (_, said), client_of(said) as client:
        before = client.chat.completions.create(
            model=PROMPT, messages=[{"role": "user", "content": "first"}]
        ).promptops["degraded"]
        call("kill", PROMPT, "--flags", flags)
        number, after = 0, ""
        while not after and number < 5000:
            number += 1
            message = [{"role": "user", "content": f"question {number}"}]
            try:
                after = client.chat.completions.create(model=PROMPT, messages=message).promptops["degraded"]
            except openai.InternalServerError as error:
                after = str(error)
        health = json.loads(urllib.request.urlopen(said["url"] + "/healthz", timeout=PATIENCE_S).read())

    assert ("", True, "ok") == (before, f"promptops.kill.{PROMPT} is on" in after, health["status"])


def test_a_state_that_cannot_be_used_is_said_at_the_start(sandbox: Sandbox, tmp_path: Path):
    """A wrong path is an alarm whoever starts the service sees; requests are answered within the local share."""
    bundle = bundle_for(PROMPT, tmp_path, root=sandbox.root)
    with (
        serving(bundle, "--state", "sqlite:/nowhere/state", "--queue", "sqlite:/nowhere/queue") as (process, said),
        client_of(said) as client,
    ):
        answer = client.chat.completions.create(model=PROMPT, messages=QUESTION)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)

    assert "model" == answer.promptops["source"]
    assert ["ALARM: the state cannot", "ALARM: the queue cannot"] == [
        line[:23] for line in err.splitlines() if line.startswith("ALARM")
    ]


def test_a_key_is_made_and_told_once(call: Any, sandbox: Sandbox):
    """stdout is the key and nothing else; the file has its hash."""
    keys = sandbox.path("keys.json")
    made = call("serve", "--new-key", "acme", "--keys", str(keys))

    assert (0, True) == (made.code, made.out.startswith("po-"))
    assert made.out.strip() not in keys.read_text()
    assert "acme" == json.loads(keys.read_text())["keys"][0]["tenant"]


def test_what_cannot_be_served_is_said(call: Any, sandbox: Sandbox, tmp_path: Path):
    """No bundle, no trust, no address of a model, no keys for the network, a wrong state: one line each, and no server."""
    bundle = str(bundle_for(PROMPT, tmp_path, root=sandbox.root, model="small"))
    local = str(bundle_for(PROMPT, tmp_path / "local", root=sandbox.root))
    wanted = [
        (("serve",), 2, "no bundle is named"),
        (("serve", "nowhere", "--allow-unsigned"), 2, "no bundle"),
        (("serve", bundle), 2, ""),
        (("serve", bundle, "--allow-unsigned"), 2, "where model 'small' is"),
        (("serve", local, "--allow-unsigned", "--host", "0.0.0.0"), 4, "without a key"),
        (("serve", local, "--allow-unsigned", "--state", "memcached"), 2, "is no state"),
        (("serve", local, "--allow-unsigned", "--api-key-env", "KEY"), 2, "without --base-url"),
        (("serve", local, "--allow-unsigned", "--events", "/nowhere/events"), 2, "events cannot be written"),
        (("serve", "--new-key", "acme"), 2, "nothing says where the key is kept"),
    ]
    outcomes = [call(*arguments) for arguments, _, _ in wanted]

    assert [(code, True) for _, code, _ in wanted] == [
        (outcome.code, said in outcome.err) for outcome, (_, _, said) in zip(outcomes, wanted, strict=True)
    ]


@pytest.fixture
def queued(sandbox: Sandbox, tmp_path: Path) -> tuple[Path, str]:
    """A bundle whose last resort is the queue, and a queue with two requests that came while everything was switched off."""
    suite = f"golden/{PROMPT}.yaml"
    sandbox.write(suite, sandbox.read(suite) + 'runtime: {"fallback": [{"step": "queue"}]}\n')
    bundle = bundle_for(PROMPT, tmp_path, root=sandbox.root)
    path = tmp_path / "queue.sqlite3"
    queue = SqliteQueue(path)
    runtime = open_runtime(bundle, ScriptedModel("never"), queue=queue, switch=HandSwitch(everything=True))
    replies = [
        runtime.complete(PROMPT, {"feedback": text}, tenant="acme")
        for text in ("Great, I love it.", "Broken and late.")
    ]
    runtime.close()
    queue.close()
    assert [("queue", True)] * 2 == [(reply.source, bool(reply.queued_id)) for reply in replies]
    return bundle, str(path)


def test_T22_what_was_queued_is_answered_later(call: Any, queued: tuple[Path, str], tmp_path: Path):
    """Listed, drained to a file, and gone; nothing was lost."""
    bundle, queue = queued
    before = call("queue", "list", "--queue", queue)
    answers = tmp_path / "answers.jsonl"
    drained = call("queue", "drain", str(bundle), "--queue", queue, "--allow-unsigned", "-o", str(answers), "--json")
    after = call("queue", "list", "--queue", queue, "--json").json
    rows = [json.loads(line) for line in answers.read_text().splitlines()]

    assert "2 waiting, 0 being answered, 0 put aside" == before.out.splitlines()[0]
    assert (0, {"answered": 2, "given_back": 0, "waiting": 0, "dead": 0, "file": str(answers)}) == (
        drained.code,
        drained.json,
    )
    assert [("acme", PROMPT, "v0.0.0", "model")] * 2 == [
        (row["tenant"], row["prompt"], row["version"], row["source"]) for row in rows
    ]
    assert {"waiting": 0, "taken": 0, "dead": 0, "jobs": []} == after


def test_T23_an_answer_that_cannot_be_written_leaves_its_job(call: Any, queued: tuple[Path, str]):
    """Nothing counts as done that nobody got."""
    bundle, queue = queued
    failed = call("queue", "drain", str(bundle), "--queue", queue, "--allow-unsigned", "-o", "/nowhere/answers.jsonl")
    left = call("queue", "list", "--queue", queue, "--json").json

    assert (3, 2) == (failed.code, left["waiting"] + left["taken"])


def test_what_still_gets_no_answer_is_given_back(call: Any, queued: tuple[Path, str], tmp_path: Path):
    """Exit 3, with the reason in the list; answers go to stdout, one line each."""
    bundle, queue = queued
    flags = str(tmp_path / "flags.json")
    call("kill", "--all", "--flags", flags)
    switched_off = call("queue", "drain", str(bundle), "--queue", queue, "--allow-unsigned", "--flags", flags)
    listed = call("queue", "list", "--queue", queue, "--json").json

    assert (3, "", 2) == (switched_off.code, switched_off.out, listed["waiting"])
    assert ["switched off: flag promptops.kill is on"] * 2 == [job["reason"] for job in listed["jobs"]]


def test_which_queue_must_be_said(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """By option or PROMPTOPS_QUEUE; a queue that cannot be used is exit 3."""
    unsaid = call("queue", "list")
    monkeypatch.setenv("PROMPTOPS_QUEUE", str(tmp_path / "missing" / "queue"))
    unusable = call("queue", "list")

    assert (2, 3) == (unsaid.code, unusable.code)
    assert "nothing says which queue" in unsaid.err
    assert "the queue cannot be used" in unusable.err
