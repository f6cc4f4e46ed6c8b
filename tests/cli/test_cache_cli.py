"""promptops cache and promptops cost, offline."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
NEAR_MISSES = Path(__file__).resolve().parents[1] / "runtime" / "near_misses.jsonl"


def test_golden_cases_are_too_few_and_it_says_so(call: Call):
    """The starter's 22 cases: off, exit 0, the file says the same, and cost names what is missing."""
    found = call("cache", "calibrate", PROMPT)
    shown = call("cache", "show", PROMPT, "--json").json
    call("eval", PROMPT)
    cost = call("cost", PROMPT, "--json").json

    assert (0, None) == (found.code, shown["threshold"]), found.err
    assert found.out.startswith("OFF")
    assert "nothing is served" in shown["evidence"]["summary"]
    assert ["as it is"] == [row["what"] for row in cost["rows"]]
    assert any("nothing is served" in note for note in cost["notes"])


def test_labelled_pairs_calibrate_and_cost_uses_the_measured_hit_rate(sandbox: Sandbox, call: Call):
    """A generous bound on 307 pairs: served, and the saving in `cost` is the hit rate on the pairs that chose only the threshold."""
    sandbox.write("pairs.jsonl", NEAR_MISSES.read_text("utf-8"))
    found = call("cache", "calibrate", PROMPT, "--pairs", "pairs.jsonl", "--max-error", "0.2", "--json")
    call("eval", PROMPT)
    cost = call("cost", PROMPT, "--json").json

    assert 0 == found.code, found.err
    assert found.json["threshold"] is not None
    assert pytest.approx(found.json["hit_rate"]) == cost["rows"][1]["saved"]
    assert "with the semantic cache" == cost["rows"][1]["what"]
    assert "with 95 % confidence at most 20.0% are" in call("cache", "show", PROMPT).out


def test_wrong_labels_are_all_named(sandbox: Sandbox, call: Call):
    """Each wrong line with its number; two kinds in one file are refused."""
    sandbox.write(
        "bad.jsonl", '{"text": "a", "answer": "x"}\n{"text": "a"}\n[]\nnope\n{"a": "x", "b": "y", "same": 1}\n'
    )
    sandbox.write("mixed.jsonl", '{"text": "a", "answer": "x"}\n{"a": "x", "b": "y", "same": true}\n')
    found, mixed = (call("cache", "calibrate", PROMPT, "--pairs", name) for name in ("bad.jsonl", "mixed.jsonl"))

    assert (2, 2) == (found.code, mixed.code)
    assert [True] * 4 == [f"bad.jsonl:{line}" in found.err for line in (2, 3, 4, 5)]
    assert "texts and pairs" in mixed.err


def test_what_is_not_there_is_said(call: Call):
    """No cache, no run, a bound that is none."""
    codes = [
        call("cache", "show", PROMPT).code,
        call("cost", PROMPT).code,
        call("cache", "calibrate", PROMPT, "--max-error", "0").code,
    ]

    assert [2, 2, 2] == codes


def test_a_tampered_cache_file_is_refused(sandbox: Sandbox, call: Call):
    """Exit 4, from show as from cost."""
    sandbox.write(f"prompts/{PROMPT}/cache.json", json.dumps({"format": "promptops.cache/1", "threshold": -5}))
    call("eval", PROMPT)

    assert [4, 4] == [call("cache", "show", PROMPT).code, call("cost", PROMPT).code]
