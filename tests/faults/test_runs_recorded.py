"""Recordings stand in for a provider, and keys are needed only where somebody is asked and are written nowhere."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from slow_server import Reply, paid_project

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
WITH_KEY = 'api_key_env = "SLOW_KEY"'
CANARY = "canary/key+7f3a9c51d2e84b06"


def the_run(outcome: Outcome) -> dict[str, Any]:
    (row,) = outcome.json["runs"]
    return row


def test_L14_recordings_are_replayed_without_key_and_without_server(
    sandbox: Sandbox, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """A replay gives the verdict of the recorded run, on a machine that has neither the key nor the store."""
    with paid_project(sandbox, cases=6, model=WITH_KEY) as server:
        monkeypatch.setenv("SLOW_KEY", CANARY)
        recorded = call("eval", "--record", "recordings", "--repeat", "2", "--json")
    monkeypatch.delenv("SLOW_KEY")
    sandbox.path(".promptops").rename(sandbox.path("elsewhere"))
    replayed = call("eval", "--replay", "recordings", "--repeat", "2", "--json")

    same = ("state", "subject", "total", "categories")
    assert (0, 0, 12, 12) == (
        recorded.code,
        replayed.code,
        server.calls,
        len(list(sandbox.path("recordings").iterdir())),
    )
    assert {key: the_run(recorded)[key] for key in same} == {key: the_run(replayed)[key] for key in same}
    assert (0, 0) == (the_run(replayed)["calls"], the_run(replayed)["paid_nanousd"])


def test_L14_without_a_key_nothing_begins(sandbox: Sandbox, call: Call):
    """A missing key is bad input: no call, no run; models that need no key work."""
    with paid_project(sandbox, cases=4, model=WITH_KEY) as server:
        refused = call("eval", "--json")
        runs = call("runs", "list", "--json").json["runs"]
        local = call("eval", "--model", "local")

    (problem,) = refused.json["error"]["problems"]
    assert (2, "SLOW_KEY is not set", [], 0) == (refused.code, problem["why"], runs, server.calls)
    assert local.code in (0, 1)


def test_a_missing_recording_names_the_case_and_is_no_verdict(sandbox: Sandbox, call: Call):
    """Exit 3, the case by name, and nothing taken from the store in its place."""
    with paid_project(sandbox, cases=4) as server:
        call("eval", "--record", "recordings")
        rows = sandbox.rows()
        rows[1]["inputs"]["feedback"] = "Never recorded."
        sandbox.write_rows(rows)
        call("eval")
        replayed = call("eval", "--replay", "recordings", "--json")

    (worst,) = the_run(replayed)["worst"]
    assert (3, 5, {"not_recorded": 1}, "case-001") == (
        replayed.code, server.calls, the_run(replayed)["outcomes"], worst["case"],
    )  # fmt: skip
    assert "record it with --record" in worst["why"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"outcome": "ok", "extra": 1}', b"\xff"])
def test_a_damaged_recording_is_said_and_is_no_verdict(sandbox: Sandbox, call: Call, content: bytes):
    """A cut or foreign file is neither an answer nor a bug."""
    with paid_project(sandbox, cases=2):
        call("eval", "--record", "recordings")
    broken = min(sandbox.path("recordings").iterdir())
    broken.write_bytes(content)
    replayed = call("eval", "--replay", "recordings", "--json")

    (worst,) = the_run(replayed)["worst"]
    assert (3, {"not_recorded": 1}) == (replayed.code, the_run(replayed)["outcomes"])
    assert "is damaged" in worst["why"]


def test_answers_from_the_store_are_recorded_too(sandbox: Sandbox, call: Call):
    """`--record` keeps every answer of the run, whoever paid for it; errors are not recorded."""
    with paid_project(sandbox, cases=4, reply=lambda text, _: Reply(status=400) if "3." in text else Reply()) as server:
        call("eval")
        call("eval", "--record", "recordings")

    texts = [json.loads(file.read_bytes())["text"] for file in sandbox.path("recordings").iterdir()]
    assert ['{"sentiment": "positive"}'] * 3 == texts
    assert 5 + 2 >= server.calls


@pytest.mark.parametrize("place", ["promptops.toml", "promptops.toml/below"])
def test_a_folder_for_recordings_that_cannot_be_is_said_before_anything_is_paid(
    sandbox: Sandbox, call: Call, place: str
):
    """The folder is tried before the first call."""
    with paid_project(sandbox, cases=4) as server:
        refused = call("eval", "--record", place, "--json")

    (problem,) = refused.json["error"]["problems"]
    assert (3, "recordings cannot be written", place, 0) == (
        refused.code,
        problem["what"],
        problem["where"],
        server.calls,
    )


def test_record_and_replay_exclude_each_other(sandbox: Sandbox, call: Call):
    """A replay records nothing new."""
    assert 2 == call("eval", "--record", "a", "--replay", "b").code


def forms(secret: str) -> dict[str, bytes]:
    encoded = base64.b64encode(secret.encode())
    return {
        "literal": secret.encode(),
        "url": quote(secret, safe="").encode(),
        "base64": encoded,
        "unpadded": encoded.rstrip(b"="),
    }


def every_file(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())


def test_S10_L16_a_key_is_nowhere_on_disk_and_in_no_output(
    sandbox: Sandbox, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A server that echoes the key in answers and errors, as it is, URL-encoded and base64, leaves no trace of it."""
    echo = " ".join(value.decode() for value in forms(CANARY).values())
    document = json.dumps({"sentiment": "positive", "note": echo})

    def reply(text: str, _: int) -> Reply:
        replies = {"0": Reply(text=document), "1": Reply(status=400, text=echo), "2": Reply(status=500, text=echo)}
        return replies.get(text.split("number ")[1][0], Reply(text=echo))

    monkeypatch.setenv("SLOW_KEY", CANARY)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with paid_project(sandbox, cases=4, reply=reply, model=WITH_KEY):
        commands = [
            ("--debug", "eval", "--record", "recordings", "--log-format", "json"), ("eval", "--json"), ("--debug", "retry"), ("view", "--all"),
            ("view", "--case", "case-000"), ("view", "--case", "case-001", "--json"), ("runs", "export", "latest", "-o", "run.jsonl"),
        ]  # fmt: skip
        shown = "".join(outcome.out + outcome.err for outcome in (call(*command) for command in commands))

    kept = {path.name: path.read_bytes() for path in every_file(sandbox.root, tmp_path / "tmp")}
    assert {"store.sqlite3", "run.jsonl"} <= set(kept)
    assert any(b"<secret>" in content for content in kept.values())
    for form, value in forms(CANARY).items():
        assert [] == [name for name, content in kept.items() if value in content], form
        assert value.decode() not in shown, form


