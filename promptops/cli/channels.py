"""promptops promote, rollback, hold, resume, status, sync."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import ExitCode

if TYPE_CHECKING:
    from promptops.release.desk import Desk
    from promptops.release.operate import Wanted

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Offline = Annotated[bool, typer.Option("--offline", help="Write it in this clone only; `promptops sync` publishes it.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Channel = Annotated[str, typer.Option("--channel", metavar="CHANNEL", help="A channel, such as prod.")]


def promote(
    pin: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A released version, as support-triage@v1.4.0.")],
    to: Annotated[str, typer.Option("--to", metavar="CHANNEL", help="The channel, such as staging or prod.")],
    percent: Annotated[int, typer.Option(min=1, max=100, help="Share of the traffic; below 100 it is a canary.")] = 100,
    if_current: Annotated[
        str, typer.Option(metavar="VERSION", help="Only when this version is live there; else exit 5.")
    ] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    clear_bad: Annotated[
        bool, typer.Option("--clear-bad", help="The version was rolled back by mistake; needs --reason.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
) -> int:
    """Make a version live on a channel, or give it some traffic."""
    from promptops.release.names import Version, parse_pin
    from promptops.release.operate import Wanted

    name, version = parse_pin(pin)
    wanted = Wanted(prompt=name, channel=to, action="promote" if percent == 100 else "canary", to=version, percent=percent, reason=reason,
                    if_current=Version.parse(if_current) if if_current else None, clear_bad=clear_bad)  # fmt: skip
    return _operate(wanted, offline=offline, as_json=as_json)


def rollback(
    name: Name,
    channel: Channel,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the event.")],
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="Where to; default: the last good version.")] = "",
    offline: Offline = False,
    as_json: Json = False,
) -> int:
    """Put the last good version back; mark the bad one."""
    from promptops.release.names import Version
    from promptops.release.operate import Wanted

    wanted = Wanted(
        prompt=name, channel=channel, action="rollback", to=Version.parse(to) if to else None, reason=reason
    )
    return _operate(wanted, offline=offline, as_json=as_json)


def hold(
    name: Name,
    channel: Channel,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the event.")],
    offline: Offline = False,
    as_json: Json = False,
) -> int:
    """Let nobody promote on a channel; rollbacks still work."""
    from promptops.release.operate import Wanted

    return _operate(
        Wanted(prompt=name, channel=channel, action="hold", reason=reason), offline=offline, as_json=as_json
    )


def resume(
    name: Name,
    channel: Channel,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    offline: Offline = False,
    as_json: Json = False,
) -> int:
    """End a hold."""
    from promptops.release.operate import Wanted

    return _operate(
        Wanted(prompt=name, channel=channel, action="resume", reason=reason), offline=offline, as_json=as_json
    )


def status(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A prompt; default: all.")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the remote.")] = False,
    as_json: Json = False,
) -> int:
    """Show which version is live where.

    Exits 4 when the tags that say so cannot be relied on.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.release.status import read_status
    from promptops.report.release import render_status, status_json

    found = read_status(desk_here(online=not offline), name, offline=offline)
    if as_json:
        emit_json(status_json(found))
    else:
        emit(render_status(found))
    return ExitCode.REFUSED if found.broken else ExitCode.OK


def sync(as_json: Json = False) -> int:
    """Fetch what others released; publish one's own.

    What somebody else was faster with is dropped and named; then it exits 5.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.release.operate import sync as exchange
    from promptops.report.release import render_synced

    desk = desk_here(online=True)
    found = exchange(desk)
    if as_json:
        emit_json(
            {
                "remote": desk.remote,
                "fetched": list(found.fetched),
                "published": list(found.pushed),
                "dropped": list(found.dropped),
            }
        )
    else:
        emit(render_synced(found, desk.remote))
    return ExitCode.CONFLICT if found.dropped else ExitCode.OK


def desk_here(*, online: bool) -> "Desk":
    """The desk of the project around the current folder."""
    from datetime import UTC, datetime

    from promptops.project.project import open_project
    from promptops.release.desk import open_desk

    return open_desk(open_project(Path.cwd()), clock=lambda: datetime.now(UTC), online=online)


def _operate(wanted: "Wanted", *, offline: bool, as_json: bool) -> int:
    from promptops.cli.output import emit, emit_json
    from promptops.core.errors import DataError
    from promptops.core.names import is_name
    from promptops.release.operate import operate
    from promptops.report.release import done_json, render_done

    if not is_name(wanted.prompt):
        raise DataError(f"{wanted.prompt[:80]!r} is not a prompt name")
    desk = desk_here(online=not offline)
    done = operate(desk, wanted, offline=offline)
    if as_json:
        emit_json(done_json(done, wanted))
    else:
        emit(render_done(done, wanted, remote=desk.remote, unsigned=desk.trust.unsigned))
    return ExitCode.OK
