"""What users say of answers: from the runtime through the events file into the rate of bad answers, without a text."""

from pathlib import Path

from audit.traffic import NOW
from conftest import PROMPT, Sandbox
from promptops.audit.sources import read_traffic
from promptops.runtime.telemetry import EventsFile, read_events, tenant_hash
from promptops.runtime.testing import ScriptedModel, open_runtime
from promptops.testing import bundle_for

SECRET = "my card is 4111 1111 1111 1111, said Jane Roe"


def test_thumbs_edits_and_escalations_arrive_with_digests_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each is joined with its reply by the id; the file has neither what was asked, nor what was answered, nor who the tenant is."""
    file = tmp_path / "events.jsonl"
    observer = EventsFile(file, clock=lambda: NOW)
    runtime = open_runtime(
        bundle_for(PROMPT, tmp_path / "bundle", model="small", root=sandbox.root),
        ScriptedModel({"sentiment": "negative"}),
        observers=[observer],
    )
    told = [("thumbs", True), ("thumbs", False), ("edit", False), ("escalation", False)]
    ids = []
    for number, (by, good) in enumerate(told):
        reply = runtime.complete(PROMPT, {"feedback": f"{SECRET} {number}"}, tenant="acme-gmbh")
        runtime.feedback(reply.request_id, good=good, by=by)
        ids.append(reply.request_id)
    runtime.close()
    observer.close()
    (tally,) = read_traffic(file, now=lambda: NOW).totals("prompt").values()
    text = file.read_text()

    assert [
        (f"feedback_{'good' if good else 'bad'}", f"{about} {by}") for about, (by, good) in zip(ids, told, strict=True)
    ] == [
        (event["event"], event["reason"])
        for event in read_events(file)
        if event["kind"] == "notice" and event["event"].startswith("feedback")
    ]
    assert (4, 4, 3) == (tally.requests, tally.scored, tally.bad)
    assert [] == [word for word in ("4111", "Jane", "acme-gmbh", "sentiment\\") if word in text]
    assert {tenant_hash("acme-gmbh", "")} == {
        event["tenant"] for event in read_events(file) if event["kind"] == "reply"
    }
