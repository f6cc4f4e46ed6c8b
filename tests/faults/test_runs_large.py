"""A file of many rows: the first result is soon there, memory stays small, and stopping keeps what was done."""

import json
import os
import resource
import signal

from slow_server import start

from conftest import PROMPT, Sandbox

ROWS = 200_000
MIB = 1024 * 1024
MOST_ADDRESS_SPACE = 3 * 1024 * MIB
MOST_RESIDENT = 512 * MIB


def write_many_rows(sandbox: Sandbox) -> None:
    with sandbox.path(f"golden/{PROMPT}.jsonl").open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            category = "delivery" if number % 2 else "product"
            file.write(
                f'{{"id": "case-{number:06}", "category": "{category}", "inputs": {{"feedback": "Feedback number {number}."}},'
                ' "expected": {"sentiment": "positive"}, "tags": {"length": "short"}, "source": "written"}\n'
            )


def test_E25_many_rows_are_a_stream_from_the_file_to_the_store(sandbox: Sandbox):
    """Results come while the file is read a second time; memory is far below the size of all cases at once."""
    write_many_rows(sandbox)
    process = start(
        sandbox, "eval", PROMPT, "--model", "local:echo", "--log-format", "json",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE)),
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stdout is not None
    first = json.loads(process.stderr.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.stdout.read().decode(), process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    (run,) = sandbox.run("runs", "list", "--json").json["runs"]

    assert (130, "interrupted", ROWS) == (process.returncode, run["state"], run["planned"]), err
    assert 0 < first["done"] < ROWS
    assert f"of {ROWS} results kept, no verdict" in " ".join(out.split())
    assert used.ru_maxrss * 1024 <= MOST_RESIDENT
