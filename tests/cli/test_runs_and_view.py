"""runs list, show, export, import, gc, and view: what is in the store, as a user finds it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]


def run_ids(call: Call) -> list[str]:
    return [run["run"] for run in call("runs", "list", "--json").json["runs"]]


def evaluate(call: Call, *options: str) -> str:
    return str(call("eval", "--json", *options).json["runs"][0]["run"])


def test_without_runs_each_command_says_how_to_make_one(call: Call):
    """An empty store is not an error to list, and one to show."""
    assert (0, "no runs yet\nnext: promptops eval\n") == (call("runs", "list").code, call("runs", "list").out)
    assert (0, f"no runs of {PROMPT} yet\nnext: promptops eval {PROMPT}\n") == (
        0,
        call("runs", "list", "--prompt", PROMPT).out,
    )
    for command in (("runs", "show"), ("view",), ("runs", "export", "latest"), ("compare", "latest")):
        assert (2, "error: no runs yet; run `promptops eval`\n") == (call(*command).code, call(*command).err)


def test_list_is_newest_first_and_says_when_it_is_cut(call: Call):
    """--limit hides runs; the reader is told."""
    old, new = evaluate(call), evaluate(call)

    assert [new, old] == run_ids(call)
    cut = call("runs", "list", "--limit", "1").out
    assert (True, False, True) == (new in cut, old in cut, "the newest 1 of 2; see --limit" in cut)


def test_show_repeats_what_eval_said(call: Call):
    """Recomputed from the rows: the same document as eval gave, by id and as `latest`."""
    run = call("eval", "--json").json["runs"][0]

    assert run == call("runs", "show", run["run"], "--json").json == call("runs", "show", "--json").json
    assert call("runs", "show").out.startswith(f"DONE  {PROMPT} on local: 16/22 cases pass")


@pytest.mark.parametrize("text", ["20260101-000000-abcdef", "nonsense", "../../etc/passwd", ""])
def test_what_is_no_run_is_bad_input_or_not_there(call: Call, text: str):
    """No run is guessed."""
    evaluate(call)

    found = call("runs", "show", text)

    assert (2, "", True) == (found.code, found.out, found.err.startswith("error: "))


def test_exported_run_imports_elsewhere_with_the_same_result(sandbox: Sandbox, call: Call):
    """Export, forget, import: the run is as before; importing twice changes nothing and says so."""
    run = evaluate(call)
    before = call("runs", "show", run, "--json").json
    exported = call("runs", "export", run, "-o", "a run.jsonl")
    evaluate(call)
    older = call("runs", "export", run, "-o", "older.jsonl")
    deleted = call("runs", "gc", "--keep", "0", "--yes")

    imported, again = call("runs", "import", "a run.jsonl"), call("runs", "import", "a run.jsonl")

    assert exported.out.startswith(f"EXPORTED  {run} to a run.jsonl (")
    assert exported.out.endswith("next: promptops runs import 'a run.jsonl'\n")
    assert older.out.endswith("next: promptops compare older.jsonl latest\n")
    assert "DELETED  2 runs and 22 answers\n" == deleted.out
    assert (0, f"IMPORTED  {run} (complete)") == (imported.code, imported.out.splitlines()[0])
    assert f"note: run {run} is already here\n" == again.err
    assert before == call("runs", "show", run, "--json").json


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("import", "gone.jsonl"), 2, "gone.jsonl: cannot read the exported run"),
        (("import", "promptops.toml"), 2, "promptops.toml:"),
        (("import", f"golden/{PROMPT}.jsonl"), 2, f"{PROMPT}.jsonl:1: not a line of an exported run"),
        (("export", "latest", "-o", "no/such/folder/x.jsonl"), 3, "cannot write the export"),
    ],
    ids=["missing", "no-export", "golden-rows", "no-folder"],
)
def test_files_that_cannot_be_used_are_named(call: Call, arguments: tuple[str, ...], code: int, said: str):
    """The file, what is wrong with it; the store stays as it was."""
    run = evaluate(call)

    found = call("runs", *arguments)

    assert (code, [run]) == (found.code, run_ids(call))
    assert said in found.err


def test_L15_gc_without_a_terminal_needs_yes(call: Call, monkeypatch: pytest.MonkeyPatch):
    """Deleting is confirmed; a script says --yes."""
    ids = [evaluate(call) for _ in range(3)]

    refused = call("runs", "gc", "--keep", "1")
    kept = run_ids(call)
    done = call("runs", "gc", "--keep", "1", "--yes", "--json")

    assert (2, ids[::-1]) == (refused.code, kept)
    assert refused.err.endswith("add --yes\n")
    assert ({"deleted_runs": 2, "deleted_answers": 0}, ids[-1:]) == (done.json, run_ids(call))


def test_gc_with_nothing_to_delete_asks_nothing(call: Call):
    """No question about nothing."""
    evaluate(call)

    assert (0, "DELETED  0 runs and 0 answers\n") == (call("runs", "gc").code, call("runs", "gc").out)


def test_view_shows_what_did_not_pass_and_all_on_request(call: Call):
    """6 of 22 fail; counts come first, the command for one case last."""
    run = evaluate(call)
    failed, everything = call("view", "--json").json["cases"], call("view", "--all", "--json").json["cases"]
    text = call("view").out.splitlines()

    assert (6, 22, {False}) == (len(failed), len(everything), {case["passed"] for case in failed})
    assert f"6 of 22 cases did not pass: {PROMPT} on local, run {run}" == text[0]
    assert f"next: promptops view {run} --case delivery-04" == text[-1]


@pytest.mark.parametrize(
    ("category", "failed", "total"), [("delivery", 3, 10), ("length=long", 5, 9), ("length=short", 1, 13)]
)
def test_view_of_a_category_or_tag_counts_only_it(call: Call, category: str, failed: int, total: int):
    """The head line says how many of how many."""
    evaluate(call)

    found = call("view", "--category", category)

    assert found.out.startswith(f"{failed} of {total} cases did not pass: ")
    assert failed == len(call("view", "--category", category, "--json").json["cases"])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(("--category", "delivry"), "did you mean 'delivery'?"), (("--category", "length=lon"), "did you mean 'length=long'?"),
     (("--case", "delivery-4"), "did you mean 'delivery-04'?"), (("--case", ""), "")],
)  # fmt: skip
def test_view_of_something_unknown_suggests_the_closest(call: Call, arguments: tuple[str, ...], hint: str):
    """An empty table would look like `nothing failed`."""
    evaluate(call)

    found = call("view", *arguments)

    assert (2 if hint else 0) == found.code
    assert hint in found.err


def test_view_of_one_case_shows_input_expected_answer_and_checks(sandbox: Sandbox, call: Call):
    """Everything needed to judge it, and the line of the golden file."""
    evaluate(call)
    row = sandbox.rows()[3]

    found = call("view", "--case", "delivery-04", "--json").json
    text = call("view", "--case", "delivery-04").out

    assert (row["inputs"], row["expected"], False, f"golden/{PROMPT}.jsonl:4") == tuple(
        found[key] for key in ("inputs", "expected", "passed", "where")
    )
    assert [("json_schema", True), ("equals/sentiment", False)] == [
        (score["check"], score["passed"]) for score in found["scores"]
    ]
    assert text.startswith("FAIL  delivery-04, draw 1, delivery, length=long\n")
    assert row["inputs"]["feedback"] in text


def test_view_of_a_case_whose_golden_row_changed_does_not_show_the_new_row(sandbox: Sandbox, call: Call):
    """What was answered then must not be shown next to what is asked now."""
    evaluate(call)
    sandbox.replace(f"golden/{PROMPT}.jsonl", "Third late parcel", "First late parcel")

    found = call("view", "--case", "delivery-02", "--json").json

    assert (None, None) == (found["inputs"], found["expected"])
    assert "the golden row changed since this run" in call("view", "--case", "delivery-02").out


def test_view_when_everything_passed_says_so_without_a_table(sandbox: Sandbox, call: Call):
    """Nothing to browse, and how to see the passed ones."""
    sandbox.write_rows([row for row in sandbox.rows() if row["id"] in ("delivery-01", "product-01")])
    run = evaluate(call)

    found = call("view")

    assert (0, f"0 of 2 cases did not pass: {PROMPT} on local, run {run}\n\nnext: promptops view {run} --all\n") == (
        found.code,
        found.out,
    )


def test_an_import_that_is_killed_leaves_nothing(sandbox: Sandbox, call: Call, tmp_path: Path):
    """No half run is listed as running; the same import again is whole."""
    call("eval", "--json")
    exported = tmp_path / "run.jsonl"
    call("runs", "export", "latest", "--output", str(exported))
    shutil.rmtree(sandbox.path(".promptops"))
    header, *lines = exported.read_bytes().splitlines(keepends=True)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = subprocess.Popen([sys.executable, "-m", "promptops", "runs", "import", str(pipe)], cwd=sandbox.root)
    with pipe.open("wb", buffering=0) as file:
        file.write(header)
        for line in lines * (1_000_000 // sum(map(len, lines))):  # more than a pipe holds: most of it has been read
            if b'"end"' not in line:
                file.write(line)
        child.kill()
        child.wait()

    assert [] == call("runs", "list", "--json").json["runs"]
    assert (0, 1) == (call("runs", "import", str(exported)).code, len(call("runs", "list", "--json").json["runs"]))
