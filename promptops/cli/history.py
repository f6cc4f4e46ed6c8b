"""promptops diff, log, blame: how a prompt became what it is."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.core.errors import ExitCode

if TYPE_CHECKING:
    from promptops.project.project import Project
    from promptops.release.evidence import Evidence

Name = Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
NoPager = Annotated[bool, typer.Option("--no-pager", help="Never page, not on a terminal either.")]


def diff(
    name: Name,
    sides: Annotated[
        str,
        typer.Argument(
            metavar="A..B",
            help="Version, channel, git ref, `.` (work tree) or `@candidate`; default: newest version (or HEAD) to work tree.",
        ),
    ] = "",
    no_pager: NoPager = False,
    as_json: Json = False,
) -> int:
    """Show what changed in a prompt, and what it did.

    Messages are compared as a model reads them, partials inlined. Schema changes are called breaking when a caller or a reader must
    follow. Nobody is asked: quality comes from stored runs.
    """  # fmt: skip
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.project.store import open_store
    from promptops.release.changes import compare_contents
    from promptops.release.sides import find_sides
    from promptops.report.changes import diff_json, render_diff

    project = open_project(Path.cwd())
    before, after = find_sides(project, name, sides)
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(project.store_at))) if project.store_at.exists else None
        found = compare_contents(project, before, after, store, lambda subjects: _evidence(project, subjects))
    if as_json:
        emit_json(diff_json(found))
    else:
        emit(render_diff(found), paged=not no_pager)
    return ExitCode.OK


def _evidence(project: "Project", subjects: Sequence[str]) -> "list[Evidence]":
    """What is stored about two versions, judged by the signers of the protected branch; nothing where there are no signers to ask."""
    from datetime import UTC, datetime

    from promptops.core.errors import PromptopsError
    from promptops.release.desk import open_desk
    from promptops.release.evidence import read_evidence
    from promptops.release.share import evidence_prefix

    try:
        if not all(project.git.refs([evidence_prefix(subject)]) for subject in subjects):
            return []
        desk = open_desk(project, clock=lambda: datetime.now(UTC), need_rules=False)
        return read_evidence(project.git, desk.trust, subjects, desk.clock())
    except PromptopsError:
        return []


def blame(
    name: Name,
    at: Annotated[
        str, typer.Option(metavar="REF", help="As it was in this commit, branch or tag; default: the work tree.")
    ] = "",
    no_pager: NoPager = False,
    as_json: Json = False,
) -> int:
    """Show who last changed each line of a prompt.

    The messages as a model reads them: a line of a partial names the partial's file, line and commit.
    """  # fmt: skip
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.release.blame import blame_prompt
    from promptops.report.blame import blame_json, render_blame

    project = open_project(Path.cwd())
    lines = blame_prompt(project, name, at)
    if as_json:
        emit_json(blame_json(name, project.git.commit(at) if at else "", lines))
    else:
        emit(render_blame(name, at, lines), paged=not no_pager)
    return ExitCode.OK


def log(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="Most versions, events of a channel, and commits to show.")] = 20,
    no_pager: NoPager = False,
    as_json: Json = False,
) -> int:
    """Show versions, channel events and new commits of a prompt.

    Versions are ordered by number, events by sequence, commits as git orders them; no clock decides.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.project.project import open_project
    from promptops.release.log import read_log
    from promptops.report.log import log_json, render_log

    found = read_log(open_project(Path.cwd()), name, limit=limit)
    if as_json:
        emit_json(log_json(found))
    else:
        emit(render_log(found), paged=not no_pager)
    return ExitCode.OK
