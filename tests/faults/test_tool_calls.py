"""Prompts with tools, from their files to a scored run: a call is an answer where the suite says which it should be."""

import json
from typing import Any

import pytest

from conftest import PROMPT, Sandbox
from faults.provider_runs import Command, configure
from faults.server import Call, Fault, FaultServer, answer
from promptops.core.errors import DataError
from promptops.project.prompts import load_prompt
from promptops.project.tree import WorkTree

TOOL = {
    "name": "refund",
    "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
}
ROWS: list[dict[str, Any]] = [
    {"id": "right", "inputs": {"feedback": "refund A1"}, "expected": {"tool_calls": {"name": "refund", "arguments": {"order": "A1"}}}},
    {"id": "wrong", "inputs": {"feedback": "refund A2"}, "expected": {"tool_calls": {"name": "refund", "arguments": {"order": "B2"}}}},
    {"id": "text", "inputs": {"feedback": "hello"}, "expected": {"tool_calls": []}},
    {"id": "unjudged", "inputs": {"feedback": "refund A3"}, "expected": {"mood": "none"}},
]  # fmt: skip


def with_tools(sandbox: Sandbox, tools: Any = (TOOL,), *, more: str = "") -> None:
    """The starter prompt as one that answers with text or calls; a case is `delivery`, tagged and written."""
    sandbox.write(f"prompts/{PROMPT}/tools.json", json.dumps(tools))
    prompt = f"prompts/{PROMPT}/prompt.md"
    sandbox.replace(
        prompt, "output: {format: json, schema: output.schema.json}", "output: {format: text}\ntools: tools.json" + more
    )
    sandbox.replace(
        f"golden/{PROMPT}.yaml", "- {check: json_schema}\n  - {check: equals, path: /sentiment}", "- {check: tool_call}"
    )
    sandbox.replace(f"golden/{PROMPT}.yaml", "  product:\n", "")
    sandbox.write_rows(
        [row | {"category": "delivery", "tags": {"length": "short"}, "source": "written"} for row in ROWS]
    )


def obey(call: Call) -> Fault:
    """A model that refunds what it is told to, and talks otherwise."""
    words = call.prompt.split()
    if "refund" not in words:
        return answer("Hello.")
    arguments = json.dumps({"order": words[words.index("refund") + 1]})
    return answer(
        None,
        finish="tool_calls",
        tool_calls=[{"id": "1", "type": "function", "function": {"name": "refund", "arguments": arguments}}],
    )


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_tool_call_is_an_answer_where_the_case_says_which(sandbox: Sandbox, call: Command, api: str):
    """Right, wrong and no call are scored; a call nobody asked about keeps its own outcome; a second run asks only for that."""
    with_tools(sandbox)
    with FaultServer(obey) as server:
        configure(sandbox, server.url, api=api)
        first, second = (call("eval", "--model", "small", "--json") for _ in range(2))
        case = call("view", "latest", "--case", "right", "--json").json

    (run,) = second.json["runs"]
    assert ([0, 0], {"tool_call": 1}, 5) == ([first.code, second.code], run["outcomes"], len(server.calls))
    assert (2, 4, ['[{"arguments":{"order":"A1"},"name":"refund"}]', True]) == (
        run["total"]["passed"], run["total"]["n"], [case["answer"], case["passed"]],
    )  # fmt: skip


def test_recorded_tool_calls_are_replayed(sandbox: Sandbox, call: Command):
    """Without a key, a server or a call."""
    with_tools(sandbox)
    sandbox.write_rows(sandbox.rows()[:3])
    with FaultServer(obey) as server:
        configure(sandbox, server.url)
        call("eval", "--model", "small", "--record", "kept")
    replayed = call("eval", "--model", "small", "--replay", "kept", "--json")

    assert (2, 3) == (replayed.json["runs"][0]["total"]["passed"], replayed.json["runs"][0]["total"]["n"])


@pytest.mark.parametrize(
    ("tools", "more", "said"),
    [
        ({"name": "a"}, "", "the file"),
        ([{"name": "a b"}], "", "is not valid under any"),
        ([TOOL, TOOL], "", "two tools are called 'refund'"),
        ([TOOL | {"parameters": {"$ref": "https://example.com/x"}}], "", "tools.json (refund)"),
        ([TOOL], "\nparams: {tool_choice: refnd}", "tool_choice 'refnd' is no tool; did you mean 'refund'?"),
    ],
)
def test_tools_that_are_none_are_problems_of_the_prompt(sandbox: Sandbox, tools: Any, more: str, said: str):
    """Found by lint, before anything is asked."""
    with_tools(sandbox, tools)
    if more:
        sandbox.replace(f"prompts/{PROMPT}/prompt.md", "params: {temperature: 0, max_output_tokens: 50}", more.strip())

    with pytest.raises(DataError) as caught:
        load_prompt(WorkTree(sandbox.root), PROMPT)

    assert said in str(caught.value), str(caught.value)


def test_a_tool_is_part_of_the_prompt_digest(sandbox: Sandbox):
    """Another description may give another answer. The two ways of writing a tool are the same tool."""
    digests = []
    with_tools(sandbox)
    for tools in ([TOOL], [{"type": "function", "function": TOOL}], [TOOL | {"description": "Give money back."}]):
        sandbox.write(f"prompts/{PROMPT}/tools.json", json.dumps(tools))
        digests.append(load_prompt(WorkTree(sandbox.root), PROMPT).digest({}))

    assert (True, False) == (digests[0] == digests[1], digests[0] == digests[2])


def test_a_parameter_the_responses_api_lacks_is_refused(sandbox: Sandbox, call: Command):
    """Before anything is asked, instead of sent and ignored."""
    configure(sandbox, "http://127.0.0.1:9/v1", api="responses")
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "temperature: 0", "seed: 1")
    refused = call("eval", "--model", "small")

    assert (2, True) == (refused.code, "the Responses API has no seed" in refused.err)
