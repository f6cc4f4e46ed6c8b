"""Events are counted once each; what cannot be counted is counted as that."""

import json
from pathlib import Path

import pytest
from traffic import NOW, line, notice, read, reply, stamp

from promptops.audit.events import EventReader, Histogram, Losses
from promptops.audit.sources import EventLines, read_traffic
from promptops.core.errors import DataError
from promptops.runtime.base import Reply, Request, Step
from promptops.runtime.telemetry import EventsFile

FAILED = [{"stage": "model", "decision": "server_error", "reason": "", "at_ms": 50.0}, {"stage": "model", "decision": "ok", "reason": "", "at_ms": 90.0}]  # fmt: skip
REJECTED = [{"stage": "model", "decision": "ok", "reason": "", "at_ms": 50.0}, {"stage": "guardrails", "decision": "rejected", "reason": "", "at_ms": 51.0}]  # fmt: skip
REFUSED = [{"stage": "model", "decision": "refused", "reason": "", "at_ms": 50.0}]


def test_each_request_is_counted_in_every_dimension_it_has():
    """Errors are failed calls whatever answered later; a stand-in is a fallback; feedback finds its reply."""
    traffic = read([
        reply(stamp(0), 0, steps=FAILED), reply(stamp(0), 1, steps=REJECTED, source="text", degraded="guardrails rejected", tenant="t2"),
        reply(stamp(1), 2, steps=REFUSED, source="rules", degraded="model refused", language="ja"), reply(stamp(1), 3, source="cache", calls=0, cost_nanousd=0),
        notice(stamp(1), "feedback_bad", "r2 thumbs"), notice(stamp(1), "feedback_good", "r0 judge"), notice(stamp(1), "semantic_audit_wrong", "triage: 1 of 1 audited hits were wrong"),
    ])  # fmt: skip
    whole = traffic.totals("prompt")["prompt", "triage", ""]

    assert (4, 1, 2, 1, 1, 1) == (
        whole.requests,
        whole.errors,
        whole.fallbacks,
        whole.rejected,
        whole.refused,
        whole.cached,
    )
    assert (3000, 2, 1) == (whole.cost_nanousd, whole.scored, whole.bad)
    assert {("tenant", "", "t1"): 3, ("tenant", "", "t2"): 1} == {
        key: tally.requests for key, tally in traffic.totals("tenant").items()
    }
    assert (1, 1) == ((ja := traffic.totals("language")["language", "triage", "ja"]).scored, ja.bad)
    assert ({"triage": [1, 1]}, ["2026-11-01T00", "2026-11-01T01"], Losses()) == (
        traffic.audited,
        list(traffic.buckets),
        traffic.losses,
    )


def test_what_the_runtime_writes_is_what_monitoring_reads(tmp_path: Path):
    """One form, two sides: a reply and a notice of the real writer are counted without loss."""
    path = tmp_path / "events.jsonl"
    events = EventsFile(path, clock=lambda: NOW)
    steps = (Step("model", "timeout", "small: late", 0.1), Step("fallback", "text", "x", 0.2))
    events.replied(
        Request(id="a-1", prompt="triage", inputs={"ticket": "Wo ist mein Paket?"}, tenant="acme"),
        Reply(text="Later", source="text", prompt="triage", version="v1.0.0", request_id="a-1", degraded="timeout", latency_s=0.2, steps=steps),
    )  # fmt: skip
    events.noticed("feedback_bad", "a-1 escalation")
    events.close()

    traffic = read_traffic(path, now=lambda: NOW)
    tally = traffic.totals("language")["language", "triage", "de"]

    assert (1, 1, 1, 1, 1) == (tally.requests, tally.errors, tally.fallbacks, tally.scored, tally.bad)
    assert (Losses(), 2) == (traffic.losses, traffic.events)


