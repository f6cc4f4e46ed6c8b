"""What every run store does the same way: buffers, totals and what is read by key; where rows lie is its own."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from promptops.core.errors import ConflictError, DataError, EvaluationError
from promptops.core.names import is_run_id
from promptops.core.outcome import POSSIBLY_PAID
from promptops.project.store.rows import (
    JUDGE_KEYS,
    Ledger,
    RateLimit,
    Result,
    Run,
    RunHeader,
    RunState,
    Seat,
    StoredAnswer,
    Verdict,
    dump,
    read_answer,
    read_run,
    read_scores,
    read_verdict,
    result_row,
    verdict_row,
)

Statement = tuple[str, tuple[Any, ...]]
"""SQL that all stores understand, with `?` for each parameter, and the parameters."""
_LOST = ", ".join(f"'{outcome}'" for outcome in sorted(POSSIBLY_PAID))
_LEDGER = """
select count(*), coalesce(sum(case when outcome in (LOST) then 0 else cost_nanousd end), 0),
    coalesce(sum(case when outcome in (LOST) then cost_nanousd else 0 end), 0), coalesce(sum(case when outcome = 'intent' then 1 else 0 end), 0),
    coalesce(sum(case when key like ? then 1 else 0 end), 0),
    coalesce(sum(case when key like ? and outcome not in (LOST) then cost_nanousd else 0 end), 0)
