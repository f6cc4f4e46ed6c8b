"""What holds for both remote clients, over real sockets: each way a provider can answer is one outcome, and never an exception."""

import asyncio
import base64
import json
import socket
from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import pytest

from faults import server as provider
from faults.server import Fault, FaultServer, answer, completion, document, failure, in_order, raw
from promptops.core.money import Price
from promptops.core.prompt import Message
from promptops.models.base import Answer, Client, ModelRequest
from promptops.models.http import HttpClient
from promptops.models.sdk import SdkClient
from promptops.models.secret import Secret

CANARY = "sk-canary-1234567890/+abc"
PRICE = Price(
    input_nanousd_per_mtok=1_000_000, cached_input_nanousd_per_mtok=500_000, output_nanousd_per_mtok=2_000_000
)
"""A nano-dollar an input token, half of one when cached, two an output token."""
REQUEST = ModelRequest(messages=(Message(role="system", content="Be brief."), Message(role="user", content="Hello?")))
GOOD = Answer(outcome="ok", text="fine", model="a-model-2026-01-01", input_tokens=10, output_tokens=5, cost_nanousd=20)

MakeClient = Callable[..., Client]


def http_client(url: str, **settings: Any) -> Client:
    return HttpClient(**_settings(url) | settings)


def streaming_client(url: str, **settings: Any) -> Client:
    return HttpClient(**_settings(url) | settings, stream=True)


def sdk_client(url: str, **settings: Any) -> Client:
    return SdkClient(**_settings(url) | settings)


def responses_client(url: str, **settings: Any) -> Client:
    return HttpClient(**_settings(url) | settings, api="responses")


def _settings(url: str) -> dict[str, Any]:
    return {"base_url": url, "model": "a-model", "key": Secret(CANARY), "price": PRICE, "timeout_s": 5.0}


@pytest.fixture(params=[http_client, sdk_client, responses_client], ids=["http", "sdk", "responses"])
def make_client(request: pytest.FixtureRequest) -> MakeClient:
    return request.param


def ask(
    make_client: MakeClient, url: str, times: int = 1, request: ModelRequest = REQUEST, **settings: Any
) -> list[Answer]:
    """Answers without their latency, the only part that is measured."""

    async def run() -> list[Answer]:
        client = make_client(url, **settings)
        try:
            return [await client.answer(request) for _ in range(times)]
        finally:
            await client.close()

    answers = asyncio.run(run())
    assert all(found.latency_s > 0 for found in answers)
    return [replace(found, latency_s=0.0) for found in answers]


def ask_once(make_client: MakeClient, fault: Fault, **settings: Any) -> Answer:
    with FaultServer(lambda _: fault) as server:
        (found,) = ask(make_client, server.url, **settings)
        assert 1 == len(server.calls), "one attempt a call"
    return found


def test_all_send_the_same_and_the_key_in_its_header_alone(make_client: MakeClient):
    """Retries, parameters and the key are not left to a library."""
    path, messages, more = "/v1/chat/completions", "messages", {}
    if make_client is responses_client:
        path, messages, more = "/v1/responses", "input", {"store": False}
    with FaultServer(lambda _: answer()) as server:
        ask(make_client, server.url, times=2)

    expected = {
        "model": "a-model",
        messages: [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        **more,
    }
    assert [(path, expected)] * 2 == [(call.path, dict(call.body)) for call in server.calls]
    assert [f"Bearer {CANARY}"] * 2 == [call.headers["authorization"] for call in server.calls]
    others = [value for call in server.calls for name, value in call.headers.items() if name != "authorization"]
    assert not [value for value in others if CANARY in value]


def test_a_good_answer_is_read_whole(make_client: MakeClient):
    """Text, model, tokens and cost: 10 x 1 + 5 x 2 nano-dollars."""
    assert GOOD == ask_once(make_client, answer())


def test_text_parts_are_joined(make_client: MakeClient):
    """Some servers send content as a list of parts."""
    parts = [{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]

    assert GOOD == ask_once(make_client, answer(parts))


_EMPTY = replace(GOOD, text="")
_MESSAGES: dict[str, tuple[Fault, Answer]] = {
    "refusal": (answer(None, refusal="no"), replace(_EMPTY, outcome="refused", detail="the model refused")),
    "content_filter": (
        answer("fi", finish="content_filter"),
        replace(_EMPTY, outcome="filtered", detail="stopped by the provider's content filter"),
    ),
    "tool_calls": (
        answer(None, finish="tool_calls", tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]),
        replace(_EMPTY, outcome="tool_call", text='[{"arguments":{},"name":"f"}]', detail="the model called f"),
    ),
    "length": (answer("fi", finish="length"), replace(GOOD, text="fi", outcome="truncated", detail="cut at max_output_tokens")),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "expected"), _MESSAGES.values(), ids=_MESSAGES)
