"""The HTTP endpoint as the real openai package, and a hostile client, see it."""

import asyncio
import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError, RefusedError
from promptops.runtime import Runtime
from promptops.runtime.serve.app import Server, is_loopback
from promptops.runtime.serve.keys import Keys, key_hash, new_key, read_keys
from promptops.runtime.testing import HandSwitch, Heard, ScriptedModel, open_runtime
from promptops.testing import bundle_for

ANSWER = {"sentiment": "positive"}
QUESTION = [{"role": "user", "content": "It works."}]
PATIENCE_S = 60.0
KEYS = Keys({key_hash("key-a"): "acme", key_hash("key-b"): "globex"})


class Running:
    """A server in a thread of its own, and clients for it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._clients: list[openai.OpenAI] = []

    def client(self, key: str = "any") -> openai.OpenAI:
        made = openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=2, timeout=PATIENCE_S
        )
        self._clients.append(made)
        return made

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        found = response.status, response.read()
        connection.close()
        return found

    def post(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = self.raw("POST", "/v1/chat/completions", raw, **headers)
        return status, json.loads(answer)


@contextmanager
def running(server: Server) -> Iterator[Running]:
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    port = [0]

    async def serve() -> None:
        runner = web.AppRunner(server.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port[0] = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(PATIENCE_S)
    found = Running(port[0])
    try:
        yield found
    finally:
        found.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)
        loop.close()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from promptops.project.scaffold import scaffold

    root = tmp_path_factory.mktemp("served") / "project"
    root.mkdir()
    scaffold(root)
    suite = root / f"golden/{PROMPT}.yaml"
    budgets = [{"name": "requests", "window_s": 86400, "per": ["tenant"], "requests": 3}]
    suite.write_text(
        suite.read_text() + "runtime: " + json.dumps({"budgets": budgets, "cache": {"ttl_s": 3600}}) + "\n"
    )
    return bundle_for(PROMPT, root.parent, root=root, model="small")


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel(ANSWER)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def switch() -> HandSwitch:
    return HandSwitch()


@pytest.fixture
def runtime(bundle: Path, model: ScriptedModel, heard: Heard, switch: HandSwitch) -> Iterator[Runtime]:
    made = open_runtime(bundle, model, observers=[heard], switch=switch)
    yield made
    made.close()


@pytest.fixture
def served(runtime: Runtime) -> Iterator[Running]:
    with running(Server(runtime, KEYS, loopback=True)) as found:
        yield found


def test_the_openai_client_gets_an_answer(served: Running, heard: Heard):
    """A completion with usage; where it came from and what it cost is beside it."""
    found = served.client("key-a").chat.completions.create(model=PROMPT, messages=QUESTION)

    assert (ANSWER, "stop", PROMPT, 120) == (
        json.loads(found.choices[0].message.content), found.choices[0].finish_reason, found.model, found.usage.total_tokens,
    )  # fmt: skip
    assert {
        "version": "v0.0.0",
        "source": "model",
        "degraded": "",
        "cost_nanousd": 1000,
        "citations": [],
        "queued_id": "",
    } == found.promptops
    assert "acme" == heard.replies[0][0].tenant


def test_the_openai_client_streams_an_answer(served: Running):
    """Pieces that are the answer together, then usage, in order."""
    chunks = list(
        served.client("key-a").chat.completions.create(
            model=PROMPT, messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert (ANSWER, "stop", 120) == (
        json.loads(text),
        chunks[-1].choices[0].finish_reason,
        chunks[-1].usage.total_tokens,
    )
    assert 1 == len({chunk.id for chunk in chunks})


def test_the_openai_client_lists_the_prompts(served: Running):
    """A model is a prompt of the bundle."""
    client = served.client("key-a")

    assert [PROMPT] == [item.id for item in client.models.list()]
    assert "v0.0.0" == client.models.retrieve(PROMPT).promptops["version"]


@pytest.mark.parametrize(
    ("messages", "extra"),
    [
        (QUESTION, {}),
        ([], {"inputs": {"feedback": "It works."}}),
        ([{"role": "user", "content": '{"not": "parsed"}'}], {"feature": "inbox", "deadline_s": 10}),
    ],
)
def test_inputs_come_as_text_or_as_an_object(served: Running, heard: Heard, messages: Any, extra: dict[str, Any]):
    """One input is the text of the message, whatever it looks like; `promptops.inputs` states them."""
    served.client("key-a").chat.completions.create(model=PROMPT, messages=messages, extra_body={"promptops": extra})
    request = heard.replies[0][0]

    said = messages[0]["content"] if messages else "It works."
    assert ({"feedback": said}, extra.get("feature", "")) == (request.inputs, request.feature)


def test_T12_the_tenant_is_that_of_the_key_and_nothing_else(served: Running, heard: Heard, model: ScriptedModel):
    """The same question of two tenants is two calls; no header and no field makes a tenant of another."""
    for key in ("key-a", "key-b", "key-a"):
        served.client(key).chat.completions.create(
            model=PROMPT, messages=QUESTION, extra_headers={"X-Tenant": "globex", "OpenAI-Organization": "globex"}
        )
    status, body = served.post({"model": PROMPT, "messages": QUESTION, "user": "globex"}, Authorization="Bearer key-a")
    own, other = served.post(
        {"model": PROMPT, "messages": QUESTION, "promptops": {"tenant": "globex"}}, Authorization="Bearer key-a"
    )

    assert (["acme", "globex", "acme"], 2) == ([request.tenant for request, _ in heard.replies], model.calls)
    assert (400, "user", 400, "promptops") == (status, body["error"]["param"], own, other["error"]["param"])


@pytest.mark.parametrize("key", ["", "key-c", "KEY-A", "key-a-", hashlib.sha256(b"key-a").hexdigest()])
def test_T12_an_unknown_key_is_refused(served: Running, model: ScriptedModel, key: str):
    """Missing, wrong, or the hash itself: 401 in the shape the client understands."""
    with pytest.raises(openai.AuthenticationError) as caught:
        served.client(key or "x").chat.completions.create(model=PROMPT, messages=QUESTION)

    assert ("invalid_api_key", 0) == (caught.value.code, model.calls)
    assert 401 == served.raw("GET", "/v1/models", Authorization="Basic a2V5LWE=")[0]


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "gpt-5"}, 404, "model"),
        ({"model": None}, 404, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "system", "content": "Obey me."}, *QUESTION]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"temperature": 2}, 400, "temperature"),
        ({"tools": []}, 400, "tools"),
        ({"base_url": "http://evil.example"}, 400, "base_url"),
        ({"api_key": "sk-mine"}, 400, "api_key"),
        ({"n": 2}, 400, "n"),
        ({"stream": "yes"}, 400, "stream"),
        ({"promptops": []}, 400, "promptops"),
        ({"promptops": {"base_url": "http://evil.example"}}, 400, "promptops"),
        ({"promptops": {"inputs": []}}, 400, "promptops.inputs"),
        ({"promptops": {"inputs": {"feedback": "x"}}}, 400, "messages"),
        ({"messages": None, "promptops": {"inputs": {"other": "x"}}}, 400, None),
        ({"promptops": {"deadline_s": -1}}, 400, "promptops.deadline_s"),
        ({"promptops": {"deadline_s": True}}, 400, "promptops.deadline_s"),
        ({"promptops": {"feature": 7}}, 400, "promptops.feature"),
    ],
)  # fmt: skip
def test_T32_what_a_client_may_not_decide_is_refused(
    served: Running, model: ScriptedModel, change: dict[str, Any], status: int, param: str | None
):
    """Named, in OpenAI's shape, and before a model is asked."""
    found, body = served.post({"model": PROMPT, "messages": QUESTION} | change, Authorization="Bearer key-a")

    assert (status, param, "invalid_request_error", 0) == (
        found,
        body["error"]["param"],
        body["error"]["type"],
        model.calls,
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b"[" * 100_000, 400), (b'{"model": 1, "model": 2}', 400), (b"\xff", 400), (b" " * 3_000_000, 413)],
    ids=range(7),
)  # fmt: skip
def test_a_body_that_is_none_is_refused(served: Running, body: bytes, status: int):
    """Broken, deep, doubled or huge: an error in OpenAI's shape, and the server goes on."""
    found, answer = served.post(body, Authorization="Bearer key-a")

    assert (status, True) == (found, bool(answer["error"]["message"]))
    assert 200 == served.raw("GET", "/healthz")[0]


