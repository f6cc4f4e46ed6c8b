"""The run store: one SQLite file in `.promptops/`, readable while a run writes to it.

`answers` are kept by the digest of the whole request and the draw, so an unchanged case costs nothing in the next run.
`attempts` is the ledger: a row before a paid call, its outcome after it. Totals are always computed from rows.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from promptops.core.errors import ConflictError, DataError, EvaluationError, RefusedError
from promptops.core.jsontext import Json, canonical_json, parse_json
from promptops.core.names import is_run_id
from promptops.core.outcome import POSSIBLY_PAID
from promptops.project.config import STORE_FOLDER
from promptops.project.formats import FORMATS, format_text
from promptops.project.lock import store_lock

VERSION = 2
_NO_LIMIT = 1_000_000_000
_BURST_MINUTES = 0.1
_BUSY_S = 10.0
FILE = "store.sqlite3"
JUDGE_KEYS = "judge:"
"""Keys of what judges are asked begin so: their calls are counted apart."""
RunKind = Literal["eval", "baseline", "redraw", "judge"]
RunState = Literal["running", "complete", "incomplete", "interrupted"]
_SCHEMA = """
create table runs (
    id text primary key, prompt text not null, prompt_digest text not null, golden_digest text not null, subject text not null,
    state text not null, started_at text not null, finished_at text not null, planned integer not null, header text not null
) strict;
create table answers (
    key text primary key, outcome text not null, text text not null, detail text not null, model text not null,
    input_tokens integer not null, output_tokens integer not null, usage_trusted integer not null,
    cost_nanousd integer not null, latency_s real not null, created_at text not null
) strict;
create table attempts (
    id integer primary key, run_id text not null references runs(id) on delete cascade, key text not null,
    started_at text not null, outcome text not null default 'intent', cost_nanousd integer not null default 0
) strict;
create table results (
    run_id text not null references runs(id) on delete cascade, case_id text not null, draw integer not null,
    category text not null, tags text not null, grouped text not null, line integer not null, case_digest text not null,
    answer_key text not null, outcome text not null, passed integer, value real, latency_s real not null,
    cost_nanousd integer not null, scores text not null, primary key (run_id, case_id, draw)
) strict, without rowid;
create table verdicts (
    run_id text not null references runs(id) on delete cascade, case_id text not null, draw integer not null,
    judge text not null, vote integer not null, swapped integer not null, answer_key text not null, outcome text not null,
    detail text not null, scores text not null, primary key (run_id, case_id, draw, judge, vote, swapped)
) strict, without rowid;
create table limits (
    key text primary key, requests real not null, tokens real not null, updated_at real not null, blocked_until real not null
) strict;
create index attempts_run on attempts(run_id);
create index runs_started on runs(started_at);
"""
_STAGED = {
    "runs": "insert into main.runs select * from temp.runs",
    "answers": "insert or ignore into main.answers select * from temp.answers",
    "results": "insert into main.results select * from temp.results",
    "attempts": "insert into main.attempts(run_id, key, started_at, outcome, cost_nanousd)"
    " select run_id, key, started_at, outcome, cost_nanousd from temp.attempts order by rowid",
    "verdicts": "insert or ignore into main.verdicts select * from temp.verdicts",
}
"""How rows that were added beside the store go into it, parents first: an answer that is there already stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What a run was: everything needed to say what it may be compared with."""

    id: str
    prompt: str
    candidate: str
    model: str
    model_identity: Mapping[str, Json]
    prompt_digest: str
    golden_digest: str
    suite_digest: str
    rubric_digest: str
    subject: str
    gate: Mapping[str, Json]
    selection: Mapping[str, Json]
    slices: tuple[str, ...]
    repeat: int
    commit: str
    dirty: bool
    started_at: str
    planned: int
    version: str
    at: str = ""
    kind: RunKind = "eval"
    price: Mapping[str, Json] = field(default_factory=dict)
    reuse: bool = True
    judge: Mapping[str, Json] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def judge_digest(self) -> str:
        """'' without a judge."""
        return str(self.judge.get("digest", ""))

    @property
    def judge_standing(self) -> str:
        """Whether its verdicts count (`counts`) or are shown alone; '' without a judge."""
        if not self.judge:
            return ""
        return "advisory" if self.judge.get("standing") == "advisory" else "counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as stored: its header, its state, and when it ended."""

    header: RunHeader
    state: RunState
    finished_at: str = ""

    @property
    def id(self) -> str:
        return self.header.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One draw of one case; `passed` is None when it could not be scored, `scores` are (check, passed, reason, value)."""

    case_id: str
    draw: int
    category: str
    tags: Mapping[str, str]
    group: str
    line: int
    case_digest: str
    answer_key: str
    outcome: str
    passed: bool | None
    value: float | None
    latency_s: float
    cost_nanousd: int
    scores: tuple[tuple[str, bool | None, str, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    key: str
    outcome: str
    text: str
    detail: str
    model: str
    input_tokens: int
    output_tokens: int
    usage_trusted: bool
    cost_nanousd: int
    latency_s: float
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one judge said once of one answer: (value 0..1, reason) by criterion, or why it could not be read.

    `swapped`: the answer was shown second in a comparison of two.
    """

    judge: str
    vote: int
    swapped: bool
    answer_key: str
    outcome: str
    detail: str
    scores: Mapping[str, tuple[float, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a run paid: every attempt counts. `possibly_nanousd` is the worst case of those whose answer never arrived.

    `judge_attempts` and `judge_nanousd` are the part of judges.
    """

    attempts: int
    paid_nanousd: int
    possibly_nanousd: int
    unknown: int
    judge_attempts: int = 0
    judge_nanousd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """Requests and tokens a minute for one key on one server; every evaluation on this machine draws from the same."""

    key: str
    rpm: int | None = None
    tpm: int | None = None

    @property
    def limited(self) -> bool:
        return self.rpm is not None or self.tpm is not None


class Store:
    """Open with `open_store`. One writer at a time; readers see whole rows."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._sql, self.path = connection, path
        self._answers: dict[str, StoredAnswer] = {}
        self._results: list[tuple[Any, ...]] = []
        self._verdicts: list[tuple[Any, ...]] = []
        self._ended: list[tuple[str, int, int]] = []

    @property
    def can_write_while_read(self) -> bool:
        """Whether SQLite keeps a write-ahead log here; some network and shared folders make it go without, silently."""
        return str(self._sql.execute("pragma journal_mode").fetchone()[0]) == "wal"

    def close(self) -> None:
        self.flush()
        self._sql.close()

    def begin_run(self, header: RunHeader) -> None:
        from dataclasses import asdict

        with self._writing():
            self._sql.execute(
                "insert into runs values (?, ?, ?, ?, ?, 'running', ?, '', ?, ?)",
                (header.id, header.prompt, header.prompt_digest, header.golden_digest, header.subject, header.started_at,
                 header.planned, canonical_json(asdict(header)).decode()),
            )  # fmt: skip

    def reopen_run(self, run_id: str, *, forget_unanswered: bool = False) -> None:
        """Let a run go on; with `forget_unanswered`, results without an answer or a verdict are removed, to be asked again."""
        with self._writing():
            if forget_unanswered:
                unjudged = '%["judge",null,%'  # a judge was to score it, and there is no verdict
                self._sql.execute(
                    "delete from results where run_id = ? and (outcome <> 'ok' or scores like ?)", (run_id, unjudged)
                )
                self._sql.execute("delete from verdicts where run_id = ? and not exists (select 1 from results where results.run_id = verdicts.run_id"
                                  " and results.case_id = verdicts.case_id and results.draw = verdicts.draw)", (run_id,))  # fmt: skip
            self._sql.execute("update runs set state = 'running', finished_at = '' where id = ?", (run_id,))

    def block(self, key: str, until: float) -> None:
        """A provider asked everybody who uses this key to wait until then (Unix time)."""
        with self._writing():
            self._sql.execute(
                "insert into limits values (?, 0, 0, 0, ?) on conflict(key) do update set blocked_until = max(blocked_until, excluded.blocked_until)",
                (key, until),
            )

    def blocked_until(self, key: str) -> float:
        row = self._sql.execute("select blocked_until from limits where key = ?", (key,)).fetchone()
        return float(row[0]) if row else 0.0

    def take_permit(self, limit: RateLimit, tokens: int, now: float) -> float:
        """Take one request and its tokens from the shared buckets: 0 when granted, else seconds until there may be room.

        Token bucket with a burst of a tenth of a minute; a request of more tokens than that waits for a full bucket.
        """
        rpm, tpm = limit.rpm or _NO_LIMIT, limit.tpm or _NO_LIMIT
        most_requests, most_tokens = max(1.0, rpm * _BURST_MINUTES), tpm * _BURST_MINUTES
        with self._writing():
            row = self._sql.execute(
                "select requests, tokens, updated_at, blocked_until from limits where key = ?", (limit.key,)
            ).fetchone()
            requests, left, updated_at, blocked = row or (most_requests, most_tokens, now, 0.0)
            minutes = max(0.0, now - updated_at) / 60 if updated_at else 1.0
            requests, left = min(most_requests, requests + minutes * rpm), min(most_tokens, left + minutes * tpm)
            wanted = min(float(tokens), most_tokens)
            wait_s = max((1.0 - requests) / rpm, (wanted - left) / tpm) * 60
            if wait_s <= 0:
                requests, left = requests - 1, left - wanted
            self._sql.execute(
                "insert or replace into limits values (?, ?, ?, ?, ?)", (limit.key, requests, left, now, blocked)
            )
        return max(0.0, wait_s)

    def finish_run(self, run_id: str, state: RunState, finished_at: str) -> None:
        self.flush()
        with self._writing():
            self._sql.execute("update runs set state = ?, finished_at = ? where id = ?", (state, finished_at, run_id))

    def begin_attempts(self, run_id: str, calls: Iterable[tuple[str, int]], started_at: str) -> list[int]:
        """Record intents (key, cost at the most) durably before the calls are made, with all that is buffered; returns their ids."""
        with self._writing():
            self._write_buffers()
            first = self._sql.execute("select coalesce(max(id), 0) + 1 from attempts").fetchone()[0]
            rows = [(first + place, run_id, key, started_at, worst) for place, (key, worst) in enumerate(calls)]
            self._sql.executemany(
                "insert into attempts(id, run_id, key, started_at, cost_nanousd) values (?, ?, ?, ?, ?)", rows
            )
        self.drop_buffers()
        return [row[0] for row in rows]

    def end_attempt(self, attempt: int, outcome: str, cost_nanousd: int) -> None:
        """A call ended so; kept until the next flush, to be written with the answer and the result that came of it."""
        self._ended.append((outcome, cost_nanousd, attempt))

    def find_answer(self, key: str) -> StoredAnswer | None:
        """The answer to a key; if there is none, the newest that a run kept for itself under `<key>:<run id>`."""
        return self.find_answers([key]).get(key)

    def find_answers(self, keys: Sequence[str]) -> dict[str, StoredAnswer]:
        """`find_answer` for many keys in one query; what is not found is not in it."""
        rows = self._sql.execute(
            "select wanted.value, answers.* from json_each(?) as wanted"
            " join answers on answers.key >= wanted.value and answers.key < wanted.value || ';'",
            (_dump(keys),),
        )
        found: dict[str, StoredAnswer] = {}
        for wanted, *row in rows:
            key = row[0]
            if key != wanted and not key.startswith(f"{wanted}:"):  # near `:1` lie `:10` and so on
                continue
            best = found.get(wanted)
            if best is None or key == wanted or (best.key != wanted and key > best.key):
                found[wanted] = _answer(row)
        return found | {key: self._answers[key] for key in keys if key in self._answers}

    def answers_of(self, run_id: str, draws: Sequence[tuple[str, int]]) -> dict[tuple[str, int], StoredAnswer]:
        """What answered these draws (case id, draw) in a run; an outcome that was no answer is in it as the run has it."""
        rows = self._sql.execute(
            "select results.case_id, results.draw, results.outcome, results.scores, results.answer_key, results.latency_s,"
            " results.cost_nanousd, answers.* from json_each(?) as wanted"
            " join results on run_id = ? and case_id = wanted.value ->> 0 and draw = wanted.value ->> 1"
            " left join answers on answers.key = results.answer_key",
            (_dump(draws), run_id),
        )
        found: dict[tuple[str, int], StoredAnswer] = {}
        for case_id, draw, outcome, scores, key, latency_s, cost_nanousd, *row in rows:
            if outcome == "ok":
                if row[0] is not None:
                    found[case_id, draw] = _answer(row)
                continue
            reason = _scores(scores)[0][2].partition(": ")[2]
            found[case_id, draw] = StoredAnswer(
                key=key, outcome=outcome, text="", detail=reason, model="", input_tokens=0, output_tokens=0, usage_trusted=True,
                cost_nanousd=cost_nanousd, latency_s=latency_s, created_at="",
            )  # fmt: skip
        return found

    def add_answer(self, answer: StoredAnswer) -> None:
        """Kept until the next flush; the first answer to a key stays."""
        self._answers.setdefault(answer.key, answer)

    def add_result(self, run_id: str, result: Result) -> None:
        """Kept until the next flush; the first result of a draw stays."""
        passed = None if result.passed is None else int(result.passed)
        self._results.append(
            (run_id, result.case_id, result.draw, result.category, _dump(result.tags), result.group, result.line, result.case_digest,
             result.answer_key, result.outcome, passed, result.value, result.latency_s, result.cost_nanousd, _dump(result.scores))
        )  # fmt: skip

    def add_verdicts(self, run_id: str, case_id: str, draw: int, verdicts: Iterable[Verdict]) -> None:
        """Kept until the next flush; the first to say so stays."""
        self._verdicts += [
            (run_id, case_id, draw, item.judge, item.vote, int(item.swapped), item.answer_key, item.outcome, item.detail, _dump(dict(item.scores)))
            for item in verdicts
        ]  # fmt: skip

    def verdicts(self, run_id: str) -> Iterator[tuple[str, int, Verdict]]:
        """(case id, draw, what a judge said), in that order."""
        rows = self._sql.execute(
            "select * from verdicts where run_id = ? order by case_id, draw, vote, judge, swapped", (run_id,)
        )
        return ((row[1], row[2], _verdict(row[3:])) for row in rows)

    def verdicts_on(self, run_id: str, case_id: str, draw: int) -> list[Verdict]:
        """What judges said of one answer."""
        rows = self._sql.execute(
            "select * from verdicts where run_id = ? and case_id = ? and draw = ? order by vote, judge, swapped",
            (run_id, case_id, draw),
        )
        return [_verdict(row[3:]) for row in rows]

    @property
    def buffered(self) -> int:
        return len(self._results)

    def drop_buffers(self) -> None:
        """Forget what has not been written."""
        self._answers.clear()
        self._results.clear()
        self._ended.clear()
        self._verdicts.clear()

    def flush(self) -> None:
        """Write what is buffered in one transaction. Raises EvaluationError when the disk refuses."""
        if self._answers or self._results or self._ended or self._verdicts:
            with self._writing():
                self._write_buffers()
            self.drop_buffers()

    def _write_buffers(self) -> None:
        if self._ended:
            self._sql.executemany("update attempts set outcome = ?, cost_nanousd = ? where id = ?", self._ended)
        if self._answers:
            self._sql.executemany(
                "insert or ignore into answers values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                map(_answer_row, self._answers.values()),
            )
        if self._results:
            self._sql.executemany(
                "insert or ignore into results values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._results
            )
        if self._verdicts:
            self._sql.executemany(
                "insert or ignore into verdicts values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._verdicts
            )

    def runs(self, prompt: str = "") -> list[Run]:
        """Newest first; those that only drew again for a comparison, or only asked judges, are left out."""
        rows = self._sql.execute(
            "select header, state, finished_at from runs where ? in ('', prompt) order by started_at desc, rowid desc",
            (prompt,),
        )
        return [run for run in (_run(*row) for row in rows) if run.header.kind not in ("redraw", "judge")]

    def run(self, run_id: str) -> Run:
        """Raises DataError for what is no run id or no run here."""
        if not is_run_id(run_id):
            raise DataError(f"{run_id[:60]!r} is not a run id", hint="see `promptops runs list`")
        row = self._sql.execute("select header, state, finished_at from runs where id = ?", (run_id,)).fetchone()
        if row is None:
            raise DataError(f"no run {run_id}", hint="see `promptops runs list`")
        return _run(*row)

    def results(self, run_id: str) -> Iterator[Result]:
        """In order of case id and draw."""
        rows = self._sql.execute("select * from results where run_id = ? order by case_id, draw", (run_id,))
        return (_result(row) for row in rows)

    def models_of(self, run_id: str) -> list[str]:
        """What the providers said answered a run, sorted."""
        rows = self._sql.execute(
            "select distinct answers.model from results join answers on answers.key = results.answer_key where run_id = ? order by 1",
            (run_id,),
        )
        return [str(row[0]) for row in rows]

    def untrusted_usage(self, run_id: str) -> int:
        """Draws of a run whose answer came with token counts that cannot be true."""
        row = self._sql.execute(
            "select count(*) from results join answers on answers.key = results.answer_key where run_id = ? and not usage_trusted",
            (run_id,),
        ).fetchone()
        return int(row[0])

    def count_results(self, run_id: str) -> tuple[int, int]:
        """(stored, passed) draws of a run."""
        row = self._sql.execute(
            "select count(*), coalesce(sum(passed), 0) from results where run_id = ?", (run_id,)
        ).fetchone()
        return int(row[0]), int(row[1])

    def ledger(self, run_id: str) -> Ledger:
        lost = ", ".join(f"'{outcome}'" for outcome in sorted(POSSIBLY_PAID))
        attempts, paid, possibly, unknown, judged, judge_paid = self._sql.execute(
            f"select count(*), coalesce(sum(iif(outcome in ({lost}), 0, cost_nanousd)), 0),"  # noqa: S608 - our own words
            f" coalesce(sum(iif(outcome in ({lost}), cost_nanousd, 0)), 0), coalesce(sum(outcome = 'intent'), 0),"
            f" coalesce(sum(key like '{JUDGE_KEYS}%'), 0), coalesce(sum(iif(key like '{JUDGE_KEYS}%' and outcome not in ({lost}), cost_nanousd, 0)), 0)"
            " from attempts where run_id = ?",
            (run_id,),
        ).fetchone()
        return Ledger(attempts=attempts, paid_nanousd=paid, possibly_nanousd=possibly, unknown=unknown,
                      judge_attempts=judged, judge_nanousd=judge_paid)  # fmt: skip

    def attempts(self, run_id: str) -> Iterator[tuple[str, str, str, int]]:
        """(key, started_at, outcome, cost) of each attempt, oldest first."""
        return iter(
            self._sql.execute(
                "select key, started_at, outcome, cost_nanousd from attempts where run_id = ? order by id", (run_id,)
            )
        )

    def import_attempts(self, run_id: str, rows: Iterable[tuple[str, str, str, int]]) -> None:
        with self._writing():
            self._sql.executemany("insert into attempts(run_id, key, started_at, outcome, cost_nanousd) values (?, ?, ?, ?, ?)",
                                  ((run_id, *row) for row in rows))  # fmt: skip

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """All that is added inside is written when it ends, in one transaction; nothing after an error or a kill.

        Meanwhile it lies in temporary tables of the same names, which SQLite prefers, so other processes are not held up.
        """
        self.flush()
        for table in _STAGED:
            self._sql.execute(f"create temp table {table} as select * from main.{table} where false")  # noqa: S608
        try:
            yield
            self.flush()
            with self._writing():
                for statement in _STAGED.values():
                    self._sql.execute(statement)
        finally:
            self.drop_buffers()
            for table in _STAGED:
                self._sql.execute(f"drop table temp.{table}")

    def delete_runs(self, run_ids: Iterable[str]) -> tuple[int, int]:
        """Remove runs and the answers no run needs any more: (runs, answers) removed."""
        with self._writing():
            runs = sum(self._sql.execute("delete from runs where id = ?", (run_id,)).rowcount for run_id in run_ids)
            answers = self._sql.execute(
                "delete from answers where key not in (select answer_key from results union all select answer_key from verdicts)"
            ).rowcount
        with suppress(sqlite3.OperationalError):  # it only gives space back, and another process may be writing
            self._sql.execute("vacuum")
        return runs, answers

    def has_run(self, run_id: str) -> bool:
        return self._sql.execute("select 1 from main.runs where id = ?", (run_id,)).fetchone() is not None

    def _writing(self) -> "_Transaction":
        return _Transaction(self._sql, self.path)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT; what SQLite says of the disk becomes an EvaluationError."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._sql, self._path = connection, path

    def __enter__(self) -> None:
        try:
            self._sql.execute("begin immediate")
        except sqlite3.OperationalError as error:
            raise _translate(error, self._path) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self._sql.execute("rollback" if kind else "commit")
        except sqlite3.OperationalError as failure:
            if not kind:
                raise _translate(failure, self._path) from failure
        if isinstance(error, sqlite3.OperationalError):
            raise _translate(error, self._path) from error


def has_store(root: Path) -> bool:
    """Whether the project has a run store already."""
    return (root / STORE_FOLDER / FILE).exists()


def open_store(root: Path) -> Store:
    """The store of the project at `root`, made on first use.

    Raises RefusedError when it is a link, DataError when a newer promptops wrote it, EvaluationError when it cannot be written.
    """
    path = root / STORE_FOLDER / FILE
    try:
        prepare_folder(root)
        connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
        return Store(_prepare(connection, path), path)
    except sqlite3.OperationalError as error:
        raise _translate(error, path) from error
    except sqlite3.DatabaseError as error:
        raise DataError(
            "the run store is damaged",
            where=f"{STORE_FOLDER}/{FILE}",
            why=str(error),
            hint="move it away and evaluate again",
        ) from error
    except OSError as error:
        raise EvaluationError(
            "the run store cannot be made", where=f"{STORE_FOLDER}/", why=error.strerror or str(error)
        ) from error


def prepare_folder(root: Path) -> None:
    """`.promptops/` with its own .gitignore, and the schemas that editors complete from. Raises RefusedError for links in it."""
    folder = root / STORE_FOLDER
    ours = (".", FILE, ".gitignore", "locks", "schemas", *(f"schemas/{name}.schema.json" for name in FORMATS))
    for name in ours:
        if (folder / name).is_symlink():
            raise RefusedError("the run store is a symbolic link", where=(Path(STORE_FOLDER) / name).as_posix(),
                               hint="replace it by a real folder or file")  # fmt: skip
    folder.mkdir(mode=0o700, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", "utf-8")
    schemas = folder / "schemas"
    schemas.mkdir(exist_ok=True)
    for name in FORMATS:
        file = schemas / f"{name}.schema.json"
        text = format_text(name)
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


def _prepare(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    version = _version(connection)
    if version > VERSION:
        connection.close()
        raise DataError(f"the run store has format {version}", where=f"{STORE_FOLDER}/{FILE}", why=f"this promptops reads up to {VERSION}",
                        hint="upgrade promptops")  # fmt: skip
    if version == 0:
        _create(connection, path)
    elif version < VERSION:
        _upgrade(connection, path)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("pragma foreign_keys = on")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("pragma user_version").fetchone()[0])


def _create(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, once: SQLite waits for nobody when two processes change the journal mode at the same time."""
    with store_lock(path.parent, timeout_s=_BUSY_S):
        if _version(connection) != 0:
            return
        connection.execute("pragma journal_mode = wal")
        with _Transaction(connection, path):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"pragma user_version = {VERSION}")


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a store of version 1, which knew no judges, to this one; its rows stay as they are."""
    with store_lock(path.parent, timeout_s=_BUSY_S):
        if _version(connection) >= VERSION:
            return
        (table,) = (statement for statement in _SCHEMA.split(";") if "create table verdicts" in statement)
        with _Transaction(connection, path):
            connection.execute(table)
            connection.execute(f"pragma user_version = {VERSION}")


def _translate(error: sqlite3.OperationalError, path: Path) -> EvaluationError | ConflictError:
    where = f"{STORE_FOLDER}/{path.name}"
    name = error.sqlite_errorname if hasattr(error, "sqlite_errorname") else ""
    if name.startswith("SQLITE_FULL"):
        return EvaluationError("disk full", where=where, why="what was written before is kept", hint="free some space")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return EvaluationError(
            "the run store is in use by another process", where=where, hint="wait for it, or stop it"
        )
    return EvaluationError(
        "the run store cannot be written",
        where=where,
        why=str(error),
        hint="it must be on a local disk with room and rights",
    )


def _dump(value: Any) -> str:
    return canonical_json(value).decode()


def _run(header: str, state: Any, finished_at: str) -> Run:
    fields = parse_json(header)
    return Run(header=RunHeader(**{**fields, "slices": tuple(fields["slices"])}), state=state, finished_at=finished_at)


def _answer_row(answer: StoredAnswer) -> tuple[Any, ...]:
    return (answer.key, answer.outcome, answer.text, answer.detail, answer.model, answer.input_tokens, answer.output_tokens,
            int(answer.usage_trusted), answer.cost_nanousd, answer.latency_s, answer.created_at)  # fmt: skip


def _answer(row: Sequence[Any]) -> StoredAnswer:
    key, outcome, text, detail, model, tokens_in, tokens_out, trusted, cost, latency, created = row
    return StoredAnswer(key=key, outcome=outcome, text=text, detail=detail, model=model, input_tokens=tokens_in, output_tokens=tokens_out,
                        usage_trusted=bool(trusted), cost_nanousd=cost, latency_s=latency, created_at=created)  # fmt: skip


def _result(row: tuple[Any, ...]) -> Result:
    (_, case_id, draw, category, tags, group, line, case_digest, key, outcome, passed, value, latency, cost, scores) = (
        row
    )
    return Result(case_id=case_id, draw=draw, category=category, tags=_tags(tags), group=group, line=line, case_digest=case_digest,
                  answer_key=key, outcome=outcome, passed=None if passed is None else bool(passed), value=value, latency_s=latency,
                  cost_nanousd=cost, scores=_scores(scores))  # fmt: skip


def _verdict(row: tuple[Any, ...]) -> Verdict:
    judge, vote, swapped, key, outcome, detail, scores = row
    found = {name: (value, reason) for name, (value, reason) in parse_json(scores).items()}
    return Verdict(
        judge=judge, vote=vote, swapped=bool(swapped), answer_key=key, outcome=outcome, detail=detail, scores=found
    )


# Most rows of a run say what others said, and reading them was mostly parsing the same few texts again.
@lru_cache(maxsize=1024)
def _tags(text: str) -> Mapping[str, str]:
    tags: Mapping[str, str] = parse_json(text)
    return tags


@lru_cache(maxsize=1024)
def _scores(text: str) -> tuple[tuple[str, bool | None, str, float | None], ...]:
    return tuple((name, passed, reason, value) for name, passed, reason, value in parse_json(text))
