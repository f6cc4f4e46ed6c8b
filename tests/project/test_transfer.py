"""Runs as files: what is exported comes back, and a file that is torn, cut or foreign never counts as whole."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from run_rows import RUN, answer, header, result, write_run

from promptops.core.errors import DataError
from promptops.project.store import Ledger, Store, open_store
from promptops.project.transfer import export_run, import_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Where runs are imported to."""
    (tmp_path / "to").mkdir()
    with closing(open_store(tmp_path / "to")) as opened:
        yield opened


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    """The lines of an exported run of two cases: run, answer, result, answer, result, attempt, attempt, end."""
    (tmp_path / "from").mkdir()
    source = open_store(tmp_path / "from")
    write_run(source)
    assert 8 == export_run(source, source.run(RUN), tmp_path / "run.jsonl")
    source.close()
    return (tmp_path / "run.jsonl").read_bytes().splitlines(keepends=True)


def take(store: Store, lines: list[bytes]) -> tuple[str, list[str], list[str]]:
    """Import lines; the run's state, its case ids, the notices."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "given.jsonl"
        path.write_bytes(b"".join(lines))
        run, notices = import_run(store, path)
    return run.state, [row.case_id for row in store.results(run.id)], notices


def nothing_left(store: Store) -> bool:
    return not store.runs() and store.find_answer("key-a") is None and store.ledger(RUN).attempts == 0


def changed(line: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(line) | fields).encode() + b"\n"


def test_a_run_comes_back_and_exports_to_the_same_bytes(every_store: Store, lines: list[bytes], tmp_path: Path):
    """Header, results, answers, ledger and state are those of the first every_store."""
    taken = take(every_store, lines)
    export_run(every_store, every_store.run(RUN), tmp_path / "again.jsonl")

    assert (("complete", ["a", "b"], []), b"".join(lines)) == (taken, (tmp_path / "again.jsonl").read_bytes())
    assert ([result("a"), result("b")], header(), answer(), Ledger(attempts=2, paid_nanousd=14, possibly_nanousd=0, unknown=0)) == (
        list(every_store.results(RUN)), every_store.run(RUN).header, every_store.find_answer("key-a"), every_store.ledger(RUN),
    )  # fmt: skip


def test_a_run_that_is_here_already_is_left_as_it_is(store: Store, lines: list[bytes]):
    """Importing twice changes nothing and counts nothing twice."""
    take(store, lines)
    again = [changed(line, **({"outcome": "other"} if b'"result"' in line else {})) for line in lines]

    assert ("complete", ["a", "b"], [f"run {RUN} is already here"]) == take(store, again)
    assert ([result("a"), result("b")], 2) == (list(store.results(RUN)), store.ledger(RUN).attempts)


def test_S1_a_torn_last_line_is_dropped_and_said(store: Store, lines: list[bytes]):
    """Only that line is lost, and the run is no longer a complete one."""
    notices = [
        "the last line is torn and was dropped",
        "lines are missing: the file was cut, and the run is incomplete",
    ]

    assert ("incomplete", ["a"], notices) == take(store, [*lines[:4], lines[4][:-20]])
    assert header() == store.run(RUN).header


@pytest.mark.parametrize("cut", range(2, 8))
def test_S1_a_cut_file_is_an_incomplete_run(store: Store, lines: list[bytes], cut: int):
    """Cut between two lines, no line is torn; the missing end shows it."""
    state, _, notices = take(store, lines[:cut])

    assert ("incomplete", ["lines are missing: the file was cut, and the run is incomplete"]) == (state, notices)


@pytest.mark.parametrize("gone", range(1, 7))
def test_S2_a_line_lost_in_the_middle_is_noticed(store: Store, lines: list[bytes], gone: int):
    """The last line says how many there were."""
    state, _, notices = take(store, lines[:gone] + lines[gone + 1 :])

    assert ("incomplete", ["lines are missing: the file was cut, and the run is incomplete"]) == (state, notices)


@pytest.mark.parametrize("torn", range(1, 7))
@pytest.mark.parametrize("damage", ["half", "empty", "zeros"])
def test_S2_a_torn_middle_line_is_refused_with_its_number(store: Store, lines: list[bytes], torn: int, damage: str):
    """Never dropped in silence; the store is then as it was."""
    damaged = {"half": lines[torn][:-9], "empty": b"", "zeros": b"\0" * 40}[damage] + b"\n"
    with pytest.raises(DataError, match=rf"given\.jsonl:{torn + 1}: torn line.*export the run again"):
        take(store, [*lines[:torn], damaged, *lines[torn + 1 :]])

    assert nothing_left(store)


def test_S8_a_duplicate_row_keeps_the_first_and_counts_every_cost(every_store: Store, lines: list[bytes]):
    """Results are counted once, attempts as often as they were paid."""
    second = changed(lines[2], outcome="other")

    taken = take(every_store, [*lines[:3], second, *lines[3:6], *lines[5:]])

    assert ("complete", ["a", "b"], ["line 4: a second result of a; the first is kept"]) == taken
    assert (["ok", "ok"], 21) == (
        [row.outcome for row in every_store.results(RUN)],
        every_store.ledger(RUN).paid_nanousd,
    )


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "given.jsonl: not an exported run"),
        (b"{torn", "given.jsonl: not an exported run"),
        (b"hello\nworld\n", "given.jsonl:1: torn line"),
        (b'{"id": "a", "category": "c", "inputs": {}}\n', "given.jsonl:1: not a line of an exported run"),
        (b"[1]\n", "given.jsonl:1: not a line of an exported run"),
        (b'{"type": "end", "lines": 0}\n', "given.jsonl: not an exported run"),
        (b"SQLite format 3\0\n\xff\xfe\n", "given.jsonl:1: torn line"),
    ],
)  # fmt: skip
def test_a_foreign_file_is_refused(store: Store, content: bytes, where: str):
    """Empty, text, golden rows, other JSON, a database."""
    with pytest.raises(DataError) as caught:
        take(store, [content])

    assert (where, True) == (str(caught.value).partition(",")[0].partition(";")[0], nothing_left(store))


def without(line: bytes, name: str) -> bytes:
    return json.dumps({key: value for key, value in json.loads(line).items() if key != name}).encode() + b"\n"


def with_header(line: bytes, **fields: Any) -> bytes:
    row = json.loads(line)
    return json.dumps(row | {"header": row["header"] | fields}).encode() + b"\n"


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (1, lambda line: changed(line, promptops=2)),
        (1, lambda line: changed(line, state="passed")),
        (1, lambda line: changed(line, header=[])),
        (1, lambda line: with_header(line, id="../../x")),
        (1, lambda line: with_header(line, prompt="../x")),
        (1, lambda line: with_header(line, gate=3)),
        (1, lambda line: with_header(line, kind="other")),
        (1, lambda line: with_header(line, dirty=1)),
        (1, lambda line: with_header(line, surprise=1)),
        (2, lambda line: without(line, "text")),
        (2, lambda line: changed(line, text=5)),
        (2, lambda line: changed(line, input_tokens=True)),
        (3, lambda line: changed(line, case_id=5)),
        (3, lambda line: changed(line, passed="yes")),
        (3, lambda line: changed(line, scores=[["equals", True]])),
        (3, lambda line: changed(line, scores=1)),
        (3, lambda line: changed(line, tags=[])),
        (6, lambda line: without(line, "key")),
        (8, lambda line: without(line, "lines")),
    ],
)  # fmt: skip
def test_a_line_of_another_shape_is_refused_with_its_number(store: Store, lines: list[bytes], number: int, change):
    """A newer format, a field too many, too few or of another type: nothing of the file is kept."""
    index = number - 1
    with pytest.raises(DataError, match=rf"given\.jsonl:{number}: not a line of an exported run"):
        take(store, [*lines[:index], change(lines[index]), *lines[index + 1 :]])

    assert nothing_left(store)


@pytest.mark.parametrize("index", [0, 1, 7])
def test_nothing_may_follow_the_last_line(store: Store, lines: list[bytes], index: int):
    """Two exports in one file are not one run."""
    with pytest.raises(DataError, match=r"given\.jsonl:9: not a line of an exported run"):
        take(store, [*lines, lines[index]])

    assert nothing_left(store)


@pytest.mark.parametrize("cost", [2**63, "seven", None])
def test_a_cost_that_is_no_amount_is_refused(every_store: Store, lines: list[bytes], cost: object):
    """Beyond what the every_store can hold, or no number: nothing of the file is kept."""
    with pytest.raises(DataError, match="not a line of an exported run"):
        take(every_store, [*lines[:5], changed(lines[5], cost_nanousd=cost), *lines[6:]])

    assert nothing_left(every_store)


def test_S11_a_run_id_that_is_a_path_writes_nothing(store: Store, lines: list[bytes], tmp_path: Path):
    """An id from a file is held to the same form as one from a person."""
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError):
        take(store, [with_header(lines[0], id="../../../escape"), *lines[1:]])

    assert before == sorted(path.name for path in tmp_path.iterdir())


def test_an_answer_that_differs_is_kept_beside_the_one_here(every_store: Store, lines: list[bytes]):
    """Two machines asked the same: the imported run shows the answer it was scored with, the key keeps the first."""
    every_store.add_answer(answer("key-a", text="another"))
    every_store.flush()
    take(every_store, lines)
    found = every_store.answers_of(RUN, [("a", 0), ("b", 0)])

    assert ("another", [answer().text, answer().text]) == (
        getattr(every_store.find_answer("key-a"), "text", None), [found["a", 0].text, found["b", 0].text],
    )  # fmt: skip


def test_a_missing_file_is_a_problem(store: Store, tmp_path: Path):
    """The name and the reason."""
    with pytest.raises(DataError, match=r"none\.jsonl: cannot read the exported run, No such file"):
        import_run(store, tmp_path / "none.jsonl")


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, every_store: Store, lines: list[bytes]):
    """All or nothing: no half file under the name, and none beside it."""
    take(every_store, lines)
    target = tmp_path / "out" / "run.jsonl"
    target.parent.mkdir()
    target.write_text("old", "utf-8")
    run = every_store.run(RUN)
    every_store.close()

    with pytest.raises(Exception, match="closed"):
        export_run(every_store, run, target)
    assert ("old", ["run.jsonl"]) == (target.read_text("utf-8"), [path.name for path in target.parent.iterdir()])


def with_weights(line: bytes, weights: object) -> bytes:
    row = json.loads(line)
    row["header"]["weights"] = weights
    return json.dumps(row).encode() + b"\n"


def test_a_run_of_a_version_without_weights_has_none(store: Store, lines: list[bytes]):
    """Its header does not name them."""
    row = json.loads(lines[0])
    del row["header"]["weights"]

    assert "complete" == take(store, [json.dumps(row).encode() + b"\n", *lines[1:]])[0]
    assert {} == store.run(RUN).header.weights


@pytest.mark.parametrize("weights", [{"a": -0.1}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"a": None}, [1], "a", None])
def test_weights_that_are_no_shares_are_refused(store: Store, lines: list[bytes], weights: object):
    """A file from elsewhere cannot bring a total that means nothing."""
    with pytest.raises(DataError, match=r"given\.jsonl:1: not a line of an exported run"):
        take(store, [with_weights(lines[0], weights), *lines[1:]])

    assert nothing_left(store)
