"""Review batches in `.promptops/reviews/`: which answers were chosen for whom and how likely, whole, so that a run may go."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.core.names import NAME_PATTERN
from promptops.project.config import STORE_FOLDER
from promptops.project.store import prepare_folder

FOLDER = "reviews"
FORMAT = 1
_ID = re.compile(rf"{NAME_PATTERN}-[0-9a-f]{{12}}")
_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """One answer to review. `weights` are how many draws of each run gave it, `reasons` why it was likelier to be chosen."""

    id: str
    case_id: str
    category: str
    case_digest: str
    inputs: Mapping[str, Json]
    expected: Mapping[str, Json]
    answer: str
    inclusion: float
    weights: Mapping[str, int]
    reviewers: tuple[str, ...]
    draw: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Answers drawn together, in the order to review them; `population` are all that could have been drawn."""

    id: str
    prompt: str
    runs: tuple[str, ...]
    seed: int
    created_at: str
    population: int
    reasons: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    items: tuple[ReviewItem, ...] = ()

    @property
    def reviewers(self) -> tuple[str, ...]:
        return tuple(sorted({who for item in self.items for who in item.reviewers}))

    def items_of(self, who: str) -> tuple[ReviewItem, ...]:
        return tuple(item for item in self.items if who in item.reviewers)


def save_batch(root: Path, batch: Batch) -> Path:
    """Write a batch, whole or not at all. Raises EvaluationError when it cannot be written, RefusedError for a link."""
    folder = _folder(root)
    path = folder / f"{batch.id}.json"
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".batch-")
        with os.fdopen(handle, "wb") as file:
            file.write(canonical_json({"format": FORMAT, **asdict(batch)}))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise EvaluationError("the review batch cannot be written", where=f"{STORE_FOLDER}/{FOLDER}/{path.name}",
                              why=error.strerror or str(error)) from error  # fmt: skip
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
    return path


def load_batch(root: Path, text: str) -> Batch:
    """A batch by its id, or from a file a colleague sent. Raises DataError when there is none or it is no batch."""
    if _ID.fullmatch(text):
        path, where = _folder(root) / f"{text}.json", f"{STORE_FOLDER}/{FOLDER}/{text}.json"
    elif text.endswith(".json"):
        path, where = Path(text), text
    else:
        raise DataError(
            f"{text[:80]!r} is no review batch", hint="name one as `support-summary-1a2b3c4d5e6f`, or the file of one"
        )
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError("the review batch is too large", where=where, why=f"over {_MAX_BYTES} bytes")
        return _batch(parse_json(path.read_bytes()))
    except FileNotFoundError:
        raise DataError(
            f"no review batch {text[:80]}", where=where, hint="make one with `promptops review assign NAME`"
        ) from None
    except OSError as error:
        raise DataError("the review batch cannot be read", where=where, why=error.strerror or "") from error
    except (JsonError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "not a review batch", where=where, why=str(error)[:200], hint="take it from whoever made it again"
        ) from error


def list_batches(root: Path, prompt: str) -> list[Batch]:
    """The batches of a prompt, newest first. Raises DataError for one that cannot be read."""
    names = sorted(
        path.stem
        for path in _folder(root).glob("*.json")
        if _ID.fullmatch(path.stem) and path.stem.rpartition("-")[0] == prompt
    )
    return sorted(
        (load_batch(root, name) for name in names), key=lambda batch: (batch.created_at, batch.id), reverse=True
    )


def _folder(root: Path) -> Path:
    prepare_folder(root)
    folder = root / STORE_FOLDER / FOLDER
    if folder.is_symlink():
        raise RefusedError(
            "the folder of review batches is a symbolic link",
            where=f"{STORE_FOLDER}/{FOLDER}",
            hint="replace it by a real folder",
        )
    folder.mkdir(exist_ok=True)
    return folder


def _batch(row: Any) -> Batch:
    if row.pop("format") != FORMAT:
        raise ValueError(f"this promptops reads format {FORMAT}; upgrade promptops")
    items = tuple(_item(item) for item in row.pop("items"))
    if not _ID.fullmatch(row["id"]):
        raise ValueError("its id is none")
    reasons = {name: (int(chosen), int(of)) for name, (chosen, of) in row.pop("reasons").items()}
    return Batch(**{**row, "runs": tuple(row["runs"])}, reasons=reasons, items=items)


def _item(row: Any) -> ReviewItem:
    item = ReviewItem(**{**row, "reviewers": tuple(row["reviewers"]), "reasons": tuple(row["reasons"])})
    if not 0 < item.inclusion <= 1 or {type(text) for text in (item.answer, item.id, *item.reviewers)} != {str}:
        raise ValueError(f"item {str(item.id)[:40]} is none")
    return item
