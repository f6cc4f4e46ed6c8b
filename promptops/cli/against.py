"""promptops eval NAME --against REF."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from promptops.cli.reports import Reports
    from promptops.evaluation.against import Against
    from promptops.evaluation.casebook import Evaluation
    from promptops.evaluation.plan import Selection


def eval_against(
    names: list[str], ref: str, *, model: str, candidate: str, selection: "Selection", judge: str, accepted: list[str], dry_run: bool, reports: "Reports", as_json: bool,
    settings: dict[str, Any],
) -> int:  # fmt: skip
    """Judge each prompt against what it was at `ref`; the exit code is the worst."""
    from promptops.cli.output import emit_json, note
    from promptops.cli.session import open_session
    from promptops.evaluation.against import NewPromptError, evaluate_against
    from promptops.evaluation.casebook import read_evaluation

    if dry_run:
        raise DataError(
            "--dry-run does not know how often --against will draw",
            hint="without --against it prices one draw; expect up to 2.7 times that",
        )
    found: list[_Judged] = []
    new: list[str] = []
    evaluations: list[Evaluation] = []
    for name in names:
        with open_session(name, quiet=as_json or bool(reports.shown), **settings) as session:  # fmt: skip
            try:
                result = evaluate_against(
                    session, name, ref, model=model, candidate=candidate, selection=selection, judge=judge
                )
            except NewPromptError as error:
                if len(names) == 1:
                    raise
                new.append(name)
                note(f"note: {error}")
                continue
            if reports.wanted:
                run, changes = result.found.candidate, result.changes
                evaluations.append(
                    read_evaluation(
                        session.store, session.project, run, result.found, ref=ref, changes=changes, accepted=accepted
                    )
                )
        found.append(_Judged(result, tuple(accepted)))
        if not (as_json or reports.shown):
            _print(found[-1])
    reports.write(evaluations)
    if as_json:
        emit_json({"comparisons": [item.as_json() for item in found], "new_prompts": new})
    return ExitCode.GATE if any(item.blocked for item in found) else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Judged:
    """A comparison, and the weakenings that were accepted by name.

    Floors (`gate.min_pass`) are not judged here: the candidate's first draws may be stored ones, and one draw is noise.
    """

    result: "Against"
    accepted: tuple[str, ...]

    @property
    def weaker(self) -> list[str]:
        return [change.name for change in self.result.changes if change.name not in self.accepted]

    @property
    def blocked(self) -> bool:
        return bool(self.result.found.blocked or self.weaker)

    def as_json(self) -> dict[str, Any]:
        from promptops.report.comparison import comparison_json

        changes = [
            {"name": item.name, "what": item.what, "accepted": item.name in self.accepted}
            for item in self.result.changes
        ]
        return {**comparison_json(self.result.found), "against": self.result.ref, "cached_baseline": self.result.cached,
                "blocked": self.blocked, "policy_changes": changes}  # fmt: skip


def _print(judged: _Judged) -> None:
    from rich.text import Text

    from promptops.cli.output import emit, note
    from promptops.report.comparison import render_comparison
    from promptops.report.tables import command, headline

    result, accepted = judged.result, judged.accepted
    run, blocking = result.found.candidate.id, result.found.comparison.blocking
    following = (
        ("promptops", "explain", run, blocking[0].category, "--base", result.found.baseline.id)
        if blocking
        else ("promptops", "view", run)
    )
    name = result.found.candidate.header.prompt
    if judged.weaker:
        emit(headline("FAIL", "red", f"{name}: the change weakens its own gate ({', '.join(judged.weaker)})"))
    for change in result.changes:
        state = (
            "accepted" if change.name in accepted else f"blocks; accept it with --accept-policy-change {change.name}"
        )
        note(f"policy: {change.what} ({state})")
    if not result.cached:
        note(
            f"note: no recorded baseline of {result.ref}; `promptops baseline record {name} --at {result.ref}` makes this cheaper"
        )
    emit(render_comparison(result.found, [command(*following)]))
    emit(Text(""))