def test_an_answer_that_is_not_one_has_an_outcome_of_its_own(make_client: MakeClient, fault: Fault, expected: Answer):
    """Refused, filtered, cut and tool calls are told apart, and what they cost is counted."""
    assert expected == ask_once(make_client, fault)


REFUND = {
    "name": "refund",
    "description": "Give money back.",
    "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
}
WITH_TOOLS = replace(
    REQUEST, tools=(REFUND,), params={"tool_choice": "refund", "parallel_tool_calls": False, "logprobs": True}
)


def test_tools_and_logprobs_are_asked_for_in_the_words_of_the_api(make_client: MakeClient):
    """A tool that must be called is named as each API names it."""
    with FaultServer(lambda _: answer()) as server:
        ask(make_client, server.url, request=WITH_TOOLS)

    (body,) = (call.body for call in server.calls)
    names = ("tools", "tool_choice", "parallel_tool_calls", "logprobs", "include")
    chat = [
        [{"type": "function", "function": REFUND}],
        {"type": "function", "function": {"name": "refund"}},
        False,
        True,
        None,
    ]
    responses = [
        [{"type": "function", **REFUND}],
        {"type": "function", "name": "refund"},
        False,
        None,
        ["message.output_text.logprobs"],
    ]
    assert (responses if make_client is responses_client else chat) == [body.get(name) for name in names]


def called(*calls: tuple[str, Any]) -> Fault:
    tools = [
        {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls
    ]
    return answer(None, finish="tool_calls", tool_calls=tools)


_CALLS: dict[str, tuple[Fault, str, str]] = {
    "two": (called(("b", '{"y": 1, "x": [2]}'), ("a", "{}")), "tool_call", '[{"arguments":{"x":[2],"y":1},"name":"b"},{"arguments":{},"name":"a"}]'),
    "no arguments": (called(("a", "")), "tool_call", '[{"arguments":{},"name":"a"}]'),
    "arguments that are no JSON": (called(("a", '{"x": ')), "tool_call", '[{"arguments":"{\\"x\\": ","name":"a"}]'),
    "no name": (called((None, "{}")), "bad_response", ""),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "outcome", "text"), _CALLS.values(), ids=_CALLS)
def test_tool_calls_are_read_as_canonical_json(make_client: MakeClient, fault: Fault, outcome: str, text: str):
    """In the order they came; what is wrong with the arguments is for a check to say."""
    found = ask_once(make_client, fault, request=WITH_TOOLS)

    assert (outcome, text, 20) == (found.outcome, found.text, found.cost_nanousd)


_LOGPROBS: dict[str, tuple[Any, str]] = {
    "numbers": ([{"token": "fi", "logprob": -0.5}, {"token": "ne", "logprob": -1}], "mean logprob -0.7500 over 2 tokens"),
    "certain": ([{"token": "fine", "logprob": 0}], "mean logprob 0.0000 over 1 tokens"),
    "a text": ([{"token": "fine", "logprob": "-1"}], ""), "positive": ([{"token": "fine", "logprob": 1}], ""),
    "not all": ([{"token": "fi", "logprob": -1}, {"token": "ne"}], ""), "none": ([], ""), "no tokens": ([1], ""),
}  # fmt: skip


@pytest.mark.parametrize(("tokens", "detail"), _LOGPROBS.values(), ids=_LOGPROBS)
def test_the_mean_logprob_is_kept_with_the_answer(make_client: MakeClient, tokens: Any, detail: str):
    """(-0.5 - 1) / 2; a list that cannot be read in full says nothing."""
    value = completion("fine")
    value["choices"][0]["logprobs"] = {"content": tokens}

    assert replace(GOOD, detail=detail) == ask_once(make_client, document(value))


@pytest.mark.parametrize("content", [None, 5, "", [], [{"type": "image"}], {"text": "fine"}, True], ids=repr)
def test_content_that_is_no_text_is_a_bad_response_that_was_paid(make_client: MakeClient, content: Any):
    """The provider counted tokens for it, so they are in the ledger."""
    found = ask_once(make_client, answer(content))

    assert ("bad_response", "", 20) == (found.outcome, found.text, found.cost_nanousd)


