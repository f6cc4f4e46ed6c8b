"""Every run store: what is written is read back, first answers stay, every attempt is counted, readers see whole rows."""

import os
import pickle
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import Manager, get_context
from typing import Any

import pytest
from run_rows import RUN, START, answer, header, result, write_run

from promptops.core.errors import ConflictError, DataError, EvaluationError
from promptops.project.store import Ledger, Store, StoreAddress, Verdict, open_store

OTHER = "20260102-030406-abcdef"


def test_what_is_written_is_read_back(store: Store, store_address: StoreAddress):
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
    again = open_store(store_address)

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


def test_rows_not_yet_flushed_are_nobody_elses(store: Store, store_address: StoreAddress):
    """An answer in the buffer is found by its own run and written with its result, in one transaction."""
    store.begin_run(header())
    store.add_answer(answer())
    store.add_result(RUN, result("a"))
    reader = open_store(store_address)
    before = (reader.find_answer("key-a"), reader.count_results(RUN), store.find_answer("key-a"))
    store.flush()

    assert ((None, (0, 0), answer()), (answer(), (1, 1))) == (
        before,
        (reader.find_answer("key-a"), reader.count_results(RUN)),
    )
    reader.close()


def open_new_stores(addresses: list[StoreAddress], start: Any) -> list[str]:
    """What each of the stores said that was opened at the same time as by others."""
    said = []
    for address in addresses:
        start.wait()
        try:
            open_store(address).close()
        except EvaluationError as error:
            said.append(str(error))
    return said


def test_S5_a_new_store_may_be_opened_by_many_at_once(store_address: StoreAddress):
    """Evaluations started together in a new project all find a store; none is told that it is locked. An address can be sent to them."""
    roots = [store_address.root / str(number) for number in range(30 if not store_address.url else 8)]
    addresses = [
        replace(store_address, root=root, url=store_address.url and f"{store_address.url}_{root.name}")
        for root in roots
    ]
    for root in roots:
        root.mkdir()
    with Manager() as manager, ProcessPoolExecutor(4, mp_context=get_context("spawn")) as processes:
        start = manager.Barrier(4)
        said = [processes.submit(open_new_stores, addresses, start) for _ in range(4)]

        assert [[]] * 4 == [future.result() for future in said]


def test_S5_a_run_is_held_by_one(store: Store, store_address: StoreAddress):
    """The second is told who has it; afterwards it is free, for this one too."""
    with closing(open_store(store_address)) as other:
        with store.hold(RUN):
            with pytest.raises(EvaluationError, match=rf"run {RUN} is in use by pid {os.getpid()}"), other.hold(RUN):
                pass
            with other.hold(OTHER):
                held = (other.is_held(RUN), store.is_held(RUN), store.is_held(OTHER))
        free = (other.is_held(RUN), store.is_held(OTHER))
        with other.hold(RUN):
            pass

    assert ((True, True, True), (False, False)) == (held, free)


