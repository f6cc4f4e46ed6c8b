"""Verdicts of comparisons that drew again, kept beside the run store, so that an approval can rest on them."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.evaluation.compare import RunComparison
from promptops.evaluation.policy import PolicyChange
from promptops.project.config import STORE_FOLDER
from promptops.project.store import prepare_folder

FOLDER = "verdicts"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RowVerdict:
    """One category or slice. Rates and differences in 0..1, `low` and `high` are the 95 % interval of the difference."""

    category: str
    verdict: str
    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_adjusted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVerdict:
    """What a comparison said: of which runs and contents, by which method, row by row; `changes` are what it would loosen."""

    candidate: str
    baseline: str
    base_prompt_digest: str
    base_commit: str
    blocked: bool
    blocking: tuple[str, ...]
    alpha: float
    method: str
    rows: tuple[RowVerdict, ...]
    changes: tuple[PolicyChange, ...] = ()


def verdict_of(found: RunComparison, changes: Sequence[PolicyChange] = ()) -> StoredVerdict:
    """The verdict of a comparison as a value that can be kept."""
    comparison = found.comparison
    rows = tuple(
        RowVerdict(category=item.category, verdict=item.verdict.value, n=item.n, before=item.baseline_rate, after=item.candidate_rate,
                   difference=item.difference, low=item.interval.low, high=item.interval.high, p_adjusted=item.p_adjusted)
        for item in comparison.verdicts
    )  # fmt: skip
    exceeded = [ratio.name for ratio in found.spending if ratio.exceeded]
    return StoredVerdict(
        candidate=found.candidate.id, baseline=found.baseline.id, base_prompt_digest=found.baseline.header.prompt_digest,
        base_commit=found.baseline.header.commit, blocked=found.blocked, alpha=comparison.alpha, method=comparison.method, rows=rows,
        blocking=(*(item.category for item in comparison.blocking), *comparison.vanished, *exceeded), changes=tuple(changes),
    )  # fmt: skip


def save_verdict(root: Path, verdict: StoredVerdict) -> None:
    """Keep the verdict on a run; a later one on the same run replaces it."""
    prepare_folder(root)
    folder = root / STORE_FOLDER / FOLDER
    folder.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix="new-")
    with os.fdopen(handle, "wb") as file:
        file.write(canonical_json({"promptops": FORMAT, **asdict(verdict)}))
    Path(name).replace(folder / f"{verdict.candidate}.json")


def load_verdict(root: Path, run_id: str) -> StoredVerdict | None:
    """The verdict on a run, when one was kept. Raises DataError for a file that is none."""
    path = root / STORE_FOLDER / FOLDER / f"{run_id}.json"
    try:
        body = parse_json(path.read_bytes())
        return _verdict(body)
    except FileNotFoundError:
        return None
    except (JsonError, KeyError, TypeError, ValueError) as error:
        raise DataError("a kept verdict cannot be read", where=str(path), why=str(error), hint="delete it and evaluate --against again") from error  # fmt: skip


def _verdict(body: Mapping[str, Json]) -> StoredVerdict:
    fields = {key: value for key, value in body.items() if key != "promptops"}
    if body.get("promptops") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    rows = tuple(RowVerdict(**row) for row in fields["rows"])
    changes = tuple(PolicyChange(**change) for change in fields["changes"])
    return StoredVerdict(**{**fields, "rows": rows, "changes": changes, "blocking": tuple(fields["blocking"])})
