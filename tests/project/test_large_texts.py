"""Large texts of a shared store: beside it, whole before they are named, verified when they are read, removed when nothing needs them."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from run_rows import RUN, answer, header, result

from conftest import Outcome, Sandbox
from promptops.core.errors import DataError, EvaluationError
from promptops.project.exchange import copy_run
from promptops.project.store import Store, StoreAddress, open_store
from promptops.project.store.postgres import PostgresStore
from promptops.project.store.texts import Texts
from support.postgresql import PostgresServer

LONG = "Ü" * 60  # 120 bytes
OTHER = "20260102-030406-abcdef"


@pytest.fixture
def address(tmp_path: Path, postgres_url: str) -> StoreAddress:
    (tmp_path / "root").mkdir()
    return StoreAddress(root=tmp_path / "root", url=postgres_url, texts=f"file://{tmp_path}/texts", texts_min_bytes=100)


@pytest.fixture
def store(address: StoreAddress) -> Iterator[Store]:
    with closing(open_store(address)) as opened:
        yield opened


def objects(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "texts").rglob("*") if path.is_file())


def write(store: Store, run_id: str = RUN, **texts: str) -> None:
    store.begin_run(header(run_id))
    for name, text in texts.items():
        store.add_answer(answer(f"key-{name}", text=text))
        store.add_result(run_id, result(name))
    store.flush()


def test_a_large_text_is_kept_beside_the_store_and_read_back(
    store: Store, tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
):
    """From the stated size on, in bytes; equal texts once; the row names it and holds none of it."""
    write(store, a=LONG, b="short", c=LONG, d="x" * 99, e="x" * 100)
    rows = postgres_server.execute(
        "select text, length(text_sha256) from promptops.answers order by key", database=postgres_url.rpartition("/")[2]
    )

    assert [LONG, "short", LONG, "x" * 99, "x" * 100] == [
        item.text for item in store.find_answers([f"key-{name}" for name in "abcde"]).values()
    ]
    assert [("", 64), ("short", 0), ("", 64), ("x" * 99, 0), ("", 64)] == rows
    assert sorted([LONG.encode(), b"x" * 100]) == sorted(path.read_bytes() for path in objects(tmp_path))
    assert {"a": LONG} == {case_id: found.text for (case_id, _), found in store.answers_of(RUN, [("a", 0)]).items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda path: path.unlink(), "is missing"), (lambda path: path.write_bytes(b"forged"), "was changed")],
)
def test_a_text_that_is_not_what_was_kept_is_never_shown(store: Store, tmp_path: Path, change, said: str):
    """Gone or altered: exit 3 with its place."""
    write(store, a=LONG)
    (path,) = objects(tmp_path)
    change(path)

    with pytest.raises(EvaluationError, match=f"{path.name}: the text of an answer {said}"):
        store.find_answer("key-a")


def test_S3_a_text_that_cannot_be_kept_is_in_no_row(store: Store, tmp_path: Path):
    """The text first, then the row: where the first fails there is neither, and what is buffered can be written later."""
    store.begin_run(header())
    (tmp_path / "texts").write_text("no folder")
    store.add_answer(answer(text=LONG))
    store.add_result(RUN, result("a"))
    with pytest.raises(
        EvaluationError, match=r"large texts cannot be written, .*check the address in `texts`, rights and room"
    ):
        store.flush()
    before = store.count_results(RUN)
    (tmp_path / "texts").unlink()
    store.flush()

    assert ((0, 0), (1, 1), answer(text=LONG)) == (before, store.count_results(RUN), store.find_answer("key-a"))


def test_texts_nothing_needs_are_removed_after_a_week(store: Store, tmp_path: Path):
    """With the runs that named them; a young one may be named by a row that is being written, and one still named stays."""
    write(store, RUN, a=LONG, b="b" * 200, c="c" * 200)
    write(store, OTHER, b="b" * 200)
    old = time.time() - 8 * 86_400
    for path in objects(tmp_path):
        if path.read_bytes() != b"c" * 200:
            os.utime(path, (old, old))
    store.delete_runs([RUN])

    assert [b"b" * 200, b"c" * 200] == sorted(path.read_bytes() for path in objects(tmp_path))
    assert {OTHER: "b" * 200} == {OTHER: store.find_answers(["key-b"])["key-b"].text}


def test_who_does_not_know_the_place_is_told(address: StoreAddress, store: Store):
    """Exit 2 and what to set, rather than an empty answer."""
    write(store, a=LONG)
    with (
        closing(open_store(replace(address, texts=""))) as elsewhere,
        pytest.raises(DataError, match=r"texts of this store are kept elsewhere; set `texts`"),
    ):
        elsewhere.find_answer("key-a")


def test_a_copied_run_brings_its_large_texts(address: StoreAddress, store: Store, tmp_path: Path):
    """Out of the bucket into a folder's store and back."""
    write(store, a=LONG)
    store.finish_run(RUN, "complete", "later")
    (tmp_path / "local").mkdir()
    with (
        closing(open_store(tmp_path / "local")) as local,
        closing(open_store(replace(address, url=address.url + "?schema=other"))) as third,
    ):
        copy_run(store, local, RUN)
        copy_run(local, third, RUN)

        assert [LONG, LONG] == [
            found.text for found in (local.find_answer("key-a"), third.find_answer("key-a")) if found
        ]


