"""Reading another tool's files: below one folder, of bounded size, and never more than their text."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from typing import Any

from promptops.core.errors import DataError, RefusedError
from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.core.template import compile_template
from promptops.project.config import contains_secret
from promptops.project.prompts import HIDDEN, SUSPECT
from promptops.project.tree import WorkTree, decode_text
from promptops.project.yamltext import Document, parse_foreign_yaml

MAX_BYTES = 50_000_000
MAX_ROWS = 200_000
_CODE = (".js", ".cjs", ".mjs", ".ts", ".mts", ".py", ".rb", ".sh", ".exe", ".bat")
_LINK = re.compile(r"https?://[^\s<>\"'`)\]}]+|\$\{[^}\n]*\}?|\benv\([^)\n]*\)?", re.IGNORECASE)
_PLAIN = re.compile(r"\{\{-?\s*([A-Za-z_][\w.]*)\s*-?\}\}")
_SAFE_FILTER = re.compile(r"\|\s*safe\b")
_DUMP_FILTER = re.compile(r"\|\s*dump(?:\(\s*\d*\s*\))?")
_ENVIRONMENT = re.compile(r"\{\{[^}]*\benv\s*[.\[]|\{%[^%]*\benv\s*[.\[]|\bprocess\.env\b")


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of the foreign file: nothing outside it is read, whatever a reference or a link says."""

    root: Path

    def text(self, path: str) -> str:
        """A text file. Raises RefusedError outside the folder, DataError when it is missing, too large, code, or no text."""
        name = path.removeprefix("file://").removeprefix("./")
        if name.lower().endswith(_CODE):
            raise DataError("code is never run by an import", where=name)
        tree = WorkTree(self.root)
        try:
            size = tree.resolve(name).stat().st_size
            if size > MAX_BYTES:
                raise DataError("file too large", where=name, why=f"{size} bytes, more than {MAX_BYTES}")
            return decode_text(tree.read(name), name)
        except RefusedError as error:
            raise RefusedError(
                "reference leaves the folder", where=name[:120], why="nothing outside it is read"
            ) from error
        except OSError as error:
            raise DataError("file cannot be read", where=name[:120], why=error.strerror or "not found") from error

    def document(self, path: str) -> Document:
        """A YAML or JSON file with the lines of its parts. Raises as `text`, and DataError for what cannot be parsed."""
        name = path.removeprefix("file://").removeprefix("./")
        return parse_foreign_yaml(self.text(path), name)

    def matching(self, pattern: str) -> list[str]:
        """Files below the folder that a name or a pattern with `*` means, sorted."""
        name = pattern.removeprefix("file://").removeprefix("./")
        if not any(char in name for char in "*?["):
            return [name]
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        wanted = name.replace("**/", "*")
        return sorted(
            path
            for path in found
            if fnmatchcase(path, wanted) and path.count("/") >= name.replace("**/", "").count("/")
        )


def read_csv(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column) of each row, cells as they are written. Raises DataError for a file without a header."""
    rows = csv.reader(StringIO(text))
    header = next(rows, None)
    if not header:
        raise DataError("no header line", hint="the first line names the columns")
    line = rows.line_num + 1
    for number, row in enumerate(rows):
        if number >= MAX_ROWS:
            raise DataError(f"more than {MAX_ROWS} rows")
        if len(row) > len(header):
            raise DataError(
                f"line {line} has {len(row)} cells, the header {len(header)}", hint="put a cell with a comma in quotes"
            )
        if any(row):
            yield line, {name.strip(): cell for name, cell in zip(header, row, strict=False)}
        line = rows.line_num + 1


def read_jsonl(text: str, where: str) -> Iterator[tuple[int, dict[str, Json]]]:
    """(line, object) of each row. Raises DataError with the line of one that is no JSON object."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if number > MAX_ROWS:
            raise DataError(f"more than {MAX_ROWS} rows", where=where)
        try:
            row = parse_json(line)
        except JsonError as error:
            raise DataError("not JSON", where=f"{where}:{number}", why=str(error)) from None
        if not isinstance(row, dict):
            raise DataError("not a JSON object", where=f"{where}:{number}")
        yield number, row


