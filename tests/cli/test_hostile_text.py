"""Text from golden rows, models, files and arguments reaches the screen as text and nothing else."""

import json
import os
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
HOSTILE = "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil\x1b\\\x9b31m\rover\b\u202edlog\u2066\u200b\ufeff\u2028[link=http://evil]x[/link][/b]"
ARGUMENT = HOSTILE.replace("/", "_")


def raw_controls(found: Outcome) -> set[str]:
    """Characters in stdout and stderr that steer a terminal, reorder text or are invisible."""
    return {
        char
        for char in found.out + found.err
        if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


def hostile_rows(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The starter's rows; the first has hostile text wherever the format allows any."""
    rows = sandbox.rows()
    rows[0] |= {
        "inputs": {"feedback": HOSTILE},
        "expected": {"sentiment": HOSTILE},
        "tags": {"length": HOSTILE[:80]},
        "source": HOSTILE,
    }
    return rows


def commands(call: Call) -> Iterator[tuple[str, ...]]:
    yield from (
        ("eval",),
        ("eval", "--repeat", "2"),
        ("list",),
        ("show", PROMPT),
        ("lint",),
        ("runs", "list"),
        ("runs", "show"),
        ("view",),
    )
    yield from (("view", "--all"), ("view", "--case", "delivery-01"), ("view", "--category", f"length={HOSTILE[:80]}"))


def test_L1_control_characters_of_golden_data_never_reach_the_screen(sandbox: Sandbox, call: Call):
    """ANSI, OSC, C1, CR, backspace, bidi and zero-width characters are shown as escapes, with --json as JSON escapes."""
    sandbox.write_rows(hostile_rows(sandbox))

    found = {(*command, *more): call(*command, *more) for command in commands(call) for more in ((), ("--json",))}

    assert {} == {command: raw for command, outcome in found.items() if (raw := raw_controls(outcome))}
    assert {0} == {outcome.code for outcome in found.values()}
    assert "\\x1b[31mred\\x1b]0;title" in found["view", "--case", "delivery-01"].out
    assert HOSTILE == found["view", "--case", "delivery-01", "--json"].json["inputs"]["feedback"]


def test_L1_an_answer_that_is_hostile_is_shown_as_text(sandbox: Sandbox, call: Call):
    """local:echo answers with the input, so the model's own text is hostile."""
    sandbox.write_rows(hostile_rows(sandbox))

    found = [
        call("eval", "--model", "local:echo"),
        call("view", "--case", "delivery-01"),
        call("view", "--case", "delivery-01", "--json"),
    ]

    assert [set()] * 3 == [raw_controls(outcome) for outcome in found]


@pytest.mark.parametrize(
    "row",
    [{"id": HOSTILE}, {"category": HOSTILE}, {"tags": {HOSTILE: "x"}}, {HOSTILE: 1}, {"inputs": {HOSTILE: "x"}}, {"inputs": {"feedback": "a\0b"}}],
    ids=["id", "category", "tag-name", "key", "input-name", "nul"],
)  # fmt: skip
def test_L1_a_row_that_is_refused_is_quoted_safely(sandbox: Sandbox, call: Call, row: dict[str, Any]):
    """The complaint about a hostile name must not carry it out."""
    rows = sandbox.rows()
    rows[0] |= row
    sandbox.write_rows(rows)

    found = [call("lint"), call("lint", "--json"), call("eval"), call("--debug", "eval")]

    assert ([2] * 4, [set()] * 4) == ([outcome.code for outcome in found], [raw_controls(outcome) for outcome in found])


@pytest.mark.parametrize(
    "arguments",
    [("eval", ARGUMENT), ("eval", "--model", ARGUMENT), ("eval", "--model", "local:" + ARGUMENT), ("eval", "--category", ARGUMENT),
     ("eval", "--candidate", ARGUMENT), ("eval", "--at", ARGUMENT), ("eval", "--limit", ARGUMENT), ("eval", "--" + ARGUMENT), (ARGUMENT,),
     ("view", ARGUMENT), ("view", "--case", ARGUMENT), ("view", "--category", ARGUMENT), ("compare", ARGUMENT, "latest"),
     ("runs", "import", ARGUMENT), ("runs", "list", "--prompt", ARGUMENT), ("runs", "export", ARGUMENT)],
    ids=lambda words: " ".join("X" if ARGUMENT in word else word for word in words),
)  # fmt: skip
def test_L1_L2_arguments_are_quoted_safely(call: Call, arguments: tuple[str, ...]):
    """Whoever makes a person paste a command must not gain their terminal: escapes, and no markup is read."""
    call("eval")

    found = [call(*arguments), call(*arguments, "--json"), call("--debug", *arguments)]

    assert [set()] * 3 == [raw_controls(outcome) for outcome in found]
    assert {True} == {outcome.code in (2, 3) for outcome in found}


def test_L1_file_names_are_shown_as_escapes(sandbox: Sandbox, call: Call):
    """A file name may hold any byte but / and NUL."""
    call("eval")
    name = ARGUMENT + ".jsonl"

    found = [call("runs", "export", "latest", "-o", name), call("runs", "export", "latest", "-o", name, "--json"), call("runs", "import", name),
             call("init", ARGUMENT), call("init", ARGUMENT)]  # fmt: skip

    assert [0, 0, 0, 0, 2] == [outcome.code for outcome in found]
    assert [set()] * 5 == [raw_controls(outcome) for outcome in found]
    assert sandbox.path(name).is_file()


def test_L1_an_imported_run_is_as_untrusted_as_any_file(sandbox: Sandbox, call: Call):
    """Model, candidate, categories, case ids, tags, checks, reasons and answers of somebody else's run."""
    run = call("eval", "--json").json["runs"][0]["run"]
    call("runs", "export", run, "-o", "run.jsonl")
    for number in (1, 2):
        lines = [json.loads(line) for line in sandbox.read("run.jsonl").splitlines()]
        lines[0]["header"] |= {
            "id": f"20260101-00000{number}-abcdef",
            "model": HOSTILE,
            "candidate": HOSTILE,
            "commit": HOSTILE,
            "subject": HOSTILE,
        }
        for line in lines:
            if line["type"] == "result":
                failed = number == 2
                line |= {"case_id": line["case_id"] + HOSTILE, "category": HOSTILE, "tags": {HOSTILE: HOSTILE}, "passed": not failed,
                         "scores": [[HOSTILE, not failed, HOSTILE, None]]}  # fmt: skip
            elif line["type"] == "answer":
                line |= {"text": HOSTILE, "detail": HOSTILE, "key": line["key"]}
        sandbox.write(f"run{number}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    case = "delivery-01" + HOSTILE

    plain = [("compare", "run1.jsonl", "run2.jsonl"), ("runs", "list"), ("runs", "show", "20260101-000002-abcdef"),
             ("view", "20260101-000002-abcdef"), ("view", "20260101-000002-abcdef", "--case", case),
             ("explain", "20260101-000002-abcdef", HOSTILE, "--base", "20260101-000001-abcdef")]  # fmt: skip
    found = {command: call(*command) for command in [*plain, *((*command, "--json") for command in plain)]}

    assert {} == {command: raw for command, outcome in found.items() if (raw := raw_controls(outcome))}
    assert {0, 1} == {outcome.code for outcome in found.values()}
    assert found["compare", "run1.jsonl", "run2.jsonl"].out.startswith("FAIL  ")


def test_next_command_cannot_be_made_to_run_another(sandbox: Sandbox, call: Call):
    """A name in a command that people paste is quoted for the shell."""
    call("eval")

    found = call("runs", "export", "latest", "-o", "$(touch owned); x.jsonl")

    assert "next: promptops runs import '$(touch owned); x.jsonl'\n" == found.out[found.out.index("next:") :]


def test_L7_a_lone_surrogate_is_shown_escaped(sandbox: Sandbox):
    """Bytes that are no UTF-8 in an argument or a file name; --json stays one JSON document."""
    name = os.fsdecode(b"\xff\xfe.jsonl")
    sandbox.run("eval")

    found = [sandbox.run("view", "--case", name), sandbox.run("view", "--case", name, "--json"), sandbox.run("runs", "import", name),
             sandbox.run("runs", "export", "latest", "-o", name), sandbox.run("runs", "export", "latest", "-o", name, "--json")]  # fmt: skip

    assert [2, 2, 2, 0, 0] == [outcome.code for outcome in found], found
    assert (True, True) == ("\\udcff\\udcfe" in found[0].err, "\\udcff" in found[3].out)
    assert "\udcff\udcfe.jsonl" == found[4].json["file"]
    assert sandbox.path(name).is_file()


@pytest.mark.parametrize("columns", ["80", "132"])
def test_E26_a_huge_input_and_a_huge_word_leave_the_tables_intact(
    sandbox: Sandbox, call: Call, monkeypatch: pytest.MonkeyPatch, columns: str
):
    """A 20 kB word and an answer of half a megabyte: no line of a table is wider than the terminal, no row is lost."""
    monkeypatch.setenv("COLUMNS", columns)
    sandbox.replace(f"prompts/{PROMPT}/input.schema.json", ', "maxLength": 5000', "")
    rows = sandbox.rows()
    rows[0]["inputs"] = {"feedback": "x" * 20_000}
    rows[1]["inputs"] = {"feedback": "long words " * 45_000}
    rows[2]["expected"] = {"sentiment": "y" * 20_000}
    sandbox.write_rows(rows)

    found = call("eval", "--model", "local:echo")
    cases = call("view", "--all")

    assert 0 == len([line for line in (found.out + cases.out).splitlines() if len(line) > int(columns)])
    assert {row["id"] for row in rows} == {
        line.split()[0] for line in cases.out.splitlines() if line.startswith(("delivery-", "product-"))
    }
    assert max(map(len, call("view", "--case", "delivery-03").out.splitlines())) <= int(columns)


def test_E26_a_case_above_the_stated_limit_is_refused_before_any_call(sandbox: Sandbox, call: Call):
    """max_case_bytes is 1 MB: a row above it is bad input with its line, and no run is made."""
    rows = sandbox.rows()
    rows[4]["inputs"] = {"feedback": "z" * 1_000_000}
    sandbox.write_rows(rows)

    found = call("eval")

    assert (2, True, True) == (
        found.code,
        f"golden/{PROMPT}.jsonl:5: " in found.err,
        "max_case_bytes = 1000000" in found.err,
    )
    assert len(found.err) < 2_000
    assert [] == call("runs", "list", "--json").json["runs"]
