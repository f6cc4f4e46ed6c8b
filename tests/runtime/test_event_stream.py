"""Events in a Redis stream: each once, bounded in number and age, and no request waits for the server."""

import json
import time

import pytest

from promptops.runtime.base import Reply, Request
from promptops.runtime.state import StateError
from promptops.runtime.telemetry.stream import EventsStream, EventStream
from runtime.redis_server import RedisServer

DAY_S = 86_400.0


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory):
    """A server that a test may freeze or kill."""
    server = RedisServer(tmp_path_factory.mktemp("own"))
    yield server
    server.kill()


def names(stream: EventStream) -> list[str]:
    return [event.get("event", event["kind"]) for event in map(json.loads, stream.unread())]


def test_what_is_written_is_read_once_and_reading_goes_on_from_there(redis_server: RedisServer, namespace: str):
    """The position of a reader is the last entry it has read."""
    sink = EventsStream(redis_server.url, namespace=namespace)
    reader = EventStream(redis_server.url, namespace=namespace)
    before = reader.exists()
    sink.replied(
        Request(id="1", prompt="triage", inputs={}),
        Reply(text="", source="model", prompt="triage", version="v1", request_id="1"),
    )
    sink.noticed("one", "")
    sink.flush()
    first = names(reader)
    sink.noticed("two", "")
    sink.close()

    assert (False, ["reply", "one"], ["two"], [], 0) == (before, first, names(reader), names(reader), reader.lost)


def test_more_than_a_page_is_read_in_order(redis_server: RedisServer, namespace: str):
    sink = EventsStream(redis_server.url, namespace=namespace)
    for number in range(4500):
        sink.noticed(str(number), "")
    sink.close()
    reader = EventStream(redis_server.url, namespace=namespace)

    assert list(map(str, range(4500))) == names(reader) == [json.loads(line)["event"] for line in reader.lines()]


def test_T34_the_stream_is_bounded_in_number_and_a_reader_that_is_late_knows(redis_server: RedisServer, namespace: str):
    """Old entries go in blocks of 100; what went before it was read is counted."""
    sink = EventsStream(redis_server.url, namespace=namespace, max_events=300)
    reader = EventStream(redis_server.url, namespace=namespace)
    sink.noticed("first", "")
    sink.flush()
    seen = names(reader)
    for number in range(2000):
        sink.noticed(str(number), "x" * 400)
    sink.close()
    seen += names(reader)

    assert len(seen) <= 1 + 400
    assert (2001, "1999") == (len(seen) + reader.lost, seen[-1])


def test_events_older_than_the_window_go_with_the_next_that_come(redis_server: RedisServer, namespace: str):
    """Entries are as old as the server says."""
    import redis

    client = redis.Redis.from_url(redis_server.url)
    old_ms = int((time.time() - 8 * DAY_S) * 1000)
    for number in range(3):
        client.xadd(f"{{{namespace}}}:events", {"e": b'{"event":"old"}\n'}, id=f"{old_ms}-{number + 1}")
    kept, pruned = (
        EventsStream(redis_server.url, namespace=namespace, keep_days=9),
        EventsStream(redis_server.url, namespace=namespace, keep_days=7),
    )
    reader = EventStream(redis_server.url, namespace=namespace)
    kept.noticed("one", "")
    kept.close()
    before = [json.loads(line)["event"] for line in reader.lines()]
    pruned.noticed("two", "")
    pruned.close()

    assert (["old", "old", "old", "one"], ["one", "two"]) == (
        before,
        [json.loads(line)["event"] for line in reader.lines()],
    )


def test_T8_a_server_that_hangs_keeps_no_request_waiting_and_costs_no_event(own_server: RedisServer, namespace: str):
    """Handing over 5,000 events to a frozen server never takes the 50 ms a request may wait; afterwards each is there once, in order."""
    sink = EventsStream(own_server.url, namespace=namespace, timeout_s=0.1)
    sink.noticed("0", "")
    sink.flush()
    own_server.stop()
    slowest = 0.0
    for number in range(1, 5000):
        started = time.thread_time()
        sink.noticed(str(number), "")
        slowest = max(slowest, time.thread_time() - started)
    with pytest.raises(StateError):
        sink.flush()
    own_server.go_on()
    _until_flushed(sink)
    sink.close()
    reader = EventStream(own_server.url, namespace=namespace)

    assert list(map(str, range(5000))) == names(reader)
    assert slowest < 0.05


def test_T8_a_server_that_is_away_drops_events_and_counts_them(own_server: RedisServer, namespace: str):
    """Memory is bounded: 10,000 wait, the others are a number in the stream."""
    sink = EventsStream(own_server.url, namespace=namespace, timeout_s=0.1)
    own_server.kill()
    with sink._writing:  # nothing is sent meanwhile
        for number in range(10_250):
            sink.noticed(str(number), "")
    with pytest.raises(StateError):
        sink.flush()
    own_server.start()
    _until_flushed(sink)
    sink.close()
    found = [json.loads(line) for line in EventStream(own_server.url, namespace=namespace).lines()]

    assert [250] == [event["count"] for event in found if event["kind"] == "dropped"]
    assert 10_000 == sum(event["kind"] == "notice" for event in found)


def test_a_batch_whose_answer_was_lost_is_added_once(redis_server: RedisServer, namespace: str):
    """The same batch again changes nothing; another one with the same lines is another one."""
    sink = EventsStream(redis_server.url, namespace=namespace)
    lines = [b'{"event":"a"}\n', b'{"event":"b"}\n']
    for batch in (lines, lines, list(lines)):
        sink._send(batch)
    sink.close()

    assert ["a", "b", "a", "b"] == [
        json.loads(line)["event"] for line in EventStream(redis_server.url, namespace=namespace).lines()
    ]


def _until_flushed(sink: EventsStream) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return sink.flush()
        except StateError:
            assert time.monotonic() < deadline, "the server did not come back"
            time.sleep(0.05)
