"""Feedback over HTTP: told to the observers, by the tenant that got the answer and by nobody else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PROMPT
from promptops.runtime.serve.app import Server
from promptops.runtime.serve.keys import Keys, key_hash
from promptops.runtime.telemetry.events import EventsFile, read_events
from promptops.runtime.testing import Heard, ScriptedModel, open_runtime
from promptops.testing import bundle_for
from runtime.test_serve import ANSWER, KEYS, QUESTION, Running, running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from promptops.project.scaffold import scaffold

    root = tmp_path_factory.mktemp("told") / "project"
    root.mkdir()
    scaffold(root)
    return bundle_for(PROMPT, root.parent, root=root, model="small")


@pytest.fixture
def told() -> Heard:
    return Heard()


@pytest.fixture
def served(place: Path, told: Heard) -> Iterator[Running]:
    runtime = open_runtime(place, ScriptedModel(ANSWER), observers=[told])
    with running(Server(runtime, KEYS, loopback=True)) as found:
        yield found
    runtime.close()


def ask(served: Running, key: str = "key-a", text: str = "It works.") -> str:
    status, body = served.post(
        {"model": PROMPT, "messages": [{"role": "user", "content": text}]}, Authorization=f"Bearer {key}"
    )
    assert 200 == status, body
    return str(body["id"])


def tell(served: Running, body: Any, key: str = "key-a", **headers: str) -> tuple[int, dict[str, Any]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, answer = served.raw("POST", "/v1/feedback", raw, **({"Authorization": f"Bearer {key}"} | headers))
    return status, json.loads(answer)


@pytest.mark.parametrize(
    ("sent", "event", "by"),
    [
        ({"good": True}, "feedback_good", "thumbs"), ({"by": "thumbs", "good": False}, "feedback_bad", "thumbs"), ({"by": "edit"}, "feedback_bad", "edit"),
        ({"by": "escalation"}, "feedback_bad", "escalation"), ({"by": "edit", "good": True}, "feedback_good", "edit"),
    ],
)  # fmt: skip
def test_feedback_is_told_under_the_id_of_the_reply(
    served: Running, told: Heard, sent: dict[str, Any], event: str, by: str
) -> None:
    """The id that a client saw, with or without the prefix of its API."""
    name = ask(served)
    bare = name.removeprefix("chatcmpl-")
    answers = [tell(served, {"id": given, **sent}) for given in (name, bare)]

    assert [(202, {"object": "feedback", "id": bare, "by": by, "good": event == "feedback_good"})] * 2 == answers
    assert [(event, f"{bare} {by}")] * 2 == [notice for notice in told.notices if notice[0].startswith("feedback")]
    assert bare == told.replies[0][1].request_id


def test_a_streamed_answer_has_an_id_too(served: Running) -> None:
    """In every piece."""
    with served.client("key-a").chat.completions.create(model=PROMPT, messages=QUESTION, stream=True) as pieces:  # type: ignore[call-overload]
        ids = {piece.id for piece in pieces}

    assert (1, 202) == (len(ids), tell(served, {"id": ids.pop(), "good": True})[0])


def test_T12_another_tenant_cannot_tell_about_it(served: Running, told: Heard) -> None:
    """Nor can anybody without a key; a made-up id is nobody's."""
    name = ask(served, "key-a")
    nonce = name.removeprefix("chatcmpl-").partition("-")[0]

    assert [404, 401, 404, 404, 404] == [
        tell(served, {"id": given, "good": False}, key)[0]
        for given, key in (
            (name, "key-b"),
            (name, "wrong"),
            (f"{nonce}-000000000000", "key-a"),
            (nonce, "key-a"),
            ("é-x", "key-a"),
        )
    ]
    assert [] == [notice for notice in told.notices if notice[0].startswith("feedback")]


def test_an_id_is_good_in_another_process_and_after_a_new_key(place: Path, served: Running) -> None:
    """What it rests on is in the file of keys alone."""
    name = ask(served).removeprefix("chatcmpl-")
    later = Keys({key_hash("key-a"): "acme", key_hash("key-b"): "globex", key_hash("key-c"): "acme"})

    assert (True, False) == (later.is_of(name, "acme"), later.is_of(name, "globex"))
    assert 100 == len({later.new_id("acme") for _ in range(100)})
    assert Keys({}).is_of(Keys({}).new_id("default"), "default")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"good": True}, "id"), ({"id": 3, "good": True}, "id"), ({"id": "", "good": True}, "id"), ({"id": "x" * 101, "good": True}, "id"), ({"id": "x"}, "good"),
        ({"id": "x", "good": "no"}, "good"), ({"id": "x", "good": 1}, "good"), ({"id": "x", "by": "judge", "good": True}, "by"), ({"id": "x", "by": ["edit"]}, "by"),
        ({"id": "x", "good": False, "text": "what a user wrote"}, "text"), ({"id": "x", "good": False, "tenant": "globex"}, "tenant"),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_named(served: Running, sent: dict[str, Any], param: str) -> None:
    """400 with the parameter; nothing is silently dropped."""
    status, body = tell(served, sent)

    assert (400, param) == (status, body["error"]["param"])


def test_a_body_that_is_no_json_is_refused(served: Running) -> None:
    """As for answers."""
    assert [400, 400, 415] == [
        tell(served, b"{")[0],
        tell(served, b"[]")[0],
        tell(served, b"{}", Content_Type="text/plain")[0],
    ]
    assert 405 == served.raw("GET", "/v1/feedback", None, Authorization="Bearer key-a")[0]


def test_the_monitor_joins_it_with_the_reply(place: Path, tmp_path: Path) -> None:
    """In the events file, feedback carries the id of the reply's line."""
    events = EventsFile(tmp_path / "events.jsonl")
    runtime = open_runtime(place, ScriptedModel(ANSWER), observers=[events])
    with running(Server(runtime, KEYS, loopback=True)) as served:
        name = ask(served).removeprefix("chatcmpl-")
        tell(served, {"id": name, "by": "escalation"})
    runtime.close()
    events.close()
    rows = list(read_events(tmp_path / "events.jsonl"))

    assert [name] == [row["id"] for row in rows if row["kind"] == "reply"]
    assert [f"{name} escalation"] == [row["reason"] for row in rows if row.get("event") == "feedback_bad"]
