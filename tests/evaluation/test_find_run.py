"""What a person may write where a run is wanted: an id, `latest`, an exported file, a git ref."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stored_runs import a_result, stored

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError, EvaluationError
from promptops.evaluation.find_run import find_pair, find_run
from promptops.project.project import Project, open_project
from promptops.project.store import Run, Store, open_store
from promptops.project.transfer import export_run

FIRST, SECOND, THIRD = "20260101-000000-aaaaaa", "20260102-000000-bbbbbb", "20260103-000000-cccccc"
MISSING = "20269999-000000-ffffff"


@pytest.fixture
def project(sandbox: Sandbox) -> Project:
    return open_project(sandbox.root)


@pytest.fixture
def store(sandbox: Sandbox) -> Iterator[Store]:
    opened = open_store(sandbox.root)
    yield opened
    opened.close()


@pytest.fixture
def add(store: Store) -> Callable[..., Run]:
    def added(run_id: str, **header: Any) -> Run:
        return stored(
            store, run_id, [a_result("a", True)], started_at=f"2026-01-{run_id[6:8]}T00:00:00+00:00", **header
        )

    return added


def test_id_is_the_run_with_that_id(store: Store, project: Project, add: Callable[..., Run]):
    """An id needs no prompt; one that is not here is said to be unknown."""
    first = add(FIRST)
    add(SECOND)

    assert first == find_run(store, project, FIRST)
    with pytest.raises(DataError, match=f"no run {MISSING}; see `promptops runs list`"):
        find_run(store, project, MISSING)


def test_latest_is_the_newest_run_of_the_prompt(store: Store, project: Project, add: Callable[..., Run]):
    """By time of start, of one prompt when it is named, whatever the state."""
    add(THIRD, prompt="other")
    add(SECOND, state="interrupted")
    add(FIRST)

    assert [THIRD, SECOND, THIRD] == [
        find_run(store, project, "latest", prompt).id for prompt in ("", "triage", "other")
    ]


def test_latest_without_a_run_says_what_to_do(store: Store, project: Project):
    """An empty store is no error of the user's making."""
    with pytest.raises(DataError, match="no runs yet; run `promptops eval`"):
        find_run(store, project, "latest")


def test_exported_file_is_read_into_the_store(store: Store, project: Project, tmp_path: Path, add: Callable[..., Run]):
    """A run made elsewhere is compared like one made here; reading it twice changes nothing."""
    run = add(FIRST)
    file = tmp_path / "theirs.jsonl"
    export_run(store, run, file)
    results = list(store.results(FIRST))
    store.delete_runs([FIRST])

    found = [find_run(store, project, str(file)), find_run(store, project, str(file))]

    assert ([run, run], results) == (found, list(store.results(FIRST)))


@pytest.mark.parametrize(("content", "problem"), [(None, "cannot read the exported run"), ("{}\n", "exported run")])
def test_file_that_is_no_export_is_refused(
    store: Store, project: Project, tmp_path: Path, content: str | None, problem: str
):
    """A missing or foreign file leaves the store as it was."""
    file = tmp_path / "x.jsonl"
    if content is not None:
        file.write_text(content)

    with pytest.raises(DataError, match=problem):
        find_run(store, project, str(file))
    assert [] == store.runs()


def test_git_ref_is_the_run_of_what_the_files_were(sandbox: Sandbox, call: Callable[..., Any]):
    """After a change, the ref still finds the run made of the content before it, also from another commit."""
    sandbox.commit_all()
    old = call("eval", "--json").json["runs"][0]["run"]
    sandbox.replace(f"prompts/{PROMPT}/rules.yaml", "perfect", "superb")
    sandbox.commit_all()
    new = call("eval", "--json").json["runs"][0]["run"]

    store, project = open_store(sandbox.root), open_project(sandbox.root)
    found = [find_run(store, project, ref, PROMPT).id for ref in ("HEAD~1", "HEAD", "main")]
    refs = (("HEAD~1", "", ""), ("HEAD~1", new, ""), (old, "HEAD", ""), ("HEAD~1", "HEAD", PROMPT))
    pairs = [find_pair(store, project, *texts) for texts in refs]
    store.close()

    assert [old, new, new] == found
    assert [(old, new)] * 4 == [(before.id, after.id) for before, after in pairs]


def test_C1_git_ref_without_a_run_says_how_to_make_one(sandbox: Sandbox, store: Store, project: Project):
    """A missing baseline is exit 3 with the command to run, never `no regression`."""
    sandbox.commit_all()

    with pytest.raises(
        EvaluationError,
        match=f"no complete run of {PROMPT} .* at HEAD; make one with `promptops eval {PROMPT} --at HEAD`",
    ):
        find_run(store, project, "HEAD", PROMPT)
    with pytest.raises(DataError, match="'HEAD' is no run, a git ref needs a prompt"):
        find_run(store, project, "HEAD")


def test_C1_git_ref_skips_runs_that_are_not_complete(sandbox: Sandbox, call: Callable[..., Any]):
    """A part of the cases is no baseline: an interrupted run of the same content is not taken."""
    sandbox.commit_all()
    call("eval", "--json")
    store, project = open_store(sandbox.root), open_project(sandbox.root)
    (run,) = store.runs()
    store.finish_run(run.id, "interrupted", run.finished_at)

    with pytest.raises(EvaluationError, match="no complete run"):
        find_run(store, project, "HEAD", PROMPT)
    store.close()


@pytest.mark.parametrize("ref", ["--upload-pack=x", "a..b", "HEAD\nmain", "no-such-branch", ""])
def test_C12_hostile_or_unknown_ref_is_refused(sandbox: Sandbox, store: Store, project: Project, ref: str):
    """What is no commit never reaches git as an option."""
    sandbox.commit_all()

    with pytest.raises((DataError, EvaluationError)):
        find_run(store, project, ref, PROMPT)


def test_pair_without_a_candidate_is_completed_by_the_newest_run_after_it(
    store: Store, project: Project, add: Callable[..., Run]
):
    """Of the same prompt as the baseline; an older run is no candidate, and `latest` alone is judged against the one before it."""
    for run_id, prompt in ((FIRST, "triage"), (SECOND, "triage"), (THIRD, "other")):
        add(run_id, prompt=prompt)

    pairs = [
        find_pair(store, project, base, candidate, prompt)
        for base, candidate, prompt in ((FIRST, "", ""), ("latest", "", "triage"), ("latest", THIRD, ""))
    ]

    assert [(FIRST, SECOND), (FIRST, SECOND), (THIRD, THIRD)] == [(before.id, after.id) for before, after in pairs]
    with pytest.raises(
        DataError, match=f"no run of triage after {SECOND}; evaluate the change: `promptops eval triage`"
    ):
        find_pair(store, project, SECOND, "")
    with pytest.raises(DataError, match="only one run of other; make another with `promptops eval other`"):
        find_pair(store, project, "latest", "")
