"""The prompts of a project at a glance."""

from dataclasses import asdict, dataclass
from typing import Any

from promptops.core.errors import PromptopsError
from promptops.evaluation.clients import identify
from promptops.project.config import resolve_model
from promptops.project.project import Project
from promptops.project.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """One prompt; `problems` counts what lint would say, the other fields are empty then."""

    name: str
    cases: int = 0
    categories: int = 0
    model: str = ""
    digest: str = ""
    newest_run: str = ""
    problems: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_prompts(project: Project, store: Store) -> list[PromptRow]:
    """One row a prompt; a prompt that cannot be read has a row too."""
    return [_row(project, store, name) for name in project.names()]


def _row(project: Project, store: Store, name: str) -> PromptRow:
    newest = next((run.id for run in store.runs(name)), "")
    try:
        evaluable = project.load(name)
        model = resolve_model(project.config, evaluable.prompt.model or project.config.default_model)
        digest = evaluable.prompt.digest(identify(model, evaluable.prompt, evaluable.scan.digest))
    except PromptopsError as error:
        return PromptRow(name=name, newest_run=newest, problems=len(error.problems))
    return PromptRow(name=name, cases=evaluable.scan.count, categories=len(evaluable.scan.categories), model=model.alias,
                     digest=digest, newest_run=newest)  # fmt: skip