_BAD: dict[str, Fault] = {
    "list": document([]), "null": document(None), "number": document(1), "no choices": document({}),
    "choices empty": document({"choices": []}), "choices null": document({"choices": None}), "choice a list": document({"choices": [[]]}),
    "no message": document({"choices": [{}]}), "message a text": document({"choices": [{"message": "fine"}]}),
    "error in a 200": document({"error": {"message": "overloaded"}, **completion("fine")}),
    "html in a 200": raw(b"<!doctype html><title>Sign in</title>"), "empty body": raw(b""), "cut JSON": raw(b'{"choices": [{"mess'),
    "NaN": document(completion("fine") | {"created": float("nan")}),
    "duplicate keys": raw(json.dumps(completion("fine")).replace('"model"', '"choices": [], "model"').encode()),
    "deep JSON": raw(b"[" * 100_000), "deep JSON, closed": raw(b'{"choices":' + b"[" * 900 + b"]" * 900 + b"}"),
    "bad UTF-8": raw(json.dumps(completion("XX")).encode().replace(b"XX", b"\xff\xfe")),
    "lone surrogate": raw(json.dumps(completion("XX")).encode().replace(b"XX", b"\\ud800")),
    "integer of 5000 digits": raw(b'{"created": ' + b"9" * 5000 + b"}"),
    "404": failure(404), "400 with deep JSON": raw(b"[" * 100_000, status=400),
}  # fmt: skip


@pytest.mark.parametrize("fault", _BAD.values(), ids=_BAD)
def test_a_body_that_is_no_completion_is_a_bad_response(make_client: MakeClient, fault: Fault):
    """Never an exception, never text to score."""
    found = ask_once(make_client, fault)

    assert ("bad_response", "") == (found.outcome, found.text), found


@pytest.mark.parametrize(
    ("body", "trusted"),
    [
        (b'{"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}', True),
        (b'{"choices": []}', False),
        (b"{", False),
    ],
)
def test_what_a_bad_response_cost_is_known_where_it_says_so(make_client: MakeClient, body: bytes, trusted: bool):
    """The model may have answered: its usage is read even then, and marked where there is none."""
    found = ask_once(make_client, raw(body))

    assert ("bad_response", trusted) == (found.outcome, found.usage_trusted)
    assert not trusted or (10, 5, 20) == (found.input_tokens, found.output_tokens, found.cost_nanousd)


def test_a_bad_response_shows_its_first_200_bytes_escaped(make_client: MakeClient):
    """Control characters of a provider reach no terminal."""
    found = ask_once(make_client, raw(b"\x1b[31m<html>" + b"x" * 500))

    assert found.detail.endswith(repr("\x1b[31m<html>" + "x" * 189))


_STATUS = {
    "401": (failure(401), "auth", None),
    "402": (failure(402), "quota", None),
    "403": (failure(403), "auth", None),
    "408": (failure(408), "timeout", None),
    "413": (failure(413), "too_large", None),
    "429": (failure(429, Retry_After="2"), "rate_limited", 2.0),
    "429 with junk": (failure(429, Retry_After="soon"), "rate_limited", None),
    "429, HTML": (raw(b"<html>", status=429), "rate_limited", None),
    "429, no quota": (failure(429, code="insufficient_quota"), "quota", None),
    "429, no quota by type": (
        document({"error": {"type": "insufficient_quota", "code": "x"}}, status=429),
        "quota",
        None,
    ),
    "500": (failure(500), "server_error", None),
    "503": (raw(b"", status=503), "server_error", None),
}


@pytest.mark.parametrize(("fault", "outcome", "wait_s"), _STATUS.values(), ids=_STATUS)
def test_a_status_is_an_outcome(make_client: MakeClient, fault: Fault, outcome: str, wait_s: float | None):
    """The key, the quota, the rate and the server are told apart."""
    found = ask_once(make_client, fault)

    assert (outcome, wait_s, "") == (found.outcome, found.retry_after_s, found.text)


def test_a_redirect_is_not_followed(make_client: MakeClient):
    """The key goes to no host but the configured one."""
    with FaultServer(lambda _: answer()) as other:
        elsewhere = f"http://localhost:{other.port}/v1/chat/completions"
        found = [ask_once(make_client, raw(b"", status=status, Location=elsewhere)) for status in (301, 302, 307, 308)]

    assert (["bad_response"] * 4, 0) == ([one.outcome for one in found], other.connections)