from attempts where run_id = ?
""".replace("LOST", _LOST)
_BEGIN_RUN = (
    "insert into runs (id, prompt, prompt_digest, golden_digest, subject, state, started_at, finished_at, planned, header)"
    " values (?, ?, ?, ?, ?, 'running', ?, '', ?, ?) on conflict do nothing"
)
_DELETE_VERDICTS_ON_NOTHING = (
    "delete from verdicts where run_id = ? and not exists (select 1 from results where results.run_id = verdicts.run_id"
    " and results.case_id = verdicts.case_id and results.draw = verdicts.draw)"
)
_OPEN_SEATS = "insert into seats (run_id, worker, calls, booked_nanousd, reserved_nanousd) values (?, '', ?, ?, 0)"
_TAKE_SEAT = (
    "insert into seats (run_id, worker, calls, booked_nanousd, reserved_nanousd)"
    " select run_id, cast(? as text), 0, 0, 0 from seats where run_id = ? and worker = '' on conflict do nothing"
)
_BOOK = (
    "update seats set calls = calls + ?, booked_nanousd = booked_nanousd + ? where run_id = ? and worker = ''"
    " and calls + ? <= ? and booked_nanousd + ? <= ? and exists (select 1 from seats as own where own.run_id = ? and own.worker = ?)"
)
_RESERVE = "update seats set reserved_nanousd = reserved_nanousd + ? where run_id = ? and worker = ?"
_GIVE_BACK = "update seats set booked_nanousd = booked_nanousd - ? where run_id = ? and worker = ''"
_NO_CAP = 2**62
_DELETE_UNUSED = (
    "delete from answers where not exists (select 1 from results where results.answer_key = answers.key)"
    " and not exists (select 1 from verdicts where verdicts.answer_key = answers.key)"
)


class Store(ABC):
    """Open with `open_store`. Not for several threads. A process writes what it buffers in one transaction; readers see whole rows.

    Everything that writes raises EvaluationError when it cannot: no room, no rights, out of reach.
    """

    _newest = "rowid"
    """The column that orders runs of the same second."""

    def __init__(self, where: str) -> None:
        self.where = where
        """What a message calls it; never with a password."""
        self._answers: dict[str, StoredAnswer] = {}
        self._results: list[tuple[Any, ...]] = []
        self._verdicts: list[tuple[Any, ...]] = []
        self._ended: list[tuple[str, int, int]] = []
        self._replaced: list[str] = []
        self._seat: Seat | None = None
        self._settled = [0, 0]  # of calls that ended: what was booked for them, and what they cost

    @property
    def can_write_while_read(self) -> bool:
        """Whether readers and a writer do not wait for each other."""
        return True

    @abstractmethod
    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
        """What a query finds."""

    @abstractmethod
    def _change(self, *statements: Statement, once: bool = False) -> list[int]:
        """Do all or none of it; how many rows each statement changed. Without `once`, statements must bear being done twice."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def hold(self, run_id: str) -> AbstractContextManager[None]:
        """Hold a run while the context is open. Raises EvaluationError at once when another process holds it, wherever it is."""

    @abstractmethod
    def is_held(self, run_id: str) -> bool:
        """Whether some process has the run now."""

    @abstractmethod
    def block(self, key: str, seconds: float, now: float) -> None:
        """A provider asked everybody who uses this key to wait so long. `now`: Unix time, where the store has no clock of its own."""

    @abstractmethod
    def blocked_s(self, key: str, now: float) -> float:
        """Seconds that are left of what `block` said; at most 0 when nothing is."""

    @abstractmethod
    def take_permit(self, limit: RateLimit, tokens: int, now: float) -> float:
        """Take one request and its tokens from the shared buckets: 0 when granted, else seconds until there may be room.

        Token bucket with a burst of a tenth of a minute; a request of more tokens than that waits for a full bucket.
        """

    @abstractmethod
    def begin_attempts(self, run_id: str, calls: Iterable[tuple[str, int]], started_at: str) -> list[int]:
        """Record intents (key, cost at the most) durably before the calls are made, with all that is buffered; returns their ids."""

    @abstractmethod
    def flush(self) -> None:
        """Write what is buffered in one transaction."""

    @abstractmethod
    def results(self, run_id: str) -> Iterator[Result]:
        """In order of case id and draw."""

    @abstractmethod
    def all_or_nothing(self) -> AbstractContextManager[None]:
        """All that is added inside is written when it ends, in one transaction; nothing after an error or a kill."""

    def replace_run(self, run_id: str) -> None:
        """Inside `all_or_nothing`: what is kept of the run makes room for what is added under its id, at the end."""
        self._replaced.append(run_id)

    def _removals(self) -> list[Statement]:
        """What `replace_run` asked for."""
        return [
            (f"delete from {self._kept(table)} where {column} = ?", (run_id,))
            for run_id in self._replaced
            for table, column in (("results", "run_id"), ("verdicts", "run_id"), ("attempts", "run_id"), ("runs", "id"))
        ]

    @abstractmethod
    def _find_answers(self, keys: Sequence[str]) -> Iterable[tuple[Any, ...]]:
        """(wanted key, row of answers) for each answer under `key` or near `key:`."""

    @abstractmethod
    def results_of(self, run_id: str, case_ids: Sequence[str]) -> list[Result]:
        """What a run has of these cases."""

    @abstractmethod
    def _answers_of(self, run_id: str, draws: Sequence[tuple[str, int]]) -> Iterable[tuple[Any, ...]]:
        """(case id, draw, outcome, scores, answer key, latency, cost, row of answers or nulls) of these draws."""

    def begin_run(self, header: RunHeader) -> None:
        """Raises ConflictError when the id is taken by another run."""
        values = (header.id, header.prompt, header.prompt_digest, header.golden_digest, header.subject, header.started_at,
                  header.planned, dump(asdict(header)))  # fmt: skip
        (begun,) = self._change((_BEGIN_RUN, values))
        if not begun and self.run(header.id).header != header:
            raise ConflictError(f"run {header.id} is there already", where=self.where)

    def reopen_run(self, run_id: str, *, forget_unanswered: bool = False) -> None:
        """Let a run go on; with `forget_unanswered`, results without an answer or a verdict are removed, to be asked again."""
        unjudged = '%["judge",null,%'  # a judge was to score it, and there is no verdict
        forgotten: list[Statement] = [
            ("delete from results where run_id = ? and (outcome <> 'ok' or scores like ?)", (run_id, unjudged)),
            (_DELETE_VERDICTS_ON_NOTHING, (run_id,)),
        ]  # fmt: skip
        self._change(
            *(forgotten if forget_unanswered else ()),
            ("update runs set state = 'running', finished_at = '' where id = ?", (run_id,)),
        )

    def finish_run(self, run_id: str, state: RunState, finished_at: str) -> None:
        self.flush()
        self._change(("update runs set state = ?, finished_at = ? where id = ?", (state, finished_at, run_id)))

    def open_seats(self, run_id: str, *, calls: int, booked_nanousd: int) -> None:
        """Let processes take seats at a run for which so much is spent; whoever had one before can begin no call any more."""
        self._change(("delete from seats where run_id = ?", (run_id,)), (_OPEN_SEATS, (run_id, calls, booked_nanousd)))

    def close_seats(self, run_id: str) -> None:
        """Nobody who has a seat begins another call."""
        self._change(("delete from seats where run_id = ?", (run_id,)))

    def take_seat(self, seat: Seat) -> None:
        """All calls that are begun from now on count for this seat. Raises EvaluationError for a run that has none to give."""
        self._change((_TAKE_SEAT, (seat.worker, seat.run_id)))
        self._seat = seat
        self._check_seat(seat)

    def vacate_seat(self, run_id: str, worker: str) -> None:
        """The worker is gone: what it had begun stays booked, and if it is not gone after all, it begins nothing more."""
        self._change(("delete from seats where run_id = ? and worker = ?", (run_id, worker)))

    def book(self, worst_nanousd: Sequence[int]) -> int:
        """How many of the first calls that could cost so much fit under the cap of the seat; all of them without a seat.

        Spent and booked never pass the cap, whoever else books. Raises EvaluationError when the seat is lost.
        """
        seat = self._seat
        if seat is None:
            return len(worst_nanousd)
        self.settle_seat()
        most, calls_left = seat.max_nanousd, seat.max_calls
        fitting = len(worst_nanousd)
        while fitting:
            worst = sum(worst_nanousd[:fitting])
            limits = (_NO_CAP if calls_left is None else calls_left, _NO_CAP if most is None else most)
            (booked,) = self._change((_BOOK, (fitting, worst, seat.run_id, fitting, limits[0], worst, limits[1], seat.run_id, seat.worker)), once=True)  # fmt: skip
            if booked:
                if worst:
                    self._change((_RESERVE, (worst, seat.run_id, seat.worker)), once=True)
                return fitting
            self._check_seat(seat)
            fitting -= 1
        return 0

    def settle_seat(self) -> None:
        """Give back what calls that ended did not cost."""
        seat, (worst, cost) = self._seat, self._settled
        if seat is None or not worst:
            return
        self._settled = [0, 0]
        self._change(
            (_GIVE_BACK, (worst - cost, seat.run_id)), (_RESERVE, (-worst, seat.run_id, seat.worker)), once=True
        )

    def may_get_room(self) -> bool:
        """Whether calls in flight at some seat of the run may give back what the cap of this one refused."""
        seat = self._seat
        if seat is None:
            return False
        ((made, reserved),) = self._rows(
            "select coalesce(sum(calls), 0), coalesce(sum(reserved_nanousd), 0) from seats where run_id = ?",
            (seat.run_id,),
        )
        return int(reserved) > 0 and (seat.max_calls is None or int(made) < seat.max_calls)

    def _check_seat(self, seat: Seat) -> None:
        if not any(True for _ in self._rows("select 1 from seats where run_id = ? and worker = ?", (seat.run_id, seat.worker))):  # fmt: skip
            raise EvaluationError(f"run {seat.run_id} goes on elsewhere", where=self.where, why="it was stopped, or another process took it over")  # fmt: skip

    def end_attempt(self, attempt: int, outcome: str, cost_nanousd: int, worst_nanousd: int = 0) -> None:
        """A call ended so; kept until the next flush, to be written with the answer and the result that came of it.

        `worst_nanousd` is what was booked for it.
        """
        self._ended.append((outcome, cost_nanousd, attempt))
        self._settled[0] += worst_nanousd
        self._settled[1] += cost_nanousd

    def find_answer(self, key: str) -> StoredAnswer | None:
        """The answer to a key; if there is none, the newest that a run kept for itself under `<key>:<run id>`."""
        return self.find_answers([key]).get(key)

    def find_answers(self, keys: Sequence[str]) -> dict[str, StoredAnswer]:
        """`find_answer` for many keys in one query; what is not found is not in it."""
        best: dict[str, tuple[Any, ...]] = {}
        for wanted, *row in self._find_answers(keys):
            key = row[0]
            if key != wanted and not key.startswith(f"{wanted}:"):  # near `:1` lie `:10` and so on
                continue
            kept = best.get(wanted)
            if kept is None or key == wanted or (kept[0] != wanted and key > kept[0]):
                best[wanted] = tuple(row)
        found = dict(zip(best, self._read_answers(list(best.values())), strict=True))
        return found | {key: self._answers[key] for key in keys if key in self._answers}

    def _read_answers(self, rows: Sequence[tuple[Any, ...]]) -> list[StoredAnswer]:
        return [read_answer(row) for row in rows]

    def answers_of(self, run_id: str, draws: Sequence[tuple[str, int]]) -> dict[tuple[str, int], StoredAnswer]:
        """What answered these draws (case id, draw) in a run; an outcome that was no answer is in it as the run has it."""
        found: dict[tuple[str, int], StoredAnswer] = {}
        answered: dict[tuple[str, int], tuple[Any, ...]] = {}
        for case_id, draw, outcome, scores, key, latency_s, cost_nanousd, *row in self._answers_of(run_id, draws):
            if outcome == "ok":
                if row[0] is not None:
                    answered[case_id, draw] = tuple(row)
                continue
            reason = read_scores(scores)[0][2].partition(": ")[2]
            found[case_id, draw] = StoredAnswer(
                key=key, outcome=outcome, text="", detail=reason, model="", input_tokens=0, output_tokens=0, usage_trusted=True,
                cost_nanousd=cost_nanousd, latency_s=latency_s, created_at="",
            )  # fmt: skip
        return found | dict(zip(answered, self._read_answers(list(answered.values())), strict=True))

    def add_answer(self, answer: StoredAnswer) -> None:
        """Kept until the next flush; the first answer to a key stays."""
        self._answers.setdefault(answer.key, answer)

    def add_result(self, run_id: str, result: Result) -> None:
        """Kept until the next flush; the first result of a draw stays."""
        self._results.append(result_row(run_id, result))

    def add_verdicts(self, run_id: str, case_id: str, draw: int, verdicts: Iterable[Verdict]) -> None:
        """Kept until the next flush; the first to say so stays."""
        self._verdicts += [verdict_row(run_id, case_id, draw, item) for item in verdicts]

    def verdicts(self, run_id: str) -> Iterator[tuple[str, int, Verdict]]:
        """(case id, draw, what a judge said), in that order."""
        rows = self._rows(
            "select * from verdicts where run_id = ? order by case_id, draw, vote, judge, swapped", (run_id,)
        )
        return ((row[1], row[2], read_verdict(row[3:])) for row in rows)

    def verdicts_on(self, run_id: str, case_id: str, draw: int) -> list[Verdict]:
        """What judges said of one answer."""
        rows = self._rows(
            "select * from verdicts where run_id = ? and case_id = ? and draw = ? order by vote, judge, swapped",
            (run_id, case_id, draw),
        )
        return [read_verdict(row[3:]) for row in rows]

    @property
    def buffered(self) -> int:
        return len(self._results)

    def drop_buffers(self) -> None:
        """Forget what has not been written."""
        self._answers.clear()
        self._results.clear()
        self._ended.clear()
        self._verdicts.clear()

    @property
    def _dirty(self) -> bool:
        return bool(self._answers or self._results or self._ended or self._verdicts)

    def runs(self, prompt: str = "") -> list[Run]:
        """Newest first; those that only drew again for a comparison, or only asked judges, are left out."""
        rows = self._rows(
            f"select header, state, finished_at from runs where ? in ('', prompt) order by started_at desc, {self._newest} desc",
            (prompt,),
        )
        return [run for run in (read_run(*row) for row in rows) if run.header.kind not in ("redraw", "judge")]

    def run(self, run_id: str) -> Run:
        """Raises DataError for what is no run id or no run here."""
        if not is_run_id(run_id):
            raise DataError(f"{run_id[:60]!r} is not a run id", hint="see `promptops runs list`")
        for row in self._rows("select header, state, finished_at from runs where id = ?", (run_id,)):
            return read_run(*row)
        raise DataError(f"no run {run_id}", hint="see `promptops runs list`")

    def models_of(self, run_id: str) -> list[str]:
        """What the providers said answered a run, sorted."""
        rows = self._rows(
            "select distinct answers.model from results join answers on answers.key = results.answer_key where run_id = ? order by 1",
            (run_id,),
        )
        return [str(row[0]) for row in rows]

    def untrusted_usage(self, run_id: str) -> int:
        """Draws of a run whose answer came with token counts that cannot be true."""
        ((count,),) = self._rows(
            "select count(*) from results join answers on answers.key = results.answer_key where run_id = ? and usage_trusted = 0",
            (run_id,),
        )
        return int(count)

    def count_results(self, run_id: str) -> tuple[int, int]:
        """(stored, passed) draws of a run."""
        ((stored, passed),) = self._rows(
            "select count(*), coalesce(sum(passed), 0) from results where run_id = ?", (run_id,)
        )
        return int(stored), int(passed)

    def ledger(self, run_id: str) -> Ledger:
        (row,) = self._rows(_LEDGER, (f"{JUDGE_KEYS}%", f"{JUDGE_KEYS}%", run_id))
        attempts, paid, possibly, unknown, judged, judge_paid = map(int, row)
        return Ledger(attempts=attempts, paid_nanousd=paid, possibly_nanousd=possibly, unknown=unknown,
                      judge_attempts=judged, judge_nanousd=judge_paid)  # fmt: skip

    def attempts(self, run_id: str) -> Iterator[tuple[str, str, str, int]]:
        """(key, started_at, outcome, cost) of each attempt, oldest first."""
        rows = self._rows(
            "select key, started_at, outcome, cost_nanousd from attempts where run_id = ? order by id", (run_id,)
        )
        return ((key, started_at, outcome, cost) for key, started_at, outcome, cost in rows)

    @abstractmethod
    def import_attempts(self, run_id: str, rows: Iterable[tuple[str, str, str, int]]) -> None:
        """Add (key, started_at, outcome, cost) of attempts that were made elsewhere."""

    def delete_runs(self, run_ids: Iterable[str]) -> tuple[int, int]:
        """Remove runs and the answers no run needs any more: (runs, answers) removed."""
        tables = ("results", "verdicts", "attempts", "seats")
        statements: list[Statement] = []
        for run_id in run_ids:
            statements += [(f"delete from {table} where run_id = ?", (run_id,)) for table in tables]
            statements.append(("delete from runs where id = ?", (run_id,)))
        changed = self._change(*statements, (_DELETE_UNUSED, ()))
        return sum(changed[len(tables) : -1 : len(tables) + 1]), changed[-1]

    def has_run(self, run_id: str) -> bool:
        """Whether it was there before what `all_or_nothing` adds now."""
        return any(True for _ in self._rows(f"select 1 from {self._kept('runs')} where id = ?", (run_id,)))

    def _kept(self, table: str) -> str:
        """The table of the store itself, where `all_or_nothing` has one of the same name beside it."""
        return f"main.{table}"