def test_S6_a_run_is_free_when_its_process_was_killed(store: Store, store_address: StoreAddress):
    """kill -9 of the owner: the next takes it at once, whatever it left behind."""
    script = "import sys, pickle, time; from promptops.project.store import open_store; store = open_store(pickle.load(sys.stdin.buffer));\nwith store.hold(sys.argv[1]): print('held', flush=True); time.sleep(600)"
    owner = subprocess.Popen([sys.executable, "-c", script, RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdin
    assert owner.stdout
    owner.stdin.write(pickle.dumps(store_address))
    owner.stdin.close()
    owner.stdout.readline()
    before = store.is_held(RUN)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 60
    while (
        store.is_held(RUN) and time.monotonic() < deadline
    ):  # a server hears of it when the system closes the connection
        time.sleep(0.01)

    with store.hold(RUN):
        assert (True, True) == (before, store.is_held(RUN))


def test_S14_a_reader_sees_whole_rows_while_another_writes(store: Store, store_address: StoreAddress):
    """Everything up to the last transaction and nothing of the one under way; no wait, no error."""
    write_run(store)
    with closing(open_store(store_address)) as writer:
        with writer.all_or_nothing():
            writer.begin_run(header(OTHER))
            writer.add_answer(answer("key-z"))
            writer.add_result(OTHER, result("z"))
            writer.flush()
            during = (
                store.has_run(OTHER),
                store.find_answer("key-z"),
                store.count_results(OTHER),
                store.run(RUN).state,
            )
        after = (store.has_run(OTHER), store.find_answer("key-z"), store.count_results(OTHER))

    assert ((False, None, (0, 0), "complete"), (True, answer("key-z"), (1, 1))) == (during, after)


def test_all_or_nothing_leaves_nothing_after_an_error(store: Store):
    """What was flushed inside is gone too, and the store can be written again."""

    def stop_half_way() -> None:
        with store.all_or_nothing():
            store.begin_run(header())
            store.add_answer(answer())
            store.flush()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop_half_way()
    nothing = (store.has_run(RUN), store.find_answer("key-a"))
    write_run(store)

    assert ((False, None), (2, 2)) == (nothing, store.count_results(RUN))


def test_a_run_id_that_is_taken_is_refused(store: Store):
    """Two runs are never mixed; beginning the same run again is no second one."""
    store.begin_run(header())
    store.begin_run(header())

    with pytest.raises(ConflictError, match=f"run {RUN} is there already"):
        store.begin_run(header(planned=3))
    assert [header()] == [run.header for run in store.runs()]


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b",
        "\x1a",
        "\x1a0\0\x1a1",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "'; drop table runs; --",
        "\\N",
        "\t\r\n\\.",
        "%s ?",
    ],
)
def test_any_text_a_model_may_write_comes_back(store: Store, text: str):
    """Control characters, marks of formats, quotes: byte for byte, in what is flushed and in what is imported."""
    store.begin_run(header())
    given = answer(text=text, detail=text, model=text)
    verdict = Verdict(
        judge="j", vote=0, swapped=False, answer_key="key-a", outcome="ok", detail=text, scores={"polite": (1.0, text)}
    )
    row = (
        result("a", category=text, group=text, tags={"tag": text}, scores=(("equals", True, text, None),))
        if "\0" not in text
        else result("a", scores=(("equals", True, text, None),))
    )
    store.add_answer(given)
    store.add_result(RUN, row)
    store.add_verdicts(RUN, "a", 0, [verdict])
    store.flush()
    with store.all_or_nothing():
        store.begin_run(header(OTHER))
        store.add_answer(replace(given, key="key-b"))
        store.add_result(OTHER, row)
        store.add_verdicts(OTHER, "a", 0, [verdict])

    assert [(given, [row], [("a", 0, verdict)]), (replace(given, key="key-b"), [row], [("a", 0, verdict)])] == [
        (store.find_answer(key), list(store.results(run)), list(store.verdicts(run)))
        for key, run in (("key-a", RUN), ("key-b", OTHER))
    ]


def test_an_answer_a_run_kept_for_itself_is_found_when_there_is_no_other(store: Store):
    """The exact key first, then the newest `key:run`; a key that only begins the same is another."""
    names = ["k:1", "k:10", f"k:1:{RUN}", f"k:1:{OTHER}", f"k:2:{RUN}", f"k:2:{OTHER}", "k:20:x"]
    for name in names:
        store.add_answer(answer(name, text=name))
    store.flush()

    found = store.find_answers(["k:1", "k:2", "k:3", "k:10"])
    assert {"k:1": "k:1", "k:2": f"k:2:{OTHER}", "k:10": "k:10"} == {key: item.text for key, item in found.items()}


def test_a_run_of_many_rows_is_read_in_order(store: Store):
    """More than is read at once: each row once, in the order of bytes whatever the locale of a server."""
    store.begin_run(header())
    names = sorted(f"{letter}-{number}" for letter in ("a", "B", "é", "日", "_") for number in range(1000))
    for name in reversed(names):
        store.add_result(RUN, result(name))
        store.add_verdicts(
            RUN,
            name,
            0,
            [Verdict(judge="j", vote=0, swapped=False, answer_key="k", outcome="ok", detail="", scores={})],
        )
    store.begin_attempts(RUN, [("k", number) for number in range(5000)], START)

    assert (names, names, list(range(5000))) == (
        [row.case_id for row in store.results(RUN)], [case_id for case_id, _, _ in store.verdicts(RUN)],
        [cost for _, _, _, cost in store.attempts(RUN)],
    )  # fmt: skip


def test_a_number_beyond_what_is_kept_is_refused(store: Store):
    """Nothing of it is written."""
    store.begin_run(header())
    with pytest.raises((OverflowError, sqlite3.DatabaseError)):
        store.import_attempts(RUN, [("k", START, "ok", 2**63)])

    assert [] == list(store.attempts(RUN))
