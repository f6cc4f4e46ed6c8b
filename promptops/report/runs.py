"""Lists of runs, and one case of a run, on the terminal and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.digest import short
from promptops.core.jsontext import readable
from promptops.evaluation.browse import CaseView
from promptops.project.exchange import Copied
from promptops.project.store import Result, Run
from promptops.report.run import run_name, why
from promptops.report.show import show
from promptops.report.tables import command, count, next_line, seconds, table

_WORD = {True: ("pass", "green"), False: ("FAIL", "red"), None: ("unscored", "yellow")}


def render_runs(runs: Sequence[Run], limit: int, prompt: str = "") -> RenderableType:
    """The newest `limit` of the runs; `+` marks a commit with uncommitted changes."""
    if not runs:
        return Group(
            show(f"no runs of {prompt} yet" if prompt else "no runs yet"),
            next_line(command("promptops", "eval", *filter(None, [prompt]))),
        )
    grid = table("run", "prompt", "model", "state", "cases>?", "commit?", "subject?")
    for run in runs[:limit]:
        header = run.header
        commit = show(header.commit[:10] + ("+" if header.dirty else "") if header.commit else "-")
        grid.add_row(run.id, show(run_name(run)), show(header.model), run.state, str(header.planned // max(header.repeat, 1)), commit,
                     show(short(header.subject)))  # fmt: skip
    more = [Text(f"the newest {limit} of {len(runs)}; see --limit", style="dim")] if len(runs) > limit else []
    return Group(grid, *more, Text(""), next_line(f"promptops runs show {runs[0].id}"))


def run_row(run: Run) -> dict[str, Any]:
    header = run.header
    return {"run": run.id, "prompt": header.prompt, "candidate": header.candidate, "model": header.model, "state": run.state,
            "planned": header.planned, "subject": header.subject, "commit": header.commit, "dirty": header.dirty,
            "started_at": header.started_at, "finished_at": run.finished_at}  # fmt: skip


_COPIED = {
    "new": "new there",
    "updated": "brought up to date",
    "same": "there already",
    "behind": "left: it has more results there",
}


def render_copied(copied: Sequence[Copied], verb: str, where: str) -> RenderableType:
    """What became of runs that were copied to another store, `where`."""
    written = [item for item in copied if item.outcome in ("new", "updated")]
    word = {"push": "PUSHED", "pull": "PULLED"}[verb]
    title = show(f"{word}  {len(written)} of {count(len(copied), 'run')} to {where}", style="bold")
    if not copied:
        return Group(title, show("no runs yet"))
    grid = table("run", "prompt", "state", "results>?", "")
    for item in copied:
        grid.add_row(
            item.run.id, show(run_name(item.run)), item.run.state, str(item.results or ""), _COPIED[item.outcome]
        )
    after = [Text(""), next_line(f"promptops runs show {copied[0].run.id}")] if verb == "pull" else []
    return Group(title, grid, *after)


def copied_row(item: Copied) -> dict[str, Any]:
    return run_row(item.run) | {"outcome": item.outcome, "results": item.results}


def render_cases(run: Run, results: Sequence[Result], of: int, category: str = "") -> RenderableType:
    """Some of the `of` answers of a run, or of one category of it."""
    where = f"{run_name(run)} on {run.header.model}, run {run.id}" + (f", {category}" if category else "")
    failed = sum(result.passed is not True for result in results)
    title = show(
        f"{failed} of {count(of, 'answer' if run.header.repeat > 1 else 'case')} did not pass: {where}", style="bold"
    )
    if not results:
        return Group(title, Text(""), next_line(f"promptops view {run.id} --all"))
    grid = table("case", "category", "tags?", "result", "latency>?", "why")
    for result in results:
        word, style = _WORD[result.passed]
        grid.add_row(show(result.case_id, limit=44), show(result.category), show(_tags(result.tags), limit=30), Text(word, style=style),
                     seconds(result.latency_s), show(why(result), limit=90))  # fmt: skip
    return Group(title, grid, Text(""), next_line(command("promptops", "view", run.id, "--case", results[0].case_id)))


def render_case(view: CaseView) -> RenderableType:
    """Input, expected values, the answer, and what each check said."""
    result = view.result
    word, style = _WORD[result.passed]
    title = Text.assemble(
        (word, f"bold {style}"),
        "  ",
        show(result.case_id),
        show("".join(f", {part}" for part in (f"draw {result.draw + 1}", result.category, _tags(result.tags)) if part)),
    )
    parts: list[RenderableType] = [title]
    if view.case is None:
        parts.append(
            show(f"the golden row changed since this run ({view.where}); only what was stored is shown", style="yellow")
        )
    else:
        parts.append(show(view.where, style="dim"))
        for name, value in view.case.inputs.items():
            parts += [Text(""), show(f"{name}:", style="bold"), show(readable(value))]
        parts += [
            Text("\nexpected:", style="bold"),
            *(
                Text.assemble("  ", show(name), ": ", show(readable(value)))
                for name, value in view.case.expected.items()
            ),
        ]
    parts += [
        Text("\nanswer:", style="bold"),
        show(view.answer.text if view.answer else f"(none: {result.outcome})"),
        *([show(f"({view.answer.detail})", style="dim")] if view.answer and view.answer.detail else []),
        Text(""),
    ]
    grid = table("check", "result", "why")
    for name, passed, reason, _ in result.scores:
        grid.add_row(show(name), Text(*_WORD[passed]), show(reason))
    return Group(*parts, grid, *_verdicts(view))


def _verdicts(view: CaseView) -> list[RenderableType]:
    """What each judge said each time it was asked, with its reasons."""
    if not view.verdicts:
        return []
    grid = table("judge", "vote>", "criterion", "value>", "reason")
    for verdict in view.verdicts:
        who, number = show(verdict.judge + (" (swapped)" if verdict.swapped else "")), str(verdict.vote + 1)
        if verdict.outcome != "ok":
            grid.add_row(who, number, Text("no verdict", style="yellow"), "-", show(verdict.detail))
        for name, (value, reason) in verdict.scores.items():
            grid.add_row(who, number, show(name), f"{value:.2f}", show(reason))
    return [Text(""), grid]


def case_json(view: CaseView) -> dict[str, Any]:
    result = view.result
    return {
        "case": result.case_id, "draw": result.draw, "category": result.category, "tags": dict(result.tags), "outcome": result.outcome,
        "passed": result.passed, "value": result.value, "inputs": dict(view.case.inputs) if view.case else None,
        "expected": dict(view.case.expected) if view.case else None, "answer": view.answer.text if view.answer else None,
        "detail": view.answer.detail if view.answer else "",
        "latency_s": result.latency_s, "cost_nanousd": result.cost_nanousd, "where": view.where,
        "verdicts": [{"judge": item.judge, "vote": item.vote, "swapped": item.swapped, "outcome": item.outcome, "detail": item.detail,
                      "criteria": {name: {"value": value, "reason": reason} for name, (value, reason) in item.scores.items()}}
                     for item in view.verdicts],
        "scores": [{"check": name, "passed": passed, "reason": reason, "value": value} for name, passed, reason, value in result.scores],
    }  # fmt: skip


def _tags(tags: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(tags.items()))
