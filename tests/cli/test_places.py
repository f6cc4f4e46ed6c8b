"""Where the command is run: sub-folders, strange paths, no home, no right to write."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROMPT, Sandbox
from promptops.project.scaffold import scaffold


def test_L13_a_subfolder_finds_the_project_above(sandbox: Sandbox):
    """The same answer from everywhere below the root, and the store is at the root."""
    sandbox.path("prompts/feedback-sentiment/deep").mkdir()

    found = sandbox.run("eval", "--json", cwd=sandbox.root / "prompts/feedback-sentiment/deep")

    assert (0, 22) == (found.code, found.json["runs"][0]["planned"])
    assert [".promptops"] == [path.parent.name for path in sandbox.root.rglob("store.sqlite3")]


@pytest.mark.parametrize("name", ["with blanks and\nnewline", "-quote'\"$(x)日本語[b]"])
def test_L13_any_folder_name_will_do(tmp_path: Path, name: str):
    """Blanks, newline, quotes, other scripts, a leading dash, markup."""
    root = tmp_path / name
    root.mkdir()
    scaffold(root)
    project = Sandbox(root)

    commit = project.commit_all()
    found = project.run("eval", "--at", "main", "--json")

    assert (0, commit) == (found.code, found.json["runs"][0]["commit"]), found


def test_L13_no_home_is_no_problem(sandbox: Sandbox):
    """Containers and CI run without one."""
    environment = {"PATH": os.environ["PATH"]}

    found = subprocess.run([sys.executable, "-m", "promptops", "eval", "--limit", "2"], cwd=sandbox.root, env=environment,
                           capture_output=True, text=True, timeout=60, check=False)  # fmt: skip

    assert (0, "") == (found.returncode, found.stderr)


def test_L13_no_project_says_how_to_make_one(tmp_path: Path):
    """Outside of any project."""
    found = Sandbox(tmp_path).run("list")

    assert (2, "") == (found.code, found.out)
    assert found.err.endswith("no promptops project here or above; run `promptops init`\n")


@pytest.mark.parametrize("arguments", [("eval",), ("list",), ("runs", "list"), ("view",)], ids=" ".join)
def test_L13_a_store_that_cannot_be_made_is_a_clear_error(sandbox: Sandbox, arguments: tuple[str, ...]):
    """Not a traceback, not `output could not be written`. A file in the way fails for root too, which a mode does not."""
    shutil.rmtree(sandbox.path(".promptops"))
    sandbox.write(".promptops", "")

    found = sandbox.run(*arguments)

    assert (3, "", 1) == (found.code, found.out, found.err.count("\n"))
    assert found.err.startswith("error: .promptops/: the run store cannot be made")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_L13_a_read_only_folder_is_a_clear_error(sandbox: Sandbox):
    """The path and the reason; lint and show work without a store."""
    shutil.rmtree(sandbox.path(".promptops"))
    sandbox.root.chmod(0o500)
    try:
        codes = [sandbox.run(*arguments).code for arguments in (("lint",), ("show", PROMPT), ("eval",))]
    finally:
        sandbox.root.chmod(0o700)

    assert [0, 0, 3] == codes
