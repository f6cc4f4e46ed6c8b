"""What the tests of a failing provider share: a starter project whose model is a local server that knows the right answers."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from conftest import Outcome, Sandbox
from faults.server import Call, Fault, Script, answer

CANARY = "sk-canary-1234567890abcdef"
Command = Callable[..., Outcome]
CASES = 22


def configure(sandbox: Sandbox, url: str, *, patience_s: float = 5, **model: Any) -> None:
    """Model `small` is asked at `url`: 1000 nano-dollars a token in, 2000 out, no key unless stated."""
    settings = {
        "provider": "openai", "model": "a-model-2026-01-01", "base_url": url, "timeout_s": 5,
        "input_usd_per_mtok": "1", "output_usd_per_mtok": "2",
    } | model  # fmt: skip
    lines = [f"outage_patience_s = {patience_s}", "[models.small]"]
    sandbox.write(
        "promptops.toml", "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in settings.items())])
    )


def right_answers(sandbox: Sandbox) -> Script:
    """What a perfect model says to each golden case."""
    expected = {row["inputs"]["feedback"]: json.dumps(row["expected"]) for row in sandbox.rows()}

    def script(call: Call) -> Fault:
        return answer(expected[_feedback(call)])

    return script


def unless(sandbox: Sandbox, faults: Mapping[str, Fault]) -> Script:
    """Right answers, but for the cases with these ids."""
    right = right_answers(sandbox)
    by_text = {row["inputs"]["feedback"]: faults[row["id"]] for row in sandbox.rows() if row["id"] in faults}
    return lambda call: by_text.get(_feedback(call)) or right(call)


def spread(sandbox: Sandbox, faults: Iterable[Fault]) -> dict[str, Fault]:
    """Each fault for a case of its own."""
    return dict(zip((row["id"] for row in sandbox.rows()), faults, strict=False))


def answer_others(sandbox: Sandbox, call: Command, *bad: str) -> None:
    """Get right answers to all other cases, so that a run with a short deadline asks only these: a busy machine is slow too."""
    every = sandbox.rows()
    sandbox.write_rows([row for row in every if row["id"] not in bad])
    call("eval", "--model", "small", "--json")
    sandbox.write_rows(every)


def asked(sandbox: Sandbox, calls: Iterable[Call]) -> list[str]:
    """Ids of the cases that calls were about, in the order of the calls."""
    ids = {row["inputs"]["feedback"]: row["id"] for row in sandbox.rows()}
    return [ids[_feedback(call)] for call in calls]


def rows(sandbox: Sandbox, query: str) -> list[tuple[Any, ...]]:
    """What the store holds."""
    connection = sqlite3.connect(sandbox.path(".promptops/store.sqlite3"))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _feedback(call: Call) -> str:
    return call.prompt.removeprefix("<feedback>\n").removesuffix("\n</feedback>")
