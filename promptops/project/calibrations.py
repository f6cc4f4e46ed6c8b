"""golden/<name>.calibrations.jsonl: how far each judge of a prompt can be trusted, one line a judge, known by its digest."""

import os
import tempfile
from collections.abc import Mapping
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
_NUMBERS = ("labels", "human_fails")


def calibrations_path(name: str) -> str:
    return f"golden/{name}.calibrations.jsonl"


def read_calibrations(tree: Tree, name: str) -> dict[str, Mapping[str, Any]]:
    """The calibrations of a prompt's judges by judge digest. Raises DataError for a line that is none."""
    path = calibrations_path(name)
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
        try:
            row = parse_json(line)
        except JsonError as error:
            raise DataError("not a calibration", where=f"{path}:{number}", why=str(error),
                            hint=f"write it anew with `promptops judge calibrate {name}`") from error  # fmt: skip
        if not _is_calibration(row):
            raise DataError("not a calibration", where=f"{path}:{number}",
                            hint=f"write it anew with `promptops judge calibrate {name}`")  # fmt: skip
        known = found.get(row["judge_digest"])
        if known is None or known["at"] <= row["at"]:  # after a merge of two branches, the later one
            found[row["judge_digest"]] = row
    return found


def _is_calibration(row: Json) -> bool:
    """Whether what a standing is taken from is there, in the right types; the rest is for people."""
    if not isinstance(row, dict) or row.get("promptops") != FORMAT:
        return False
    low = row.get("j_interval", [None])
    numbers = all(isinstance(row.get(name), int) and not isinstance(row.get(name), bool) for name in _NUMBERS)
    texts = all(isinstance(row.get(name), str) for name in ("judge_digest", "at", "labels_digest"))
    return (
        numbers
        and texts
        and (
            low is None
            or (isinstance(low, list) and len(low) == 2 and all(isinstance(item, int | float) for item in low))
        )
    )


def write_calibration(root: Path, name: str, row: Mapping[str, Json]) -> Path:
    """Put a calibration into the file in place of an older one of the same judge. Raises EvaluationError when it cannot be written."""
    tree = WorkTree(root)
    prepare_folder(root)
    with store_lock(root / STORE_FOLDER, timeout_s=_WAIT_S, name=f"calibrations-{name}", what=calibrations_path(name)):
        rows = read_calibrations(tree, name) | {str(row["judge_digest"]): dict(row)}
        path = tree.resolve(calibrations_path(name))
        text = b"".join(canonical_json(rows[key]) + b"\n" for key in sorted(rows))
        write_whole(path, text, what="the calibration")
    return path


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
