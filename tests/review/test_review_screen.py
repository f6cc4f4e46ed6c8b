"""The terminal screen of a review in a real terminal (tmux): keys go in, the screen is read, labels are on disk."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import join

import pytest
from reviewed import batch_of, with_rubric

from conftest import PROMPT, Sandbox
from promptops.project.labels import Label, read_labels
from promptops.project.tree import WorkTree

_DEADLINE_S = 60


@dataclass(frozen=True)
class Terminal:
    """A window of tmux with the review in it; `raw` is every byte that was written to the terminal."""

    socket: Path
    folder: Path
    raw: Path

    def tmux(self, *arguments: str) -> str:
        # readline, which pytest loads, puts a size into the environment that os.environ does not show
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        command = ["tmux", "-S", str(self.socket), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    def start(self, *, columns: int = 100) -> None:
        self.tmux("-f", os.devnull, "new-session", "-d", "-x", str(columns), "-y", "45", "-c", str(self.folder), "sh")
        self.tmux("pipe-pane", "-o", f"cat >> {self.raw}")
        self.run()

    def run(self) -> None:
        """Type the command."""
        command = join([sys.executable, "-m", "promptops", "review", PROMPT, "--as", "ana"])
        self.tmux("send-keys", "-l", f"clear; {command}; echo ended with $?; read _")
        self.tmux("send-keys", "Enter")

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def see(self, *texts: str) -> str:
        """Wait until all of these are on the screen."""
        end = time.monotonic() + _DEADLINE_S
        while time.monotonic() < end:
            found = self.screen()
            if all(text in found for text in texts):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{texts} did not appear in\n{self.screen()}")


@pytest.fixture
def terminal(sandbox: Sandbox, tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        if os.environ.get("CI"):
            raise AssertionError("tmux is missing")
        pytest.skip("tmux is not installed")
    with_rubric(sandbox)
    found = Terminal(Path("/tmp") / f"review-{os.getpid()}.tmux", sandbox.root, tmp_path / "raw")
    try:
        yield found
    finally:
        subprocess.run(["tmux", "-S", str(found.socket), "kill-server"], check=False, capture_output=True)
        found.socket.unlink(missing_ok=True)


def labels(sandbox: Sandbox) -> dict[str, Label]:
    return {label.case_id: label for label in read_labels(WorkTree(sandbox.root), PROMPT)}


def test_answers_are_labelled_undone_skipped_and_noted_by_keyboard(sandbox: Sandbox, terminal: Terminal):
    """Every key does what the last line says; what was saved is on disk before the next answer shows; leaving and coming back goes on."""
    batch_of(sandbox, {f"a-{index}": f"The answer number {index}" for index in range(4)}, expected="The answer")
    terminal.start()
    terminal.see("0 of 4 labelled", "The answer number 0", "Is the sentiment the customer's own?", "REFERENCE")
    terminal.keys("Enter")
    terminal.see("answer every question first")
    terminal.keys("4")
    terminal.see("this question takes y or n")
    terminal.keys("y", "4")
    terminal.see("PASS as a whole", "by the rubric")
    terminal.keys("n")
    terminal.see("> FAIL as a whole")
    terminal.keys("c")
    terminal.keys("-l", "n y s q")
    terminal.keys("Enter")
    terminal.see("note: n y s q")
    terminal.keys("Enter")
    terminal.see("1 of 4 labelled", "saved: a-0 fail", "The answer number 1")
    assert [(False, {"right": True, "certain": 4}, "n y s q")] == [
        (one.passed, dict(one.verdicts), one.note) for one in labels(sandbox).values()
    ]
    terminal.keys("u")
    terminal.see("0 of 4 labelled", "taken back", "The answer number 0", "> FAIL as a whole")
    assert {} == labels(sandbox)
    terminal.keys("Enter")
    terminal.see("1 of 4 labelled", "The answer number 1")
    terminal.keys("s")
    terminal.see("1 skipped", "The answer number 2")
    terminal.keys("n")
    terminal.keys("q")
    terminal.see("OPEN", "1 of 4 labelled", "ended with 0")
    terminal.keys("Enter")
    terminal.run()
    for done, number in enumerate((1, 2, 3), 1):
        terminal.see(f"{done} of 4 labelled", f"The answer number {number}")
        terminal.keys("y", "5")
        terminal.see("PASS as a whole")
        terminal.keys("Enter")
    terminal.see("All labelled")
    terminal.keys("Enter")
    terminal.see("DONE", "ended with 0")

    assert {"a-0": False, "a-1": True, "a-2": True, "a-3": True} == {
        case: one.passed for case, one in labels(sandbox).items()
    }


def test_L1_L2_text_of_a_model_cannot_steer_the_terminal(sandbox: Sandbox, terminal: Terminal):
    """Titles, clears, bells, C1 codes, bidi controls and markup, in an answer and in a note: shown as text, byte by byte harmless."""
    hostile = "one \x1b]0;pwned\x07 two \x1b[2J \x9b31m three\r \u202egnp.exe [bold red]four[/bold red] [link=http://x]five[/link] [/]"
    batch_of(sandbox, {"a-1": hostile}, expected=hostile)
    terminal.start(columns=150)
    found = terminal.see("[U+001B]]0;pwned[U+0007]", "[bold red]four[/bold red]", "[link=http://x]five[/link] [/]")
    terminal.keys("y", "4")
    terminal.see("PASS as a whole")
    terminal.keys("Enter")
    terminal.see("All labelled")
    terminal.keys("q")
    terminal.see("ended with 0")

    raw = terminal.raw.read_bytes()
    assert [] == [
        bad
        for bad in (
            b"\x1b]0;pwned",
            b"\x1b]8;",
            b"\x9b31m".decode("latin-1").encode(),
            "\u202e".encode(),
            b"three\r \xe2",
        )
        if bad in raw
    ]
    assert found.count("RLO") >= 1
    assert [hostile] == [one.answer for one in labels(sandbox).values()]


def test_a_narrow_terminal_shows_question_and_answer(sandbox: Sandbox, terminal: Terminal):
    """40 columns: text wraps, nothing is lost, labelling works."""
    batch_of(sandbox, {"a-1": "A somewhat longer answer that will have to be wrapped"})
    terminal.start(columns=40)
    terminal.see("0 of 1", "ANSWER", "wrapped", "own?", "How sure")
    terminal.keys("y", "4")
    terminal.see("PASS as a whole")
    terminal.keys("Enter")
    terminal.see("All labelled")

    assert ["a-1"] == list(labels(sandbox))
