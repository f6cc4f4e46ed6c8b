"""The run store: what is written is read back, first answers stay, every attempt is counted, readers see whole rows."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Manager
from pathlib import Path
from typing import Any

import pytest
from run_rows import RUN, START, answer, header, result, write_run

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.project.store import FILE, VERSION, Ledger, Store, open_store

OTHER = "20260102-030406-abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def test_what_is_written_is_read_back(store: Store):
    """Header, answers and results come back equal, results in order of case and draw, also after reopening."""
    store.begin_run(header())
    store.add_answer(answer())
    rows = [
        result("b", draw=1, passed=None, value=None, scores=()),
        result("b", tags={}, group="doc", passed=False),
        result("a"),
    ]
    for row in rows:
        store.add_result(RUN, row)
    store.finish_run(RUN, "incomplete", "later")
    again = open_store(store.path.parents[1])

    assert (header(), "incomplete", "later", answer(), rows[::-1], (3, 1)) == (
        again.run(RUN).header, again.run(RUN).state, again.run(RUN).finished_at, again.find_answer("key-a"),
        list(again.results(RUN)), again.count_results(RUN),
    )  # fmt: skip
    again.close()


def test_S8_the_first_answer_and_result_are_kept_and_every_cost_is_counted(store: Store):
    """A second answer to the same request changes no verdict; the money it cost is in the ledger."""
    store.begin_run(header())
    for text, flush in (("first", False), ("second", True), ("third", True)):
        store.add_answer(answer(text=text))
        store.add_result(RUN, result(outcome=text))
        if flush:
            store.flush()
    attempts = store.begin_attempts(RUN, [("key-a", 9)] * 3, START)
    for attempt in attempts:
        store.end_attempt(attempt, "ok", 7)
    store.flush()

    kept = store.find_answer("key-a")
    assert kept is not None
    assert ("first", ["first"], 21) == (
        kept.text,
        [row.outcome for row in store.results(RUN)],
        store.ledger(RUN).paid_nanousd,
    )


def test_the_ledger_is_computed_from_attempts(store: Store):
    """Paid by outcome; worst case where no answer arrived; an intent without an outcome is unknown."""
    store.begin_run(header())
    attempts = store.begin_attempts(RUN, [("k", 100)] * 6, START)
    ended = [("ok", 7), ("refused", 5), ("timeout", 100), ("bad_response", 90), ("rate_limited", 0)]
    for attempt, (outcome, cost) in zip(attempts, ended, strict=False):
        store.end_attempt(attempt, outcome, cost)
    store.flush()

    assert Ledger(attempts=6, paid_nanousd=12, possibly_nanousd=290, unknown=1) == store.ledger(RUN)
    assert [("k", START, "ok", 7), ("k", START, "intent", 100)] == [
        list(store.attempts(RUN))[index] for index in (0, -1)
    ]
    assert Ledger(attempts=0, paid_nanousd=0, possibly_nanousd=0, unknown=0) == store.ledger(OTHER)


def test_runs_are_listed_newest_first_without_redraws(store: Store):
    """By prompt when asked; a run that only drew again for a comparison is not one a person started."""
    for number, (prompt, kind) in enumerate([("a", "eval"), ("b", "eval"), ("a", "redraw"), ("a", "baseline")]):
        store.begin_run(
            header(f"2026010{number + 1}-000000-abcdef", prompt=prompt, kind=kind, started_at=f"2026-01-0{number + 1}")
        )

    assert (["4", "2", "1"], ["4", "1"]) == tuple([run.id[7] for run in store.runs(prompt)] for prompt in ("", "a"))


def test_deleting_a_run_removes_what_only_it_needs(store: Store):
    """Its results and attempts, and the answers no other run's results use."""
    write_run(store, RUN, ("a", "b"))
    write_run(store, OTHER, ("b", "c"))

    assert (1, 1) == store.delete_runs([RUN, "20990101-000000-abcdef"])
    assert (None, True, True, [], [], 0, ["b", "c"]) == (
        store.find_answer("key-a"), store.find_answer("key-b") is not None, store.find_answer("key-c") is not None,
        list(store.results(RUN)), list(store.attempts(RUN)), store.ledger(RUN).attempts, [row.case_id for row in store.results(OTHER)],
    )  # fmt: skip
    assert (False, True) == (store.has_run(RUN), store.has_run(OTHER))


def test_deleting_gives_space_back_later_when_another_process_reads(store: Store):
    """A reader in the middle of a run does not turn a finished deletion into a failure."""
    write_run(store)
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("begin")
    reader.execute("select * from results").fetchone()

    assert (1, 2) == store.delete_runs([RUN])
    reader.close()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "20260102-030405-ABCDEF", f"{RUN}\n", f"{RUN}/x", "", "x' or 1=1 --"]
)
def test_S11_a_run_id_is_never_a_path(store: Store, name: str):
    """Only the form that the product makes is looked up."""
    with pytest.raises(DataError, match="is not a run id"):
        store.run(name)


def test_a_run_that_is_not_there(store: Store):
    """A well-formed id of nothing names the command that lists."""
    with pytest.raises(DataError, match=f"no run {RUN}; see `promptops runs list`"):
        store.run(RUN)


