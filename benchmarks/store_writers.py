"""Many writers of one shared run, each with a connection of its own: intents, answers and results as an evaluation writes them.

python -m benchmarks.store_writers KIND URL NAME WRITERS ROUNDS BATCH

KIND `product` is the run store, `bare` a loop of plain psycopg that commits the intents, then the outcomes, answers and results.
Prints `ready`, waits for a line, and prints the CPU seconds it took.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

from promptops.project.store import Result, StoreAddress, StoredAnswer, open_store
from promptops.project.store.rows import answer_row, result_row

RUN = "20260101-000000-aaaaaa"
_AT = "2026-01-01T00:00:00+00:00"
_TEXT = '{"mood": "neutral", "text": "The parcel came on the third day, the box was open at one side and the charger was missing."}'


def main(kind: str, url: str, name: str, writers: int, rounds: int, batch: int) -> None:
    write = _product if kind == "product" else _bare
    begin = threading.Barrier(writers + 1)
    threads = [
        threading.Thread(target=write, args=(url, f"{name}-{number}", rounds, batch, begin))
        for number in range(writers)
    ]
    for thread in threads:
        thread.start()
    begin.wait()
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    begin.wait()
    for thread in threads:
        thread.join()
    print(time.process_time() - cpu, flush=True)


def _product(url: str, name: str, rounds: int, batch: int, begin: threading.Barrier) -> None:
    store = open_store(StoreAddress(root=Path(tempfile.mkdtemp()), url=url))
    begin.wait()
    begin.wait()
    for turn in range(rounds):
        cases = [f"{name}-{turn}-{place}" for place in range(batch)]
        attempts = store.begin_attempts(RUN, [(f"key-{case}", 90_000) for case in cases], _AT)
        for case, attempt in zip(cases, attempts, strict=True):
            store.add_answer(_answer(case))
            store.end_attempt(attempt, "ok", 70_000)
            store.add_result(RUN, _result(case))
    store.close()


def _bare(url: str, name: str, rounds: int, batch: int, begin: threading.Barrier) -> None:
    import psycopg

    connection = psycopg.connect(url)
    connection.execute("set search_path to promptops")
    connection.commit()
    begin.wait()
    begin.wait()
    with connection, connection.cursor() as cursor:
        for turn in range(rounds):
            cases = [f"{name}-{turn}-{place}" for place in range(batch)]
            first = (hash(name) & 0xFFFFFF) * 1_000_000 + turn * batch
            cursor.executemany("insert into attempts values (%s, %s, %s, %s, 'intent', 90000)",
                               [(first + place, RUN, f"key-{case}", _AT) for place, case in enumerate(cases)])  # fmt: skip
            connection.commit()
            cursor.executemany(
                "update attempts set outcome = 'ok', cost_nanousd = 70000 where id = %s",
                [(first + place,) for place in range(batch)],
            )
            marks = ", ".join(["%s"] * 11)
            cursor.executemany(
                f"insert into answers values ({marks}) on conflict do nothing",
                [answer_row(_answer(case)) for case in cases],
            )
            marks = ", ".join(["%s"] * 15)
            cursor.executemany(
                f"insert into results values ({marks}) on conflict do nothing",
                [result_row(RUN, _result(case)) for case in cases],
            )
            connection.commit()


def _answer(case: str) -> StoredAnswer:
    return StoredAnswer(key=f"key-{case}", outcome="ok", text=_TEXT, detail="", model="fixed-2026-01-01", input_tokens=120, output_tokens=12,
                        usage_trusted=True, cost_nanousd=70_000, latency_s=0.2, created_at=_AT)  # fmt: skip


def _result(case: str) -> Result:
    return Result(case_id=case, draw=0, category="billing", tags={"lang": "en"}, group="", line=1, case_digest="d" * 64, answer_key=f"key-{case}",
                  outcome="ok", passed=True, value=None, latency_s=0.2, cost_nanousd=70_000,
                  scores=(("json_schema", True, "", None), ("equals/mood", True, "equal", None)))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:7]))
