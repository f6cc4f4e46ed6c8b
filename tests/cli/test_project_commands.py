"""init, lint, list and show, as a newcomer meets them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
MADE = [
    f"golden/{PROMPT}.jsonl", f"golden/{PROMPT}.yaml", "promptops.toml", f"prompts/{PROMPT}/input.schema.json",
    f"prompts/{PROMPT}/output.schema.json", f"prompts/{PROMPT}/prompt.md", f"prompts/{PROMPT}/rules.yaml",
]  # fmt: skip


def test_init_says_what_it_made_and_what_to_run(sandbox: Sandbox, call: Call):
    """First line the answer, then the files, last line a command that can be pasted, blanks in the name or not."""
    found = call("init", "a new one")

    lines = found.out.splitlines()
    assert (0, "CREATED  7 files") == (found.code, lines[0])
    assert MADE == [line.strip() for line in lines[1:8]]
    assert "next: cd 'a new one' && promptops lint && promptops eval" == lines[-1]
    assert sandbox.path("a new one/promptops.toml").is_file()


def test_init_overwrites_nothing(sandbox: Sandbox, call: Call):
    """A file that is there stays as it is, and no other is written."""
    for name in MADE[1:]:
        sandbox.path(name).unlink()
    sandbox.write(MADE[0], "mine\n")

    found = call("init")

    left = sorted(
        str(path.relative_to(sandbox.root))
        for path in sandbox.root.rglob("*")
        if path.is_file() and ".promptops" not in path.parts
    )
    assert (2, "mine\n", [MADE[0]]) == (found.code, sandbox.read(MADE[0]), left)
    assert f"{MADE[0]} exists already" in found.err


def test_lint_of_a_sound_project_is_one_answer_and_a_next_step(call: Call):
    """Nothing to say on stderr when nothing is wrong; one prompt is not `1 prompts`."""
    found = call("lint")

    assert (0, "") == (found.code, found.err)
    assert "OK  1 prompt (candidates included), 22 golden cases, 0 warnings\nnext: promptops eval\n" == found.out


def test_lint_lists_every_problem_with_its_line_and_exits_2(sandbox: Sandbox, call: Call):
    """Problems of several files at once, each with file and line; stdout holds the count."""
    sandbox.replace(MADE[1], "path: /sentiment", "path: /sentiment, ignore_cases: true")
    sandbox.replace(MADE[0], '"category": "delivery"', '"category": "delivry"')

    suite = call("lint")
    sandbox.replace(MADE[1], ", ignore_cases: true", "")
    golden = call("lint")

    assert (2, 2) == (suite.code, golden.code)
    assert suite.err.startswith(f"error: {MADE[1]}:8: ")
    assert 10 == golden.err.count(f"error: {MADE[0]}:")
    assert golden.out.startswith("FAIL  10 problems; sound: 0 prompts")


@pytest.mark.parametrize(
    "arguments",
    [("lint",), ("show",), ("eval",), ("runs", "list", "--prompt")],
    ids=["lint", "show", "eval", "runs-list"],
)
def test_an_unknown_prompt_is_named_with_the_closest_known_one(call: Call, arguments: tuple[str, ...]):
    """A typing error costs one look, not a search."""
    found = call(*arguments, "feedback-sentimnt")

    assert 2 == found.code
    assert f"did you mean {PROMPT!r}?" in found.err


def test_list_shows_counts_and_the_newest_run(call: Call):
    """One row a prompt; before the first run a dash."""
    before = call("list", "--json").json["prompts"][0]
    run = call("eval", "--json").json["runs"][0]
    after = call("list", "--json").json["prompts"][0]

    assert (PROMPT, 22, 2, "local", "", 0) == tuple(
        before[key] for key in ("name", "cases", "categories", "model", "newest_run", "problems")
    )
    assert {**before, "newest_run": run["run"]} == after


def test_list_keeps_a_broken_prompt_and_points_to_lint(sandbox: Sandbox, call: Call):
    """One broken file must not hide the other prompts."""
    sandbox.write("prompts/other/prompt.md", "---\nnonsense\n")

    found = call("list")

    rows = {line.split()[0]: line.split() for line in found.out.splitlines() if line.startswith((PROMPT, "other"))}
    assert 0 == found.code
    assert ("22", "-", "-") == (rows[PROMPT][1], rows["other"][1], rows["other"][2])
    assert found.out.endswith("next: promptops lint\n")


def test_list_of_an_empty_project_says_how_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call):
    """An empty table would leave the reader alone."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/promptops.toml").write_text("")
    monkeypatch.chdir(tmp_path / "empty")

    assert (0, "no prompts\n\nnext: promptops init\n") == (call("list").code, call("list").out)
    assert (2, "error: prompts/: no prompts; run `promptops init`\n") == (call("eval").code, call("eval").err)


def test_show_prints_the_template_line_by_line_as_it_is(sandbox: Sandbox, call: Call):
    """In a pipe no line is wrapped or trimmed, so what is shown can be compared with the file."""
    found = call("show", PROMPT)

    template = sandbox.read(f"prompts/{PROMPT}/prompt.md").partition("\nsystem:\n")[2].partition("\n\nuser:")[0]
    assert (0, True) == (found.code, template in found.out)
    assert found.out.endswith(f"next: promptops eval {PROMPT}\n")


def test_show_of_a_candidate_and_of_a_commit_differ_from_the_work_tree(sandbox: Sandbox, call: Call):
    """--candidate and --at read other files, so the digest is another."""
    sandbox.commit_all()
    sandbox.write(
        f"prompts/{PROMPT}/candidates/terse/prompt.md",
        sandbox.read(f"prompts/{PROMPT}/prompt.md").replace("and nothing else", "only"),
    )
    old = call("show", PROMPT, "--json").json["prompt_digest"]
    candidate = call("show", PROMPT, "--candidate", "terse", "--json").json["prompt_digest"]
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "You label", "Please label")
    new = call("show", PROMPT, "--json").json["prompt_digest"]

    at = call("show", PROMPT, "--at", "main", "--json").json["prompt_digest"]

    assert (old, 3) == (at, len({old, candidate, new}))


def test_show_json_holds_the_whole_prompt(sandbox: Sandbox, call: Call):
    """A machine gets messages, inputs, checks and counts under stable keys."""
    found = call("show", PROMPT, "--json").json

    assert [("system"), ("user")] == [message["role"] for message in found["messages"]]
    assert ({"delivery": 10, "product": 12}, {"length=long": 9, "length=short": 13}) == (
        found["categories"],
        found["slices"],
    )
    assert {"delivery": ["json_schema", "equals/sentiment"], "product": ["json_schema", "equals/sentiment"]} == found[
        "checks"
    ]
    assert json.dumps(found)
