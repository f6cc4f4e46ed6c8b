"""promptops route and eval --policy routed, offline on local models."""

import json
import random
from collections.abc import Callable

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]


@pytest.fixture
def outcomes(sandbox: Sandbox) -> str:
    """1,200 further rows: the small model fails on long texts."""
    rows = []
    rng = random.Random(4)
    for number in range(1200):
        length = rng.randrange(20, 300)
        fails = length > 200 and rng.random() < 0.5
        rows.append(
            {
                "id": f"x{number}",
                "text": ("nice lamp " * 40)[:length],
                "category": "extra",
                "small": int(not fails),
                "large": 1,
            }
        )
    sandbox.write("outcomes.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return "outcomes.jsonl"


def test_few_cases_mean_off_in_words(sandbox: Sandbox, call: Call):
    """22 golden cases train nothing: exit 2, and it says how many there are."""
    found = call("route", "train", PROMPT, "--small", "local:echo", "--large", "local")

    assert 2 == found.code
    assert "22 outcomes" in found.err


def test_train_show_and_judge(sandbox: Sandbox, call: Call, outcomes: str):
    """Train with further rows, read router.json back, and gate the routed policy against the large model."""
    trained = call("route", "train", PROMPT, "--small", "local:rules", "--large", "local", "--outcomes", outcomes)
    shown = call("route", "show", PROMPT, "--json").json
    judged = call("eval", PROMPT, "--policy", "routed", "--against", "large")

    assert (0, "length", 0) == (trained.code, shown["rule"], judged.code), (trained.err, judged.err)
    assert "TRAINED" in trained.out.splitlines()[0]
    assert "simplest" in trained.out
    assert shown["threshold"] is not None
    assert "PASS" in judged.out
    assert "held" in judged.out or "judged on the half" in judged.out


def test_a_small_model_that_fails_is_stopped_by_the_gate(sandbox: Sandbox, call: Call, outcomes: str):
    """A router that sends everything to a model that is always wrong: exit 1, as for any candidate."""
    assert (
        0 == call("route", "train", PROMPT, "--small", "local:rules", "--large", "local", "--outcomes", outcomes).code
    )
    again = [{**row, "id": f"{row['id']}-{copy}", "inputs": {key: f"{value} ({copy})" for key, value in row["inputs"].items()}} for row in sandbox.rows() for copy in range(6)]  # fmt: skip
    sandbox.write_rows(again)
    path = f"prompts/{PROMPT}/router.json"
    document = json.loads(sandbox.read(path)) | {"small": "local:echo", "threshold": 1000.0}
    sandbox.write(path, json.dumps(document))

    found = call("eval", PROMPT, "--policy", "routed", "--against", "large", "--json")

    assert (1, True) == (found.code, found.json["small_calls"] > 0), found.err


def test_runs_are_taken_as_sides(sandbox: Sandbox, call: Call, outcomes: str):
    """Stored runs by id: nothing is asked again; a run of other golden cases is refused."""
    ids = [call("eval", PROMPT, "--model", model, "--json").json["runs"][0]["run"] for model in ("local:echo", "local")]
    trained = call("route", "train", PROMPT, "--small", ids[0], "--large", ids[1], "--outcomes", outcomes, "--json")
    sandbox.write_rows(sandbox.rows()[:-1])
    refused = call("route", "train", PROMPT, "--small", ids[0], "--large", ids[1], "--outcomes", outcomes)

    assert (0, "local:echo", "local", 2) == (trained.code, trained.json["small"], trained.json["large"], refused.code)
    assert "other golden cases" in refused.err


def test_wrong_rows_are_all_named(sandbox: Sandbox, call: Call):
    """Every line of --outcomes that is wrong, with its number."""
    sandbox.write(
        "bad.jsonl",
        '{"id": "a", "text": "t", "small": 1, "large": 1}\n{"id": "b"}\n{"id": "a", "text": "t", "small": 1, "large": 1}\nnope\n{"id": "c", "text": "t", "small": 2, "large": 1}\n',
    )

    found = call("route", "train", PROMPT, "--small", "local:echo", "--large", "local", "--outcomes", "bad.jsonl")

    assert 2 == found.code
    assert [True] * 4 == [f"bad.jsonl:{line}" in found.err for line in (2, 3, 4, 5)]


def test_R7_a_tampered_router_file_is_refused(sandbox: Sandbox, call: Call):
    """Exit 4 and the faults, from show as from eval."""
    sandbox.write(f"prompts/{PROMPT}/router.json", '{"format": "promptops.router/1", "rule": "exec"}')

    codes = [call("route", "show", PROMPT).code, call("eval", PROMPT, "--policy", "routed", "--against", "large").code]

    assert [4, 4] == codes


@pytest.mark.parametrize(
    "arguments",
    [("--policy", "routed"), ("--policy", "best", "--against", "large"), ("--policy", "routed", "--against", "main"),
     ("--policy", "routed", "--against", "large", "--limit", "3")],
)  # fmt: skip
def test_policy_takes_no_other_words(call: Call, arguments: tuple[str, ...]):
    """What is not understood is refused, not ignored."""
    assert 2 == call("eval", PROMPT, *arguments).code
