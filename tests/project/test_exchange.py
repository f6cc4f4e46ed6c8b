"""Runs between stores: whole, as often as one likes, up to date, and never mixed with another run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from run_rows import RUN, START, answer, header, result, write_run

from conftest import Outcome, Sandbox
from promptops.core.errors import ConflictError
from promptops.project.exchange import copy_run
from promptops.project.store import Store, StoreAddress, Verdict, open_store

OTHER = "20260102-030406-abcdef"
Call = Callable[..., Outcome]


@pytest.fixture(params=[("sqlite", "sqlite"), ("sqlite", "postgres"), ("postgres", "sqlite")], ids="-to-".join)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """From each kind, and to each."""
    with ExitStack() as stack:
        opened = []
        for number, kind in enumerate(request.param):
            root = tmp_path / str(number)
            root.mkdir()
            url = request.getfixturevalue("postgres_schema_url") if kind == "postgres" else ""
            opened.append(stack.enter_context(closing(open_store(StoreAddress(root=root, url=url)))))
        yield opened[0], opened[1]


def content(store: Store, run_id: str = RUN) -> tuple[Any, ...]:
    """All that a store has of a run."""
    results = list(store.results(run_id))
    return (
        store.run(run_id), results, list(store.verdicts(run_id)), list(store.attempts(run_id)), store.ledger(run_id),
        store.find_answers([row.answer_key for row in results]),
    )  # fmt: skip


def judged(store: Store, run_id: str = RUN) -> None:
    """A complete run of two cases with a verdict on each."""
    write_run(store, run_id)
    for case_id in ("a", "b"):
        store.add_answer(answer(f"judge:{case_id}", text="verdict"))
        store.add_verdicts(run_id, case_id, 0, [Verdict(judge="j", vote=0, swapped=False, answer_key=f"judge:{case_id}", outcome="ok",
                                                        detail="", scores={"polite": (1.0, "yes")})])  # fmt: skip
    store.flush()


def test_a_copied_run_is_the_run(stores: tuple[Store, Store]):
    """Header, state, results, verdicts, answers and ledger; a second copy writes nothing, also in the other direction."""
    source, target = stores
    judged(source)
    first, second = copy_run(source, target, RUN), copy_run(source, target, RUN)
    back = copy_run(target, source, RUN)

    assert content(source) == content(target)
    assert "verdict" == getattr(target.find_answer("judge:a"), "text", None)
    assert [("new", 2), ("same", 0), ("same", 0)] == [(item.outcome, item.results) for item in (first, second, back)]


def test_a_run_that_went_on_is_brought_up_to_date(stores: tuple[Store, Store]):
    """More results, errors that became answers, calls that ended: the copy becomes the run as it is; the other way nothing is written."""
    source, target = stores
    source.begin_run(header(planned=3))
    (attempt,) = source.begin_attempts(RUN, [("key-a", 9)], START)
    source.add_result(RUN, result("a", outcome="timeout", passed=None, value=None))
    source.finish_run(RUN, "incomplete", "2026-01-02T03:05:00+00:00")
    copy_run(source, target, RUN)
    source.reopen_run(RUN, forget_unanswered=True)
    for case_id in ("a", "b"):
        source.add_answer(answer(f"key-{case_id}"))
        source.add_result(RUN, result(case_id))
    source.end_attempt(attempt, "timeout", 9)
    source.finish_run(RUN, "complete", "2026-01-02T03:06:00+00:00")
    back = copy_run(target, source, RUN)
    went = copy_run(source, target, RUN)

    assert ("behind", "updated", "same") == (back.outcome, went.outcome, copy_run(source, target, RUN).outcome)
    assert content(source) == content(target)
    assert 2 == source.count_results(RUN)[0]


def test_an_answer_that_differs_is_kept_beside_the_one_there(stores: tuple[Store, Store]):
    """Two machines asked the same: each run keeps the answer it scored, and the shared key the first."""
    source, target = stores
    write_run(source, RUN)
    target.begin_run(header(OTHER))
    target.add_answer(answer("key-a", text="another"))
    target.add_result(OTHER, result("a"))
    target.finish_run(OTHER, "complete", "later")
    went, again = copy_run(source, target, RUN), copy_run(source, target, RUN)
    found = target.answers_of(RUN, [("a", 0), ("b", 0)])

    assert ("new", "same") == (went.outcome, again.outcome)
    assert (answer("key-a").text, "another") == (found["a", 0].text, getattr(target.find_answer("key-a"), "text", None))
    assert (f"key-a:{RUN}", "key-b") == (found["a", 0].key, found["b", 0].key)


def _write_other_result(store: Store) -> None:
    store.begin_run(header(planned=2))
    store.add_result(RUN, result("a", passed=False))


def _write_more(store: Store) -> None:
    store.begin_run(header(planned=2))
    store.add_result(RUN, result("a"))
    store.add_result(RUN, result("z"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda store: store.begin_run(header(planned=9)), "is another run there"),
        (_write_other_result, "has another result of a there"),
        (_write_more, "went on in both stores"),
    ],
)
def test_another_run_under_the_same_id_is_refused(
    stores: tuple[Store, Store], change: Callable[[Store], None], said: str
):
    """Exit 5 and which it is; the store there is as before."""
    source, target = stores
    write_run(source)
    change(target)
    target.flush()
    before = content(target)

    with pytest.raises(ConflictError, match=said):
        copy_run(source, target, RUN)
    assert before == content(target)


def test_a_run_that_is_made_is_not_copied(stores: tuple[Store, Store]):
    """Half of a run is none: wait until it ends."""
    source, target = stores
    source.begin_run(header())
    with source.hold(RUN), pytest.raises(ConflictError, match=f"run {RUN} is being made"):
        copy_run(source, target, RUN)

    assert not target.has_run(RUN)


def test_a_copy_that_fails_leaves_nothing(stores: tuple[Store, Store]):
    """All or nothing, also where an older copy was to be replaced."""
    source, target = stores
    write_run(source, RUN, ("a",))
    copy_run(source, target, RUN)
    before = content(target)

    def stop_half_way() -> None:
        with target.all_or_nothing():
            target.replace_run(RUN)
            target.begin_run(header())
            target.flush()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop_half_way()
    assert before == content(target)


def test_runs_are_pushed_and_pulled_by_a_person(
    call: Call, sandbox: Sandbox, postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    """From the folder to the shared store and, on another machine, back; `--all` takes what is missing; nothing is asked."""
    call("eval")
    pushed = call("runs", "push", "latest", "--to", postgres_url)
    call("eval", "--repeat", "2")
    sandbox.write("promptops.toml", f'store = "{postgres_url}"\n' + sandbox.read("promptops.toml"))
    everything = call("runs", "push", "--all", "--json")
    listed = call("runs", "list", "--json")
    sandbox.path(".promptops/store.sqlite3").unlink()
    pulled = call("runs", "pull", "--all", "--json")
    sandbox.replace("promptops.toml", f'store = "{postgres_url}"\n', "")
    local = call("runs", "list", "--json")

    assert (0, "PUSHED  1 of 1 run to postgresql://") == (pushed.code, pushed.out[:35]), pushed.err
    assert (["new", "same"], ["new", "new"]) == (
        [row["outcome"] for row in everything.json["runs"]],
        [row["outcome"] for row in pulled.json["runs"]],
    )
    assert (2, listed.json["runs"]) == (len(listed.json["runs"]), local.json["runs"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("push", "--all"), 2, "which store?"),
        (("push", "--to", "postgresql://me@127.0.0.1/x"), 2, "which runs?"),
        (("push", "--all", "--to", "postgresql://me:secret@127.0.0.1/x"), 2, "a password on the command line"),
        (("pull", "--all", "--from", "."), 2, "is not the folder of another project"),
        (("pull", "--all", "--from", "nowhere"), 2, "is not the folder of another project"),
        (("push", "20990101-000000-aaaaaa", "--to", "OTHER"), 2, "no run 20990101-000000-aaaaaa"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied_is_said(
    call: Call, sandbox: Sandbox, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
):
    """One line, exit 2, no secret."""
    (tmp_path / "other").mkdir()
    found = call("runs", *(str(tmp_path / "other") if item == "OTHER" else item for item in arguments))

    assert (code, True, False) == (found.code, said in found.err, "secret" in found.err), found.err


def test_a_conflict_is_told_and_the_other_runs_are_copied(call: Call, sandbox: Sandbox, tmp_path: Path):
    """Between two folders; exit 5 for the one, the rest is there."""
    call("eval")
    call("eval", "--repeat", "2")
    (tmp_path / "other").mkdir()
    newest = call("runs", "list", "--json").json["runs"][0]["run"]
    with closing(open_store(tmp_path / "other")) as other:
        other.begin_run(header(newest))
    found = call("runs", "push", "--all", "--to", str(tmp_path / "other"))
    as_json = call("runs", "push", "--all", "--to", str(tmp_path / "other"), "--json")

    assert (5, True, True) == (
        found.code,
        "PUSHED  1 of 1 run" in found.out,
        f"run {newest} is another run there" in found.err,
    )
    assert (5, ["same"], 1) == (
        as_json.code,
        [row["outcome"] for row in as_json.json["runs"]],
        len(as_json.json["problems"]),
    )