_LOST: dict[str, Fault] = {
    "reset before": provider.reset,
    "reset within": provider.reset_within,
    "body shorter than promised": raw(b'{"choices": [', missing=10),
    "no HTTP": provider.garbage(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "closed at once": provider.garbage(b""),
    "broken gzip": raw(b"no gzip at all", Content_Encoding="gzip"),
}


@pytest.mark.parametrize("fault", _LOST.values(), ids=_LOST)
def test_a_broken_connection_may_have_been_paid(make_client: MakeClient, fault: Fault):
    """The request was sent; nobody knows whether the model ran."""
    found = ask_once(make_client, fault)

    assert ("connection", "", True) == (found.outcome, found.text, found.sent), found


def test_a_refused_connection_was_not_sent(make_client: MakeClient):
    """Nothing can have been paid, and the message names the host."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (found,) = ask(make_client, f"http://127.0.0.1:{closed.getsockname()[1]}/v1")

    assert ("connection", False, True) == (found.outcome, found.sent, "127.0.0.1" in found.detail)


def test_a_server_without_tls_was_not_sent_anything(make_client: MakeClient):
    """The key is not sent before the certificate is checked."""
    with FaultServer(lambda _: answer()) as server:
        (found,) = ask(make_client, server.url.replace("http:", "https:"))

    assert ("connection", False, []) == (found.outcome, found.sent, server.calls)


@pytest.mark.parametrize("fault", [provider.hang, provider.drip], ids=["hang", "drip"])
def test_the_deadline_holds_for_the_whole_call_and_closes_the_socket(make_client: MakeClient, fault: Fault):
    """A body that drips passes every timeout of a single read."""
    with FaultServer(lambda _: fault) as server:
        (found,) = ask(make_client, server.url, timeout_s=0.3)

    assert (Answer(outcome="timeout", detail="no answer within 0.3 s"), [1]) == (found, server.left)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("fault", [provider.huge, provider.bomb], ids=["huge", "bomb"])
def test_a_body_beyond_the_cap_is_too_large(make_client: MakeClient, fault: Callable[..., Fault], status: int):
    """Counted after decompression, and for errors as well."""
    found = ask_once(make_client, fault(status=status, size=20 * provider.MEGABYTE))

    assert Answer(outcome="too_large", detail="more than 8000000 bytes") == found


def test_a_body_compressed_unasked_is_read(make_client: MakeClient):
    """Some proxies compress whatever passes them."""
    assert GOOD == ask_once(make_client, provider.gzipped(completion("fine")))


def test_bytes_behind_a_compressed_body_count(make_client: MakeClient):
    """They are not kept in memory either."""
    found = ask_once(make_client, provider.gzipped(completion("fine"), trailing=20 * provider.MEGABYTE))

    assert "too_large" == found.outcome


_USAGE: dict[str, Any] = {
    "null": None, "empty": {}, "list": [], "missing half": {"prompt_tokens": 10}, "negative": {"prompt_tokens": -1, "completion_tokens": 5},
    "text": {"prompt_tokens": "10", "completion_tokens": 5}, "10^15": {"prompt_tokens": 10**15, "completion_tokens": 5},
    "fraction": {"prompt_tokens": 10.5, "completion_tokens": 5}, "true": {"prompt_tokens": True, "completion_tokens": 5},
}  # fmt: skip


@pytest.mark.parametrize("usage", _USAGE.values(), ids=_USAGE)
def test_usage_that_cannot_be_true_is_replaced_by_an_estimate(make_client: MakeClient, usage: Any):
    """4 characters a token: 3 + 2 tokens in, 1 out, 7 nano-dollars, and the answer says that this is a guess."""
    found = ask_once(make_client, document(completion("fine") | {"usage": usage}))

    assert replace(GOOD, input_tokens=5, output_tokens=1, cost_nanousd=7, usage_trusted=False) == found


_CACHED: dict[str, tuple[Any, int, int]] = {
    "some": ({"cached_tokens": 8}, 8, 16),
    "all": ({"cached_tokens": 10}, 10, 15),
    "none": ({"cached_tokens": 0}, 0, 20),
    "more than there are": ({"cached_tokens": 11}, 0, 20),
    "negative": ({"cached_tokens": -1}, 0, 20),
    "null": (None, 0, 20),
    "text": ({"cached_tokens": "8"}, 0, 20),
}


@pytest.mark.parametrize(("details", "cached", "cost"), _CACHED.values(), ids=_CACHED)
def test_cached_input_has_its_own_price(make_client: MakeClient, details: Any, cached: int, cost: int):
    """8 cached of 10: 2 x 1 + 8 x 0.5 + 5 x 2 = 16; numbers that cannot be true count as not cached."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": details}

    assert replace(GOOD, cached_input_tokens=cached, cost_nanousd=cost) == ask_once(make_client, answer(usage=usage))


