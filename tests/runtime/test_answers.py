"""One request at a time: what is answered, from where, and why."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from promptops.core.errors import DataError
from promptops.models.base import Answer
from promptops.runtime import Reply
from promptops.runtime.state import Entry, MemoryState, StateError
from promptops.runtime.testing import Heard
from runtime.bundles import GOOD, INPUTS, NAME, Scripted, failed, ok, open_runtime
from runtime.clock import FakeClock


def stages(reply: Reply) -> list[tuple[str, str]]:
    return [(step.stage, step.decision) for step in reply.steps]


def test_a_model_answers_and_the_next_identical_request_is_a_hit(tmp_path: Path) -> None:
    """The first request pays, the second gets the same value from the cache for nothing."""
    model = Scripted()
    runtime = open_runtime(tmp_path, small=model)

    first, second = (runtime.complete(NAME, INPUTS) for _ in range(2))

    assert ("model", {"sentiment": "positive"}, "", 1000, 1) == (first.source, first.value, first.degraded, first.cost_nanousd, first.calls)  # fmt: skip
    assert ("cache", first.value, 0, 0, "v1.0.0") == (second.source, second.value, second.cost_nanousd, second.calls, second.version)  # fmt: skip
    assert 1 == model.calls


def test_it_answers_the_same_from_async_code(tmp_path: Path) -> None:
    """One pipeline, two drivers."""
    runtime = open_runtime(tmp_path)

    assert "model" == asyncio.run(runtime.acomplete(NAME, INPUTS)).source
    assert "cache" == runtime.complete(NAME, INPUTS).source


def test_a_stream_ends_with_the_reply(tmp_path: Path) -> None:
    """The pieces together are the answer, and the last item is the reply."""
    runtime = open_runtime(tmp_path)

    async def pieces() -> list[Any]:
        return [item async for item in runtime.astream(NAME, INPUTS)]

    *texts, reply = asyncio.run(pieces())

    assert GOOD == "".join(texts) == reply.text


@pytest.mark.parametrize(
    ("inputs", "options"),
    [({}, {}), ({"feedback": 7}, {}), ({"feedback": "x", "other": 1}, {}), (INPUTS, {"tenant": ""}), (INPUTS, {"tenant": None}),
     (INPUTS, {"tenant": " "}), (INPUTS, {"deadline_s": 0})],
)  # fmt: skip
def test_T12_a_bug_of_the_caller_is_an_error(tmp_path: Path, inputs: Any, options: Any) -> None:
    """Inputs that do not fit, and a request without a tenant, are told at once and cost nothing."""
    model = Scripted()
    runtime = open_runtime(tmp_path, small=model)

    with pytest.raises(DataError):
        runtime.complete(NAME, inputs, **options)
    assert 0 == model.calls


def test_an_unknown_prompt_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    """A typing error in a name is the caller's bug."""
    with pytest.raises(DataError, match="did you mean 'feedback-sentiment'"):
        open_runtime(tmp_path).complete("feedback-sentimnt", INPUTS)


@pytest.mark.parametrize(
    "answer",
    [failed("refused"), failed("filtered"), failed("truncated", text=GOOD), failed("tool_call"), failed("bad_response", detail="HTTP 400 from x"),
     failed("auth"), failed("quota"), failed("rate_limited"), ok("not JSON"), ok('{"sentiment": "great"}')],
    ids=lambda answer: f"{answer.outcome}{answer.text[:3]}",
)  # fmt: skip
def test_T5_what_is_no_good_answer_is_never_kept(tmp_path: Path, answer: Answer) -> None:
    """Nothing but a complete, guarded answer is stored: the next request asks again."""
    model = Scripted(lambda number: answer if number <= 2 else GOOD)
    runtime = open_runtime(tmp_path, {"guardrails": {"repair": False}}, small=model)

    first = runtime.complete(NAME, INPUTS)
    calls = model.calls
    model.script = lambda _: GOOD
    second = runtime.complete(NAME, INPUTS)

    assert ("text", "", True) == (first.source, first.text, bool(first.degraded))
    assert (1, "model", calls + 1) == (calls, second.source, model.calls)


