"""What applications test with: scripted models, a clock, ears, and a runtime over their own prompt."""

from pathlib import Path

import pytest

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError
from promptops.models.base import Answer
from promptops.runtime.testing import FakeClock, HandSwitch, Heard, ScriptedModel, open_runtime
from promptops.testing import bundle_for

POSITIVE, NEGATIVE = {"sentiment": "positive"}, {"sentiment": "negative"}
INPUTS = {"feedback": "It works."}


@pytest.fixture
def bundle(sandbox: Sandbox, tmp_path: Path) -> Path:
    return bundle_for(PROMPT, tmp_path, root=sandbox.root, model="small")


def test_a_scripted_model_says_its_lines(bundle: Path):
    """Texts, mappings and answers in turn, the last one again and again, by functions of the request, too."""
    model = ScriptedModel(
        POSITIVE, '{"sentiment":"neutral"}', lambda request: NEGATIVE if "bad" in str(request.inputs) else POSITIVE
    )
    runtime = open_runtime(bundle, model)
    said = [runtime.complete(PROMPT, {"feedback": text}).value["sentiment"] for text in ("one", "two", "bad", "four")]
    runtime.close()

    assert (["positive", "neutral", "negative", "positive"], 4) == (said, model.calls)
    assert "two" in model.requests[1].messages[-1].content


def test_failures_time_and_the_kill_switch_are_played(bundle: Path):
    """An outage, an old answer, and a thrown switch, without waiting and without a network."""
    clock, heard, switch = FakeClock(), Heard(), HandSwitch()
    model = ScriptedModel(POSITIVE)
    runtime = open_runtime(bundle, model, clock=clock, observers=[heard], switch=switch)
    first = runtime.complete(PROMPT, INPUTS)
    clock.advance(7200)
    model.fail_next(9, "server_error")
    stale = runtime.complete(PROMPT, INPUTS)
    switch.off.add(PROMPT)
    calls = model.calls
    blocked = runtime.complete(PROMPT, {"feedback": "new"})
    runtime.close()

    assert ("model", "stale", POSITIVE) == (first.source, stale.source, stale.value)
    assert (True, "switched off by the test" in blocked.degraded, calls) == (bool(stale.degraded), True, model.calls)
    assert [first, stale, blocked] == [reply for _, reply in heard.replies]


def test_an_answer_can_be_played_whole(bundle: Path):
    """A refusal, with whatever the provider says of it."""
    runtime = open_runtime(bundle, ScriptedModel(Answer(outcome="refused", detail="no")))
    reply = runtime.complete(PROMPT, INPUTS)
    runtime.close()

    assert "model" != reply.source


def test_a_model_that_is_missing_is_said(bundle: Path):
    """No alias is left to a real model by accident."""
    with pytest.raises(ValueError, match="by alias for each of: small"):
        open_runtime(bundle)
    with pytest.raises(ValueError, match="at least one line"):
        ScriptedModel()


def test_feedback_reaches_the_observers_with_the_id_of_its_reply(bundle: Path):
    """Good or bad, by whom, of which request; no text, and no word that monitoring does not know."""
    heard = Heard()
    runtime = open_runtime(bundle, ScriptedModel(POSITIVE), observers=[heard])
    reply = runtime.complete(PROMPT, INPUTS)
    runtime.feedback(reply.request_id, good=False)
    runtime.feedback(reply.request_id, good=True, by="judge")
    with pytest.raises(DataError, match="thumbs, edit, escalation, judge"):
        runtime.feedback(reply.request_id, good=True, by="the text of a customer")
    with pytest.raises(DataError, match="is not the id of a request"):
        runtime.feedback("It was bad", good=False)
    runtime.close()

    told = [(event, reason) for event, reason in heard.notices if event.startswith("feedback")]
    assert [("feedback_bad", f"{reply.request_id} thumbs"), ("feedback_good", f"{reply.request_id} judge")] == told


def test_a_scripted_model_stands_in_for_one_that_runs_in_the_service(sandbox: Sandbox, tmp_path: Path):
    """A bundle of a local model is played like any other: the rules are not asked."""
    model = ScriptedModel(NEGATIVE)
    runtime = open_runtime(bundle_for(PROMPT, tmp_path, root=sandbox.root, model="local"), model)
    reply = runtime.complete(PROMPT, INPUTS)
    runtime.close()

    assert (NEGATIVE, 1, "") == (reply.value, model.calls, reply.degraded)
