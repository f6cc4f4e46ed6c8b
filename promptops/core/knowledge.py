"""Passages of a prompt's knowledge base, and the index that finds them.

The index is SQLite FTS5 (BM25) in memory over the terms of `core.text`, so that Japanese and Chinese are searched by
character pairs.
"""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from promptops.core.errors import Problem
from promptops.core.text import terms

_HEADING = re.compile(r"^##\s+(?P<title>.*?)\s*(?:\{#(?P<id>[A-Za-z0-9._-]+)\})?\s*$")
_TITLE_WEIGHT = 2.0
_MAX_QUERY_TERMS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of text that can be cited by its id; `source` is the file it comes from."""

    id: str
    title: str
    text: str
    source: str = ""

    def as_input(self) -> dict[str, str]:
        """What a template sees."""
        return {"id": self.id, "title": self.title, "text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage found, and its BM25 score (higher is better, unbounded)."""

    passage: Passage
    score: float


def split_passages(text: str, source: str) -> tuple[list[Passage], list[Problem]]:
    """The level-2 sections of a Markdown file, each `## Title {#id}` and its text."""
    passages: list[Passage] = []
    problems: list[Problem] = []
    title = passage_id = ""
    lines: list[str] = []

    def close() -> None:
        if passage_id:
            passages.append(Passage(id=passage_id, title=title, text="\n".join(lines).strip(), source=source))

    for number, line in enumerate(text.split("\n"), 1):
        match = _HEADING.match(line)
        if not match:
            lines.append(line)
            continue
        close()
        title, passage_id, lines = match["title"], match["id"] or "", []
        if not passage_id:
            problems.append(Problem(what="passage without an id", where=f"{source}:{number}",
                                    why="answers cite passages by id", hint="write `## Title {#some-id}`"))  # fmt: skip
    close()
    return passages, problems


class PassageIndex:
    """Ranked search over passages. Not thread-safe: one index per thread, or a lock around `search` of one made for `any_thread`."""

    def __init__(self, passages: Iterable[Passage], *, any_thread: bool = False) -> None:
        self._passages = tuple(passages)
        self._sql = sqlite3.connect(":memory:", check_same_thread=not any_thread)
        self._sql.execute('create virtual table p using fts5(title, body, tokenize = "unicode61 remove_diacritics 2")')
        self._sql.executemany(
            "insert into p(rowid, title, body) values (?, ?, ?)",
            (
                (number, " ".join(terms(passage.title)), " ".join(terms(passage.text)))
                for number, passage in enumerate(self._passages)
            ),
        )

    def search(self, query: str, *, top: int, sources: Sequence[str] | None = None) -> list[Hit]:
        """The best `top` passages for a query, best first; only from `sources` when given."""
        found = list(dict.fromkeys(terms(query)))[:_MAX_QUERY_TERMS]
        if not found:
            return []
        expression = " OR ".join('"' + term.replace('"', "") + '"' for term in found)
        rows = self._sql.execute(
            "select rowid, -bm25(p, ?, 1.0) as score from p where p match ? order by score desc, rowid",
            (_TITLE_WEIGHT, expression),
        )
        hits: list[Hit] = []
        for number, score in rows:
            passage = self._passages[number]
            if sources is None or passage.source in sources:
                hits.append(Hit(passage=passage, score=score))
            if len(hits) == top:
                break
        return hits


_INDEXES: dict[int, tuple[tuple[Passage, ...], PassageIndex]] = {}
_MAX_INDEXES = 16


def index_of(passages: tuple[Passage, ...]) -> PassageIndex:
    """A shared index of this very tuple, for single-threaded use; found by identity, as hashing passages costs more than searching."""
    found = _INDEXES.get(id(passages))
    if found is None or found[0] is not passages:
        if len(_INDEXES) >= _MAX_INDEXES:
            del _INDEXES[next(iter(_INDEXES))]
        found = _INDEXES[id(passages)] = (passages, PassageIndex(passages))
    return found[1]
