"""golden/<name>.todo.jsonl: inputs of users that wait for a label; `golden import` takes them once they have a category."""

from collections.abc import Iterable, Mapping, Sequence

from promptops.core.digest import digest
from promptops.core.errors import DataError
from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.project.config import STORE_FOLDER
from promptops.project.golden_import import dump_row, write_lines
from promptops.project.lock import store_lock
from promptops.project.project import Project

_LOCK_WAIT_S = 30.0


def todo_path(name: str) -> str:
    return f"golden/{name}.todo.jsonl"


def read_todo(project: Project, name: str) -> list[Mapping[str, Json]]:
    """Rows that wait for a label; none without a file. Raises DataError with the line of what is no row."""
    path = todo_path(name)
    try:
        raw = project.tree.read(path)
    except FileNotFoundError:
        return []
    rows: list[Mapping[str, Json]] = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except JsonError as error:
            raise DataError("not a JSON line", where=f"{path}:{number}", why=str(error)) from None
        if not (isinstance(row, dict) and isinstance(row.get("inputs"), dict) and isinstance(row.get("id"), str)):
            raise DataError("not a case to be labelled", where=f"{path}:{number}", hint="it needs `id` and `inputs`")
        rows.append(row)
    return rows


def todo_row(inputs: Mapping[str, Json], source: str) -> dict[str, Json]:
    """A case without category and expected values; the same inputs have the same id."""
    return {"id": f"new-{digest(dict(inputs))[7:17]}", "category": "", "inputs": dict(inputs), "expected": {}, "source": source[:200]}  # fmt: skip


def add_todo(
    project: Project, name: str, rows: Iterable[Mapping[str, Json]], known_ids: Sequence[str]
) -> tuple[int, int]:
    """Append rows that are neither there nor golden cases; (how many, how many wait now)."""
    (project.root / STORE_FOLDER).mkdir(exist_ok=True)
    with store_lock(project.root / STORE_FOLDER, timeout_s=_LOCK_WAIT_S, name=f"golden-{name}", what=todo_path(name)):
        before = read_todo(project, name)
        seen = {str(row["id"]) for row in before} | set(known_ids)
        new: dict[str, Mapping[str, Json]] = {}
        for row in rows:
            if str(row["id"]) not in seen:
                new.setdefault(str(row["id"]), row)
        if new:
            write_lines(project.root / todo_path(name), [dump_row(row) for row in (*before, *new.values())])
    return len(new), len(before) + len(new)