@pytest.mark.parametrize(
    ("raw", "losses"),
    [
        (line(reply(stamp(0)))[:40] + b"\n", Losses(torn=1)),
        (b"\xff\xfe\n", Losses(torn=1)),
        (b"[1]\n", Losses(unknown=1)),
        (line({"at": stamp(0), "kind": "reply"}), Losses(unknown=1)),
        (line({"at": stamp(0), "kind": "of tomorrow"}), Losses(unknown=1)),
        (line(reply(stamp(0), latency_ms="fast")), Losses(unknown=1)),
        (line(reply(stamp(0), latency_ms=-1)), Losses(unknown=1)),
        (line(reply(stamp(0), tenant=["t1"])), Losses(unknown=1)),
        (line(reply(stamp(0), steps=[{"stage": "x"}])), Losses(unknown=1)),
        (line(reply("yesterday at noon")), Losses(unknown=1)),
        (line(notice(stamp(0), "feedback_bad", "gone thumbs")), Losses(unmatched=1)),
        (line({"at": stamp(0), "kind": "dropped", "count": 7}), Losses(dropped=7)),
        (line(reply("2099-01-01T00:00:00.000Z")), Losses(clock=1)),
    ],
)
def test_what_is_no_event_is_counted_as_lost_and_nothing_else_changes(raw: bytes, losses: Losses):
    """Torn lines, other programs, newer writers, impossible numbers: never an exception, never silent."""
    reader = EventReader(now=lambda: NOW)
    reader.add(line(reply(stamp(0))))
    reader.add(raw)
    reader.add(line(reply(stamp(0), 1)))

    requests = reader.traffic.totals("prompt")["prompt", "triage", ""].requests
    assert (losses, 3 if losses.clock else 2) == (reader.traffic.losses, requests)


def test_a_clock_that_jumps_makes_no_bucket_of_its_own():
    """The order of the file is the truth; after many events from before a jump it is the earlier clock that was wrong."""
    back = read([reply(stamp(5)), reply(stamp(1)), reply(stamp(5))])
    corrected = read([reply(stamp(50)), *(reply(stamp(5)) for _ in range(150))])
    late = read([reply(stamp(5)), reply(stamp(4, 3599)), reply(stamp(5))])

    assert ({"2026-11-01T05": 3}, 1) == (_by_bucket(back), back.losses.clock)
    assert ({"2026-11-03T02": 100, "2026-11-01T05": 51}, 100) == (_by_bucket(corrected), corrected.losses.clock)
    assert ({"2026-11-01T05": 2, "2026-11-01T04": 1}, 0) == (_by_bucket(late), late.losses.clock)


def _by_bucket(traffic) -> dict[str, int]:
    return {at: sum(tally.requests for key, tally in bucket.tallies.items() if key[0] == "prompt") for at, bucket in traffic.buckets.items()}  # fmt: skip


def test_a_file_is_followed_through_rotation_and_half_written_lines(tmp_path: Path, request):
    """Older files first; a line without an end waits; what came into the old file before it was moved is not lost."""
    path = tmp_path / "e.jsonl"
    path.with_name("e.jsonl.2").write_bytes(b"1\n")
    path.with_name("e.jsonl.1").write_bytes(b"2\n")
    path.write_bytes(b"3\n4")
    lines = EventLines(path)
    request.addfinalizer(lines.close)

    assert [b"1\n", b"2\n", b"3\n"] == list(lines)
    with path.open("ab") as file:
        file.write(b"4\n5\n")
    path.replace(path.with_name("e.jsonl.1"))
    path.write_bytes(b"6\n7")
    assert [b"44\n", b"5\n", b"6\n"] == list(lines)
    assert ([], b"7") == (list(lines), lines.remainder())


def test_no_file_and_no_requests_are_bad_input(tmp_path: Path):
    """Silence is not health: an empty log says what to check."""
    empty = tmp_path / "e.jsonl"
    with pytest.raises(DataError, match="no events file"):
        read_traffic(empty)
    empty.write_bytes(b"")
    with pytest.raises(DataError, match="nothing is there"):
        read_traffic(empty)
    empty.write_text("not\njson\n")
    with pytest.raises(DataError, match="2 lines are torn"):
        read_traffic(empty)


def test_values_are_bounded_so_that_no_caller_can_fill_the_memory():
    """Two thousand tenants have counts of their own; the rest are `other`."""
    traffic = read([reply(stamp(0), number, tenant=f"t{number}") for number in range(2100)])

    assert (2001, 100) == (len(traffic.totals("tenant")), traffic.totals("tenant")["tenant", "", "other"].requests)