def test_a_store_without_the_column_is_brought_up_to_date(
    postgres_url: str, tmp_path: Path, postgres_server: PostgresServer
):
    """Tables of the first version: what later ones brought is added, rows stay, and all are in the table of versions."""
    database = postgres_url.rpartition("/")[2]
    address = StoreAddress(root=tmp_path, url=postgres_url)
    with closing(open_store(address)) as store:
        write(store, a="kept")
    postgres_server.execute(
        "alter table promptops.answers drop column text_sha256",
        "drop table promptops.seats",
        "delete from promptops.migrations where version >= 2",
        database=database,
    )
    with closing(open_store(address)) as store:
        found = store.find_answer("key-a")

    assert answer(text="kept") == found
    assert [(1,), (2,), (3,)] == postgres_server.execute(
        "select version from promptops.migrations order by version", database=database
    )


def test_any_storage_that_fsspec_opens_will_do():
    """A bucket is a name in front: put, read, sweep; here in memory."""
    texts = Texts("memory://bucket/prefix", 1)
    names = texts.put(["one", "two", "one"])
    now = datetime.now(UTC)
    kept = texts.sweep(lambda _: set(), now)
    removed = texts.sweep(lambda wanted: {names[0]} & set(wanted), now + timedelta(days=8))

    assert ({names[0]: "one"}, [names[0]], 0, 1) == (texts.get([names[0]]), names[2:], kept, removed)
    with pytest.raises(EvaluationError, match="is missing"):
        texts.get([names[1]])


def test_a_missing_package_for_a_storage_is_named():
    """s3fs is not among the tests' packages: exit 2 and what to install."""
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401 - whether it is there
    except ImportError:
        with pytest.raises(DataError, match=r"s3://bucket: `texts` needs the package `s3fs`; pip install s3fs"):
            Texts("s3://bucket", 1)
    else:
        pytest.skip("s3fs is installed here")


def test_an_evaluation_keeps_its_large_texts_there(sandbox: Sandbox, call, postgres_url: str, tmp_path: Path):
    """Two lines of configuration; answers are reused and shown from there."""
    head = f'store = "{postgres_url}"\ntexts = "file://{tmp_path}/texts"\ntexts_min_bytes = 1\n'
    sandbox.write("promptops.toml", head + sandbox.read("promptops.toml"))
    found = call("eval", "--json")
    shown: Outcome = call("view", "--all", "--json")
    case = call("view", "--case", shown.json["cases"][0]["case"], "--json")

    assert (0, 0, True) == (found.code, case.code, len(objects(tmp_path)) > 0), found.err
    assert "sentiment" in str(case.json["answer"])


@pytest.mark.parametrize(
    ("head", "code", "said"),
    [
        ('texts = "s3://bucket/x"', 2, "promptops.toml:1: `texts` is for a shared store"),
        ('store = "postgresql://a@127.0.0.1/x"\ntexts = "ftp://bucket"', 2, "promptops.toml:2: "),
        (
            'store = "postgresql://a@127.0.0.1/x"\ntexts = "s3://me:secret@bucket/x"',
            2,
            "promptops.toml:2: a password in `texts`",
        ),
        ('store = "postgresql://a@127.0.0.1/x"\ntexts = "s3://bucket/x"', 4, "'bucket' of `texts` is not allowed"),
    ],
)
def test_what_is_wrong_with_the_place_is_said(sandbox: Sandbox, call, head: str, code: int, said: str):
    """Before anything is asked; a bucket that only a file names is not written to."""
    sandbox.write("promptops.toml", head + "\n" + sandbox.read("promptops.toml"))
    found = call("runs", "list")

    assert (code, True, False) == (found.code, said in found.err, "secret" in found.err), found.err


def test_the_store_has_no_texts_of_its_own_by_default(postgres_url: str, tmp_path: Path):
    """Without `texts` everything is in the database, however large."""
    with closing(PostgresStore(StoreAddress(root=tmp_path, url=postgres_url))) as store:
        write(store, a="a" * 3_000_000)

        assert 3_000_000 == len(getattr(store.find_answer("key-a"), "text", ""))