def test_S10_a_key_is_not_in_what_a_server_calls_its_model(
    sandbox: Sandbox, call: Call, monkeypatch: pytest.MonkeyPatch
):
    """Every field of a response that is kept is searched for the key."""
    monkeypatch.setenv("SLOW_KEY", CANARY)
    with paid_project(sandbox, cases=2, model=WITH_KEY, reply=lambda *_: Reply(extra={"model": CANARY})):
        call("eval", "--record", "recordings")

    files = every_file(sandbox.path(".promptops"), sandbox.path("recordings"))
    assert [] == [path.name for path in files if CANARY.encode() in path.read_bytes()]


@pytest.mark.parametrize("cut", range(150, 200, 7))
def test_S10_a_key_cut_by_the_end_of_an_excerpt_is_not_shown(
    sandbox: Sandbox, call: Call, monkeypatch: pytest.MonkeyPatch, cut: int
):
    """Errors show the first 200 bytes of a body: a key across that end does not lose its last part only."""
    monkeypatch.setenv("SLOW_KEY", CANARY)
    echo = Reply(status=400, text="x" * cut + CANARY)
    with paid_project(sandbox, cases=2, model=WITH_KEY, reply=lambda *_: echo):
        shown = call("eval", "--json")

    assert 3 == shown.code
    assert [] == [length for length in range(8, len(CANARY)) if CANARY[:length] in shown.out]


def test_L16_prompts_are_not_in_the_logs(sandbox: Sandbox, call: Call):
    """Progress as JSON lines and --debug say how far a run is, not what is asked or answered."""
    with paid_project(sandbox, cases=3):
        shown = call("--debug", "eval", "--log-format", "json")

    assert (0, False, False) == (shown.code, "Feedback number" in shown.err, 'sentiment": ' in shown.err)
    assert PROMPT in shown.err
