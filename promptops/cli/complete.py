"""What a shell offers after Tab: names of prompts, runs, versions and channels, where a command takes one."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from promptops.core.errors import PromptopsError

if TYPE_CHECKING:
    from promptops.project.project import Project

_MOST_RUNS = 50
_CHANNELS = ("dev", "staging", "prod")


def prompts(incomplete: str) -> list[str]:
    return [name for name in _prompts() if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    return [name for name in ("latest", *_runs()) if name.startswith(incomplete)]


def refs(incomplete: str) -> list[str]:
    return [name for name in _refs() if name.startswith(incomplete)]


def channels(incomplete: str) -> list[str]:
    return [name for name in _CHANNELS if name.startswith(incomplete)]


_BY_METAVAR: dict[str, Callable[[str], list[str]]] = {
    "NAME": prompts, "[NAME]": prompts, "RUN": runs, "BASE": runs, "CAND": runs, "REF": refs, "CHANNEL": channels,
}  # fmt: skip


def offer(app: typer.Typer) -> None:
    """Give every argument and option that names something of the project its completion."""
    for command in _callbacks(app):
        hints = get_type_hints(command, include_extras=True)
        for name, parameter in inspect.signature(command).parameters.items():
            for info in (*getattr(hints.get(name), "__metadata__", ()), parameter.default):
                known = isinstance(info, ArgumentInfo) or (isinstance(info, OptionInfo) and info.metavar != "NAME")
                if known and info.metavar in _BY_METAVAR:
                    info.autocompletion = _BY_METAVAR[info.metavar]


def _callbacks(app: typer.Typer) -> Iterator[Callable[..., Any]]:
    yield from (item.callback for item in app.registered_commands if item.callback)
    for group in app.registered_groups:
        if group.typer_instance:
            yield from _callbacks(group.typer_instance)


def _project() -> "Project | None":
    from promptops.project.project import open_project

    try:
        return open_project(Path.cwd())
    except PromptopsError:
        return None


def _prompts() -> list[str]:
    project = _project()
    return project.names() if project else []


def _runs() -> list[str]:
    from promptops.project.store import open_store

    project = _project()
    if project is None or project.store_at.url or not project.store_at.exists:  # a key press waits for no network
        return []
    with suppress(PromptopsError), closing(open_store(project.store_at)) as store:
        return [run.id for run in store.runs()[:_MOST_RUNS]]
    return []


def _refs() -> list[str]:
    """Branches and tags of people; the tags of releases are named by their version elsewhere."""
    project = _project()
    with suppress(PromptopsError):
        if project is not None:
            listed = project.git.run(
                "for-each-ref", "--format=%(refname:short)", "--count=500", "refs/heads", "refs/remotes", "refs/tags"
            )
            return [
                "HEAD",
                *(name for name in listed.decode("utf-8", "replace").split() if not name.startswith("channel/")),
            ]
    return []
