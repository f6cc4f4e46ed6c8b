"""promptops ci ...: one command for the jobs of a pull request, which also runs on a laptop."""

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.cli.reports import Output, Reports, write_whole
from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from promptops.evaluation.changed import Change
    from promptops.evaluation.ci import CiResult
    from promptops.project.github import GitHubJob
    from promptops.project.project import Project
    from promptops.release.changes import PromptDiff
    from promptops.release.desk import Desk

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("run")
def run(
    base: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="What the change is for; default: what the CI system says, else `origin/main` or `main`.",
        ),
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Alias of the configuration, `local`, or `local:NAME`.")
    ] = "",
    keyless: Annotated[
        bool, typer.Option("--keyless", help="Leave what needs a key pending, for jobs without secrets.")
    ] = False,
    accept_policy_change: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Accept that this part of the gate became weaker.")
    ] = None,
    max_cost: Annotated[str, typer.Option(metavar="USD", help="Stop before all of it could have cost more.")] = "",
    result: Annotated[str, typer.Option(metavar="FILE", help="Write the result for `promptops ci gate`.")] = "",
    comment: Annotated[str, typer.Option(metavar="FILE", help="Write the body of the pull request's comment.")] = "",
    report_url: Annotated[str, typer.Option(metavar="URL", help="Where the comment says the full report is.")] = "",
    output: Output = None,
    as_json: Json = False,
) -> int:
    """Judge what changed since the base, and nothing else.

    Exit 1 when a category regressed or a gate became weaker, 2 when files are wrong, 3 when a prompt could not be evaluated:
    that is no verdict. In a job of GitHub's it also writes annotations, the summary of the job and its outputs.
    """
    from promptops.evaluation.ci import check_change
    from promptops.project.github import MOST_COMMENT, GitHubJob
    from promptops.project.project import open_project
    from promptops.report.ci import ci_markdown

    reports, job, project = Reports(output), GitHubJob.here(), open_project(Path.cwd())
    found = check_change(
        project, base or _base(project.git, job), _opener(max_cost=max_cost, quiet=as_json), model=model,
        keyless=keyless or bool(job and job.fork),
        accepted=accept_policy_change or (), approved=_approved(project),
    )  # fmt: skip
    reports.write([item.evaluation for item in found.items if item.evaluation])
    if result:
        import json

        write_whole(Path(result), json.dumps(found.as_dict(), indent=2) + "\n")
    markdown = ci_markdown(found, most=MOST_COMMENT - 200, report_url=report_url, diffs=_diffs(project, found))
    if comment:
        write_whole(Path(comment), markdown)
    if job:
        job.write_summary(markdown)
        job.write_outputs({"verdict": found.verdict.replace(" ", "-"), "exit-code": str(int(found.exit_code)), "pending": _flag(found.verdict == "pending"),
                           "changed": " ".join(item.change.name for item in found.items)})  # fmt: skip
    _print(found, job, as_json=as_json)
    return found.exit_code


