"""The runtime against a real server that fails in every way a provider does: nobody is left without a reply."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from faults import server as provider
from faults.server import Call, Fault, FaultServer, answer, failure, raw
from promptops.core.errors import DataError, RefusedError
from promptops.runtime import Endpoint, Reply, Runtime
from runtime.bundles import GOOD, NAME, make_bundle

FIXED = {"fallback": [{"step": "text", "text": "later"}]}


def connect(folder: Path, url: str, settings: dict[str, Any], **options: Any) -> Runtime:
    bundle = make_bundle(folder, settings)
    return Runtime.load(bundle, allow_unsigned=True, models=Endpoint(base_url=url, api_key="sk-test-0123456789"), **options)  # fmt: skip


def ask_all(runtime: Runtime, count: int, in_flight: int, **options: Any) -> list[Reply]:
    """Replies to `count` different requests, `in_flight` at a time."""

    async def main() -> list[Reply]:
        numbers = iter(range(count))
        found: list[Reply] = []

        async def work() -> None:
            for number in numbers:
                reply = await runtime.acomplete(NAME, {"feedback": f"n{number}"}, **options)
                found.append(reply)

        await asyncio.gather(*(work() for _ in range(in_flight)))
        await runtime.aclose()
        return found

    return asyncio.run(main())


MIX: list[Fault] = [
    *[answer(GOOD)] * 6, provider.reset, failure(500), failure(429, Retry_After="0"), raw(b"<html>busy</html>"), provider.hang,
    provider.garbage(b"\x00\x01"), raw(b'{"choices": [', missing=10), answer(GOOD, finish="length"), provider.reset_within, answer(None),
]  # fmt: skip


def test_no_request_is_lost_under_a_mix_of_faults(tmp_path: Path) -> None:
    """Resets, errors, limits, hangs, garbage and truncation: everybody gets an answer or a marked fallback, nothing is raised."""
    settings = {**FIXED, "deadline_s": 2, "timeout": {"min_s": 0.1, "max_s": 0.3}, "breaker": {"error_rate": 1}}
    with FaultServer(lambda call: MIX[call.number % len(MIX)]) as server:
        replies = ask_all(connect(tmp_path, server.url, settings), 600, 60)

    good = [reply for reply in replies if reply.source == "model"]
    rest = [reply for reply in replies if reply.source != "model"]
    assert 600 == len(replies)
    assert {GOOD} == {reply.text for reply in good}
    assert {("text", "later", True)} == {(reply.source, reply.text, bool(reply.degraded)) for reply in rest}
    assert len(good) > 100 < len(rest)
    assert len(server.calls) <= 600 * 1.2


@pytest.mark.parametrize("fault", [provider.hang, provider.drip], ids=["hang", "drip"])
def test_T21_a_request_ends_at_its_deadline_whatever_the_model_does(tmp_path: Path, fault: Fault) -> None:
    """Hanging and dripping models cost their time and no more; the reason is told, and the socket is closed."""
    with FaultServer(lambda _: fault) as server:
        replies = ask_all(connect(tmp_path, server.url, FIXED), 5, 5, deadline_s=0.4)

    assert {("text", "small: timeout")} == {(reply.source, reply.degraded) for reply in replies}
    assert all(reply.calls == 1 for reply in replies)


def test_T21_no_call_is_begun_without_time_for_it(tmp_path: Path) -> None:
    """A deadline that is over before a model could answer goes straight to the fallback."""
    with FaultServer(lambda _: answer(GOOD)) as server:
        replies = ask_all(connect(tmp_path, server.url, FIXED), 1, 1, deadline_s=0.001)

    assert ([], "deadline: no time left for a model") == (server.calls, replies[0].degraded)


def test_T33_a_redirect_is_not_followed_and_T32_the_key_goes_to_the_service_endpoint_only(tmp_path: Path) -> None:
    """The other host hears nothing; the key is sent where the service says, and is in no reply."""
    with FaultServer(lambda _: answer(GOOD)) as other:
        with FaultServer(lambda _: raw(b"", status=307, Location=other.url + "/chat/completions")) as server:
            (reply,) = ask_all(connect(tmp_path, server.url, FIXED), 1, 1)
        first = server.calls[0]

    assert ([], "text") == (other.calls, reply.source)
    assert "Bearer sk-test-0123456789" == first.headers["authorization"]
    assert "sk-test" not in repr(reply) + repr(reply.steps)


def test_T32_no_address_and_no_key_comes_from_a_bundle_or_a_request(tmp_path: Path) -> None:
    """A bundle has no place for them, inputs that name them are inputs, and without an endpoint nothing is asked."""
    bundle = make_bundle(tmp_path, FIXED)
    written = b"".join(path.read_bytes() for path in bundle.rglob("*.json"))

    assert b"127.0.0.1" not in written.replace(b'"url":"http://127.0.0.1:9/v1"', b"")
    with pytest.raises(DataError, match="nothing says where model 'small' is"):
        Runtime.load(bundle, allow_unsigned=True)
    with pytest.raises(RefusedError, match="unencrypted"):
        Runtime.load(bundle, allow_unsigned=True, models=Endpoint(base_url="http://example.com/v1", api_key="k" * 20))
    runtime = Runtime.load(bundle, allow_unsigned=True, models=Endpoint(base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(DataError, match="not declared"):
        runtime.complete(NAME, {"feedback": "x", "base_url": "http://evil.example"})


def test_hedging_takes_the_first_good_answer_within_its_cap(tmp_path: Path) -> None:
    """A call slower than the live p95 gets a second one beside it; the slow one is cut and charged as its worst case."""
    slow: list[int] = []

    def script(call: Call) -> Fault:
        if "slow" in call.prompt and not slow:
            slow.append(call.number)
            return provider.hang
        return answer(GOOD)

    settings = {**FIXED, "hedge": {"share": 0.2, "min_calls": 10}, "deadline_s": 20, "cache": {"ttl_s": 0}}
    with FaultServer(script) as server:
        runtime = connect(tmp_path, server.url, settings)

        async def main() -> Reply:
            for number in range(20):
                await runtime.acomplete(NAME, {"feedback": f"{number}"})
            reply = await runtime.acomplete(NAME, {"feedback": "slow"})
            await runtime.aclose()
            return reply

        reply = asyncio.run(main())

    assert ("model", GOOD) == (reply.source, reply.text)
    assert ("model", "hedge") in [(step.stage, step.decision) for step in reply.steps]
    assert slow == server.left[:1]


def test_T2_what_decides_an_answer_is_part_of_its_key(tmp_path: Path) -> None:
    """Another version, model, parameter, document or category is another entry."""
    from promptops.core.knowledge import Passage
    from promptops.runtime.cache import Keys

    document = Passage(id="d", title="t", text="x")
    parts = ["sha256:a", "v1.0.0", [["openai", "m"]], "k", 100]
    others = [["sha256:b", *parts[1:]], [parts[0], "v1.0.1", *parts[2:]], [*parts[:2], [["openai", "n"]], *parts[3:]], [*parts[:3], "l", 100], [*parts[:4], 99]]  # fmt: skip
    keys = [Keys(items).key({"q": "1"}, "", None) for items in (parts, *others)]
    same = Keys(parts)
    keys += [same.key({"q": 1}, "", None), same.key({"q": "1"}, "c", None), same.key({"q": "1"}, "", ()), same.key({"q": "1"}, "", (document,)),
             same.key({"q": "1", "lang": "de"}, "", None)]  # fmt: skip

    assert len(keys) == len(set(keys))
    assert keys[0] == Keys(list(parts)).key(dict(json.loads('{"q": "1"}')), "", None)