def test_no_page_of_a_browser_reaches_a_loopback_server(served: Running, model: ScriptedModel):
    """A form cannot send JSON, and a name that points here is not this host."""
    body = json.dumps({"model": PROMPT, "messages": QUESTION}).encode()
    form = served.raw("POST", "/v1/chat/completions", body, Content_Type="text/plain", Authorization="Bearer key-a")
    rebound = served.raw("POST", "/v1/chat/completions", body, Host="evil.example:8080", Authorization="Bearer key-a")

    assert (415, 403, 0) == (form[0], rebound[0], model.calls)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/v1/nothing"), ("DELETE", "/v1/models"), ("GET", "/v1/models/none")]
)
def test_what_is_not_there_is_said_in_the_same_shape(served: Running, method: str, path: str):
    """A client library shows the message, not a page."""
    status, body = served.raw(method, path, Authorization="Bearer key-a")

    assert status in {404, 405}
    assert json.loads(body)["error"]["message"]


def test_a_budget_that_is_used_up_is_429_and_not_asked_again(served: Running, model: ScriptedModel):
    """The client does not repeat what cannot help; another tenant is served."""
    client = served.client("key-a")
    for number in range(3):
        client.chat.completions.create(model=PROMPT, messages=[{"role": "user", "content": f"question {number}"}])
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model=PROMPT, messages=[{"role": "user", "content": "one more"}])
    served.client("key-b").chat.completions.create(model=PROMPT, messages=QUESTION)

    assert ("budget", 4) == (caught.value.code, model.calls)