def test_an_answer_that_breaks_its_schema_is_mended_once(tmp_path: Path) -> None:
    """The model is told what is wrong and asked again; both calls are paid and told."""
    model = Scripted(lambda number: '{"sentiment": "great"}' if number == 1 else GOOD)
    reply = open_runtime(tmp_path, small=model).complete(NAME, INPUTS)

    assert ("model", 2, 2000) == (reply.source, reply.calls, reply.cost_nanousd)
    assert "breaks its schema" in model.requests[1].messages[-1].content
    assert [("guardrails", "rejected"), ("guardrails", "repair"), ("model", "ok"), ("guardrails", "passed")] == stages(
        reply
    )[-4:]


def test_T6_guardrails_judge_hits_too(tmp_path: Path) -> None:
    """An entry that was tampered with is dropped, and the request is answered anew."""
    state = MemoryState()
    runtime = open_runtime(tmp_path, state=state)
    runtime.complete(NAME, INPUTS)
    place, (value, *rest) = next(iter(state._entries.items()))
    for poison in (value.replace(b"positive", b"<script>"), b"garbage", b"[]", b'{"v":1}', b"\xff"):
        state._entries[place] = (poison, *rest)
        assert "model" == runtime.complete(NAME, INPUTS).source
    assert "cache" == runtime.complete(NAME, INPUTS).source


def test_T7_an_entry_is_served_no_longer_than_its_time(tmp_path: Path) -> None:
    """At the end of its lifetime an answer is asked for again; the jitter only shortens."""
    clock = FakeClock()
    runtime = open_runtime(tmp_path, {"cache": {"ttl_s": 60, "stale_s": 0}}, clock=clock)
    runtime.complete(NAME, INPUTS)
    clock.advance(50)
    early = runtime.complete(NAME, INPUTS).source
    clock.advance(10)

    assert ("cache", "model") == (early, runtime.complete(NAME, INPUTS).source)


class BrokenState(MemoryState):
    """A state whose every call fails, or one that does not come back."""

    def __init__(self, blocks: bool = False) -> None:
        super().__init__()
        self.blocks = blocks
        self.asked = 0

    def get(self, partition: str, key: str) -> Entry | None:
        self.asked += 1
        raise StateError("disk full")

    def put(self, *args: Any, **options: Any) -> None:
        raise StateError("disk full")

    def reserve(self, *args: Any, **options: Any) -> Any:
        self.asked += 1
        raise StateError("locked")


@pytest.mark.parametrize("blocks", [False, True])
def test_T8_a_state_that_fails_costs_a_miss_and_the_budget_goes_on_with_a_local_share(tmp_path: Path, blocks: bool) -> None:  # fmt: skip
    """The request is served; the state is asked once; this process spends its share of the budget and no more."""
    noticed: list[str] = []

    class Watcher:
        def replied(self, *_: Any) -> None:
            raise ZeroDivisionError

        def noticed(self, event: str, reason: str) -> None:
            noticed.append(event)

    budget = {"name": "calls", "window_s": 3600, "requests": 10}
    state = BrokenState(blocks)
    runtime = open_runtime(tmp_path, {"budgets": [budget], "local_share": 0.3}, state=state, observers=[Watcher()])
    replies = [runtime.complete(NAME, {"feedback": str(number)}) for number in range(5)]

    assert ["model"] * 3 + ["text"] * 2 == [reply.source for reply in replies]
    assert 5 == state.asked
    assert {"state_failed"} == set(noticed)


def test_a_kill_switch_lets_no_call_through(tmp_path: Path) -> None:
    """Blocked requests go to the fallback, with the reason; nothing is asked."""

    class Off:
        def blocked(self, *, prompt: str, tenant: str, feature: str) -> str:
            return f"{prompt} is off for {tenant}" if tenant == "b" else ""

    model = Scripted()
    runtime = open_runtime(tmp_path, {"fallback": [{"step": "text", "text": '{"sentiment": "neutral"}'}]}, small=model, switch=Off())  # fmt: skip
    on, off = (runtime.complete(NAME, INPUTS, tenant=tenant) for tenant in "ab")

    assert ("model", "text", 1) == (on.source, off.source, model.calls)
    assert "switched off: feedback-sentiment is off for b" == off.degraded


