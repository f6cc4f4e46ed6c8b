"""Where an import goes: a new prompt with its suite, or more cases for a prompt that is there."""

from pathlib import Path

from promptops.core.errors import DataError, EvaluationError
from promptops.core.jsontext import canonical_json
from promptops.project.config import has_table
from promptops.project.golden import read_ids
from promptops.project.golden_import import refuse_to_write
from promptops.project.interop.draft import Draft, DraftPrompt, case_row, check_files, render_files, unique, write_files
from promptops.project.interop.losses import Losses
from promptops.project.project import open_project
from promptops.project.prompts import load_prompt
from promptops.project.suites import load_suite
from promptops.project.tree import WorkTree


def receive(draft: Draft, folder: Path, *, write: bool) -> list[str]:
    """Check what an import would write, and write it; the files by name.

    Raises DataError when a file exists or promptops would refuse the project, EvaluationError when the disk refuses.
    """
    if draft.cases_only and (folder / "prompts" / draft.prompts[0].name / "prompt.md").exists():
        return _add_cases(draft, draft.prompts[0], folder, write=write)
    for prompt in draft.prompts:
        names = {name for case in prompt.cases for name in case.inputs}
        for case in prompt.cases:
            case.inputs = {name: case.inputs.get(name, "") for name in sorted(names)}
    configured = (folder / "promptops.toml").exists() or has_table(folder / "pyproject.toml")
    files = render_files(draft, with_config=not configured)
    if configured and draft.models:
        losses = Losses(list(draft.fates))
        for alias in draft.models:
            losses.changed(
                "promptops.toml",
                f"model {alias}",
                "the folder has a configuration, which is not touched",
                f"add [models.{alias}] to it",
            )
        draft.fates = tuple(losses.fates)
    check_files(draft, files)
    if write:
        write_files(files, folder)
    return sorted(files)


def _add_cases(draft: Draft, prompt: DraftPrompt, folder: Path, *, write: bool) -> list[str]:
    """Append the cases that fit the prompt's inputs; the others are lost, each with its reason."""
    project = open_project(folder)
    tree = WorkTree(project.root)
    loaded = load_prompt(tree, prompt.name)
    suite = load_suite(tree, prompt.name, loaded)
    losses = Losses([fate for fate in draft.fates if fate.what != "prompt"])
    refuse_to_write(suite.cases_path)
    known = set(read_ids(tree, suite.cases_path))
    rows: list[bytes] = []
    for case in prompt.cases:
        problem = next(loaded.input_problems(case.inputs), None)
        if problem is None and suite.categories and case.category not in suite.categories:
            losses.lost(case.source, f"case {case.id}", f"category {case.category!r} is not in the suite")
            continue
        if problem is not None:
            losses.lost(case.source, f"case {case.id}", problem.what, problem.hint)
            continue
        case.id = unique(case.id, known)
        known.add(case.id)
        rows.append(canonical_json(case_row(case)) + b"\n")
    draft.fates = tuple(losses.fates)
    if not rows:
        raise DataError(
            f"no case fits the inputs of {prompt.name}",
            where=suite.cases_path,
            hint="see `promptops show` for its inputs",
        )
    if write:
        _append(tree.resolve(suite.cases_path), rows)
    return [suite.cases_path]


def _append(path: Path, rows: list[bytes]) -> None:
    """All rows or none: the new file takes the place of the old one."""
    before = path.read_bytes()
    joint = b"" if not before or before.endswith(b"\n") else b"\n"
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_bytes(before + joint + b"".join(rows))
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise EvaluationError("cannot write the cases", where=str(path), why=error.strerror or "") from error
