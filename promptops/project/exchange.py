"""Runs from one store to another: as often as one likes, never mixed with another run, and answers stay those that were scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from promptops.core.errors import ConflictError
from promptops.project.store import Result, Run, Store, StoredAnswer
from promptops.project.transfer import batches, own_key

Outcome = Literal["new", "updated", "same", "behind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What became of a run: `behind` is one that the other store has with more results, so nothing was written."""

    run: Run
    outcome: Outcome
    results: int


def copy_run(source: Store, target: Store, run_id: str) -> Copied:
    """Bring a run to another store, all or nothing; one that is there already is left, or brought up to date.

    An answer whose key has another text there is kept beside it, as the run's own. Raises ConflictError when the id is another
    run there, when its results differ, or while a process makes the run.
    """
    run = source.run(run_id)
    if source.is_held(run_id):
        raise ConflictError(f"run {run_id} is being made", where=source.where, hint="wait until it ends")
    outcome: Outcome = "new"
    if target.has_run(run_id):
        outcome = _compare(source, target, run)
        if outcome in ("same", "behind"):
            return Copied(run=target.run(run_id), outcome=outcome, results=0)
    with target.hold(run_id), target.all_or_nothing():
        if outcome == "updated":
            target.replace_run(run_id)
        target.begin_run(run.header)
        count = _copy_rows(source, target, run_id)
        target.finish_run(run_id, run.state, run.finished_at)
    return Copied(run=run, outcome=outcome, results=count)


def _compare(source: Store, target: Store, run: Run) -> Outcome:
    """How the run there stands to the one here, by header, state and each result."""
    there = target.run(run.id)
    if there.header != run.header:
        raise ConflictError(
            f"run {run.id} is another run there", where=target.where, why="prompt, cases, model or settings differ"
        )
    ahead, behind = _difference(source.results(run.id), target.results(run.id), run.id, target.where)
    if not ahead and not behind:
        here, other = _progress(source, run), _progress(target, there)
        ahead, behind = here > other, here < other
    if ahead and behind:
        raise ConflictError(f"run {run.id} went on in both stores", where=target.where, why="each has results that the other lacks",
                            hint=f"export one and keep it, then `promptops eval {run.header.prompt}` anew")  # fmt: skip
    return "behind" if behind else "updated" if ahead else "same"


def _progress(store: Store, run: Run) -> tuple[int, int, int, str]:
    """What grows as a run goes on: its calls, those that ended, verdicts; and when it ended."""
    ledger = store.ledger(run.id)
    verdicts = sum(1 for _ in store.verdicts(run.id))
    return ledger.attempts, ledger.attempts - ledger.unknown, verdicts, run.finished_at


def _difference(here: Iterator[Result], there: Iterator[Result], run_id: str, where: str) -> tuple[bool, bool]:
    """Whether either has more, both being in order of case and draw. A draw without an answer may have got one."""
    ahead = behind = False
    left, right = next(here, None), next(there, None)
    while left or right:
        if right is None or (left is not None and _place(left) < _place(right)):
            ahead, left = True, next(here, None)
        elif left is None or _place(left) > _place(right):
            behind, right = True, next(there, None)
        else:
            if not _same(left, right, run_id):
                if left.outcome == "ok" and right.outcome == "ok":
                    raise ConflictError(f"run {run_id} has another result of {left.case_id} there", where=where,
                                        why="a run id stands for one run", hint="delete one of them, or export and compare them")  # fmt: skip
                ahead, behind = ahead or right.outcome != "ok", behind or left.outcome != "ok"
            left, right = next(here, None), next(there, None)
    return ahead, behind


def _place(result: Result) -> tuple[bytes, int]:
    return result.case_id.encode(), result.draw


def _same(left: Result, right: Result, run_id: str) -> bool:
    own = f":{run_id}"
    keys = left.answer_key.removesuffix(own), right.answer_key.removesuffix(own)
    return keys[0] == keys[1] and left == replace(right, answer_key=left.answer_key)


def _copy_rows(source: Store, target: Store, run_id: str) -> int:
    """Results, verdicts with the answers they are of, and the ledger; the number of results."""
    count = 0
    for results in batches(source.results(run_id)):
        keys = _copy_answers(source, target, run_id, [item.answer_key for item in results])
        for item in results:
            target.add_result(run_id, replace(item, answer_key=keys[item.answer_key]))
        count += len(results)
        target.flush()
    for verdicts in batches(source.verdicts(run_id)):
        keys = _copy_answers(source, target, run_id, [item.answer_key for _, _, item in verdicts])
        for case_id, draw, verdict in verdicts:
            target.add_verdicts(run_id, case_id, draw, [replace(verdict, answer_key=keys[verdict.answer_key])])
        target.flush()
    for attempts in batches(source.attempts(run_id)):
        target.import_attempts(run_id, attempts)
    return count


def _copy_answers(source: Store, target: Store, run_id: str, keys: Sequence[str]) -> dict[str, str]:
    """Add the answers under these keys; under which key each is there. The same request may have had another answer there."""
    wanted = list(dict.fromkeys(keys))
    here = {key: item for key, item in source.find_answers(wanted).items() if item.key == key}
    there = target.find_answers([*here, *(own_key(key, run_id) for key in here)])
    names: dict[str, str] = {key: key for key in wanted}
    for key, answer in here.items():
        kept = there.get(key)
        if kept is not None and kept.key == key and _differs(kept, answer):
            names[key] = own_key(key, run_id)
            own = there.get(names[key])
            if own is not None and own.key == names[key] and _differs(own, answer):
                raise ConflictError(
                    f"run {run_id} has another answer there", where=target.where, why=f"to the request {key[:16]}"
                )
        target.add_answer(replace(answer, key=names[key]))
    return names


def _differs(left: StoredAnswer, right: StoredAnswer) -> bool:
    return replace(left, key=right.key) != right