def test_T22_the_ladder_is_climbed_down_in_order(tmp_path: Path) -> None:
    """Stale answer, then rules, then queue, then text: the first that can answers, always marked and with the reason."""
    clock = FakeClock()
    jobs: list[tuple[str, dict[str, Any]]] = []

    class Jobs:
        blocks = False

        def put(self, key: str, payload: bytes) -> str:
            jobs.append((key, json.loads(payload)))
            return "job-1"

    down = Scripted(lambda _: failed("connection", sent=False))
    ladder = [{"step": "stale"}, {"step": "rules"}, {"step": "queue"}, {"step": "text", "text": "later"}]
    settings = {"fallback": ladder, "cache": {"ttl_s": 60, "stale_s": 600}, "retry": {"most": 0}, "breaker": {"min_calls": 50}}  # fmt: skip
    runtime = open_runtime(tmp_path, settings, small=Scripted(lambda number: GOOD if number == 1 else down.script(number)), clock=clock, queue=Jobs())  # fmt: skip
    runtime.complete(NAME, INPUTS)
    clock.advance(120)
    stale, rules = runtime.complete(NAME, INPUTS), runtime.complete(NAME, {"feedback": "It broke after a day"})
    clock.advance(600)

    assert ("stale", {"sentiment": "positive"}, "small: connection") == (stale.source, stale.value, stale.degraded)
    assert ("rules", {"sentiment"}, "small: connection") == (rules.source, set(rules.value), rules.degraded)

    bare = open_runtime(tmp_path / "2", {**settings, "fallback": ladder[2:]}, small=down, queue=Jobs())
    queued = bare.complete(NAME, INPUTS, request_id="r-7")
    assert ("queue", "job-1", "") == (queued.source, queued.queued_id, queued.text)
    assert (f"default\n{NAME}\nr-7", {"promptops": 1, "id": "r-7", "prompt": NAME, "version": "v1.0.0", "inputs": INPUTS, "tenant": "default", "feature": "", "category": ""}) == jobs[0]  # fmt: skip


@pytest.mark.parametrize("error", [StateError("full"), OSError(28, "No space left")])
def test_T23_a_full_queue_is_never_claimed_to_have_taken_the_job(tmp_path: Path, error: Exception) -> None:
    """The reply says text, not queue, and names the failure in its steps."""

    class Full:
        blocks = True

        def put(self, key: str, payload: bytes) -> str:
            raise error

    down = Scripted(lambda _: failed("auth"))
    runtime = open_runtime(tmp_path, {"fallback": [{"step": "queue"}, {"step": "text", "text": "later"}]}, small=down, queue=Full())  # fmt: skip
    reply = runtime.complete(NAME, INPUTS)

    assert ("text", "", True) == (reply.source, reply.queued_id, ("queue", "failed") in stages(reply))


def test_without_a_router_the_large_model_answers_and_the_small_one_stands_in(tmp_path: Path) -> None:
    """The small model's answer is marked when the large one should have given it, and it is not kept."""
    small = Scripted()
    large = Scripted(lambda _: failed("server_error"))
    settings = {"small": "small", "large": "large", "retry": {"most": 0}}
    runtime = open_runtime(tmp_path, settings, small=small, large=large)
    first, second = runtime.complete(NAME, INPUTS), runtime.complete(NAME, INPUTS)

    assert ("model", "small", "the small model answered: large: server_error") == (first.source, first.model, first.degraded)  # fmt: skip
    assert (2, 2, "model") == (small.calls, large.calls, second.source)


def test_a_request_that_is_too_long_is_not_sent(tmp_path: Path) -> None:
    """The limit on what is sent holds after rendering, where the whole request is known."""
    model = Scripted()
    reply = open_runtime(tmp_path, {"max_input_chars": 1000}, small=model).complete(NAME, {"feedback": "x" * 900})

    assert (0, "the request is too long") == (model.calls, reply.degraded)


def test_cached_answers_can_be_forgotten(tmp_path: Path) -> None:
    """By prompt, version or tenant."""
    runtime = open_runtime(tmp_path)
    for tenant in ("a", "b"):
        runtime.complete(NAME, INPUTS, tenant=tenant)
    counts = [runtime.invalidate(tenant="a"), runtime.invalidate(prompt=NAME, version="v2.0.0"), runtime.invalidate(prompt=NAME)]  # fmt: skip

    assert [1, 0, 1] == counts
    with pytest.raises(ValueError, match="give a prompt"):
        runtime.invalidate()


