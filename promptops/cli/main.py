"""The process around every command: one exit for results, errors, interruptions and bugs."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from promptops.core.errors import ExitCode, PromptopsError
from promptops.core.version import __version__

_BROKEN_PIPE = 141


def run() -> None:
    """Entry point of the `promptops` command."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code. Never raises."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if list(arguments) == ["--version"]:  # answered before typer is imported: scripts ask this often
        return _finish(_print_version)
    return _finish(lambda: _dispatch(arguments))


def _print_version() -> int:
    sys.stdout.write(f"promptops {__version__}\n")
    return ExitCode.OK


def _dispatch(arguments: Sequence[str]) -> int:
    import click

    from promptops.cli.app import app
    from promptops.cli.output import report_error, report_usage

    as_json = "--json" in arguments
    try:
        code = app(_with_resume_value(arguments), prog_name="promptops", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return report_usage(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return ExitCode.INTERRUPTED
    except PromptopsError as error:
        return report_error(error, as_json=as_json, debug="--debug" in arguments)
    return int(code or 0)


def _with_resume_value(arguments: Sequence[str]) -> list[str]:
    """`--resume` without a value means the latest run."""
    found = list(arguments)
    for index, word in enumerate(found):
        if word == "--resume" and (index + 1 == len(found) or found[index + 1].startswith("-")):
            found.insert(index + 1, "latest")
            break
    return found


def _finish(command: Callable[[], int]) -> int:
    """Run and flush: output that did not arrive is a failure, a closed pipe is not."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno is None or sys.stdout.closed:
            return _bug(error)
        _silence_stdout()
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error: output could not be written: {error.strerror}\n")
        return ExitCode.NOT_EVALUATED
    except Exception as error:  # noqa: BLE001 - the last stop: anything here is a bug of ours
        return _bug(error)
    return code


def _silence_stdout() -> None:
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(error: Exception) -> int:
    from promptops.cli.output import report_bug

    return report_bug(error, as_json="--json" in sys.argv, debug="--debug" in sys.argv)
