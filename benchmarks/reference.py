"""The bare loops, as child processes: the same libraries, and nothing of promptops.

`loop` does what an evaluation cannot go without: parse a row, render, check the answer, insert it into SQLite.
`load` parses and validates each row. `parse` only parses.
"""

import sqlite3
import sys
from pathlib import Path

import jsonschema_rs
import orjson

_FLUSH_EVERY = 256


def main(kind: str, root: Path, name: str) -> None:
    {"loop": loop, "load": load, "parse": parse}[kind](root, name)


def loop(root: Path, name: str) -> None:
    import minijinja

    prompt = root / "prompts" / name
    system, user = (prompt / "prompt.md").read_text().partition("system:\n")[2].split("\nuser:\n")
    engine = minijinja.Environment(templates={"system": system, "user": user}, auto_escape_callback=lambda _: False)
    engine.add_filter("json", lambda value: orjson.dumps(value).decode())
    schema = jsonschema_rs.Draft202012Validator(orjson.loads((prompt / "output.schema.json").read_bytes()))
    sql = sqlite3.connect(root / "reference.sqlite3", isolation_level=None)
    sql.execute("pragma journal_mode = wal")
    sql.execute("pragma synchronous = normal")
    sql.execute(
        "create table results (id text primary key, category text, answer text, passed integer) strict, without rowid"
    )
    rows = []
    with (root / "golden" / f"{name}.jsonl").open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            engine.render_template("system", **row["inputs"])
            answer = engine.render_template("user", **row["inputs"])
            value = orjson.loads(answer)
            passed = schema.is_valid(value) and value["mood"] == row["expected"]["mood"]
            rows.append((row["id"], row["category"], answer, passed))
            if len(rows) == _FLUSH_EVERY:
                _insert(sql, rows)
    _insert(sql, rows)
    sql.close()


def _insert(sql: sqlite3.Connection, rows: list[tuple[str, str, str, bool]]) -> None:
    sql.execute("begin immediate")
    sql.executemany("insert into results values (?, ?, ?, ?)", rows)
    sql.execute("commit")
    rows.clear()


def load(root: Path, name: str) -> None:
    schema = jsonschema_rs.Draft202012Validator(
        orjson.loads((root / "prompts" / name / "input.schema.json").read_bytes())
    )
    with (root / "golden" / f"{name}.jsonl").open("rb") as file:
        for line in file:
            if not schema.is_valid(orjson.loads(line)["inputs"]):
                raise ValueError("a row that is not valid")


def parse(root: Path, name: str) -> None:
    with (root / "golden" / f"{name}.jsonl").open("rb") as file:
        for line in file:
            orjson.loads(line)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