_ENCODED = base64.b64encode(f"Bearer {CANARY}".encode()).decode()
_ECHOES: dict[str, Fault] = {
    "text": answer(f"your key is {CANARY}"), "base64": answer(base64.b64encode(CANARY.encode()).decode()),
    "base64 of the header": answer(_ENCODED), "in the model": document(completion("fine") | {"model": CANARY}),
    "error": failure(400, code=CANARY), "html": raw(f"<html>{CANARY}".encode()),
    "cut after 200 bytes": raw(b"x" * 190 + CANARY.encode()), "status 401": document({"error": CANARY}, status=401),
}  # fmt: skip


@pytest.mark.parametrize("fault", _ECHOES.values(), ids=_ECHOES)
def test_a_key_that_comes_back_is_in_no_answer(make_client: MakeClient, fault: Fault):
    """Neither whole nor its first half, in no field and in no repr."""
    found = ask_once(make_client, fault)

    secret = (CANARY, CANARY[:8], base64.b64encode(CANARY.encode()).decode()[:20], _ENCODED[12:32])
    assert not [form for form in secret if form in repr(found) + "".join(map(str, astuple(found)))]


def test_no_repr_shows_a_key(make_client: MakeClient):
    """Neither the secret's nor the client's."""
    client = make_client("http://127.0.0.1:9/v1")

    assert CANARY not in f"{client!r}{client}{Secret(CANARY)!r}{Secret(CANARY)}{vars(client)}"


def test_a_client_answers_after_a_failure(make_client: MakeClient):
    """A broken connection is not kept."""
    with FaultServer(in_order(provider.reset, failure(500), raw(b"{", missing=5), then=answer())) as server:
        found = ask(make_client, server.url, times=5)

    assert ["connection", "server_error", "connection", "ok", "ok"] == [one.outcome for one in found]


_STREAMS: dict[str, tuple[Fault, str]] = {
    "cut": (provider.events(provider.GOOD_STREAM, then="cut"), "stream"),
    "reset": (provider.events(provider.GOOD_STREAM, then="reset"), "stream"),
    "no [DONE]": (provider.events(provider.GOOD_STREAM, then="close"), "stream"),
    "error event": (provider.events([provider.delta("fi"), {"error": {"message": "overloaded"}}]), "stream"),
    "event that is no JSON": (provider.events([provider.delta("fi"), "{oops"]), "stream"),
    "event that is a list": (provider.events([provider.delta("fi"), []]), "stream"),
    "stalls": (provider.events([provider.delta("fi")], then="stall"), "timeout"),
    "whole but empty": (provider.events([provider.delta(finish="stop")]), "bad_response"),
    "a plain completion": (answer(), "stream"),
    "refused": (provider.events([provider.delta(refusal="no"), provider.delta(finish="stop")]), "refused"),
    "length": (provider.events([provider.delta("fi", finish="length")]), "truncated"),
    "500": (failure(500), "server_error"),
}


@pytest.mark.parametrize(("fault", "outcome"), _STREAMS.values(), ids=_STREAMS)
def test_part_of_a_stream_is_no_answer(fault: Fault, outcome: str):
    """Text is only scored from a stream that ended as it should."""
    assert outcome == ask_once(streaming_client, fault, timeout_s=1.0 if outcome == "timeout" else 5.0).outcome


def test_tool_calls_of_a_stream_are_put_together():
    """Names and arguments come in pieces, several calls side by side."""

    def piece(index: int, **function: str) -> dict[str, Any]:
        return provider.delta(tool_calls=[{"index": index, "function": function}])

    chunks = [piece(0, name="a", arguments=""), piece(1, name="b", arguments='{"x"'), piece(0, arguments="{}"), piece(1, arguments=": 1}"),
              provider.delta(finish="tool_calls"), provider.USAGE_CHUNK]  # fmt: skip
    found = ask_once(streaming_client, provider.events(chunks))

    assert ("tool_call", '[{"arguments":{},"name":"a"},{"arguments":{"x":1},"name":"b"}]', 20) == (
        found.outcome, found.text, found.cost_nanousd,
    )  # fmt: skip


def test_logprobs_of_a_stream_are_put_together():
    """As without streaming."""
    first, second = provider.delta("fi"), provider.delta("ne")
    first["choices"][0]["logprobs"] = {"content": [{"logprob": -1}]}
    second["choices"][0]["logprobs"] = {"content": [{"logprob": -2}]}
    chunks = [first, second, provider.delta(finish="stop"), provider.USAGE_CHUNK]

    assert replace(GOOD, detail="mean logprob -1.5000 over 2 tokens") == ask_once(
        streaming_client, provider.events(chunks)
    )


def test_a_whole_stream_is_the_answer():
    """The same as without streaming."""
    assert GOOD == ask_once(streaming_client, provider.events(provider.GOOD_STREAM))