def test_quantiles_are_right_to_a_step():
    """Values from 1 to 1000: the median is 500 to 2.5 %, and nothing has no quantile."""
    reader = EventReader(now=lambda: NOW)
    for number in range(1, 1001):
        reader.add(json.dumps(reply(stamp(0), number, latency_ms=float(number))).encode())
    latency = reader.traffic.measured("triage").latency_ms

    assert (True, True, 0.0) == (
        487 <= latency.quantile(0.5) <= 513,
        965 <= latency.quantile(0.99) <= 1015,
        Histogram().quantile(0.5),
    )


def _step(stage: str, decision: str, cost: int = 0, reason: str = "") -> dict:
    return {"stage": stage, "decision": decision, "reason": reason, "at_ms": 1.0} | (
        {"cost_nanousd": cost} if cost else {}
    )


def test_money_is_told_by_what_it_was_paid_for():
    """First calls, retries, repairs, the large model after the small one, shadow models and audits; what an older runtime did not tell is said."""
    steps = [
        _step("route", "small"), _step("model", "timeout", 1), _step("model", "retry"), _step("model", "ok", 20), _step("guardrails", "rejected"),
        _step("guardrails", "repair"), _step("model", "ok", 300), _step("route", "big"), _step("model", "hedge"), _step("model", "ok", 4000),
    ]  # fmt: skip
    traffic = read([
        reply(stamp(0), 1, steps=steps, cost_nanousd=54_321), reply(stamp(0), 2),
        notice(stamp(0), "shadow", "700 nano-dollars"),
        notice(stamp(0), "semantic_audit_right", "triage: 0 of 1 audited hits were wrong, 0.0% to 9.0% with 95 % confidence, 90 nano-dollars"),
    ])  # fmt: skip

    assert {
        ("triage", "model"): [1, 1], ("triage", "retry"): [1, 20], ("triage", "repair"): [1, 300], ("triage", "hedge"): [1, 4000],
        ("triage", "not told"): [2, 54_321 - 4321 + 1000], ("", "shadow"): [1, 700], ("triage", "audit"): [1, 90],
    } == traffic.costs  # fmt: skip


def test_the_choice_of_the_router_is_counted_and_nothing_else():
    """The first choice counts, not the second model after a failure, and not a bundle without a router."""
    second = [_step("route", "small"), _step("model", "timeout"), _step("route", "large")]
    traffic = read([
        reply(stamp(0), 1, steps=[_step("route", "large")]), reply(stamp(0), 2, steps=second),
        reply(stamp(0), 3, steps=[_step("route", "large", reason="no router in the bundle")]),
    ])  # fmt: skip
    tally = traffic.totals("prompt")["prompt", "triage", ""]

    assert (3, 2, 1) == (tally.requests, tally.routed, tally.small)


def test_a_verdict_counts_in_the_hour_of_its_reply():
    """In every dimension of it; one whose hour is not there is said, and what is no verdict is of unknown form."""
    verdict = {
        name: value
        for name, value in reply(stamp(0), 1).items()
        if name in {"id", "prompt", "version", "category", "language", "tenant", "feature"}
    }
    verdict |= {
        "kind": "judged",
        "at": stamp(30),
        "replied_at": stamp(0),
        "passed": False,
        "value": 0.25,
        "judge": "sha256:a",
        "cost_nanousd": 7,
    }
    traffic = read([
        reply(stamp(0), 1), reply(stamp(3), 2), verdict, verdict | {"replied_at": stamp(9)}, verdict | {"passed": "no"}, verdict | {"value": 2},
    ])  # fmt: skip
    keys = [("prompt", "triage", ""), ("version", "triage", "v1.0.0"), ("category", "triage", "billing"), ("language", "triage", "en"), ("tenant", "", "t1"), ("feature", "", "inbox")]  # fmt: skip

    assert [(1, 1, 0.25)] * 6 == [
        (tally.judged, tally.failing, tally.score)
        for tally in (traffic.buckets[stamp(0)[:13]].tallies[key] for key in keys)
    ]  # type: ignore[index]
    assert (1, 2, {"sha256:a": 1}, [1, 7]) == (
        traffic.losses.unmatched,
        traffic.losses.unknown,
        traffic.judges,
        traffic.costs["triage", "judge"],
    )