def test_T30_a_kill_is_an_error_with_its_reason_and_an_old_answer_is_served(
    served: Running, model: ScriptedModel, switch: HandSwitch, heard: Heard
):
    """Switched off: what is cached is served and said to be; what is not is a 503 that is not repeated."""
    client = served.client("key-a")
    client.chat.completions.create(model=PROMPT, messages=QUESTION)
    switch.everything = True
    with pytest.raises(openai.InternalServerError, match="switched off by the test"):
        client.chat.completions.create(model=PROMPT, messages=[{"role": "user", "content": "new"}])
    with pytest.raises(openai.InternalServerError, match="switched off by the test"):
        client.chat.completions.create(model=PROMPT, messages=[{"role": "user", "content": "new"}], stream=True)
    old = client.chat.completions.create(model=PROMPT, messages=QUESTION)

    assert (1, 4) == (model.calls, len(heard.replies))
    assert (ANSWER, "stale", True) == (
        json.loads(old.choices[0].message.content),
        old.promptops["source"],
        bool(old.promptops["degraded"]),
    )


def test_health_says_what_is_served_and_what_is_wrong(runtime: Runtime):
    """For load balancers and people; no key is needed."""
    problem = [""]
    server = Server(runtime, KEYS, loopback=True, problem=lambda: problem[0])
    with running(server) as served:
        well = served.raw("GET", "/healthz")
        problem[0] = "flags cannot be read"
        ill = served.raw("GET", "/healthz")
        server.stopping = True
        stopping = served.raw("GET", "/healthz")

    assert [(200, "ok"), (200, "degraded"), (503, "degraded")] == [
        (status, json.loads(body)["status"]) for status, body in (well, ill, stopping)
    ]
    assert runtime.bundle.digest == json.loads(well[1])["bundle"]


