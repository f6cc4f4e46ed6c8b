"""Results go to stdout, everything for people to stderr; with --json, stdout is one document and nothing else."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from promptops.core.errors import ExitCode, Problem, PromptopsError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDTH = 132
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SHOWN_PROBLEMS = 200
_NOT_PLAIN = re.compile(r"[^\n -~]")


def console(*, stderr: bool = False) -> "Console":
    """A console that writes no escape sequence where nobody sees colours or wants any."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    plain = os.environ.get("TERM") == "dumb" or bool(os.environ.get("NO_COLOR")) or not stream.isatty()
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDTH
    return Console(file=stream, width=width, force_terminal=False if plain else None, no_color=True if plain else None,
                   markup=False, emoji=False, highlight=False, legacy_windows=False)  # fmt: skip


def emit(renderable: "RenderableType", *, paged: bool = False) -> None:
    """Print a result. Prose is wrapped for people only: a pipe gets whole lines. Raises OSError when it could not be written.

    `paged`: on a terminal, what does not fit goes through the user's pager.
    """
    target, terminal = console(), sys.stdout.isatty()
    with target.capture() as captured:
        target.print(renderable, soft_wrap=not terminal and not os.environ.get("COLUMNS"))
    text = captured.get()
    if not terminal:
        sys.stdout.write("\n".join(line.rstrip() for line in text.split("\n")))
    elif not (paged and text.count("\n") >= target.height and _page(text)):
        sys.stdout.write(text)


def _page(text: str) -> bool:
    """Whether a pager showed the text; `cat`, nothing or a missing program means that it did not."""
    words = shlex.split(os.environ.get("PAGER", "less"))
    program = shutil.which(words[0]) if words and words[0] != "cat" else None
    if program is None:
        return False
    sys.stdout.flush()
    environment = {"LESS": "FRX", **os.environ}
    finished = subprocess.run(  # noqa: S603 - the user's own pager
        [program, *words[1:]], input=text.encode("utf-8", "replace"), env=environment, check=False
    )
    return finished.returncode == 0


def emit_json(value: Mapping[str, Any]) -> None:
    """Print the one document of a command run with --json; floats that JSON lacks become null.

    Characters that steer a terminal are written as JSON escapes: the document is the same, and safe to look at.
    """
    import orjson

    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # a lone surrogate, from an argument or a file name that is not UTF-8
        text = json.dumps(value, indent=2, ensure_ascii=False)
    sys.stdout.write(_NOT_PLAIN.sub(_json_escape, text) + "\n")


def _json_escape(match: re.Match[str]) -> str:
    from promptops.report.show import hides

    char = match[0]
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return char if unicode and not hides(char) else json.dumps(char)[1:-1]


def note(text: str) -> None:
    """A line for the person who watches; a stderr that takes nothing changes no result."""
    from promptops.report.show import escape

    with contextlib.suppress(OSError):
        sys.stderr.write(escape(text) + "\n")


def report_error(error: PromptopsError, *, as_json: bool, debug: bool = False) -> int:
    """Print what is wrong and what to do; the exit code."""
    if debug:
        note(_masked("".join(traceback.format_exception(error))))
    if as_json:
        emit_json(error_json(error.exit_code, error.problems))
    else:
        for problem in error.problems[:_SHOWN_PROBLEMS]:
            note(f"error: {problem}")
        if len(error.problems) > _SHOWN_PROBLEMS:
            note(f"error: and {len(error.problems) - _SHOWN_PROBLEMS} more problems (all of them with --json)")
    return error.exit_code


def error_json(code: int, problems: tuple[Problem, ...]) -> dict[str, Any]:
    return {"error": {"exit_code": int(code), "problems": [problem.as_dict() for problem in problems]}}


def report_usage(error: Any, *, as_json: bool) -> int:
    """A wrong command line (an exception of typer) is bad input."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if message.startswith("Usage:"):  # a group without a command: the message is its help
        if not as_json:
            note(message)
            return ExitCode.BAD_INPUT
        message = "no command"
    command = context.command_path if context is not None else "promptops"
    problem = Problem(what=message.rstrip("."), hint=f"see `{command} --help`")
    if as_json:
        emit_json(error_json(ExitCode.BAD_INPUT, (problem,)))
    else:
        note(f"error: {problem}")
    return ExitCode.BAD_INPUT


def report_bug(error: Exception, *, as_json: bool, debug: bool) -> int:
    """One line and a log file for what should not happen; secrets of the environment are masked in the log."""
    text = _masked("".join(traceback.format_exception(error)))
    if debug:
        note(text)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="promptops-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write(text)
        hint = f"please report it with {log.name}"
    except OSError:
        hint = "no log could be written; `promptops --debug ...` shows what to report"
    problem = Problem(what=f"this is a bug in promptops ({type(error).__name__})", hint=hint)
    if as_json:
        emit_json(error_json(ExitCode.BUG, (problem,)))
    else:
        note(f"error: {problem}")
    return ExitCode.BUG


def _masked(text: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= 8 and any(part in name.upper() for part in _SECRET_NAMES):
            text = text.replace(value, f"<{name}>")
    return text


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed; without a terminal only --yes will do. Raises DataError or typer.Abort."""
    import typer

    from promptops.core.errors import DataError

    if yes:
        return
    if not sys.stdin.isatty():
        raise DataError(f"not confirmed: {question}", why="this cannot be undone and there is no terminal to ask on",
                        hint="add --yes")  # fmt: skip
    typer.confirm(question, abort=True, err=True)
