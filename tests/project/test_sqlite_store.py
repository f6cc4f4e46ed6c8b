"""The embedded run store: its file, its folder, and what SQLite makes of disks."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_rows import RUN, answer, header, result, write_run

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.project.store import FILE, VERSION, SqliteStore, open_store
from promptops.project.store.sqlite import open_sqlite


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_sqlite(tmp_path)
    yield opened
    opened.close()


def test_deleting_gives_space_back_later_when_another_process_reads(store: SqliteStore):
    """A reader in the middle of a run does not turn a finished deletion into a failure."""
    write_run(store)
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("begin")
    reader.execute("select * from results").fetchone()

    assert (1, 2) == store.delete_runs([RUN])
    reader.close()


def test_S9_a_store_of_a_newer_version_is_left_untouched(store: SqliteStore, tmp_path: Path):
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


def test_S14_a_reader_sees_whole_rows_while_another_writes(store: SqliteStore, tmp_path: Path):
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


def test_a_store_that_cannot_be_made_names_its_place(tmp_path: Path):
    """A file where the folder should be."""
    (tmp_path / ".promptops").write_text("", "utf-8")

    with pytest.raises(EvaluationError, match=r"\.promptops/: the run store cannot be made"):
        open_store(tmp_path)


def test_the_folder_is_private_and_ignored_by_git(store: SqliteStore):
    """Answers may hold customers' text; they are neither readable by others nor committed."""
    folder = store.path.parent

    assert (0o700, "*\n") == (folder.stat().st_mode & 0o777, (folder / ".gitignore").read_text("utf-8"))


def test_a_store_that_knew_no_judges_is_brought_up_to_date(tmp_path: Path):
    """Version 1 lacks the table of verdicts; its rows stay as they are."""
    open_store(tmp_path).close()
    path = tmp_path / ".promptops" / "store.sqlite3"
    older = sqlite3.connect(path)
    older.executescript(
        "drop table verdicts; drop table seats; pragma user_version = 1; insert into limits values ('k', 1, 2, 3, 4)"
    )
    older.close()

    store = open_store(tmp_path)
    kept, verdicts = store.blocked_s("k", 0.0), list(store.verdicts("20260101-000000-aaaaaa"))
    store.close()

    newer = sqlite3.connect(path)
    version = newer.execute("pragma user_version").fetchone()[0]
    newer.close()
    assert (4.0, [], VERSION) == (kept, verdicts, version)
