"""The tables of the shared run store, version by version; each client brings a schema to its own version once."""

from typing import TYPE_CHECKING

from promptops.core.errors import DataError, EvaluationError

if TYPE_CHECKING:
    import psycopg

OLDEST_SERVER = 130000
_LOCK_WAIT_S = 60
_FIRST = """
create table runs (
    id text collate "C" primary key, prompt text not null, prompt_digest text not null, golden_digest text not null, subject text not null,
    state text not null, started_at text collate "C" not null, finished_at text not null, planned bigint not null, header text not null,
    seq bigint generated always as identity
);
create table answers (
    key text collate "C" primary key, outcome text not null, text text not null, detail text not null, model text collate "C" not null,
    input_tokens bigint not null, output_tokens bigint not null, usage_trusted smallint not null,
    cost_nanousd bigint not null, latency_s double precision not null, created_at text not null
);
create table attempts (
    id bigint primary key, run_id text collate "C" not null, key text collate "C" not null,
    started_at text not null, outcome text not null default 'intent', cost_nanousd bigint not null default 0
) with (fillfactor = 80);
create table results (
    run_id text collate "C" not null, case_id text collate "C" not null, draw integer not null,
    category text not null, tags text not null, grouped text not null, line bigint not null, case_digest text not null,
    answer_key text collate "C" not null, outcome text not null, passed smallint, value double precision,
    latency_s double precision not null, cost_nanousd bigint not null, scores text not null, primary key (run_id, case_id, draw)
);
create table verdicts (
    run_id text collate "C" not null, case_id text collate "C" not null, draw integer not null,
    judge text collate "C" not null, vote integer not null, swapped smallint not null, answer_key text collate "C" not null,
    outcome text not null, detail text not null, scores text not null, primary key (run_id, case_id, draw, vote, judge, swapped)
);
create table limits (
    key text primary key, requests double precision not null, tokens double precision not null,
    updated_at double precision not null, blocked_until double precision not null
);
create table leases (run_id text collate "C" primary key, token text not null, holder text not null, taken_at timestamptz not null);
create sequence attempt_blocks increment by 256;
create index attempts_run on attempts (run_id, id);
create index runs_started on runs (started_at);
create function take_permit(wanted_key text, rpm double precision, tpm double precision, burst_minutes double precision, wanted double precision,
                            at double precision) returns double precision language plpgsql as $$
declare
    most_requests double precision := greatest(1.0, rpm * burst_minutes);
    most_tokens double precision := tpm * burst_minutes;
    held limits%rowtype;
    now_s double precision;
    minutes double precision;
    wait_s double precision;
begin
    insert into limits values (wanted_key, most_requests, most_tokens, coalesce(at, extract(epoch from clock_timestamp())), 0) on conflict do nothing;
    select * into held from limits where key = wanted_key for update;
    now_s := coalesce(at, extract(epoch from clock_timestamp()));
    minutes := case when held.updated_at = 0 then 1.0 else greatest(0.0, now_s - held.updated_at) / 60 end;
    held.requests := least(most_requests, held.requests + minutes * rpm);
    held.tokens := least(most_tokens, held.tokens + minutes * tpm);
    wanted := least(wanted, most_tokens);
    wait_s := greatest((1.0 - held.requests) / rpm, (wanted - held.tokens) / tpm) * 60;
    if wait_s <= 0 then
        held.requests := held.requests - 1;
        held.tokens := held.tokens - wanted;
    end if;
    update limits set requests = held.requests, tokens = held.tokens, updated_at = now_s where key = wanted_key;
    return greatest(0.0, wait_s);
end $$;
"""
_TEXTS = "alter table answers add column text_sha256 text not null default ''"
_SEATS = """
create table seats (
    run_id text collate "C" not null, worker text collate "C" not null, calls bigint not null,
    booked_nanousd bigint not null, reserved_nanousd bigint not null, primary key (run_id, worker)
);
"""
MIGRATIONS = (_FIRST, _TEXTS, _SEATS)
VERSION = len(MIGRATIONS)


def prepare_schema(connection: "psycopg.Connection", schema: str, where: str) -> None:
    """Make the tables, or bring them up to date; clients that start together do it once.

    Raises DataError for a newer schema or a server that is too old, EvaluationError without the rights to make them.
    """
    check_server(connection.info.server_version, where)
    found = _version(connection, schema)
    _refuse_newer(found, where)
    if found == VERSION:
        return
    from psycopg.errors import InsufficientPrivilege

    lock = f"promptops migrations {schema}"
    # Taken before the transaction begins: one under way does not hear what others have made since.
    connection.execute("select set_config('lock_timeout', %s, false)", (f"{_LOCK_WAIT_S}s",))
    connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (lock,))
    try:
        with connection.transaction():
            found = _version(connection, schema)
            _refuse_newer(found, where)
            _bring_up_to_date(connection, schema, found)
    except InsufficientPrivilege as error:
        raise EvaluationError(f"the shared store has format {found}, this promptops needs {VERSION}", where=where,
                              why="this login may not make tables", hint="let its owner run `promptops runs list` once; see docs/scale.md") from error  # fmt: skip
    finally:
        connection.execute(
            "select pg_advisory_unlock(hashtextextended(%s, 0)), set_config('lock_timeout', '0', false)", (lock,)
        )


def _bring_up_to_date(connection: "psycopg.Connection", schema: str, found: int) -> None:
    if connection.execute("select to_regnamespace(%s)", (schema,)).fetchall() == [(None,)]:
        connection.execute(f"create schema {schema}".encode())
    connection.execute(
        f"create table if not exists {schema}.migrations"
        " (version integer primary key, applied_at timestamptz not null default now(), applied_by text not null default current_user)".encode()
    )
    for version, statements in enumerate(MIGRATIONS[found:], found + 1):
        connection.execute(statements.encode())
        connection.execute(f"insert into {schema}.migrations (version) values ({version})".encode())


def check_server(version: int, where: str) -> None:
    """`version` as PostgreSQL numbers itself, 150018 for 15.18."""
    if version < OLDEST_SERVER:
        raise DataError(f"the server is PostgreSQL {version // 10000}", where=where, why=f"the store needs {OLDEST_SERVER // 10000} or newer",
                        hint="upgrade the server")  # fmt: skip


def _version(connection: "psycopg.Connection", schema: str) -> int:
    """0 where there are no tables yet."""
    if connection.execute("select to_regclass(%s)", (f"{schema}.migrations",)).fetchall() == [(None,)]:
        return 0
    (row,) = connection.execute(f"select coalesce(max(version), 0) from {schema}.migrations".encode()).fetchall()
    return int(row[0])


def _refuse_newer(found: int, where: str) -> None:
    if found > VERSION:
        raise DataError(
            f"the shared store has format {found}",
            where=where,
            why=f"this promptops reads up to {VERSION}",
            hint="upgrade promptops",
        )
