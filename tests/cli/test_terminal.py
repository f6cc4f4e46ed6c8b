"""Where output goes: a terminal, a pipe that closes, a full disk, a narrow window, an ASCII locale."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PROMPT, Outcome, Sandbox

ESC = "\x1b"


def on_terminal(sandbox: Sandbox, *arguments: str, columns: int = 80, **env: str) -> tuple[int, str]:
    """Run the command on a pseudo terminal of a given width; (exit code, everything it wrote)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = (
        {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
        | {"TERM": "xterm-256color"}
        | env
    )
    with subprocess.Popen([sys.executable, "-m", "promptops", *arguments], cwd=sandbox.root, env=environment,
                          stdin=subprocess.DEVNULL, stdout=slave, stderr=slave) as process:  # fmt: skip
        os.close(slave)
        seen = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # the other end is closed: the command has ended
                break
            if not chunk:
                break
            seen += chunk
    os.close(master)
    return process.returncode, seen.decode("utf-8").replace("\r\n", "\n")


def test_L5_a_terminal_gets_colour(sandbox: Sandbox):
    """The counterpart of the next test: without it, that one could not fail."""
    code, seen = on_terminal(sandbox, "eval")

    assert (0, True, True) == (code, f"{ESC}[1;32mDONE" in seen, "16/22 cases pass" in seen)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_L5_no_escape_sequence_where_colour_is_unwanted(sandbox: Sandbox, env: dict[str, str]):
    """NO_COLOR and TERM=dumb: no ESC, no carriage return, no bar."""
    code, seen = on_terminal(sandbox, "eval", **env)

    assert (0, False, False) == (code, ESC in seen, "\r" in seen)
    assert seen.startswith(f"DONE  {PROMPT}")


def test_L5_a_pipe_gets_no_escape_sequence_and_no_progress(sandbox: Sandbox):
    """Also when the shell's environment asks for a colourful terminal."""
    found = sandbox.run("eval", env={"TERM": "xterm-256color", "COLORTERM": "truecolor"})

    assert (0, "", False) == (found.code, found.err, ESC in found.out)


@pytest.mark.parametrize("columns", [20, 40, 80, 132])
def test_L5_every_line_fits_the_window_and_no_verdict_is_lost(
    call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, columns: int
):
    """From 20 columns on: nothing is wider than the window, and the verdict of every category is there."""
    before, after = (call("eval", "--json").json["runs"][0]["run"] for _ in range(2))
    monkeypatch.setenv("COLUMNS", str(columns))

    found = [call("compare", before, after), call("runs", "show", after), call("list"), call("view", after)]

    assert [0] * 4 == [outcome.code for outcome in found]
    assert [] == [line for outcome in found for line in outcome.out.splitlines() if len(line) > columns]
    compact = ["".join(outcome.out.split()) for outcome in found]
    assert (4, True) == (
        compact[0].count("INCONCLUSIVE"),
        all(name in compact[0] for name in ("delivery", "length=long", "length=short", "product")),
    )
    assert (True, True) == (PROMPT in compact[2], "equals/sentiment:neutralisnotnegative" in compact[3])


def test_L5_columns_that_do_not_fit_are_named(sandbox: Sandbox):
    """No silent choice: what a narrow table leaves out is said below it."""
    run = sandbox.run("eval", "--json").json["runs"][0]["run"]

    found = sandbox.run("view", run, env={"COLUMNS": "70"})

    assert "left out for lack of room: tags, latency\n" in found.out


@pytest.mark.parametrize(
    "arguments",
    [("eval",), ("--help",), ("view", "--all", "--json")],
    ids=" ".join,
)
def test_L3_a_reader_that_leaves_early_is_no_error(sandbox: Sandbox, arguments: tuple[str, ...]):
    """`| head -1`: nothing on stderr, 0 or 141."""
    sandbox.run("eval")
    script = '"$@" | head -1 >/dev/null; exit ${PIPESTATUS[0]}'

    found = subprocess.run(["bash", "-c", script, "bash", sys.executable, "-m", "promptops", *arguments], cwd=sandbox.root,
                           capture_output=True, text=True, timeout=60, check=False)  # fmt: skip

    assert (True, "") == (found.returncode in (0, 141), found.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [("eval",), ("list", "--json"), ("--help",), ("--version",), ("nope", "--json")], ids=" ".join
)
def test_L4_lost_output_is_not_success(sandbox: Sandbox, arguments: tuple[str, ...]):
    """A full disk behind stdout: exit 3 and one line that says so."""
    with Path("/dev/full").open("w") as full:
        found = subprocess.run([sys.executable, "-m", "promptops", *arguments], cwd=sandbox.root, stdout=full,
                               stderr=subprocess.PIPE, text=True, timeout=60, check=False)  # fmt: skip

    assert (3, "error: output could not be written: No space left on device\n") == (found.returncode, found.stderr)


def test_L4_a_closed_stdout_is_noticed_before_anything_is_asked(sandbox: Sandbox):
    """`>&-`: nothing is evaluated for a result that nobody can read; the other streams may be closed."""
    script = '"$@" eval >&-; first=$?; "$@" show nope 2>&-; second=$?; "$@" lint <&-; exit $((first * 100 + second * 10 + $?))'

    found = subprocess.run(["bash", "-c", script, "bash", sys.executable, "-m", "promptops"], cwd=sandbox.root,
                           capture_output=True, text=True, timeout=60, check=False)  # fmt: skip

    assert (320 % 256, "error: standard output is closed\n") == (found.returncode, found.stderr)
    assert [] == sandbox.run("runs", "list", "--json").json["runs"]


def test_L4_a_full_stderr_changes_no_exit_code(sandbox: Sandbox):
    """Bad input stays bad input when nobody can read the complaint."""
    with Path("/dev/full").open("w") as full:
        found = subprocess.run([sys.executable, "-m", "promptops", "show", "nope"], cwd=sandbox.root, stdout=subprocess.PIPE,
                               stderr=full, timeout=60, check=False)  # fmt: skip

    assert 2 == found.returncode


@pytest.mark.parametrize(
    "env",
    [{"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}],
    ids=["ascii", "latin-1"],
)
def test_L6_an_ascii_stdout_takes_every_text(sandbox: Sandbox, env: dict[str, str]):
    """Japanese in a case on a C locale: no UnicodeEncodeError, tables drawn in ASCII, JSON still JSON."""
    rows = sandbox.rows()
    rows[0]["inputs"] = {"feedback": "配達が遅い 😀 naïve"}
    sandbox.write_rows(rows)

    found = [
        sandbox.run("eval", env=env),
        sandbox.run("view", "--case", "delivery-01", env=env),
        sandbox.run("view", "--case", "delivery-01", "--json", env=env),
    ]

    assert ([0] * 3, True) == (
        [outcome.code for outcome in found],
        all((outcome.out + outcome.err).isascii() for outcome in found[::2]),
    )
    assert "\\u914d\\u9054" in found[1].out
    assert {"feedback": "配達が遅い 😀 naïve"} == json.loads(found[2].out)["inputs"]


def test_long_history_is_paged_on_a_terminal_only(sandbox: Sandbox):
    """What does not fit the window goes through the user's pager; a pipe, `--no-pager` and PAGER=cat print it as it is."""
    sandbox.commit_all()
    pager = sandbox.write("pager.sh", "#!/bin/sh\necho PAGED\nhead -n 2\n")
    pager.chmod(0o755)
    name = "feedback-sentiment"
    command = ("blame", name)
    for number in range(30):  # more lines than a window has
        sandbox.replace(f"prompts/{name}/prompt.md", "Mixed feedback", f"Rule {number}.\nMixed feedback")

    _, paged = on_terminal(sandbox, *command, PAGER=str(pager))
    _, plain = on_terminal(sandbox, *command, "--no-pager", PAGER=str(pager))
    _, cat = on_terminal(sandbox, *command, PAGER="cat")
    piped = sandbox.run(*command, env={"PAGER": str(pager)}).out

    assert ("PAGED" in paged, "Rule 3." in paged) == (True, False)
    assert not any("PAGED" in text for text in (plain, cat, piped))
    assert all("Rule 3." in text for text in (plain, cat, piped))
