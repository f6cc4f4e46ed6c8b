"""golden/<name>.<kind>.jsonl: what was measured of a prompt (calibrations, attacks, coverage), a line for each content it was measured on."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptops.core.errors import DataError, EvaluationError
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.project.config import STORE_FOLDER
from promptops.project.lock import store_lock
from promptops.project.store import prepare_folder
from promptops.project.tree import Tree, WorkTree

FORMAT = 1
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordKind:
    """One kind of record: `key` is the member that says what it was measured on; the members below must be there, in their type.

    `interval` may be null. `command` measures it anew, with `{name}` for the prompt.
    """

    id: str
    what: str
    key: str
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    command: str
    share: str = ""
    ids: str = ""
    interval: str = ""

    def path(self, name: str) -> str:
        return f"golden/{name}.{self.id}.jsonl"


CALIBRATIONS = RecordKind(id="calibrations", what="calibration", key="judge_digest", numbers=("labels", "human_fails"),
                          texts=("labels_digest",), interval="j_interval", command="promptops judge calibrate {name}")  # fmt: skip
"""How far each judge of a prompt can be trusted."""
ATTACKS = RecordKind(id="attacks", what="record of attacks", key="judge_digest", numbers=("attacks", "targets", "read"),
                     texts=("suite",), ids="rose", command="promptops judge attack {name}")  # fmt: skip
"""Whether texts in an answer could talk a judge into a higher score."""
COVERAGE = RecordKind(id="coverage", what="record of coverage", key="golden_digest", numbers=("requests", "left_out", "cases"),
                      texts=("traffic_digest",), share="covered", command="promptops golden coverage {name} --traffic LOG")  # fmt: skip
"""What share of the traffic the golden cases are like."""


def read_records(tree: Tree, name: str, kind: RecordKind) -> dict[str, Mapping[str, Any]]:
    """The newest record of a prompt for each content, by its key. Raises DataError for a line that is none."""
    path = kind.path(name)
    try:
        data = tree.read(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError("file cannot be read", where=path, why=error.strerror or "") from error
    found: dict[str, Mapping[str, Any]] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        hint = f"write it anew with `{kind.command.format(name=name)}`"
        try:
            row = parse_json(line)
        except JsonError as error:
            raise DataError(f"not a {kind.what}", where=f"{path}:{number}", why=str(error), hint=hint) from error
        if not _is_record(row, kind):
            raise DataError(f"not a {kind.what}", where=f"{path}:{number}", hint=hint)
        known = found.get(row[kind.key])
        if known is None or known["at"] <= row["at"]:  # after a merge of two branches, the later one
            found[row[kind.key]] = row
    return found


def _is_record(row: Json, kind: RecordKind) -> bool:
    """Whether what is decided by is there, in the right types; the rest is for people."""
    if not isinstance(row, dict) or row.get("promptops") != FORMAT:
        return False
    return (
        all(isinstance(row.get(name), int) and not isinstance(row.get(name), bool) for name in kind.numbers)
        and all(isinstance(row.get(name), str) for name in (kind.key, "at", *kind.texts))
        and (not kind.share or _are_numbers([row.get(kind.share)]))
        and (not kind.ids or (isinstance(row.get(kind.ids), list) and all(isinstance(item, str) for item in row[kind.ids])))
        and (not kind.interval or row.get(kind.interval, ()) is None or (_are_numbers(row.get(kind.interval)) and len(row[kind.interval]) == 2))
    )  # fmt: skip


def _are_numbers(values: Json) -> bool:
    return isinstance(values, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in values
    )


def write_record(root: Path, name: str, kind: RecordKind, row: Mapping[str, Json]) -> str:
    """Put a record into its file in place of an older one of the same content; the path. Raises EvaluationError when it cannot be written."""
    tree = WorkTree(root)
    where = kind.path(name)
    prepare_folder(root)
    with store_lock(root / STORE_FOLDER, timeout_s=_WAIT_S, name=f"{kind.id}-{name}", what=where):
        rows = read_records(tree, name, kind) | {str(row[kind.key]): {"promptops": FORMAT, **row}}
        text = b"".join(canonical_json(rows[key]) + b"\n" for key in sorted(rows))
        write_whole(tree.resolve(where), text, what=f"the {kind.what}")
    return where


def write_whole(path: Path, content: bytes, *, what: str) -> None:
    """Write a file all or nothing, keeping its mode. Raises EvaluationError."""
    temporary = ""
    try:
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise EvaluationError(f"{what} cannot be written", where=f"{path.parent.name}/{path.name}", why=error.strerror or str(error),
                              hint="what was there before is unchanged") from error  # fmt: skip
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
