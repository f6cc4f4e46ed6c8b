"""Changelog fragments in the shape of changesets: `.changeset/*.md`, each naming prompts with a bump and saying what changed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Literal, get_args

from promptops.core.errors import DataError, Problem
from promptops.core.names import is_name
from promptops.project.tree import Tree, read_text
from promptops.project.yamltext import parse_yaml

Bump = Literal["major", "minor", "patch"]
FOLDER = ".changeset"
_BUMPS: tuple[Bump, ...] = get_args(Bump)
_SHAPE = re.compile(r"\A---[ \t]*\n(?P<head>.*?)^---[ \t]*$\n?(?P<text>.*)\Z", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changeset:
    """One fragment: the bump it asks for each prompt, and its text in Markdown."""

    path: str
    bumps: Mapping[str, Bump]
    text: str

    @property
    def title(self) -> str:
        return self.text.strip().partition("\n")[0]


def read_changesets(tree: Tree) -> tuple[Changeset, ...]:
    """Every fragment, by file name; README.md and files that begin with a dot are none. Raises DataError with every problem."""
    found: list[Changeset] = []
    problems: list[Problem] = []
    for name in tree.names(FOLDER):
        if name.endswith(".md") and name.lower() != "readme.md" and not name.startswith("."):
            try:
                found.append(parse_changeset(read_text(tree, f"{FOLDER}/{name}"), f"{FOLDER}/{name}"))
            except DataError as error:
                problems += error.problems
    if problems:
        raise DataError(problems=problems)
    return tuple(found)


def parse_changeset(text: str, where: str) -> Changeset:
    """A fragment. Raises DataError for a file of another shape."""
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise DataError(
            "no frontmatter", where=f"{where}:1", hint='begin with `---`, lines such as `"my-prompt": minor`, and `---`'
        )
    document = parse_yaml(shape["head"], where, first_line=2)
    bumps = document.value or {}
    if not isinstance(bumps, dict):
        raise DataError(
            "the frontmatter names no prompts", where=f"{where}:2", hint='write lines such as `"my-prompt": minor`'
        )
    problems = [
        Problem(what=f"{name}: {bump!r} is not a bump", where=f"{where}:{document.line((name,))}", hint=f"one of {', '.join(_BUMPS)}")
        for name, bump in bumps.items()
        if bump not in _BUMPS or not is_name(name)
    ]  # fmt: skip
    if bumps and not shape["text"].strip():
        problems.append(
            Problem(what="it does not say what changed", where=where, hint="write a sentence below the second `---`")
        )
    if problems:
        raise DataError(problems=problems)
    return Changeset(path=where, bumps=bumps, text=shape["text"].strip())


def format_changeset(bumps: Mapping[str, Bump], text: str) -> str:
    """The file that `parse_changeset` reads back."""
    return "---\n" + "".join(f'"{name}": {bump}\n' for name, bump in sorted(bumps.items())) + f"---\n\n{text.strip()}\n"


def largest_bump(changesets: Iterable[Changeset], name: str) -> Bump | None:
    """The largest bump that fragments ask for one prompt; None when none names it."""
    asked = [item.bumps[name] for item in changesets if name in item.bumps]
    return min(asked, key=_BUMPS.index, default=None)


def changelog_of(changesets: Iterable[Changeset], name: str) -> str:
    """The texts about one prompt as Markdown list items, larger bumps first."""
    about = sorted(
        (item for item in changesets if name in item.bumps),
        key=lambda item: (_BUMPS.index(item.bumps[name]), item.path),
    )
    return "".join("- " + indent(item.text, "  ").lstrip() + "\n" for item in about)
