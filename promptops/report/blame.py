"""Who last changed each line of a prompt, on the terminal and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.release.blame import BlamedLine, grouped
from promptops.report.show import escape
from promptops.report.tables import command, next_line

_SHORT = 12
_AUTHOR = 16


def render_blame(name: str, ref: str, lines: Sequence[BlamedLine]) -> RenderableType:
    """Commit, author, day, file and line before each line of the messages."""
    files = sorted({line.file for line in lines})
    shown = {file: file.removeprefix("prompts/").removeprefix(f"{name}/") for file in files}
    width = max((len(f"{shown[line.file]}:{line.line}") for line in lines), default=0)
    authors = min(max((len(_author(line)) for line in lines), default=0), _AUTHOR)
    parts: list[RenderableType] = [Text.assemble((name, "bold"), f" at {escape(ref)}" if ref else "")]
    for role, group in grouped(lines):
        parts += [
            Text(""),
            Text(f"{role}:", style="bold"),
            *(_line(line, shown[line.file], width, authors) for line in group),
        ]
    named = next((line.change.commit for line in lines if line.change.commit), "")
    following = command("git", "show", named[:_SHORT]) if named else command("git", "add", f"prompts/{name}")
    return Group(*parts, Text(""), next_line(following))


def _line(line: BlamedLine, file: str, width: int, authors: int) -> Text:
    change = line.change
    commit = change.commit[:_SHORT] if change.commit else "-" * _SHORT
    author = _author(line)
    cut = author if len(author) <= authors else author[: authors - 1] + "…"
    head = f"{commit}  {cut:{authors}}  {change.at[:10]:10}  {f'{file}:{line.line}':{width}}  "
    return Text.assemble((head, "dim"), escape(line.text))


def _author(line: BlamedLine) -> str:
    return " ".join(escape(line.change.author).split()) if line.change.commit else "not committed"


def blame_json(name: str, commit: str, lines: Sequence[BlamedLine]) -> dict[str, Any]:
    return {
        "prompt": name, "commit": commit,
        "lines": [{"role": line.role, "text": line.text, "file": line.file, "line": line.line, "commit": line.change.commit,
                   "author": line.change.author, "email": line.change.email, "at": line.change.at, "subject": line.change.subject}
                  for line in lines],
    }  # fmt: skip
