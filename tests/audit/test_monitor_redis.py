"""`promptops monitor` over a Redis stream: the same answer as over a file, and no event twice through an outage."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from test_monitor_command import slow, usual
from traffic import hours, line, reply, stamp

from conftest import Outcome
from runtime.redis_server import RedisServer

Call = Callable[..., Outcome]
KEY = "{promptops}:events"


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    """A database of its own: commands know no namespace."""
    address = redis_server.url.replace("/0", "/3")
    redis.Redis.from_url(address).flushdb()
    return address


def fill(url: str, events: Iterator[dict] | list[dict]) -> None:
    with redis.Redis.from_url(url) as client, client.pipeline(transaction=False) as pipeline:
        for event in events:
            pipeline.xadd(KEY, {"e": line(event)})
        pipeline.execute()


def test_a_stream_is_judged_as_the_file_of_the_same_events_is(call: Call, url: str, tmp_path: Path):
    """Verdict, alerts, tables and exit code are equal."""
    events = list(hours(30, 40, slow))
    file = tmp_path / "e.jsonl"
    file.write_bytes(b"".join(map(line, events)))
    fill(url, events)
    found, expected = call("monitor", "--events", url, "--json"), call("monitor", "--events", str(file), "--json")

    assert (1, 1, expected.json) == (found.code, expected.code, found.json)


def test_torn_unknown_and_future_entries_of_a_stream_are_counted(call: Call, url: str):
    """As in a file: an entry cut off, a kind of tomorrow, a version nobody knows, a clock that jumped."""
    fill(
        url,
        [
            reply(stamp(5)),
            {"at": stamp(5), "kind": "tomorrow"},
            reply(stamp(5), 1, version="v99.0.0"),
            reply(stamp(1), 2),
            reply("2999-01-01T00:00:00.000Z", 3),
        ],
    )
    client = redis.Redis.from_url(url)
    client.xadd(KEY, {"e": b'{"at":"20\n'})
    found = call("monitor", "--events", url, "--by", "version", "--json")

    assert (0, "no_limits") == (found.code, found.json["verdict"])
    assert {"torn": 1, "unknown": 1, "clock": 2, "dropped": 0, "unmatched": 0, "gone": 0} == found.json["losses"]
    assert ["v1.0.0", "v99.0.0"] == sorted(row["value"] for row in found.json["versions"])


def test_no_stream_an_empty_one_and_another_kind_of_key_are_told_apart(call: Call, url: str):
    """Nothing there and nothing in it are bad input (2); what cannot be read is no verdict (3)."""
    client = redis.Redis.from_url(url)
    nothing = call("monitor", "--events", url)
    client.xdel(KEY, client.xadd(KEY, {"e": line(reply(stamp(0)))}))
    empty = call("monitor", "--events", url)
    client.delete(KEY)
    client.set(KEY, "a text")
    other = call("monitor", "--events", url)
    client.delete(KEY)
    client.xadd(KEY, {"e": b"no line end"})
    foreign = call("monitor", "--events", url)

    assert [(2, "no stream of events"), (2, "no requests to look at"), (3, "cannot be read"), (3, "holds what is no event")] == [
        (found.code, next((said for said in ("no stream of events", "no requests to look at", "holds what is no event", "cannot be read") if said in found.err), found.err))
        for found in (nothing, empty, other, foreign)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("redis://127.0.0.1:1/0", 3, "the stream of events cannot be read"),
        ("redis://me:secret@127.0.0.1:1/0", 3, "redis://127.0.0.1:1/0"),
        ("redis://host:port/0", 2, "not an address of Redis"),
    ],
)
def test_a_server_that_is_away_is_exit_3_and_a_wrong_address_2(call: Call, address: str, code: int, said: str):
    """No password is printed."""
    for command in (
        ("monitor",),
        ("drift", "feedback-sentiment"),
        ("canary", "status", "triage", "--control", "1.0.0", "--canary", "1.1.0"),
    ):
        found = call(*command, "--events", address)
        assert (code, True, False) == (found.code, said in found.err, "secret@" in found.err), (command, found.err)


def test_following_goes_on_after_an_outage_without_reading_twice(tmp_path_factory: pytest.TempPathFactory):
    """The server freezes while a script waits: it says so once, waits, reads on where it was, and ends at the alert."""
    server = RedisServer(tmp_path_factory.mktemp("own"))
    try:
        fill(server.url, hours(30, 40, usual))
        child = subprocess.Popen(
            [sys.executable, "-m", "promptops", "monitor", "--events", server.url, "--follow", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert child.stderr
        assert "waiting for an alert; Ctrl-C ends\n" == child.stderr.readline()
        server.stop()
        assert "cannot be read" in child.stderr.readline()
        server.go_on()
        fill(server.url, (event | {"latency_ms": 9000.0} for event in hours(36, 40, usual) if event["at"] >= stamp(30)))
        out, err = child.communicate(timeout=120)
    finally:
        server.kill()
    found = Outcome(child.returncode, out, err)

    assert (1, "alert", 36 * 40) == (found.code, found.json["verdict"], found.json["events"])
