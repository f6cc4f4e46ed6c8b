"""Golden cases into and out of a project: rows are checked as `lint` checks them before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.project.config import STORE_FOLDER
from promptops.project.golden import check_rows
from promptops.project.golden_table import from_table, read_csv, to_table, write_csv
from promptops.project.lock import store_lock
from promptops.project.project import Project
from promptops.project.prompts import load_prompt
from promptops.project.row_files import is_url, tree_rows
from promptops.project.suites import load_suite

Form = Literal["csv", "jsonl"]
_BOM = b"\xef\xbb\xbf"
_LOCK_WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Golden rows as parsed, and where each stands."""

    values: tuple[Mapping[str, Json], ...]
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did to a golden file. `left`: what `lint` says of the set as it is now."""

    path: str
    added: int
    changed: int
    unchanged: int
    removed: int
    total: int
    left: tuple[Problem, ...] = ()


def form_of(path: Path) -> Form:
    """CSV or JSON lines, by the end of the name. Raises DataError for others."""
    if path.suffix in (".jsonl", ".ndjson"):
        return "jsonl"
    if path.suffix == ".csv":
        return "csv"
    raise DataError(f"cannot tell the format of {path.name!r}", hint="use .csv or .jsonl")


def read_file(path: Path) -> Rows:
    """Rows of a CSV or JSONL file. Raises DataError with each line that cannot be read."""
    form = form_of(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError("file cannot be read", where=str(path), why=error.strerror or "") from None
    try:
        text = raw.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError("not UTF-8", where=f"{path}:{line}", hint="save the file as UTF-8 (in a spreadsheet: CSV UTF-8)") from None  # fmt: skip
    if form == "csv":
        columns, cells, where = read_csv(text, str(path))
        return Rows(values=tuple(from_table(columns, cells, where)), where=tuple(where))
    return _read_jsonl(text, str(path))


def _read_jsonl(text: str, name: str) -> Rows:
    values: list[Mapping[str, Json]] = []
    where: list[str] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            row = parse_json(line)
        except JsonError as error:
            problems.append(Problem(what="not a valid row", where=place, why=str(error)))
            continue
        if isinstance(row, dict):
            values.append(row)
            where.append(place)
        else:
            problems.append(Problem(what="not a JSON object", where=place, hint="write one case a line"))
    if problems:
        raise DataError(problems=problems[:1000])
    return Rows(values=tuple(values), where=tuple(where))


def import_rows(
    project: Project, name: str, rows: Rows, *, replace: bool = False, update: bool = False, write: bool = True
) -> Imported:
    """Add rows to a golden file; lines that are there stay as they are, byte for byte.

    A row whose id is there with other content is an error unless `update` (it takes the place of the old one) or `replace` (the
    rows are the whole set). Raises DataError with every problem, and then nothing was written.
    """
    prompt = load_prompt(project.tree, name)
    suite = load_suite(project.tree, name, prompt)
    if not rows.values:
        raise DataError("no rows", hint="write one case a line, below the header in CSV")
    problems = check_rows(suite, prompt, zip(rows.where, rows.values, strict=True), max_case_bytes=project.config.max_case_bytes)  # fmt: skip
    if problems:
        raise DataError(problems=problems)
    refuse_to_write(suite.cases_path)
    (project.root / STORE_FOLDER).mkdir(exist_ok=True)
    with store_lock(project.root / STORE_FOLDER, timeout_s=_LOCK_WAIT_S, name=f"golden-{name}", what=suite.cases_path):
        old = _old_lines(project, suite.cases_path)
        lines = dict(old) if not replace else {}
        added, changed, unchanged, clashes = 0, 0, 0, []
        for value, place in zip(rows.values, rows.where, strict=True):
            key = str(value["id"])
            before = old.get(key)
            if before is None:
                added += 1
            elif _same(before, value):
                unchanged += 1
                lines[key] = before
                continue
            elif not (replace or update):
                clashes.append(Problem(what=f"case {key!r} is there with other content", where=place, hint="--update replaces it; or give it another id"))  # fmt: skip
                continue
            else:
                changed += 1
            lines[key] = dump_row(value)
        if clashes:
            raise DataError(problems=clashes[:1000])
        if write:
            write_lines(project.root / suite.cases_path, list(lines.values()))
    return Imported(path=suite.cases_path, added=added, changed=changed, unchanged=unchanged, removed=sum(key not in lines for key in old),
                    total=len(lines), left=_left(project, name) if write else ())  # fmt: skip


def read_golden(project: Project, name: str) -> list[Mapping[str, Json]]:
    """The rows of a golden file as parsed, checked first. Raises DataError as `lint` does."""
    evaluable = project.load(name)
    return [parse_json(line) for line in _old_lines(project, evaluable.suite.cases_path).values()]


def export_text(project: Project, name: str, form: Form) -> tuple[str, int]:
    """The golden set of a prompt in a format, and how many cases it has; JSON lines are those of the file."""
    evaluable = project.load(name)
    lines = list(_old_lines(project, evaluable.suite.cases_path).values())
    if form == "jsonl":
        return "".join(line.decode() + "\n" for line in lines), len(lines)
    return write_csv(to_table([parse_json(line) for line in lines])), len(lines)


def dump_row(value: Mapping[str, Json]) -> bytes:
    """A row as one line, keys in the order given, text as it is."""
    import orjson

    return orjson.dumps(value)


def write_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Replace a file by one that is complete. Raises DataError when it cannot be written; what was there stays."""
    import os
    import tempfile
    from contextlib import suppress

    made = ""
    try:
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.writelines(line + b"\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        Path(made).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(made).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(made).unlink()
        raise DataError("file cannot be written", where=str(path), why=error.strerror or "", hint="what was there before is unchanged") from error  # fmt: skip


def refuse_to_write(path: str) -> None:
    """Raises DataError for cases that are no JSONL file of the project: those are made elsewhere, and read here."""
    if is_url(path) or not path.endswith(".jsonl"):
        raise DataError("the cases of this suite are read only", where=path[:200], why="only a .jsonl file in golden/ is written to",
                        hint="change them where they are made, or name a .jsonl file as `cases`")  # fmt: skip


def _old_lines(project: Project, path: str) -> dict[str, bytes]:
    if is_url(path) or not path.endswith(".jsonl"):
        return {str(parse_json(line)["id"]): line for _, line in tree_rows(project.tree, path)}
    try:
        raw = project.tree.read(path)
    except FileNotFoundError:
        return {}
    found: dict[str, bytes] = {}
    for number, line in enumerate(raw.removeprefix(_BOM).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found[str(parse_json(line)["id"])] = line.strip()
        except (JsonError, LookupError, TypeError) as error:
            raise DataError("not a golden row", where=f"{path}:{number}", why=str(error), hint="`promptops lint` lists every problem; --replace begins anew") from None  # fmt: skip
    return found


def _same(line: bytes, value: Mapping[str, Json]) -> bool:
    return canonical_json(parse_json(line)) == canonical_json(dict(value))


def _left(project: Project, name: str) -> tuple[Problem, ...]:
    try:
        project.load(name)
    except DataError as error:
        return error.problems
    return ()