def read_rows(text: str, where: str) -> Iterator[tuple[int, dict[str, Json]]]:
    """Rows of a JSONL file, of a JSON list, or of a JSON object with one list in it."""
    if where.endswith(".jsonl") or not text.lstrip().startswith(("[", "{")) or _is_jsonl(text):
        yield from read_jsonl(text, where)
        return
    document = parse_foreign_yaml(text, where)
    found, at = _list_in(document.value)
    for index, row in enumerate(found):
        if not isinstance(row, dict):
            raise DataError("not a JSON object", where=f"{where}:{document.line((*at, index))}")
        yield document.line((*at, index)), row


def _is_jsonl(text: str) -> bool:
    first = text.lstrip().partition("\n")[0].strip()
    try:
        return isinstance(parse_json(first), dict) and len(text.strip().split("\n")) >= 1
    except JsonError:
        return False


def _list_in(value: Any) -> tuple[list[Any], tuple[str, ...]]:
    if isinstance(value, list):
        return value, ()
    if isinstance(value, dict):
        for key in ("examples", "items", "data", "samples", "rows"):
            if isinstance(value.get(key), list):
                return value[key], (key,)
    raise DataError(
        "no list of rows in it", hint="give a JSONL file, a JSON list, or an object with `examples`, `items` or `data`"
    )


def reads_environment(text: str) -> bool:
    """Whether a template asks for environment variables: they may hold secrets, and are never filled in."""
    return _ENVIRONMENT.search(text) is not None


def fill(text: str, values: Mapping[str, Json]) -> str:
    """`{{ name }}` replaced by values of the test itself. Raises ValueError for anything that needs a template engine."""
    if reads_environment(text):
        raise ValueError("it reads environment variables")

    def value_of(match: re.Match[str]) -> str:
        found: Json = values
        for part in match[1].split("."):
            if not isinstance(found, Mapping) or part not in found:
                raise ValueError(f"variable {match[1]!r} is not set by the test")
            found = found[part]
        return found if isinstance(found, str) else _plain_text(found)

    filled = _PLAIN.sub(value_of, text)
    rest = _PLAIN.sub("", text)
    if "{{" in rest or "{%" in rest:
        raise ValueError("it holds a template expression that only the other tool evaluates")
    return filled


def _plain_text(value: Json) -> str:
    from promptops.core.jsontext import canonical_json

    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else canonical_json(value).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A template in our language; `constants` are inputs that stand for links, `changes` say what is different."""

    text: str
    constants: Mapping[str, str]
    changes: tuple[str, ...]


def convert_template(text: str, where: str, *, taken: Mapping[str, str] | None = None) -> Converted:
    """A Jinja-like template (Nunjucks, Jinja2) in our language.

    Links and `${...}` become inputs with a constant value, as a prompt may hold neither. Raises DataError for what has no equivalent.
    """
    if reads_environment(text):
        raise DataError(
            "it reads environment variables",
            where=where,
            why="they may hold secrets",
            hint="pass the value as an input",
        )
    if contains_secret(text):
        raise DataError("it holds a secret", where=where, why="secrets are not copied", hint="revoke the key")
    constants: dict[str, str] = dict(taken or {})
    changes: list[str] = []
    made = _DUMP_FILTER.sub("| json", _SAFE_FILTER.sub("", text))
    if made != text:
        changes.append("`safe` is dropped and `dump` is `json`")

    def constant(match: re.Match[str]) -> str:
        name = next((key for key, value in constants.items() if value == match[0]), f"link_{len(constants) + 1}")
        constants[name] = match[0]
        return "{{ " + name + " }}"

    without = _LINK.sub(constant, made)
    if without != made:
        changes.append("links and ${...} became inputs with a constant value")
    shown = HIDDEN.sub("", without)
    if shown != without:
        changes.append("hidden characters were removed")
    if SUSPECT.search(shown):
        raise DataError(
            "it holds a link or a variable of the environment in a form that cannot be an input", where=where
        )
    if not shown.strip():
        raise DataError("it is empty", where=where)
    compile_template(shown, where)
    return Converted(text=shown, constants=constants, changes=tuple(changes))
