"""What became of golden cases that were imported, on the terminal and as JSON."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.project.golden_import import Imported
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line

_SHOWN = 10


def render_imported(found: Imported, name: str, file: str, *, written: bool) -> RenderableType:
    parts = [f"{found.added} added", f"{found.changed} changed", f"{found.unchanged} as they were"] + (
        [f"{found.removed} removed"] if found.removed else []
    )
    lines: list[RenderableType] = [
        headline("IMPORTED" if written else "WOULD IMPORT", "green", f"{found.path}: {', '.join(parts)}; {count(found.total, 'case')}")
    ]  # fmt: skip
    if found.left:
        lines.append(Text("the set as it is now does not lint:", style="yellow"))
        lines += [show(f"  {problem}") for problem in found.left[:_SHOWN]]
    following = ("lint", name) if found.left else ("golden", "stats", name)
    again = ("golden", "import", name, file)
    return Group(*lines, next_line(command("promptops", *(following if written else again))))


def imported_json(found: Imported, *, written: bool) -> dict[str, Any]:
    return {
        "path": found.path, "written": written, "added": found.added, "changed": found.changed, "unchanged": found.unchanged,
        "removed": found.removed, "total": found.total, "problems": [problem.as_dict() for problem in found.left],
    }  # fmt: skip
