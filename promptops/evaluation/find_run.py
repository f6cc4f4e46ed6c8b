"""What a person means by a run: an id, `latest`, an exported file, or a git ref."""

from pathlib import Path

from promptops.core.errors import DataError, EvaluationError
from promptops.core.names import is_run_id
from promptops.evaluation.clients import identify
from promptops.evaluation.judge import OFF, subject_of
from promptops.project.config import resolve_model
from promptops.project.project import Evaluable, Project
from promptops.project.store import Run, Store
from promptops.project.transfer import import_run


def find_run(store: Store, project: Project, text: str, prompt: str = "") -> Run:
    """The run `text` stands for; for a git ref, the newest complete run of what `prompt` was in that commit.

    Raises DataError or EvaluationError with what to do.
    """
    if is_run_id(text):
        return store.run(text)
    if text == "latest":
        found = store.runs(prompt)
        if not found:
            raise DataError("no runs yet", hint="run `promptops eval`")
        return found[0]
    if text.endswith(".jsonl"):
        run, _ = import_run(store, Path(text))
        return run
    return _run_at(store, project, text, prompt)


def _run_at(store: Store, project: Project, ref: str, prompt: str) -> Run:
    if not prompt:
        raise DataError(
            f"{ref[:80]!r} is no run",
            why="a git ref needs a prompt to find its run by",
            hint="use a run id from `promptops runs list`, `latest`, or name the prompt",
        )
    then = project.at(ref)
    content = then.load(prompt)
    for run in store.runs(prompt):
        if run.state == "complete" and run.header.subject == _subject(project, content, run):
            return run
    raise EvaluationError(
        f"no complete run of {prompt} as it was at {ref}", hint=f"make one with `promptops eval {prompt} --at {ref}`"
    )


def _subject(project: Project, content: Evaluable, run: Run) -> str:
    """The subject of that content with the model of a run; '' when the model is no longer configured."""
    try:
        model = resolve_model(project.config, run.header.model)
        choice = str(run.header.judge["choice"]) if run.header.judge else OFF
        return subject_of(project.config, content, identify(model, content.prompt, content.scan.digest), choice)
    except DataError:
        return ""


def find_pair(store: Store, project: Project, base: str, candidate: str, prompt: str = "") -> tuple[Run, Run]:
    """Baseline and candidate run; whichever names its prompt (an id or a file) says what the other may mean.

    Without a candidate it is the newest run of the same prompt that was made after it; for `latest` alone, the newest is the candidate and
    the one before it the baseline. Raises DataError or EvaluationError.
    """
    if candidate and not prompt and not _names_itself(base) and (_names_itself(candidate) or candidate == "latest"):
        after = find_run(store, project, candidate, prompt)
        return find_run(store, project, base, after.header.prompt), after
    before = find_run(store, project, base, prompt or _newest_prompt(store, base, candidate))
    prompt = before.header.prompt
    if candidate:
        return before, find_run(store, project, candidate, prompt)
    if base == "latest":
        return previous_run(store, before), before
    newer = _newer(store, before)
    if not newer:
        raise DataError(f"no run of {prompt} after {before.id}", hint=f"evaluate the change: `promptops eval {prompt}`")
    return before, newer[0]


def previous_run(store: Store, run: Run) -> Run:
    """The run of the same prompt before this one. Raises DataError when there is none."""
    known = store.runs(run.header.prompt)
    older = known[len(_newer(store, run)) + 1 :]
    if not older:
        raise DataError(
            f"only one run of {run.header.prompt}", hint=f"make another with `promptops eval {run.header.prompt}`"
        )
    return older[0]


def _newer(store: Store, run: Run) -> list[Run]:
    """Runs of the same prompt that were begun after this one, newest first."""
    known = store.runs(run.header.prompt)
    return known[: next((place for place, other in enumerate(known) if other.id == run.id), 0)]


def _names_itself(text: str) -> bool:
    return is_run_id(text) or text.endswith(".jsonl")


def _newest_prompt(store: Store, base: str, candidate: str) -> str:
    """For git refs alone: the prompt that was evaluated last."""
    if _names_itself(base) or (base == "latest" and not candidate):
        return ""
    runs = store.runs()
    return runs[0].header.prompt if runs else ""
