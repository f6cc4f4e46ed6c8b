"""Documents from a PostgreSQL table, for `Runtime.load(retrievers=...)`: full-text search, with pgvector beside it when there is an embedding."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from promptops.core.errors import DataError
from promptops.core.knowledge import Passage
from promptops.core.text import terms
from promptops.runtime.databases import PostgresDatabase

if TYPE_CHECKING:
    from psycopg import Cursor
    from psycopg.sql import Composed

Embed = Callable[[str], Sequence[float]]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_LONGEST_QUERY = 10_000
_MOST_PAIRS = 40
_RANK_CONSTANT = 60
"""Of reciprocal rank fusion: Cormack, Clarke, Buettcher 2009, SIGIR."""


class PostgresRetriever:
    """The best documents of one tenant. Thread-safe; a forked child opens connections of its own.

    The role must not be able to write anything. `table` may be `schema.table`. `search` names a tsvector column (with a GIN index), else one is computed for each
    document; `language` is its text search configuration. `tenant` names the column that keeps tenants apart; '' says that
    all tenants may read all documents. `vector` names a pgvector column that `embed` gives a vector for; both rankings
    are then merged. A call waits about `timeout_s` at most. Japanese, Chinese and Korean are found by pairs of characters, which no index of PostgreSQL speeds up.
    """

    def __init__(
        self, url: str, *, table: str = "documents", key: str = "id", title: str = "title", text: str = "text", tenant: str = "tenant", source: str = "",
        language: str = "simple", search: str = "", vector: str = "", embed: Embed | None = None, timeout_s: float = 0.5, max_chars: int = 20_000,
    ) -> None:  # fmt: skip
        for what, name in (("table", table), ("key", key), ("title", title), ("text", text), ("tenant", tenant), ("source", source),
                           ("language", language), ("search", search), ("vector", vector)):  # fmt: skip
            parts = name.split(".", 1) if what == "table" else [name]
            if (name or what in ("table", "key", "title", "text", "language")) and not all(_NAME.fullmatch(part) for part in parts):  # fmt: skip
                raise DataError(f"{what}={name[:60]!r} is not the name of a {'table' if what == 'table' else 'column or configuration'}")  # fmt: skip
        if bool(vector) != (embed is not None):
            raise DataError("`vector` and `embed` go together", hint="name the column, and give the function that embeds a query")  # fmt: skip
        self._database = PostgresDatabase(url)
        self._table, self._id, self._title, self._text = table, key, title, text
        self._tenant, self._source, self._language, self._search = tenant, source, language, search
        self._vector, self._embed, self._timeout_s, self._max_chars = vector, embed, timeout_s, max_chars
        self._has_vectors: bool | None = None

    def search(self, query: str, *, top: int, tenant: str) -> Sequence[Passage]:
        """The best documents first. Raises psycopg.Error when the server is away, slow, or the table is not as described."""
        query = query[:_LONGEST_QUERY].replace("\0", " ").encode("utf-8", "replace").decode()
        if "\0" in tenant or tenant.encode("utf-8", "replace").decode() != tenant:
            return ()  # no row of the table can be this tenant's
        vector = list(self._embed(query)) if self._embed is not None else []
        with self._database.reading(self._timeout_s) as cursor:
            rankings = [self._by_words(cursor, query, top, tenant)]
            if vector and self._vectors_work(cursor):
                rankings.append(self._by_vector(cursor, vector, top, tenant))
        return _merged(rankings)[:top]

    def check(self) -> None:
        """Raises DataError when the table is not as described or the extension is missing, RefusedError when the role can write."""
        import psycopg

        try:
            with self._database.reading(5.0) as cursor:
                self._by_words(cursor, "check", 1, "")
                if self._embed is not None and not self._vectors_work(cursor):
                    raise DataError("the database has no extension `vector`", hint="CREATE EXTENSION vector, or leave `vector` and `embed` out")  # fmt: skip
        except psycopg.Error as error:
            raise DataError("the documents cannot be read", where=self._table, why=str(error).strip().partition("\n")[0][:200]) from error  # fmt: skip

    def _by_words(self, cursor: "Cursor[tuple[object, ...]]", query: str, top: int, tenant: str) -> list[Passage]:
        """By any of the words; a document that has more of them, and closer to its length, comes first."""
        from psycopg.sql import SQL, Identifier, Literal

        pairs = [term for term in dict.fromkeys(terms(query)) if not term.isascii() and len(term) == 2][:_MOST_PAIRS]
        text = SQL("(coalesce({}, '') || ' ' || {})").format(Identifier(self._title), Identifier(self._text))
        config = SQL("{}::regconfig").format(Literal(self._language))
        found = Identifier(self._search) if self._search else SQL("to_tsvector({}, {})").format(config, text)
        statement = SQL(
            "WITH asked AS (SELECT replace(plainto_tsquery({config}, %(query)s)::text, ' & ', ' | ')::tsquery AS words) "
            "SELECT {columns} FROM {table}, asked WHERE {mine} AND ({found} @@ asked.words OR (SELECT count(*) FROM unnest(%(pairs)s::text[]) pair WHERE position(pair IN {text}) > 0) > 0) "
            "ORDER BY ts_rank({found}, asked.words, 1) + (SELECT count(*) FROM unnest(%(pairs)s::text[]) pair WHERE position(pair IN {text}) > 0) DESC, {id} LIMIT %(top)s"
        ).format(config=config, columns=self._columns(), table=self._from(), mine=self._mine(), found=found, text=text, id=Identifier(self._id))  # fmt: skip
        cursor.execute(statement, {"query": query, "pairs": pairs, "top": top, "tenant": tenant})
        return [_passage(row) for row in cursor]

    def _by_vector(self, cursor: "Cursor[tuple[object, ...]]", vector: Sequence[float], top: int, tenant: str) -> list[Passage]:  # fmt: skip
        from psycopg.sql import SQL, Identifier

        statement = SQL("SELECT {columns} FROM {table} WHERE {mine} AND {vector} IS NOT NULL ORDER BY {vector} <=> %(vector)s::vector, {id} LIMIT %(top)s").format(
            columns=self._columns(), table=self._from(), mine=self._mine(), vector=Identifier(self._vector), id=Identifier(self._id)
        )  # fmt: skip
        written = "[" + ",".join(repr(float(number)) for number in vector) + "]"
        cursor.execute(statement, {"vector": written, "top": top, "tenant": tenant})
        return [_passage(row) for row in cursor]

    def _vectors_work(self, cursor: "Cursor[tuple[object, ...]]") -> bool:
        """Whether the extension is there; without it, words alone decide."""
        if self._has_vectors is None:
            cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
            self._has_vectors = cursor.fetchone() is not None
        return self._has_vectors

    def _columns(self) -> "Composed":
        from psycopg.sql import SQL, Identifier, Literal

        source = SQL("{}::text").format(Identifier(self._source)) if self._source else SQL("''")
        return SQL("{}::text, coalesce({}::text, ''), left({}::text, {}), {}").format(
            Identifier(self._id), Identifier(self._title), Identifier(self._text), Literal(self._max_chars), source
        )

    def _from(self) -> "Composed":
        from psycopg.sql import SQL, Identifier

        return SQL("{}").format(Identifier(*self._table.split(".", 1)))

    def _mine(self) -> "Composed":
        """The tenant's partition, which is part of every query."""
        from psycopg.sql import SQL, Identifier

        return SQL("{} = %(tenant)s").format(Identifier(self._tenant)) if self._tenant else SQL("{}").format(SQL("true"))  # fmt: skip


def _passage(row: tuple[object, ...]) -> Passage:
    found, title, text, source = (str(value) for value in row)
    return Passage(id=found, title=title, text=text, source=source)


def _merged(rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
    """Rankings as one, by reciprocal ranks; what comes first in both comes first."""
    if len(rankings) == 1:
        return list(rankings[0])
    scores: dict[str, float] = {}
    by_id: dict[str, Passage] = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            by_id.setdefault(passage.id, passage)
            scores[passage.id] = scores.get(passage.id, 0.0) + 1 / (_RANK_CONSTANT + rank)
    return [by_id[name] for name in sorted(by_id, key=lambda name: (-scores[name], name))]
