"""What users sent: rows of a log, the same input counted once with its weight."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.core.prompt import Prompt
from promptops.evaluation.clients import input_names
from promptops.models.base import ModelRequest
from promptops.models.local import input_text
from promptops.project.jsonlines import numbered_lines

MAX_ROWS = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An input as users sent it, how often, the line where it stands first, and its category where the log states one."""

    text: str
    inputs: Mapping[str, Json]
    line: int
    weight: int
    category: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """`rows` counts requests; `skipped` says why others were left out, and how many."""

    path: str
    requests: tuple[Request, ...]
    rows: int
    skipped: Mapping[str, int] = field(default_factory=dict)


def traffic_digest(path: Path) -> str:
    """What a log holds, to tell it from another one. Raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise DataError("file cannot be read", where=str(path), why=error.strerror or "") from error


def read_traffic(path: Path, prompt: Prompt, *, max_case_bytes: int) -> Traffic:
    """Requests of a JSONL log: `{"inputs": {...}}` or the inputs themselves, `count` for how often (default 1).

    Raises DataError for a file that cannot be read, holds no usable row (with the first reason), or more than 500,000.
    """
    names = input_names(prompt)
    found: dict[str, list[object]] = {}
    skipped: Counter[str] = Counter()
    first_bad = ""
    rows = lines = 0
    for number, line in numbered_lines(path):
        lines += 1
        if lines > MAX_ROWS:
            raise DataError(f"more than {MAX_ROWS} rows", where=str(path), hint="take a random sample of them")
        try:
            inputs, weight, category = read_request(line, prompt, max_case_bytes)
        except UnusableRowError as error:
            skipped[str(error)] += 1
            first_bad = first_bad or f"{path}:{number}"
            continue
        rows += weight
        text = input_text(ModelRequest(messages=(), inputs=inputs), names)
        known = found.setdefault(text, [inputs, number, 0, category])
        known[2] = int(str(known[2])) + weight
    if not found:
        if not skipped:
            raise DataError("no traffic", where=str(path), why="the file is empty", hint='write one request a line: {"inputs": {...}}')  # fmt: skip
        reason, _ = skipped.most_common(1)[0]
        fields = ", ".join(f'"{name}": ...' for name in names)
        raise DataError("no row is a request to this prompt", where=first_bad, why=reason,
                        hint=f'write one request a line: {{"inputs": {{{fields}}}}}')  # fmt: skip
    requests = tuple(
        Request(text=text, inputs=item[0], line=item[1], weight=item[2], category=item[3])  # type: ignore[arg-type]
        for text, item in found.items()
    )
    return Traffic(path=str(path), requests=requests, rows=rows, skipped=dict(skipped))


class UnusableRowError(Exception):
    """A row that is no request, and why."""


def read_request(line: bytes, prompt: Prompt, max_case_bytes: int) -> tuple[Mapping[str, Json], int, str]:
    """Inputs, how often, and category ('' for none) of a row of a log. Raises UnusableRowError for what is no request."""
    if len(line) > max_case_bytes:
        raise UnusableRowError(f"more than max_case_bytes = {max_case_bytes} bytes")
    try:
        row = parse_json(line)
    except JsonError:
        raise UnusableRowError("not a JSON line") from None
    if not isinstance(row, dict):
        raise UnusableRowError("not a JSON object")
    inputs = row["inputs"] if isinstance(row.get("inputs"), dict) else {key: row[key] for key in prompt.input_names if key in row}  # fmt: skip
    weight = row.get("count", 1)
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= 10**9:
        raise UnusableRowError("`count` is no number of requests")
    if not (inputs.keys() <= prompt.input_names and prompt.input_schema.accepts(inputs)):
        raise UnusableRowError("its inputs are not those of the prompt")
    category = row.get("category", "")
    return inputs, weight, category if isinstance(category, str) else ""
