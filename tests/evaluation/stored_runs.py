"""Runs written straight into a store, so that every number in a summary or comparison is chosen by the test."""

from collections.abc import Iterable, Mapping
from typing import Any

from promptops.project.store import Result, Run, RunHeader, RunState, Store

DIGEST = "sha256:" + "0" * 64


def a_header(run_id: str, **changes: Any) -> RunHeader:
    values: dict[str, Any] = {
        "id": run_id, "prompt": "triage", "candidate": "", "model": "local", "model_identity": {}, "prompt_digest": DIGEST,
        "golden_digest": DIGEST, "suite_digest": DIGEST, "rubric_digest": "", "subject": DIGEST,
        "gate": {"by": ["category"], "alpha": 0.05, "tolerance": 0.1, "tolerances": {}, "min_pass": None, "min_pass_by": {}},
        "selection": {"categories": [], "tags": [], "limit": None}, "slices": (), "repeat": 1, "commit": "", "dirty": False,
        "started_at": "2026-01-01T00:00:00+00:00", "planned": 0, "version": "0",
    }  # fmt: skip
    return RunHeader(**(values | changes))


def a_result(case_id: str, passed: bool | None, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "case_id": case_id, "draw": 0, "category": "billing", "tags": {}, "group": "", "line": 1, "case_digest": "d",
        "answer_key": "k", "outcome": "ok", "passed": passed, "value": None if passed is None else float(passed),
        "latency_s": 0.5, "cost_nanousd": 0, "scores": (("equals", passed, "because", None),),
    }  # fmt: skip
    return Result(**(values | changes))


def stored(store: Store, run_id: str, results: Iterable[Result], *, state: RunState = "complete", **header: Any) -> Run:
    """A finished run with these results; `planned` is their number unless stated."""
    rows = list(results)
    fields: Mapping[str, Any] = {"planned": len(rows)} | header
    store.begin_run(a_header(run_id, **fields))
    for row in rows:
        store.add_result(run_id, row)
    store.finish_run(run_id, state, "2026-01-01T00:01:00+00:00")
    return store.run(run_id)
