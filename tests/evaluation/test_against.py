"""What the two sides of a comparison are: the prompt of a commit and that of today, both on the cases of today."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError, EvaluationError
from promptops.evaluation.against import Against, Session, evaluate_against
from promptops.evaluation.execute import Options
from promptops.evaluation.plan import Selection
from promptops.project.project import open_project
from promptops.project.store import open_store

RULES = f"prompts/{PROMPT}/rules.yaml"


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[Session]:
    store = open_store(sandbox.root)
    yield Session(project=open_project(sandbox.root), store=store, options=Options(),
                  clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), on_progress=lambda _: None)  # fmt: skip
    store.close()


def judge(session: Session, ref: str = "HEAD", selection: Selection | None = None) -> Against:
    return evaluate_against(session, PROMPT, ref, model="", candidate="", selection=selection or Selection())


def test_base_is_asked_what_it_said_then(sandbox: Sandbox, session: Session):
    """The rules of the commit and those of today differ: so do the prompt digests, and the base's run names its commit."""
    commit = sandbox.commit_all()
    sandbox.replace(RULES, "late|", "")

    found = judge(session).found

    assert (commit, False) == (found.baseline.header.commit, found.baseline.header.dirty)
    assert (found.candidate.header.dirty, True) == (
        True, found.baseline.header.prompt_digest != found.candidate.header.prompt_digest,
    )  # fmt: skip


def test_both_sides_are_scored_by_the_cases_of_today(sandbox: Sandbox, session: Session):
    """A new case, and one whose expectation was turned round: base and candidate face both, and nothing regressed."""
    sandbox.commit_all()
    rows = sandbox.rows()
    turned = rows[0] | {"expected": {"sentiment": "neutral"}}
    sandbox.write_rows([turned, *rows[1:], rows[0] | {"id": "delivery-new"}])

    found = judge(session)

    assert (23, 1.0, 0.0, ()) == (
        found.found.comparison.total.n, found.found.comparison.coverage, found.found.comparison.total.difference, found.changes,
    )  # fmt: skip


def test_only_selected_cases_are_compared(sandbox: Sandbox, session: Session):
    """One category on both sides; the others are neither asked nor missed."""
    sandbox.commit_all()

    found = judge(session, selection=Selection(categories=("delivery",))).found

    assert ({"delivery", "length=long", "length=short"}, (), 10) == (
        {row.category for row in found.comparison.verdicts}, found.comparison.vanished, found.comparison.total.n,
    )  # fmt: skip


def test_base_without_a_suite_is_judged_by_the_gate_of_today(sandbox: Sandbox, session: Session):
    """Golden data that come with the change cannot have been weakened by it."""
    golden = [sandbox.path(f"golden/{PROMPT}.{end}") for end in ("yaml", "jsonl")]
    texts = [path.read_bytes() for path in golden]
    for path in golden:
        path.unlink()
    sandbox.commit_all()
    for path, text in zip(golden, texts, strict=True):
        path.write_bytes(text)

    found = judge(session)

    assert ((), False) == (found.changes, found.found.blocked)


def test_new_prompt_is_no_verdict(sandbox: Sandbox, session: Session):
    """The base lacks it."""
    sandbox.write("note.txt", "x")
    sandbox.git("init", "-q")
    sandbox.git("add", "note.txt")
    sandbox.git("commit", "-q", "-m", "First")

    with pytest.raises(EvaluationError, match=f"no prompt {PROMPT} at HEAD, a new prompt has no baseline"):
        judge(session)


def test_broken_golden_file_is_bad_input_and_not_a_verdict(sandbox: Sandbox, session: Session):
    """Exit 2 names the line; nothing was drawn."""
    sandbox.commit_all()
    sandbox.write(f"golden/{PROMPT}.jsonl", sandbox.read(f"golden/{PROMPT}.jsonl") + "{not json\n")

    with pytest.raises(DataError, match=f"golden/{PROMPT}.jsonl:23"):
        judge(session)
    assert [] == session.store.runs()


@pytest.mark.parametrize("draws", [5, 2])
def test_draws_made_again_are_kept_out_of_the_list_of_runs(sandbox: Sandbox, session: Session, draws: int):
    """Two runs a comparison are listed, whatever was drawn again; the base's policy says how often."""
    suite = f"golden/{PROMPT}.yaml"
    sandbox.replace(suite, "  min_pass: 0.5", f"  min_pass: 0.5\n  draws: {draws}")
    sandbox.commit_all()
    rules = sandbox.read(RULES)
    sandbox.write(RULES, rules[: rules.index("    - {value: negative")] + "    - {value: neutral}\n")

    found = judge(replace(session)).found

    assert {(draws, draws)} == {row.draws for row in found.comparison.blocking}
    assert [found.candidate.id, found.baseline.id] == [run.id for run in session.store.runs()]
