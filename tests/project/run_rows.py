"""Rows of runs as a test wants them: only what it states differs."""

from typing import Any

from promptops.project.store import Result, Run, RunHeader, Store, StoredAnswer

RUN = "20260102-030405-abcdef"
START = "2026-01-02T03:04:05+00:00"


def header(run_id: str = RUN, **changes: Any) -> RunHeader:
    values: dict[str, Any] = {
        "id": run_id, "prompt": "label", "candidate": "", "model": "local", "model_identity": {"name": "x"}, "prompt_digest": "p",
        "golden_digest": "g", "suite_digest": "s", "rubric_digest": "", "subject": "all", "gate": {"alpha": 0.05}, "selection": {},
        "slices": ("lang",), "repeat": 1, "commit": "", "dirty": True, "started_at": START, "planned": 2, "version": "1",
    }  # fmt: skip
    return RunHeader(**(values | changes))


def result(case_id: str = "a", **changes: Any) -> Result:
    values: dict[str, Any] = {
        "case_id": case_id, "draw": 0, "category": "c", "tags": {"lang": "ja"}, "group": "", "line": 1, "case_digest": "d",
        "answer_key": f"key-{case_id}", "outcome": "ok", "passed": True, "value": 0.5, "latency_s": 0.25, "cost_nanousd": 7,
        "scores": (("equals", True, "", None), ("similarity", None, "not run", 0.5)),
    }  # fmt: skip
    return Result(**(values | changes))


def answer(key: str = "key-a", **changes: Any) -> StoredAnswer:
    values: dict[str, Any] = {
        "key": key, "outcome": "ok", "text": "text\u2028 \U0001f600", "detail": "", "model": "m", "input_tokens": 3, "output_tokens": 2,
        "usage_trusted": True, "cost_nanousd": 7, "latency_s": 0.25, "created_at": START,
    }  # fmt: skip
    return StoredAnswer(**(values | changes))


def write_run(store: Store, run_id: str = RUN, cases: tuple[str, ...] = ("a", "b")) -> Run:
    """A complete run: an answer, a result and a paid attempt of each case."""
    store.begin_run(header(run_id, planned=len(cases)))
    for case_id in cases:
        store.add_answer(answer(f"key-{case_id}"))
        store.add_result(run_id, result(case_id))
    attempts = store.begin_attempts(run_id, [(f"key-{case_id}", 9) for case_id in cases], START)
    for attempt in attempts:
        store.end_attempt(attempt, "ok", 7)
    store.finish_run(run_id, "complete", "2026-01-02T03:05:00+00:00")
    return store.run(run_id)
