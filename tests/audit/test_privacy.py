"""A tenant that is erased is in no cache, queue or event any more, and nobody else lost anything."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from traffic import NOW, line, notice, reply, stamp

from conftest import Outcome
from promptops.audit.privacy import erase_events, retain_stream
from promptops.core.errors import DataError
from promptops.runtime.base import Reply, Request
from promptops.runtime.cache import partition_of, tags_of
from promptops.runtime.queue import open_queue
from promptops.runtime.state.opening import open_state
from promptops.runtime.telemetry import EventsFile, read_events, tenant_hash
from promptops.runtime.telemetry.stream import EventsStream, EventStream

Call = Callable[..., Outcome]
SECRET = b"the card of acme is 4111"


def payload(tenant: str) -> bytes:
    return json.dumps(
        {"prompt": "triage", "inputs": {"ticket": SECRET.decode()}, "tenant": tenant, "feature": "", "category": ""}
    ).encode()


@pytest.fixture(params=["sqlite", "redis"])
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "redis":
        url = f"{request.getfixturevalue('redis_server').url}"
        return url, url
    return f"sqlite:{tmp_path / 'state.sqlite3'}", f"sqlite:{tmp_path / 'queue.sqlite3'}"


def test_a_tenant_is_erased_everywhere_and_others_are_not(
    addresses: tuple[str, str], call: Call, tmp_path: Path, monkeypatch
):
    """Two tenants with the same question: one goes from cache, queue, events and rotated events, byte for byte."""
    monkeypatch.setenv("PROMPTOPS_TELEMETRY_SALT", "pepper")
    state, queue = open_state(addresses[0]), open_queue(addresses[1])
    for tenant in ("acme", "other"):
        state.put(partition_of(tenant), "key", SECRET, keep_s=3600, tags=tags_of("triage", "v1.0.0", tenant, ()))
        queue.put(f"{addresses[0]}{tenant}", payload(tenant))
    state.close()
    queue.close()
    acme, other = (tenant_hash(tenant, "pepper") for tenant in ("acme", "other"))
    path = tmp_path / "e.jsonl"
    path.with_name("e.jsonl.2").write_bytes(
        line(reply(stamp(0), 0, tenant=acme)) + line(reply(stamp(0), 1, tenant=other))
    )
    path.write_bytes(line(reply(stamp(1), 2, tenant=acme)) + line(notice(stamp(1), "feedback_bad", "r2 thumbs")) + line(notice(stamp(1), "feedback_bad", "r1 thumbs")))  # fmt: skip
    arguments = (
        "privacy",
        "erase",
        "--tenant",
        "acme",
        "--state",
        addresses[0],
        "--queue",
        addresses[1],
        "--events",
        str(path),
    )

    unasked = call(*arguments)
    done = call(*arguments, "--yes", "--json")
    again = call(*arguments, "--yes", "--json")

    assert (2, True) == (unasked.code, "not confirmed" in unasked.err)
    assert (0, [("cache", 1, 0), ("queue", 1, 0), ("events", 3, 0)]) == (
        done.code,
        [(place["kind"], place["erased"], place["left"]) for place in done.json["places"]],
    )
    assert [0, 0, 0] == [place["erased"] for place in again.json["places"]]
    state, queue = open_state(addresses[0]), open_queue(addresses[1])
    jobs = [json.loads(job.payload)["tenant"] for job in queue.jobs(9)]
    entries = [state.get(partition_of(tenant), "key") is not None for tenant in ("acme", "other")]
    queue.remove(queue.jobs(1)[0])
    state.invalidate(f"tenant:{partition_of('other')}")
    state.close()
    queue.close()
    assert (["other"], [False, True]) == (jobs, entries)
    assert [("r1", None), (None, "r1 thumbs")] == [
        (event.get("id"), event.get("reason")) for event in read_events(path)
    ]


def test_deleted_pages_hold_nothing_of_the_tenant(call: Call, tmp_path: Path):
    """SQLite leaves what was deleted in the file until the page is used again; after an erasure no byte is there."""
    queue = open_queue(str(tmp_path / "q.sqlite3"))
    queue.put("k", payload("acme"))
    queue.close()
    done = call("privacy", "erase", "--tenant", "acme", "--queue", f"sqlite:{tmp_path / 'q.sqlite3'}", "--yes")

    assert (0, True) == (done.code, done.out.startswith("ERASED  tenant acme: 1 entries"))
    assert [] == [file.name for file in tmp_path.glob("q.sqlite3*") if SECRET in file.read_bytes()]


def test_a_service_goes_on_writing_its_events(tmp_path: Path):
    """Its file is moved under it; it opens a new one, and the order of events stays."""
    path = tmp_path / "e.jsonl"
    events = EventsFile(path, clock=lambda: NOW)

    def write(tenant: str, name: str) -> None:
        events.replied(Request(id=name, prompt="triage", inputs={}, tenant=tenant),
                       Reply(text="", source="model", prompt="triage", version="v1", request_id=name))  # fmt: skip
        events.flush()

    write("acme", "1")
    write("other", "2")
    found = erase_events(path, "acme")
    write("other", "3")
    events.close()

    assert (1, 0, ["2", "3"]) == (found.erased, found.left, [event["id"] for event in read_events(path)])
    assert ["e.jsonl", "e.jsonl.1"] == sorted(file.name for file in tmp_path.glob("e.jsonl*"))


def test_an_erasure_that_was_cut_short_is_finished_by_the_next(tmp_path: Path):
    """A crash after the move leaves FILE.erasing; nothing of it is lost or kept too long."""
    path = tmp_path / "e.jsonl"
    path.with_name("e.jsonl.erasing").write_bytes(
        line(reply(stamp(0), 1, tenant=tenant_hash("acme"))) + line(reply(stamp(0), 2))
    )
    path.write_bytes(line(reply(stamp(1), 3, tenant=tenant_hash("acme"))))
    first, second = erase_events(path, "acme"), erase_events(path, "acme")

    assert (2, 0, 0, 0) == (first.erased, first.left, second.erased, second.left)
    assert ["r2"] == [event["id"] for event in read_events(path)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing says where the data is"),
        (("--events", "gone.jsonl"), "no events file"),
        (("--queue", "sqlite:gone.sqlite3"), "there is no such file"),
        (("--state", "memory"), "memory is in the services"),
        (("--state", "nonsense://x"), "is no state"),
    ],
)
def test_a_place_that_is_none_is_bad_input(call: Call, arguments: tuple[str, ...], said: str):
    """A typing error must not look like a tenant of whom nothing is kept."""
    found = call("privacy", "erase", "--tenant", "acme", "--yes", *arguments)

    assert (2, True) == (found.code, said in found.err)


def test_no_file_is_no_proof(tmp_path: Path):
    with pytest.raises(DataError, match="no events file"):
        erase_events(tmp_path / "e.jsonl", "acme")


def test_a_tenant_is_erased_from_the_stream_of_events(redis_server, call: Call, monkeypatch: pytest.MonkeyPatch):
    """Replies, verdicts and feedback of the tenant go; others stay in order, and services go on writing."""
    import redis

    monkeypatch.setenv("PROMPTOPS_TELEMETRY_SALT", "pepper")
    url = redis_server.url.replace("/0", "/1")
    client = redis.Redis.from_url(url)
    client.flushdb()
    sink = EventsStream(url, salt="pepper", content=True)
    for number, tenant in enumerate(("acme", "other", "acme")):
        sink.replied(Request(id=f"r{number}", prompt="triage", inputs={"ticket": SECRET.decode()}, tenant=tenant),
                     Reply(text="", source="model", prompt="triage", version="v1", request_id=f"r{number}"))  # fmt: skip
        sink.noticed("feedback_bad", f"r{number} thumbs")
    sink.flush()
    arguments = ("privacy", "erase", "--tenant", "acme", "--events", url, "--yes", "--json")
    done, again = call(*arguments), call(*arguments)
    sink.noticed("later", "")
    sink.close()
    stream = EventStream(url)
    found = [(event.get("id"), event.get("reason")) for event in map(json.loads, stream.lines())]
    stream.close()

    assert (0, [("events", 4, 0)], [("events", 0, 0)]) == (done.code, *([(place["kind"], place["erased"], place["left"]) for place in outcome.json["places"]] for outcome in (done, again)))  # fmt: skip
    assert [("r1", None), (None, "r1 thumbs"), (None, "")] == found


def test_what_is_older_than_the_window_is_removed(addresses: tuple[str, str], call: Call, tmp_path: Path):
    """Events by what they say, a torn line with the one before it; queued requests by how long they have waited."""
    path = tmp_path / "e.jsonl"
    recent = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    path.with_name("e.jsonl.1").write_bytes(_line(stamp(0)) + b'{"at":"20' + b"\n" + _line(recent))
    path.write_bytes(_line(recent))
    queue = open_queue(addresses[1])
    queue.put(f"{addresses[0]}-retained", payload("acme"))
    queue.close()
    done = call("privacy", "retain", "--days", "1", "--events", str(path), "--queue", addresses[1], "--yes", "--json")
    everything = call("privacy", "retain", "--days", "0", "--queue", addresses[1], "--yes", "--json")

    assert (0, [("events", 2, 0), ("queue", 0, 0)]) == (done.code, [(place["kind"], place["erased"], place["left"]) for place in done.json["places"]])  # fmt: skip
    assert [recent, recent] == [event["at"] for event in read_events(path)]
    assert (0, True) == (everything.code, everything.json["places"][0]["erased"] >= 1)


def test_old_events_are_removed_from_the_stream(redis_server, call: Call):
    import redis

    url = redis_server.url.replace("/0", "/2")
    client = redis.Redis.from_url(url)
    client.flushdb()
    for number in range(3):
        client.xadd("{promptops}:events", {"e": _line(f"2026-11-0{number + 1}T00:00:00.000Z")})
    now = datetime(2026, 11, 3, tzinfo=UTC).timestamp()
    found = retain_stream(url, days=1, now=now)

    assert (1, 0, 2) == (found.erased, found.left, client.xlen("{promptops}:events"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("retain", "--days", "7"), 2, "where?"),
        (("retain", "--days", "7", "--events", "gone.jsonl"), 2, "no events file"),
        (("retain", "--days", "-1", "--events", "gone.jsonl"), 2, "days"),
        (("retain", "--days", "7", "--events", "redis://127.0.0.1:1/0"), 3, "the stream of events cannot be used"),
        (("erase", "--tenant", "acme", "--events", "redis://127.0.0.1:1/0"), 3, "the stream of events cannot be used"),
    ],
)
def test_bad_input_and_a_server_that_is_away(call: Call, arguments: tuple[str, ...], code: int, said: str):
    found = call("privacy", *arguments, "--yes")

    assert (code, True) == (found.code, said in found.err)


def _line(at: str) -> bytes:
    return json.dumps(reply(at), separators=(",", ":")).encode() + b"\n"
