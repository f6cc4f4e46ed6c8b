"""A provider that answers, but wrongly: no such answer is scored, shown raw, or paid twice without a word."""

import json
import subprocess
import sys
from typing import Any

import pytest

from conftest import Sandbox
from faults import server as provider
from faults.provider_runs import CASES, Command, answer_others, asked, configure, right_answers, rows, spread, unless
from faults.server import Call, Fault, FaultServer, answer, completion, delta, document, events, failure, raw

EVAL = ("eval", "--model", "small", "--json")


def evaluate(sandbox: Sandbox, call: Command, faults: list[Fault], **model: Any) -> tuple[dict[str, Any], list[Call]]:
    """The run in which each fault happened to a case of its own and none was scored, and what the server saw."""
    with FaultServer(unless(sandbox, spread(sandbox, faults))) as server:
        configure(sandbox, server.url, **model)
        finished = call(*EVAL)
    assert "Traceback" not in finished.err
    (run,) = finished.json["runs"]
    total = run["total"]
    unscored = sum(run["outcomes"].values())
    assert (3, CASES - unscored, unscored) == (finished.code, total["passed"], total["unscored"]), run
    return run, server.calls


_RIGHT = json.dumps({"sentiment": "positive"})
_WRONG_SHAPES = [
    raw(b'{"choices": [{"mess'), raw(b"\x00\xff garbage"), raw(b""), raw(b"<html>\x1b[31mSign in</html>"), document([]), document(None),
    document({"error": {"message": "overloaded"}}), document({"choices": []}), document({"choices": [{"message": []}]}), answer(None), answer(5),
]  # fmt: skip
_UNREADABLE = [
    raw(b"[" * 100_000),
    document(completion(_RIGHT) | {"created": float("nan")}),
    raw(json.dumps(completion(_RIGHT)).replace('"model"', '"id": "again", "model"').encode()),
    raw(json.dumps(completion("positive")).encode().replace(b"positive", b"posit\xffve")),
]


@pytest.mark.parametrize("faults", [_WRONG_SHAPES, _UNREADABLE], ids=["E9", "E13"])
def test_E9_E13_a_body_that_is_no_completion_is_asked_again_once_and_never_scored(
    sandbox: Sandbox, call: Command, faults: list[Fault]
):
    """Wrong shapes, deep JSON, NaN, duplicate keys and bad UTF-8 are an outage of the provider, not of the prompt."""
    run, calls = evaluate(sandbox, call, faults)

    names = asked(sandbox, calls)
    assert {"bad_response": len(faults)} == run["outcomes"]
    assert 2 == max(map(names.count, names)), "one more try at the most"


def test_E9_the_first_bytes_are_shown_escaped(sandbox: Sandbox, call: Command):
    """Enough to see what answered, and nothing a terminal would obey."""
    run, _ = evaluate(sandbox, call, [raw(b"<html>\x1b[31mSign in</html>" + b"x" * 1000)])

    why = run["worst"][0]["why"]
    assert why.startswith("answer: bad_response: not JSON")
    assert why.endswith(repr("<html>\x1b[31mSign in</html>" + "x" * 175))


def test_E10_each_way_not_to_answer_is_counted_by_its_name(sandbox: Sandbox, call: Command):
    """A refusal, a filter, a tool call and a cut are not asked again; they do not pass, and they were paid."""
    tools = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    faults = [
        answer(None, refusal="no"), answer("", finish="content_filter"), answer(None, tool_calls=tools, finish="tool_calls"),
        answer('{"sentiment"', finish="length"),
    ]  # fmt: skip
    with FaultServer(unless(sandbox, spread(sandbox, faults))) as server:
        configure(sandbox, server.url)
        (run,) = call(*EVAL).json["runs"]

    assert {"refused": 1, "filtered": 1, "tool_call": 1, "truncated": 1} == run["outcomes"]
    assert (CASES - 4, CASES, CASES * 20_000) == (run["total"]["passed"], len(server.calls), run["paid_nanousd"])


def test_E10_text_in_parts_is_an_answer(sandbox: Sandbox, call: Command):
    """Some servers send content as a list."""
    case = sandbox.rows()[0]
    parts = answer([{"type": "text", "text": json.dumps(case["expected"])}])
    with FaultServer(unless(sandbox, {case["id"]: parts})) as server:
        configure(sandbox, server.url)
        finished = call(*EVAL)

    assert (0, CASES) == (finished.code, finished.json["runs"][0]["total"]["passed"])


_USAGE: list[Any] = [
    None, {}, {"prompt_tokens": -1, "completion_tokens": -1}, {"prompt_tokens": "10", "completion_tokens": 5},
    {"prompt_tokens": 10**15, "completion_tokens": 10**15}, {"prompt_tokens": 10.5, "completion_tokens": 5},
]  # fmt: skip


def test_E11_usage_that_cannot_be_true_is_estimated_and_marked(sandbox: Sandbox, call: Command):
    """The answers count; the ledger holds whole, positive numbers near the truth."""
    cases = sandbox.rows()
    faults = {
        row["id"]: document(completion(json.dumps(row["expected"])) | {"usage": usage})
        for row, usage in zip(cases, _USAGE, strict=False)
    }
    with FaultServer(unless(sandbox, faults)) as server:
        configure(sandbox, server.url)
        finished = call(*EVAL)

    costs = [cost for (cost,) in rows(sandbox, "select cost_nanousd from answers where usage_trusted = 0")]
    all_costs = [cost for (cost,) in rows(sandbox, "select cost_nanousd from attempts")]
    (run,) = finished.json["runs"]
    assert (0, len(_USAGE), CASES) == (finished.code, len(costs), run["total"]["passed"])
    assert all(type(cost) is int and 10_000 < cost < 1_000_000 for cost in costs), costs
    assert sum(all_costs) == run["paid_nanousd"] == sum(costs) + (CASES - len(_USAGE)) * 20_000