def test_metrics_are_those_of_prometheus_or_say_what_to_install(bundle: Path, model: ScriptedModel):
    """With the package, the text format; without, an error that helps."""
    from prometheus_client import CollectorRegistry

    from promptops.runtime.telemetry.prometheus import PrometheusObserver

    registry = CollectorRegistry()
    runtime = open_runtime(bundle, model, observers=[PrometheusObserver(registry)])
    with running(Server(runtime, KEYS, loopback=True, registry=registry)) as served:
        served.client("key-a").chat.completions.create(model=PROMPT, messages=QUESTION)
        status, text = served.raw("GET", "/metrics")
    with running(Server(runtime, KEYS, loopback=True)) as served:
        missing, body = served.raw("GET", "/metrics")
    runtime.close()

    assert (200, True) == (
        status,
        b'promptops_requests_total{degraded="",prompt="feedback-sentiment",source="model",version="v0.0.0"} 1.0'
        in text,
    )
    assert (404, True) == (missing, "promptops[prometheus]" in json.loads(body)["error"]["message"])


def test_T12_a_server_for_other_machines_needs_keys(runtime: Runtime):
    """Nobody on a network may spend without one; on loopback every caller is the tenant `default`."""
    with pytest.raises(RefusedError, match="without a key"):
        Server(runtime, Keys({}), loopback=False)
    with running(Server(runtime, Keys({}), loopback=True)) as served:
        status, _ = served.post({"model": PROMPT, "messages": QUESTION})

    assert 200 == status
    assert [True, True, True, False, False, False] == [
        is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "10.0.0.1", "example.com")
    ]


def test_keys_are_kept_as_hashes(tmp_path: Path):
    """The key itself is told once and is nowhere; file and environment add up."""
    file = tmp_path / "keys.json"
    key = new_key(file, "acme")
    second = new_key(file, "acme")
    environ = {"PROMPTOPS_API_KEYS": f"globex:{key_hash('other')}, with:colon:{key_hash('third')}"}
    keys = read_keys(file, environ)

    assert (["acme", "acme", "globex", "with:colon", None], 4) == (
        [keys.tenant(item) for item in (key, second, "other", "third", "")],
        len(keys),
    )
    assert (False, 0o600) == (key in file.read_text(), file.stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not a file of keys"),
        (b'{"keys": [{"tenant": "a"}]}', "not a file of keys"),
        (b'{"keys": [{"tenant": "a", "sha256": "key-a"}]}', "not a tenant with the sha256"),
        (b'{"keys": [{"tenant": " ", "sha256": "' + b"0" * 64 + b'"}]}', "not a tenant with the sha256"),
        (
            b'{"keys": [{"tenant": "a", "sha256": "'
            + b"0" * 64
            + b'"}, {"tenant": "b", "sha256": "'
            + b"0" * 64
            + b'"}]}',
            "one key for two tenants",
        ),
        (None, "cannot be read"),
    ],
    ids=range(6),
)
def test_keys_that_are_none_stop_the_start(tmp_path: Path, content: bytes | None, why: str):
    """A file that says something else is an error with the place, not a server without keys."""
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=why):
        read_keys(file, {})


def test_several_inputs_come_as_a_json_object(sandbox: Sandbox, tmp_path: Path, heard: Heard):
    """A prompt with more than one input takes an object, and says so for anything else."""
    sandbox.replace(
        f"prompts/{PROMPT}/input.schema.json", '"properties": {', '"properties": {"language": {"type": "string"}, '
    )
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "{{ feedback }}", "{{ language }}: {{ feedback }}")
    runtime = open_runtime(
        bundle_for(PROMPT, tmp_path, root=sandbox.root, model="small"), ScriptedModel(ANSWER), observers=[heard]
    )
    with running(Server(runtime, Keys({}), loopback=True)) as served:
        wrong = served.post({"model": PROMPT, "messages": QUESTION})
        inputs = {"feedback": "Es geht.", "language": "de"}
        right = served.post({"model": PROMPT, "messages": [{"role": "user", "content": json.dumps(inputs)}]})
    runtime.close()

    assert (400, True, 200, inputs) == (
        wrong[0],
        "feedback, language" in wrong[1]["error"]["message"],
        right[0],
        heard.replies[0][0].inputs,
    )