def test_S9_a_store_of_a_newer_version_is_left_untouched(store: Store, tmp_path: Path):
    """A downgrade must not rewrite what it does not understand."""
    write_run(store)
    store.close()
    newer = sqlite3.connect(store.path)
    newer.execute(f"pragma user_version = {VERSION + 1}")
    newer.execute("pragma journal_mode = delete")
    newer.close()
    before = store.path.read_bytes()

    with pytest.raises(DataError, match=f"the run store has format {VERSION + 1}.*upgrade promptops"):
        open_store(tmp_path)
    assert before == store.path.read_bytes()


def test_a_damaged_store_says_so(tmp_path: Path):
    """Bytes that are no database: exit 2 and a way on, not a traceback."""
    (tmp_path / ".promptops").mkdir()
    (tmp_path / ".promptops" / FILE).write_bytes(b"no database at all" * 100)

    with pytest.raises(DataError, match=r"the run store is damaged.*move it away"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    "name", ["", FILE, ".gitignore", "schemas", "schemas/prompt.schema.json", "locks"], ids=lambda name: name or "folder"
)  # fmt: skip
@pytest.mark.parametrize("exists", [True, False])
def test_S12_a_linked_store_is_refused_and_nothing_is_written_through_it(tmp_path: Path, name: str, exists: bool):
    """Whoever commits a link in `.promptops/` would have us write to any file of the user."""
    outside = tmp_path / "outside"
    root = tmp_path / "project"
    place = root / ".promptops" / name
    place.parent.mkdir(parents=True)
    if exists and name in ("", "schemas", "locks"):
        outside.mkdir()
    elif exists:
        outside.write_bytes(b"precious")
    place.symlink_to(outside)

    with pytest.raises(RefusedError, match="symbolic link"):
        open_store(root)

    left = outside.read_bytes() if outside.is_file() else [path.name for path in outside.glob("*")]
    assert (exists, b"precious" if outside.is_file() else []) == (outside.exists(), left)


def test_S14_a_reader_sees_whole_rows_while_another_writes(store: Store, tmp_path: Path):
    """Everything up to the last transaction and nothing of the one under way; no wait, no error."""
    store.begin_run(header())
    store.add_answer(answer())
    store.add_result(RUN, result("a"))
    store.flush()
    reader = open_store(tmp_path)
    writer = sqlite3.connect(store.path, isolation_level=None)
    writer.execute("begin immediate")
    writer.execute("update results set outcome = 'half'")
    writer.execute("delete from answers")

    assert ([result("a")], answer(), "running") == (
        list(reader.results(RUN)),
        reader.find_answer("key-a"),
        reader.run(RUN).state,
    )
    writer.execute("rollback")
    writer.close()
    reader.close()


def test_rows_not_yet_flushed_are_nobody_elses(store: Store, tmp_path: Path):
    """An answer in the buffer is found by its own run and written with its result, in one transaction."""
    store.begin_run(header())
    store.add_answer(answer())
    store.add_result(RUN, result("a"))
    reader = open_store(tmp_path)
    before = (reader.find_answer("key-a"), reader.count_results(RUN), store.find_answer("key-a"))
    store.flush()

    assert ((None, (0, 0), answer()), (answer(), (1, 1))) == (
        before,
        (reader.find_answer("key-a"), reader.count_results(RUN)),
    )
    reader.close()


def test_a_store_that_cannot_be_made_names_its_place(tmp_path: Path):
    """A file where the folder should be."""
    (tmp_path / ".promptops").write_text("", "utf-8")

    with pytest.raises(EvaluationError, match=r"\.promptops/: the run store cannot be made"):
        open_store(tmp_path)


def open_new_stores(roots: list[Path], start: Any) -> list[str]:
    """What each of the stores said that was opened at the same time as by others."""
    said = []
    for root in roots:
        start.wait()
        try:
            open_store(root).close()
        except EvaluationError as error:
            said.append(str(error))
    return said


def test_S5_a_new_store_may_be_opened_by_many_at_once(tmp_path: Path):
    """Evaluations started together in a new project all find a store; none is told that it is locked."""
    roots = [tmp_path / str(number) for number in range(30)]
    for root in roots:
        root.mkdir()
    with Manager() as manager, ProcessPoolExecutor(4) as processes:
        start = manager.Barrier(4)
        said = [processes.submit(open_new_stores, roots, start) for _ in range(4)]

        assert [[]] * 4 == [future.result() for future in said]


def test_the_folder_is_private_and_ignored_by_git(store: Store):
    """Answers may hold customers' text; they are neither readable by others nor committed."""
    folder = store.path.parent

    assert (0o700, "*\n") == (folder.stat().st_mode & 0o777, (folder / ".gitignore").read_text("utf-8"))


def test_a_store_that_knew_no_judges_is_brought_up_to_date(tmp_path: Path):
    """Version 1 lacks the table of verdicts; its rows stay as they are."""
    open_store(tmp_path).close()
    path = tmp_path / ".promptops" / "store.sqlite3"
    older = sqlite3.connect(path)
    older.executescript("drop table verdicts; pragma user_version = 1; insert into limits values ('k', 1, 2, 3, 4)")
    older.close()

    store = open_store(tmp_path)
    kept, verdicts = store.blocked_s("k", 0.0), list(store.verdicts("20260101-000000-aaaaaa"))
    store.close()

    newer = sqlite3.connect(path)
    version = newer.execute("pragma user_version").fetchone()[0]
    newer.close()
    assert (4.0, [], VERSION) == (kept, verdicts, version)