def test_E11_usage_with_NaN_is_no_JSON(sandbox: Sandbox, call: Command):
    """The whole answer is refused: parsers disagree about it."""
    run, _ = evaluate(sandbox, call, [answer(_RIGHT, usage={"prompt_tokens": float("nan"), "completion_tokens": 5})])

    assert {"bad_response": 1} == run["outcomes"]


_MEASURE = """
import asyncio, json, resource, sys
from promptops.core.money import Price
from promptops.core.prompt import Message
from promptops.models.base import ModelRequest
from promptops.models.http import HttpClient
from promptops.models.sdk import SdkClient
from promptops.models.secret import Secret

async def main(client):
    client = client(base_url=sys.argv[1], model="m", key=Secret(""), price=Price(), timeout_s=20)
    request = ModelRequest(messages=(Message(role="user", content="Hello?"),))
    found = []
    for _ in range(5):
        found.append((await client.answer(request)).outcome)
        if len(found) == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await client.close()
    print(json.dumps([found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))

asyncio.run(main({"http": HttpClient, "sdk": SdkClient}[sys.argv[2]]))
"""


@pytest.mark.parametrize("transport", ["http", "sdk"])
def test_E12_a_body_of_256_megabytes_takes_no_memory(transport: str):
    """Plain and as a gzip bomb, as an answer and as an error: at most 64 MiB above what a good answer needs."""
    faults = [answer(), provider.huge(), provider.bomb(), provider.huge(status=500), provider.bomb(status=500)]
    with FaultServer(provider.in_order(*faults, then=answer())) as server:
        child = subprocess.run(
            [sys.executable, "-c", _MEASURE, server.url, transport], capture_output=True, check=True, timeout=60
        )

    outcomes, growth_kib = json.loads(child.stdout)
    assert (["ok", *["too_large"] * 4], True) == (outcomes, growth_kib <= 65_536), growth_kib


def test_E12_a_body_beyond_the_cap_is_an_outcome_of_the_case(sandbox: Sandbox, call: Command):
    """It is not asked again: the next would be as large."""
    run, calls = evaluate(sandbox, call, [provider.bomb(size=20_000_000), provider.huge(size=20_000_000)])

    assert ({"too_large": 2}, CASES) == (run["outcomes"], len(calls))


_PIECES = [delta('{"sentiment": '), delta('"positive"}'), delta(finish="stop"), provider.USAGE_CHUNK]
_BROKEN_STREAMS = {
    "cut": events(_PIECES, then="cut"),
    "no [DONE]": events(_PIECES, then="close"),
    "error event": events([*_PIECES[:2], {"error": {"message": "overloaded"}}]),
}


@pytest.mark.parametrize("broken", _BROKEN_STREAMS.values(), ids=_BROKEN_STREAMS)
def test_E14_part_of_a_stream_is_never_scored(sandbox: Sandbox, call: Command, broken: Fault):
    """Even if what came would be a right answer; a stream that stalls meets the deadline."""
    right = {row["id"]: _streamed(row["expected"]) for row in sandbox.rows()}
    faults = right | spread(sandbox, [broken, events(_PIECES[:2], then="stall")])
    with FaultServer(unless(sandbox, faults)) as server:
        configure(sandbox, server.url, stream=True)
        answer_others(sandbox, call, *(row["id"] for row in sandbox.rows()[:2]))
        configure(sandbox, server.url, stream=True, timeout_s=0.6)
        finished = call(*EVAL)

    (run,) = finished.json["runs"]
    assert (3, {"stream": 1, "timeout": 1}, CASES - 2) == (finished.code, run["outcomes"], run["total"]["passed"])
    assert all(one.body["stream"] for one in server.calls)
    assert 0 < run["possibly_paid_nanousd"]


def _streamed(expected: Any) -> Fault:
    text = json.dumps(expected)
    return events([delta(text[:7]), delta(text[7:]), delta(finish="stop"), provider.USAGE_CHUNK])


def test_E9_E10_a_tenth_of_all_answers_failing_in_every_way_never_gives_a_wrong_verdict(
    sandbox: Sandbox, call: Command
):
    """No answer is taken for a wrong one, a hole is exit 3 with the command that fills it, and that asks for holes alone."""
    right = right_answers(sandbox)
    kinds = [
        provider.bomb(size=20_000_000), *_WRONG_SHAPES, *_UNREADABLE, provider.reset, provider.reset_within, failure(500), failure(503),
        failure(429, Retry_After="0"),        answer(None, refusal="no"), answer("{", finish="length"), answer("", finish="content_filter"), raw(b"{", missing=9), provider.garbage(b"?"),
    ]  # fmt: skip

    def every_tenth(one: Call) -> Fault:
        return kinds[(one.number // 10 - 1) % len(kinds)] if one.number % 10 == 0 else right(one)

    with FaultServer(every_tenth) as server:
        configure(sandbox, server.url)
        finished = call("eval", "--model", "small", "--repeat", "10", "--json")
        (run,) = finished.json["runs"]
        before, server.script = len(server.calls), right
        again = call("retry", run["run"], "--json")

    total, holes = run["total"], sum(run["outcomes"].values())
    assert (3, 10 * CASES, True) == (finished.code, total["n"], run["coverage"] < 1)
    scored = [(row["passed"], row["failed"]) for row in run["checks"] if row["name"] != "answer"]
    assert [(10 * CASES - holes, 0)] * 2 == scored
    (filled,) = again.json["runs"]
    assert (0, 1.0, 10 * CASES) == (again.code, filled["coverage"], filled["total"]["passed"])
    assert holes == len(server.calls) - before
