"""promptops approve, release, doctor, audit-log."""

import sys
from typing import Annotated

import typer

from promptops.cli.channels import Json, Name, Offline, desk_here
from promptops.core.errors import DataError, ExitCode

At = Annotated[str, typer.Option("--at", metavar="REF", help="The commit; default: HEAD, with nothing uncommitted.")]
Judge = Annotated[
    str, typer.Option("--judge", metavar="MODEL", help="The judge it was evaluated with; default: that of the suite.")
]
Model = Annotated[
    str, typer.Option(metavar="MODEL", help="The model it was evaluated with; default: that of the prompt.")
]


def approve(
    name: Name,
    run: Annotated[
        str, typer.Option(metavar="RUN", help="A run id; default: the newest complete run of this content.")
    ] = "",
    accept_policy_change: Annotated[
        list[str] | None, typer.Option(metavar="CHANGE", help="A weakening of the gate that is meant; repeatable.")
    ] = None,
    sign_off: Annotated[
        bool, typer.Option("--sign-off", help="Say as a person that this content may be released; needs no run.")
    ] = False,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="What to say with a sign-off.")] = "",
    at: Annotated[
        str, typer.Option("--at", metavar="REF", help="The commit whose content it is; default: HEAD.")
    ] = "HEAD",
    model: Model = "",
    judge: Judge = "",
    offline: Offline = False,
    as_json: Json = False,
) -> int:
    """Turn a run that passed into signed evidence, or sign off.

    The evidence is for exactly the content of the commit. Exits 1 when the gate says no.
    """
    from contextlib import closing

    from promptops.cli.output import emit, emit_json
    from promptops.project.store import open_store
    from promptops.release.approve import approve as make_evidence
    from promptops.release.approve import sign_off as agree
    from promptops.report.approval import approval_json, render_approval

    if sign_off and (run or accept_policy_change):
        raise DataError(
            "--sign-off needs no run and accepts no policy change", hint="first the evidence, then the sign-off"
        )
    if not sign_off and (comment or model or judge):
        raise DataError(
            "--comment, --model and --judge go with --sign-off", hint="evidence takes model and judge from its run"
        )
    desk = desk_here(online=not offline)
    if sign_off:
        found = agree(desk, name, comment=comment, at=at, model=model, judge=judge, offline=offline)
    else:
        with closing(open_store(desk.project.store_at)) as store:
            found = make_evidence(
                desk, store, name, run_id=run, accepted=accept_policy_change or [], at=at, offline=offline
            )
    if as_json:
        emit_json(approval_json(found))
    else:
        emit(render_approval(found, remote=desk.remote, unsigned=desk.trust.unsigned))
    return ExitCode.OK if found.evidence else ExitCode.GATE


def release(
    name: Name,
    bump: Annotated[
        str,
        typer.Option(metavar="BUMP", help="patch, minor or major; a smaller one than the content needs is refused."),
    ] = "",
    notes: Annotated[str, typer.Option(metavar="TEXT", help="What to say at the top of the changelog.")] = "",
    at: At = "",
    model: Model = "",
    judge: Judge = "",
    offline: Offline = False,
    as_json: Json = False,
) -> int:
    """Tag the content of a commit as the next version.

    It needs evidence for exactly this content.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.release.publish import release as make_version
    from promptops.release.versions import BUMPS
    from promptops.report.approval import released_json, render_released

    wanted = next((item for item in BUMPS if item == bump), None)
    if bump and wanted is None:
        raise DataError(f"{bump[:40]!r} is not a bump", hint=f"one of {', '.join(BUMPS)}")
    desk = desk_here(online=not offline)
    found = make_version(desk, name, bump=wanted, notes=notes, at=at, model=model, judge=judge, offline=offline)
    if as_json:
        emit_json(released_json(found))
    else:
        emit(render_released(found, remote=desk.remote, unsigned=desk.trust.unsigned))
    return ExitCode.OK


def audit_log(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A prompt; default: all.")] = "",
    since: Annotated[
        str, typer.Option(metavar="DATE", help="From this day on, as 2026-11-30, by the time each record states.")
    ] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    as_json: Json = False,
) -> int:
    """Show who approved, released and promoted what, and why.

    Put together from git alone, with the state of every signature; exits 4 when one does not count.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.release.audit_log import parse_since, read_audit_log
    from promptops.report.audit_log import audit_csv, audit_json, render_audit_log

    if as_csv and as_json:
        raise DataError("--csv and --json exclude each other")
    found = read_audit_log(desk_here(online=False), name, since=parse_since(since) if since else None)
    if as_csv:
        sys.stdout.write(audit_csv(found))
    elif as_json:
        emit_json(audit_json(found))
    else:
        emit(render_audit_log(found))
    return ExitCode.REFUSED if found.faults else ExitCode.OK


def doctor(as_json: Json = False) -> int:
    """Check key, signers and clone; list rules for the server.

    Exits 4 when something is wrong.
    """
    from pathlib import Path

    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.plan import utc_now
    from promptops.project.project import open_project
    from promptops.release.doctor import examine
    from promptops.report.doctor import doctor_json, render_doctor

    found = examine(open_project(Path.cwd()), clock=utc_now)
    if as_json:
        emit_json(doctor_json(found))
    else:
        emit(render_doctor(found))
    return ExitCode.REFUSED if found.failed else ExitCode.OK
