"""`promptops compare`: what may name a run, and when there is no verdict."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]


def evaluate(call: Call, *options: str) -> str:
    found = call("eval", "--json", *options)
    return str(found.json["runs"][0]["run"])


@pytest.fixture
def two(sandbox: Sandbox, call: Call) -> tuple[str, str]:
    """A committed run and, after a change of the prompt that changes no local answer, a second one."""
    sandbox.commit_all()
    before = evaluate(call)
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "You label", "Please label")
    return before, evaluate(call)


@pytest.mark.parametrize("base", ["id", "main", "file"])
@pytest.mark.parametrize("candidate", ["id", "latest", "file"])
def test_runs_are_named_by_id_latest_git_ref_and_file(call: Call, two: tuple[str, str], base: str, candidate: str):
    """Whatever names them, the same two runs are compared."""
    before, after = two
    call("runs", "export", before, "-o", "before.jsonl")
    call("runs", "export", after, "-o", "after.jsonl")
    names = (
        {"id": before, "main": "main", "file": "before.jsonl"},
        {"id": after, "latest": "latest", "file": "after.jsonl"},
    )

    found = call("compare", names[0][base], names[1][candidate], "--json")

    assert (0, before, after) == (found.code, found.json["baseline"], found.json["candidate"]), found.err


def test_without_a_candidate_it_is_the_newest_other_run(call: Call, two: tuple[str, str]):
    """The usual question after an evaluation, with one argument."""
    found = call("compare", two[0], "--json").json

    assert two == (found["baseline"], found["candidate"])


def test_same_answers_are_no_regression_and_doubt_is_said(call: Call, two: tuple[str, str]):
    """Nothing changed: PASS, exit 0; ten cases a category are too few to rule a drop out, and the first line says so."""
    found, data = call("compare", *two), call("compare", *two, "--json").json

    first = found.out.splitlines()[0]
    assert (0, "PASS", [], {0.0}) == (
        found.code,
        data["verdict"],
        data["regressed"],
        {row["difference"] for row in data["rows"]},
    )
    assert first.startswith(
        f"PASS  {PROMPT} on local against {PROMPT} on local: none of 4 categories and slices regressed; 4 inconclusive"
    )


def test_only_one_run_says_how_to_make_another(call: Call):
    """Nothing to compare with is bad input, not a verdict."""
    run = evaluate(call)

    found = call("compare", run)

    assert (2, f"error: no run of {PROMPT} after {run}; evaluate the change: `promptops eval {PROMPT}`\n") == (
        found.code,
        found.err,
    )


def _fewer_cases(sandbox: Sandbox) -> tuple[str, ...]:
    sandbox.write_rows([row for row in sandbox.rows() if row["id"] != "product-12"])
    return ()


def _other_text(sandbox: Sandbox) -> tuple[str, ...]:
    sandbox.replace(f"golden/{PROMPT}.jsonl", "Third late parcel", "Fourth late parcel")
    return ()


def _other_gate(sandbox: Sandbox) -> tuple[str, ...]:
    sandbox.replace(f"golden/{PROMPT}.yaml", "min_pass: 0.5", "min_pass: 0.4")
    return ()


@pytest.mark.parametrize(
    ("change", "said"),
    [(_fewer_cases, "1 golden cases are gone, product-12"), (_other_text, "1 golden cases have other content, delivery-02"),
     (_other_gate, "other suite (checks, schemas or gate)"), (lambda _: ("--limit", "5"), "other selection of cases")],
    ids=["case-gone", "case-changed", "gate-changed", "selection"],
)  # fmt: skip
def test_runs_over_other_things_are_not_comparable_and_it_says_what_differs(
    sandbox: Sandbox, call: Call, change: Callable[[Sandbox], tuple[str, ...]], said: str
):
    """A difference of numbers over different cases would be a verdict about nothing: exit 2."""
    before = evaluate(call)
    after = evaluate(call, *change(sandbox))

    found = call("compare", before, after)

    assert (2, "") == (found.code, found.out)
    assert said in found.err


def test_an_incomplete_run_gets_no_verdict(sandbox: Sandbox, call: Call):
    """An exported run whose end is cut off is incomplete: exit 3, never a pass."""
    whole = evaluate(call)
    call("runs", "export", whole, "-o", "cut.jsonl")
    lines = sandbox.read("cut.jsonl").splitlines(keepends=True)
    header: dict[str, Any] = json.loads(lines[0])
    header["header"]["id"] = "20260101-000000-abcdef"
    sandbox.write("cut.jsonl", json.dumps(header) + "\n" + "".join(lines[1:-3]))

    found = call("compare", whole, "cut.jsonl")

    assert (3, "") == (found.code, found.out)
    assert "error: run 20260101-000000-abcdef is incomplete, a verdict needs every case" in found.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("nope", "latest"), 3), (("--prompt", PROMPT, "nope"), 3), (("a..b", "latest"), 2), (("20260101-000000-abcdef", "latest"), 2),
     (("gone.jsonl", "latest"), 2), ((), 2)],
    ids=["ref", "ref-of-prompt", "range", "run", "file", "nothing"],
)  # fmt: skip
def test_a_run_that_cannot_be_found_is_never_a_verdict(
    sandbox: Sandbox, call: Call, arguments: tuple[str, ...], code: int
):
    """Not 0 and not 1: a missing baseline must not look like `no regression`."""
    sandbox.commit_all()
    evaluate(call)

    found = call("compare", *arguments)

    assert (code, "", True) == (found.code, found.out, found.err.startswith("error: "))


def test_a_ref_that_was_never_evaluated_says_the_command_that_does_it(sandbox: Sandbox, call: Call):
    """The reader pastes one line and asks again."""
    sandbox.commit_all()
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "You label", "Please label")
    evaluate(call)

    found = call("compare", "main", "latest")

    assert (3, True) == (found.code, f"`promptops eval {PROMPT} --at main`" in found.err)
    evaluate(call, PROMPT, "--at", "main")
    assert 3 != call("compare", "main", "latest", "--prompt", PROMPT).code
