"""What should not happen, and what must not be shown: exit 70, logs, tracebacks, keys."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROMPT, Outcome, Sandbox

SECRET = "sk-canary-0123456789abcdef"


def break_the_store(sandbox: Sandbox) -> None:
    """A header that no promptops wrote, with a key in it: reading it is a state the code does not foresee."""
    sandbox.run("eval")
    with sqlite3.connect(sandbox.path(".promptops/store.sqlite3")) as store:
        store.execute("update runs set header = json_insert(header, '$.\"' || ? || '\"', 1)", (SECRET,))
    store.close()


def log_of(found: Outcome) -> Path:
    match = re.search(r"please report it with (\S+?)[\"\n]", found.out + found.err)
    assert match, found
    return Path(match[1])


@pytest.fixture
def broken(sandbox: Sandbox, tmp_path: Path) -> tuple[Sandbox, dict[str, str]]:
    break_the_store(sandbox)
    (tmp_path / "logs").mkdir()
    return sandbox, {"TMPDIR": str(tmp_path / "logs"), "SERVICE_API_KEY": SECRET}


def test_L8_an_unforeseen_state_is_exit_70_one_line_and_a_log(broken: tuple[Sandbox, dict[str, str]]):
    """No traceback on the screen; the log has it, without the keys of the environment, readable by its owner only."""
    sandbox, env = broken

    found = sandbox.run("runs", "list", env=env)

    log = log_of(found)
    assert (70, "", 1) == (found.code, found.out, found.err.count("\n"))
    assert found.err.startswith("error: this is a bug in promptops (TypeError); ")
    assert (True, False, True) == (
        "Traceback" in log.read_text(),
        SECRET in log.read_text(),
        "<SERVICE_API_KEY>" in log.read_text(),
    )
    assert 0o600 == log.stat().st_mode & 0o777


def test_L8_L9_a_bug_with_json_is_one_document(broken: tuple[Sandbox, dict[str, str]]):
    """Machines learn it like any other error."""
    sandbox, env = broken

    found = sandbox.run("list", "--json", env=env)

    assert (70, 70, "") == (found.code, found.json["error"]["exit_code"], found.err)
    assert log_of(found).is_file()


def test_L8_L16_debug_shows_the_traceback_with_the_keys_masked(broken: tuple[Sandbox, dict[str, str]]):
    """--debug is for bug reports, which are pasted into public places."""
    sandbox, env = broken

    found = sandbox.run("--debug", "runs", "list", env=env)

    assert (70, True, False) == (found.code, "Traceback" in found.err, SECRET in found.out + found.err)


def test_L8_a_bug_is_reported_even_where_no_log_can_be_written(broken: tuple[Sandbox, dict[str, str]], tmp_path: Path):
    """One line that says how to see it instead."""
    sandbox, env = broken
    script = "import sys, tempfile; tempfile.tempdir = '/nonexistent'; from promptops.cli.main import main; sys.exit(main(sys.argv[1:]))"

    found = subprocess.run([sys.executable, "-c", script, "runs", "list"], cwd=sandbox.root, env=os.environ | env, capture_output=True, text=True,
                           timeout=60, check=False)  # fmt: skip

    assert (70, 1, True) == (found.returncode, found.stderr.count("\n"), "no log could be written" in found.stderr)


def test_L8_a_store_that_is_a_folder_is_named(sandbox: Sandbox):
    """Not a bug: something is in the way, and which."""
    sandbox.path(".promptops/store.sqlite3").mkdir(parents=True)

    found = sandbox.run("list")

    assert (3, "", True) == (found.code, found.out, found.err.startswith("error: .promptops/store.sqlite3: "))


def test_debug_adds_a_traceback_to_an_error_and_changes_nothing_else(sandbox: Sandbox):
    """The last line and the exit code are those of the plain command."""
    plain, debug = sandbox.run("show", "nope"), sandbox.run("--debug", "show", "nope")

    assert (2, 2, False, True) == (plain.code, debug.code, "Traceback" in plain.err, "Traceback" in debug.err)
    assert debug.err.endswith(plain.err)


@pytest.mark.parametrize("more", [(), ("--json",), ("--dry-run",)], ids=["text", "json", "dry-run"])
def test_L16_debug_never_shows_key_or_case_text(sandbox: Sandbox, more: tuple[str, ...]):
    """A server nobody listens on, a key that is set: the failure says neither key nor what was asked."""
    sandbox.replace("promptops.toml", "https://api.openai.com/v1", "http://127.0.0.1:9/v1")
    rows = sandbox.rows()[:1] + sandbox.rows()[-1:]
    rows[0]["inputs"] = {"feedback": "canary-text-of-a-customer"}
    sandbox.write_rows(rows)

    found = sandbox.run(
        "--debug", "eval", "--model", "small", "--max-calls", "0", *more, env={"OPENAI_API_KEY": SECRET}
    )

    assert (False, False) == (SECRET in found.out + found.err, "canary-text" in found.out + found.err)
    stored = b"".join(path.read_bytes() for path in sandbox.path(".promptops").rglob("*") if path.is_file())
    assert SECRET.encode() not in stored


def test_L14_without_a_key_nothing_is_begun(sandbox: Sandbox):
    """Exit 2 that names the variable, before a run is made; the local model works all the same."""
    missing = sandbox.run("eval", "--model", "small", "--json")
    runs = sandbox.run("runs", "list", "--json").json["runs"]
    local = sandbox.run("eval", "--model", "local", "--limit", "1")

    problem = missing.json["error"]["problems"][0]
    assert (2, [], 0) == (missing.code, runs, local.code)
    assert ("no key for model 'small'", "OPENAI_API_KEY is not set") == (problem["what"], problem["why"])


def test_L12_a_key_in_the_configuration_is_refused_and_masked(sandbox: Sandbox):
    """Bad input with its line; the key itself is not repeated."""
    sandbox.replace("promptops.toml", "api_key_env", f'api_key = "{SECRET}"\napi_key_env')

    found = sandbox.run("lint")

    assert (2, False, True) == (found.code, SECRET in found.out + found.err, "promptops.toml:" in found.err)


def test_show_of_a_prompt_names_the_model_not_its_key(sandbox: Sandbox):
    """show --json is pasted into reviews."""
    found = sandbox.run("show", PROMPT, "--json", env={"OPENAI_API_KEY": SECRET})

    assert (0, False) == (found.code, SECRET in found.out)
