"""Results go to stdout, everything for people to stderr; with --json, stdout is one document and nothing else."""

import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from promptops.core.errors import ExitCode, Problem, PromptopsError

if TYPE_CHECKING:
    import click
    from rich.console import Console, RenderableType

_WIDTH = 132
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SHOWN_PROBLEMS = 200


def console(*, stderr: bool = False) -> "Console":
    """A console that writes no escape sequence where nobody would see colours."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    plain = os.environ.get("TERM") == "dumb" or not stream.isatty()
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDTH
    return Console(file=stream, width=width, force_terminal=False if plain else None, no_color=True if plain else None,
                   markup=False, emoji=False, highlight=False, legacy_windows=False)  # fmt: skip


def emit(renderable: "RenderableType") -> None:
    """Print a result. Raises OSError when it could not be written."""
    from io import StringIO

    target = console()
    text = StringIO()
    target.file, stream = text, target.file
    target.print(renderable, soft_wrap=False)
    stream.write(
        "\n".join(line.rstrip() for line in text.getvalue().split("\n")) if not stream.isatty() else text.getvalue()
    )


def emit_json(value: Mapping[str, Any]) -> None:
    """Print the one document of a command run with --json; floats that JSON lacks become null."""
    import orjson

    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def note(text: str) -> None:
    """A line for the person who watches."""
    from promptops.report.show import escape

    sys.stderr.write(escape(text) + "\n")


def report_error(error: PromptopsError, *, as_json: bool, debug: bool = False) -> int:
    """Print what is wrong and what to do; the exit code."""
    if debug:
        traceback.print_exception(error)
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


def report_usage(error: "click.ClickException", *, as_json: bool) -> int:
    """A wrong command line is bad input."""
    import click

    problem = Problem(what=error.format_message(), hint="see --help")
    if as_json:
        emit_json(error_json(ExitCode.BAD_INPUT, (problem,)))
    else:
        context = getattr(error, "ctx", None)
        if isinstance(error, click.UsageError) and context is not None:
            note(context.get_usage())
        note(f"error: {problem}")
    return ExitCode.BAD_INPUT


def report_bug(error: Exception, *, as_json: bool, debug: bool) -> int:
    """One line and a log file for what should not happen; secrets of the environment are masked in the log."""
    text = _masked("".join(traceback.format_exception(error)))
    if debug:
        sys.stderr.write(text)
    with tempfile.NamedTemporaryFile(
        "w", prefix="promptops-", suffix=".log", delete=False, errors="backslashreplace"
    ) as log:
        log.write(text)
    problem = Problem(
        what=f"this is a bug in promptops ({type(error).__name__})", hint=f"please report it with {log.name}"
    )
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
    """Ask before something is destroyed; without a terminal only --yes will do. Raises DataError or click.Abort."""
    import click

    from promptops.core.errors import DataError

    if yes:
        return
    if not sys.stdin.isatty():
        raise DataError(question, why="this cannot be undone and there is no terminal to ask on", hint="add --yes")
    click.confirm(question, abort=True, err=True)