def test_a_shadow_model_is_observed_and_never_served(tmp_path: Path) -> None:
    """Its answer, whatever it is, changes nothing for the caller; an observer hears of it."""
    heard: list[tuple[str, str]] = []

    class Ear:
        def replied(self, *_: Any) -> None: ...

        def noticed(self, event: str, reason: str) -> None:
            heard.append((event, reason))

    large = Scripted(lambda _: '{"sentiment": "negative"}')
    runtime = open_runtime(tmp_path, {"shadow": {"model": "large", "percent": 100}}, large=large, observers=[Ear()])
    reply = runtime.complete(NAME, INPUTS)
    for future in list(runtime._shadows):
        future.result(30)

    assert {"sentiment": "positive"} == reply.value
    assert [("shadow", f"{NAME} on large: another answer, 1000 nano-dollars")] == heard


def with_matcher(threshold: float | None, audit_share: float = 0.0) -> Any:
    """A project whose prompt has a calibrated matcher that takes near questions for the same."""
    from promptops.runtime.embedding import Embedder
    from promptops.runtime.matcher import Matcher

    matcher = Matcher(
        embedder=Embedder(), threshold=threshold, text_inputs=("feedback",), audit_share=audit_share, max_error=0.02
    )

    def edit(root: Path) -> None:
        (root / f"prompts/{NAME}/cache.json").write_text(json.dumps(matcher.as_json()))

    return edit


SIMILAR = (
    {"feedback": "The parcel came late and the box was open"},
    {"feedback": "The parcel came late and the box was open!"},
)


def test_a_similar_request_is_served_by_the_calibrated_matcher_and_T1_for_its_tenant_only(tmp_path: Path) -> None:
    """The answer of the near request, from the cache; another tenant asks anew; guardrails judge it again."""
    model = Scripted()
    runtime = open_runtime(tmp_path, small=model, edit=with_matcher(-1000.0))
    first = runtime.complete(NAME, SIMILAR[0], tenant="a")
    second, other, category = (runtime.complete(NAME, SIMILAR[1], **options) for options in ({"tenant": "a"}, {"tenant": "b"}, {"tenant": "a", "category": "product"}))  # fmt: skip

    assert ["model", "semantic", "model", "model"] == [reply.source for reply in (first, second, other, category)]
    assert (first.value, 0, 3) == (second.value, second.cost_nanousd, model.calls)


def test_T3_without_calibration_nothing_similar_is_served(tmp_path: Path) -> None:
    """Until an error bound is proven, semantic hits are off."""
    runtime = open_runtime(tmp_path, edit=with_matcher(None))

    assert ["model", "model"] == [runtime.complete(NAME, inputs).source for inputs in SIMILAR]


def test_audited_hits_that_are_wrong_switch_the_semantic_cache_off(tmp_path: Path) -> None:
    """A share of hits is answered again beside the request; when the bound does not hold, nothing similar is served any more."""
    model = Scripted(lambda number: GOOD if number == 1 else '{"sentiment": "negative"}')
    heard = Heard()
    runtime = open_runtime(tmp_path, small=model, edit=with_matcher(-1000.0, audit_share=1.0), observers=(heard,))
    runtime.complete(NAME, SIMILAR[0])
    sources = []
    for _ in range(20):
        sources.append(runtime.complete(NAME, SIMILAR[1]).source)
        for future in list(runtime._shadows):
            future.result(30)

    assert ["semantic", "model", "cache"] == list(dict.fromkeys(sources))
    semantic = runtime._serving.live[NAME].semantic
    assert semantic.audit.is_broken
    wrong = [reason for event, reason in heard.notices if event == "semantic_audit_wrong"]
    assert f"{NAME}: 1 of 1 audited hits were wrong, " in wrong[0]
    assert {"a": SIMILAR[0]["feedback"], "b": SIMILAR[1]["feedback"], "same": False} == semantic.audit.labels()[0]
