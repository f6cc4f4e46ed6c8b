"""What went wrong in services becomes cases to be labelled: with a reason each, masked, and through the same file as all others."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from traffic import line, notice, reply, stamp, verdict

from conftest import PROMPT, Outcome, Sandbox
from runtime.redis_server import RedisServer

Call = Callable[..., Outcome]
REJECTED = [{"stage": "guardrails", "decision": "rejected", "reason": "no sentiment", "at_ms": 1.0}]
REFUSED = [{"stage": "model", "decision": "refused", "reason": "", "at_ms": 1.0}]
TIMEOUT = [{"stage": "model", "decision": "timeout", "reason": "", "at_ms": 1.0}]


def asked(number: int, text: str | None, **changes) -> dict:
    texts = {} if text is None else {"inputs": {"feedback": text}, "text": "{}"}
    return reply(stamp(0), number, prompt=PROMPT, **texts) | changes


@pytest.fixture
def events(sandbox: Sandbox) -> Path:
    """Each kind of trouble once, a network failure, a known case, another prompt, and questions no case is like."""
    known = sandbox.rows()[0]["inputs"]["feedback"]
    rows = [
        asked(1, "The driver left it in the rain, ana@example.com"), notice(stamp(0), "feedback_bad", "r1 escalation"),
        asked(2, "Your app ate my order"), notice(stamp(0), "feedback_bad", "r2 edit"),
        asked(3, "Call me on +49 30 1234567"), notice(stamp(0), "feedback_bad", "r3 thumbs"),
        judged := asked(4, "The box was open"), verdict(judged, failing=True),
        asked(5, "Nothing fits", steps=REJECTED), asked(6, "You are all thieves", steps=REFUSED),
        asked(7, "It was late", steps=TIMEOUT), notice(stamp(0), "feedback_good", "r7 thumbs"),
        asked(8, known), notice(stamp(0), "feedback_bad", "r8 thumbs"),
        asked(9, None), notice(stamp(0), "feedback_bad", "r9 thumbs"), asked(10, "elsewhere") | {"prompt": "other"},
        *(asked(20 + number, "zymurgy qubit flotsam marzipan quokka") for number in range(9)),
    ]  # fmt: skip
    return sandbox.write("e.jsonl", b"".join(map(line, rows)) + b'{"at": "20')


KINDS = ["escalated", "edited", "thumbs down", "low score", "rejected", "refused"]


def test_each_kind_of_trouble_is_a_candidate_with_its_reason(call: Call, events: Path):
    """What people said first; a timeout says nothing about the input, and what is a case already is none."""
    found = call("golden", "suggest", PROMPT, "--from-events", str(events), "-k", "12", "--json").json
    rows = [(row["kind"], row["id"]) for row in found["suggestions"]]

    assert [(kind, f"r{number}") for number, kind in enumerate(KINDS, 1)] == rows[:6]
    assert ("uncovered", "r20") in rows[6:]
    assert (17, 18) == (found["with_texts"], found["replies"])
    assert ["low score: 0.20", "rejected: no sentiment", "refused: refused"] == [
        row["reason"] for row in found["suggestions"][3:6]
    ]
    assert {"r7", "r8", "r9"} & {row["id"] for row in found["suggestions"] if row["kind"] != "uncovered"} == set()
    assert 9 == next(row["requests"] for row in found["suggestions"] if row["id"] == "r20")


def test_half_is_kept_for_what_no_case_covers(call: Call, events: Path):
    found = call("golden", "suggest", PROMPT, "--from-events", str(events), "-k", "2", "--json").json

    assert [("escalated", "r1"), ("uncovered", "r20")] == [(row["kind"], row["id"]) for row in found["suggestions"]]


def test_they_are_masked_and_go_the_way_of_all_suggestions(call: Call, sandbox: Sandbox, events: Path):
    """`golden add` writes them with their reason; what waits there is not suggested again, and an import takes them once labelled."""
    shown = call("golden", "suggest", PROMPT, "--from-events", str(events), "-k", "6")
    added = call("golden", "add", PROMPT, "--from-events", str(events), "-k", "6", "--json")
    todo = f"golden/{PROMPT}.todo.jsonl"
    rows = [json.loads(row) for row in sandbox.read(todo).splitlines()]
    again = call("golden", "suggest", PROMPT, "--from-events", str(events), "-k", "12", "--json").json

    assert (0, False, True) == (shown.code, "ana@example.com" in shown.out, "<email>" in shown.out)
    assert f"next: promptops golden add {PROMPT} --from-events {events} -k" in shown.out
    assert (0, len(rows), {"email": 1, "phone": 1}) == (added.code, added.json["added"], added.json["masked"])
    assert "events, r1: escalated" == rows[0]["source"]
    assert "The driver left it in the rain, <email>" == rows[0]["inputs"]["feedback"]
    assert set() == {row["id"] for row in again["suggestions"]} & {row["source"].split()[1].rstrip(":") for row in rows}
    labelled = [
        row | {"category": sandbox.rows()[0]["category"], "expected": sandbox.rows()[0]["expected"]} for row in rows
    ]
    sandbox.write(todo, "".join(json.dumps(row) + "\n" for row in labelled))
    assert 0 == call("golden", "import", PROMPT, todo).code


def test_personal_data_stays_only_when_it_is_asked_for(call: Call, sandbox: Sandbox, events: Path):
    call("golden", "add", PROMPT, "--from-events", str(events), "-k", "2", "--keep-pii")

    assert "ana@example.com" in sandbox.read(f"golden/{PROMPT}.todo.jsonl")


def test_a_stream_gives_the_same_candidates(call: Call, events: Path, redis_server: RedisServer):
    url = redis_server.url.replace("/0", "/5")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        for row in events.read_bytes().splitlines(keepends=True)[:-1]:
            client.xadd("{promptops}:events", {"e": row})
    of_stream, of_file = (
        call("golden", "suggest", PROMPT, "--from-events", place, "--json").json for place in (url, str(events))
    )

    assert of_file == of_stream


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "nothing says what users send"),
        (("--from-events", "gone.jsonl"), 2, "no events file"),
        (("--from-events", "e.jsonl", "--traffic", "e.jsonl"), 2, "exclude each other"),
        (("--from-events", "plain.jsonl"), 2, "none with inputs that fit"),
        (("--from-events", "e.jsonl", "--radius", "2"), 2, "--radius"),
        (("--from-events", "redis://127.0.0.1:1/0"), 3, "cannot be read"),
    ],
)
def test_bad_input(call: Call, sandbox: Sandbox, events: Path, arguments: tuple[str, ...], code: int, said: str):
    """Events without texts say how services keep them."""
    sandbox.write("plain.jsonl", line(asked(1, None)))
    for command in ("suggest", "add"):
        found = call("golden", command, PROMPT, *arguments)
        assert (code, True) == (found.code, said in found.err), found.err
