"""promptops eval NAME --against REF."""

from typing import TYPE_CHECKING, Any

from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from promptops.evaluation.against import Against
    from promptops.evaluation.plan import Selection


def eval_against(
    names: list[str], ref: str, *, model: str, candidate: str, selection: "Selection", accepted: list[str], dry_run: bool, as_json: bool,
    settings: dict[str, Any],
) -> int:  # fmt: skip
    """Judge each prompt against what it was at `ref`; the exit code is the worst."""
    from promptops.cli.output import emit_json
    from promptops.cli.session import open_session
    from promptops.evaluation.against import evaluate_against

    if dry_run:
        raise DataError(
            "--dry-run does not know how often --against will draw",
            hint="without --against it prices one draw; expect up to 2.7 times that",
        )
    if settings["max_calls"] is not None:
        raise DataError("--max-calls cannot be kept over the runs of --against", hint="use --max-cost")
    found: list[tuple[Against, bool]] = []
    for name in names:
        with open_session(name, quiet=as_json, model=model, max_cost=settings["max_cost"], concurrency=settings["concurrency"],
                          reuse=settings["reuse"]) as session:  # fmt: skip
            result = evaluate_against(session, name, ref, model=model, candidate=candidate, selection=selection)
        blocked = result.found.blocked or any(change.name not in accepted for change in result.changes)
        found.append((result, blocked))
        if not as_json:
            _print(result, accepted)
    if as_json:
        from promptops.report.comparison import comparison_json

        emit_json({"comparisons": [{**comparison_json(result.found), "against": result.ref, "cached_baseline": result.cached, "blocked": blocked,
                                    "policy_changes": [{"name": item.name, "what": item.what, "accepted": item.name in accepted} for item in result.changes]}
                                   for result, blocked in found]})  # fmt: skip
    return ExitCode.GATE if any(blocked for _, blocked in found) else ExitCode.OK


def _print(result: "Against", accepted: list[str]) -> None:
    from rich.text import Text

    from promptops.cli.output import emit, note
    from promptops.report.comparison import render_comparison
    from promptops.report.tables import command, headline

    run, blocking = result.found.candidate.id, result.found.comparison.blocking
    following = (
        ("promptops", "explain", run, blocking[0].category, "--base", result.found.baseline.id)
        if blocking
        else ("promptops", "view", run)
    )
    weaker = [change.name for change in result.changes if change.name not in accepted]
    if weaker:
        emit(
            headline(
                "FAIL",
                "red",
                f"{result.found.candidate.header.prompt}: the change weakens its own gate ({', '.join(weaker)})",
            )
        )
    for change in result.changes:
        state = (
            "accepted" if change.name in accepted else f"blocks; accept it with --accept-policy-change {change.name}"
        )
        note(f"policy: {change.what} ({state})")
    if not result.cached:
        note(
            f"note: no recorded baseline of {result.ref}; `promptops baseline record {result.found.candidate.header.prompt} --at {result.ref}` makes this cheaper"
        )
    emit(render_comparison(result.found, [command(*following)]))
    emit(Text(""))
