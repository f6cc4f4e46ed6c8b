"""Whoever watches a run sees it move."""

from datetime import UTC, datetime

from conftest import PROMPT, Sandbox
from promptops.evaluation.execute import Options
from promptops.evaluation.plan import Selection, make_plan
from promptops.evaluation.session import start_run
from promptops.project.project import open_project
from promptops.project.store import open_store


def test_progress_is_reported_after_every_case(sandbox: Sandbox):
    """A slow model is no reason for a board that stands still: each case counts as soon as it is scored."""
    project = open_project(sandbox.root)
    plan = make_plan(project, PROMPT, model="local", selection=Selection())
    store = open_store(project.root)
    seen: list[int] = []

    start_run(
        plan, plan.connect(), store, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), options=Options(),
        on_progress=lambda progress: seen.append(progress.done),
    )  # fmt: skip
    store.close()

    assert [*range(1, 23), 22] == seen
