"""The process around every command: one exit for results, errors, interruptions and bugs."""

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from promptops.core.errors import ExitCode, PromptopsError
from promptops.core.version import __version__

_BROKEN_PIPE = 141
_COLLECT_AT = (50_000, 20, 100)  # by default every 700 objects: 8 % of the CPU of a run, for cycles that hardly occur


def run() -> None:
    """Entry point of the `promptops` command."""
    gc.set_threshold(*_COLLECT_AT)
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code. Never raises."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - lives as long as the process
    if sys.stdout is None:  # started with `>&-`: nothing may be paid for a result that cannot arrive
        sys.stderr.write("error: standard output is closed\n")
        return ExitCode.NOT_EVALUATED
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if list(arguments) == ["--version"]:  # answered before typer is imported: scripts ask this often
        return _finish(_print_version)
    return _finish(lambda: _dispatch(arguments), as_json="--json" in arguments, debug="--debug" in arguments)


def _print_version() -> int:
    sys.stdout.write(f"promptops {__version__}\n")
    return ExitCode.OK


def _dispatch(arguments: Sequence[str]) -> int:
    import typer

    from promptops.cli.app import app
    from promptops.cli.output import report_error, report_usage

    # typer up to 0.25 raises click's exceptions, later ones their own; this is the same name for both.
    wrong_usage: type[Exception] = typer.BadParameter.__mro__[2]
    as_json = "--json" in arguments
    if "_PROMPTOPS_COMPLETE" in os.environ:
        from promptops.cli.complete import offer

        offer(app)
    try:
        code = app(_with_resume_value(arguments), prog_name="promptops", standalone_mode=False)
    except SystemExit:  # what typer makes of a closed pipe; its code 1 would say that the gate says no
        raise BrokenPipeError from None
    except typer.Exit as stop:
        return stop.exit_code
    except wrong_usage as error:
        return report_usage(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
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


def _finish(command: Callable[[], int], *, as_json: bool = False, debug: bool = False) -> int:
    """Run and flush: output that did not arrive is a failure, a closed pipe is not."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno is None or error.filename is not None:  # of a file, not of stdout
            return _bug(error, as_json=as_json, debug=debug)
        _silence_stdout()
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error: output could not be written: {error.strerror}\n")
        return ExitCode.NOT_EVALUATED
    except Exception as error:  # noqa: BLE001 - the last stop: anything here is a bug of ours
        return _bug(error, as_json=as_json, debug=debug)
    return code


def _silence_stdout() -> None:
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(error: Exception, *, as_json: bool, debug: bool) -> int:
    from promptops.cli.output import report_bug

    return report_bug(error, as_json=as_json, debug=debug)