@app.command("gate")
def gate(
    results: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Results of `promptops ci run`, of the job without secrets first."),
    ],
    head: Annotated[str, typer.Option(metavar="COMMIT", help="The commit they must be of; default: HEAD.")] = "",
    as_json: Json = False,
) -> int:
    """The one required status: pass only if every changed prompt passed.

    A file that is missing, of another commit or still pending is no pass: exit 3.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.evaluation.ci import judge_results
    from promptops.project.project import open_project
    from promptops.report.ci import render_gate

    found = [value for name in results if (value := _read_result(Path(name)))]
    answer = judge_results(found, head or open_project(Path.cwd()).git.commit("HEAD"))
    if as_json:
        emit_json(
            {
                "verdict": answer.verdict,
                "exit_code": int(answer.exit_code),
                "why": [problem.as_dict() for problem in answer.why],
            }
        )
    else:
        emit(render_gate(answer))
    return answer.exit_code


@app.command("comment")
def write_comment(
    body: Annotated[str, typer.Argument(metavar="FILE", help="What `promptops ci run --comment FILE` wrote.")],
    as_json: Json = False,
) -> int:
    """Write the pull request's comment, or rewrite the one written before.

    Needs GITHUB_TOKEN with `pull-requests: write`.
    """
    from promptops.cli.output import emit, emit_json
    from promptops.project.github import GitHubJob, post_comment
    from promptops.report.show import show

    job = GitHubJob.here()
    if job is None:
        raise DataError(
            "not in a job of GitHub's", where="GITHUB_ACTIONS", hint="elsewhere, show the file to people as it is"
        )
    try:
        text = Path(body).read_text("utf-8")
    except OSError as error:
        raise DataError(
            "cannot read the comment",
            where=body,
            why=error.strerror or "",
            hint="write it with `promptops ci run --comment FILE`",
        ) from error
    url = post_comment(job, text)
    if as_json:
        emit_json({"comment": url})
    else:
        emit(show(f"COMMENTED  {url}"))
    return ExitCode.OK


def _base(git: Any, job: "GitHubJob | None") -> str:
    import os

    from promptops.core.errors import PromptopsError

    named = (job.base if job else "") or os.environ.get("CI_MERGE_REQUEST_DIFF_BASE_SHA", "")
    if named:
        return named
    for ref in ("origin/HEAD", "origin/main", "main", "master"):
        try:
            git.commit(ref)
        except PromptopsError:
            continue
        return ref
    raise DataError(
        "what is the change for?",
        why="there is neither a main branch here nor a CI system that says so",
        hint="name it with --base REF",
    )


def _approved(project: "Project") -> "Callable[[Change], bool]":
    """Whether signed evidence for exactly this content exists; asked only for what changed."""
    from promptops.core.errors import PromptopsError
    from promptops.evaluation.plan import utc_now
    from promptops.release.approve import approved_before
    from promptops.release.desk import open_desk

    @cache
    def desk() -> "Desk":
        return open_desk(project, clock=utc_now, need_rules=False)

    def approved(change: "Change") -> bool:
        try:
            return bool(change.subject) and approved_before(desk(), change.subject)
        except PromptopsError:  # no rules, no protected branch: then it is evaluated
            return False

    return approved


def _diffs(project: "Project", found: "CiResult") -> "list[PromptDiff]":
    from promptops.release.changes import compare_contents
    from promptops.release.sides import find_sides

    changed = [
        item.change.name
        for item in found.items
        if item.change.kind == "changed" and item.change.parts != ("unreadable before",)
    ]
    return [compare_contents(project, *find_sides(project, name, f"{found.base}.."), None) for name in changed]


def _opener(*, max_cost: str, quiet: bool) -> Any:
    from functools import partial

    from promptops.cli.session import open_session, spend_cap

    return partial(open_session, quiet=quiet, cap=spend_cap(max_cost))


def _print(found: "CiResult", job: "GitHubJob | None", *, as_json: bool) -> None:
    """Inside GitHub no line of the text is read as a command; the annotations after it are."""
    import secrets

    from promptops.cli.output import emit, emit_json, note
    from promptops.report.annotations import annotation, annotations, problem_annotations
    from promptops.report.ci import render_ci

    if as_json:
        emit_json(found.as_dict())
        return
    for problem in found.lint.problems:
        note(f"error: {problem}")
    token = secrets.token_hex(16)
    if job:
        sys.stdout.write(f"::stop-commands::{token}\n")
        sys.stdout.flush()
    emit(render_ci(found))
    if job:
        sys.stdout.write(f"::{token}::\n")
        sys.stdout.writelines(problem_annotations(found.lint.problems, "error"))
        sys.stdout.write(annotations([item.evaluation for item in found.items if item.evaluation]))
        sys.stdout.writelines(annotation("error", item.detail, file=f"prompts/{item.change.name}/prompt.md", title=f"{item.change.name}: {item.state}")
                              for item in found.items if not item.evaluation and item.state in ("blocked", "not evaluated"))  # fmt: skip


def _read_result(path: Path) -> dict[str, Any] | None:
    """A result file, or None when there is none: a job that did not run wrote nothing."""
    import json

    from promptops.cli.output import note

    try:
        found = json.loads(path.read_bytes())
        shape = {name: type(found[name]) for name in ("head", "verdict", "prompts", "problems")}
    except FileNotFoundError:
        note(f"note: {path} is not there: that job did not run")
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError("not a result of `promptops ci run`", where=str(path), why=str(error)) from error
    if shape != {"head": str, "verdict": str, "prompts": list, "problems": list}:
        raise DataError("not a result of `promptops ci run`", where=str(path))
    result: dict[str, Any] = found
    return result


def _flag(value: bool) -> str:
    return "true" if value else "false"
