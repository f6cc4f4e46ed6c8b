"""What `promptops init` writes: one small prompt with its golden cases, ready to lint and evaluate."""

import os
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from promptops.core.errors import DataError, EvaluationError
from promptops.project.config import has_table
from promptops.project.store import prepare_folder


def scaffold(folder: Path) -> list[str]:
    """Write the starter project; the files made, by relative path.

    Raises DataError when one of them exists already (nothing is written then), EvaluationError when the disk refuses.
    """
    template = files("promptops.project") / "starter"
    found = [(name, source.read_bytes()) for name, source in sorted(_walk(template, ""))]
    taken = [name for name, _ in found if os.path.lexists(folder / name)]
    if taken:
        raise DataError(f"{taken[0]} exists already", why="nothing was written", hint="choose an empty folder")
    if has_table(folder / "pyproject.toml"):
        raise DataError(
            "pyproject.toml has a [tool.promptops] already", why="nothing was written", hint="choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prepare_folder(folder)
        for name, content in found:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise EvaluationError(
            "cannot write the project", where=str(error.filename or folder), why=error.strerror or ""
        ) from error
    return [name for name, _ in found]


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, name + "/")
        else:
            yield name, entry
