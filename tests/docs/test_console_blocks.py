"""Every ```console block of README and docs is run as written, and what it shows is what comes out."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from conftest import REPOSITORY


@cache
def console() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_console", REPOSITORY / "docs" / "console.py")
    assert spec
    assert spec.loader
    module = sys.modules["docs_console"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", console().DOCUMENTS)
def test_console_blocks_print_what_the_document_shows(document: str, tmp_path: Path):
    """A reader who types the commands sees the lines of the document. `python docs/console.py` writes today's."""
    text = (REPOSITORY / document).read_text("utf-8")

    for step, lines, printed in console().play(text, tmp_path):
        where = f"{document}:{step.line}: $ {step.command}\nprinted:\n"
        assert list(step.shown) == lines, where + "\n".join(printed)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (("a 1", "...", "long line 3"), ("a 1", "...", "long line 3")),
        (("a 2", "..."), ("a 1", "...")),
        (("...", "long line 7"), ("...", "long line 3")),
        (("...", "something else"), ("...",)),
        (("a 1", "b"), ("a 1", "b", "long line 3")),
        (("a 1", "b", "long line 3", "d"), ("a 1", "b", "long line 3")),
        (("...", "b", "a 1"), ("...", "b", "long line 3")),
        ((), ("a 1", "b", "long line 3")),
    ],
)
def test_a_difference_from_what_is_printed_is_found_and_repaired(shown: tuple[str, ...], expected: tuple[str, ...]):
    """A changed, missing, surplus or unordered line never goes unseen; `...` stands for any lines."""
    assert list(expected) == console().refreshed(shown, ["a 1", "b", "long line 3", ""])


def test_what_differs_from_run_to_run_is_not_a_difference():
    """Run ids, digests and latencies of the day are left as the document has them."""
    shown = ("run 20260101-000000-aaaaaa, subject 0123456789ab", "total   5   <1 ms   3 ms")
    printed = ["run 20270203-111111-bbbbbb, subject ba9876543210", "total   5    12 ms   1.88 s"]

    assert list(shown) == console().refreshed(shown, printed)


def test_a_block_that_does_not_say_where_it_runs_is_refused():
    """A console block that nobody runs could say anything."""
    with pytest.raises(ValueError, match="console new"):
        console().steps("```console\n$ ls\n```\n")


def test_a_command_over_several_lines_is_one_command():
    """`> ` continues a command, as bash shows it."""
    (step,) = console().steps("text\n```console new\n$ cat <<X\n> a\n> X\na\n```\n")

    assert ("new", "cat <<X\na\nX", ("a",), 2) == (step.place, step.command, step.shown, step.line)
