"""What `golden stats` says is wrong with a set is wrong with it, and what is right is not."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from conftest import PROMPT, Outcome, Sandbox
from promptops.evaluation.golden_stats import golden_stats
from promptops.evaluation.label_errors import check_labels
from promptops.models.local.folds import Labelled
from promptops.project.project import open_project
from promptops.report.golden import render_stats

Call = Callable[..., Outcome]
WORDS = {"negative": "broken late awful slow refund", "positive": "great quick lovely kind perfect"}


def case(number: int, sentiment: str, category: str = "product", text: str = "") -> dict[str, Any]:
    """Each text has its own filler, so that none is another's twin."""
    own = " ".join(f"{word}{number * 7919 % 9973}{chr(97 + number % 26) * 3}" for word in ("item", "order", "visit"))
    return {
        "id": f"c{number:03}",
        "category": category,
        "inputs": {"feedback": text or f"{WORDS[sentiment]} {own}"},
        "expected": {"sentiment": sentiment},
    }


def many(sandbox: Sandbox, each: int) -> list[dict[str, Any]]:
    rows = [
        case(number, ("negative", "positive")[number % 2], ("product", "delivery")[number // 2 % 2])
        for number in range(each)
    ]
    sandbox.write_rows(rows)
    return rows


def stats(call: Call, *arguments: str) -> dict[str, Any]:
    found = call("golden", "stats", PROMPT, "--json", *arguments)
    assert 0 == found.code, found.out
    return dict(found.json)


@pytest.mark.parametrize(
    ("cases", "level"), [(49, "too few"), (50, "narrow"), (100, "production"), (200, "multi-purpose")]
)
def test_counts_are_held_against_the_minimums(call: Call, sandbox: Sandbox, cases: int, level: str):
    many(sandbox, cases)

    total = stats(call)["total"]

    assert (cases, level) == (total["cases"], total["level"])


def test_more_cases_let_the_gate_see_smaller_drops(call: Call, sandbox: Sandbox):
    many(sandbox, 40)
    few = stats(call)["categories"][0]["detectable"]
    many(sandbox, 200)

    assert stats(call)["categories"][0]["detectable"] < few


def test_twins_leaks_and_examples_are_named(call: Call, sandbox: Sandbox):
    """A row for training that is nearly a case, and two cases that nearly are one."""
    rows = many(sandbox, 30)
    twin = {**case(90, "negative"), "inputs": {"feedback": rows[4]["inputs"]["feedback"] + "!"}}
    sandbox.write_rows([*rows, twin])
    train = {**case(91, "positive"), "inputs": {"feedback": rows[7]["inputs"]["feedback"].upper()}}
    sandbox.write(
        "train.jsonl",
        "".join(
            f"{row}\n" for row in map(json.dumps, [train, case(95, "positive", text="nothing like the others at all")])
        ),
    )

    found = stats(call, "--train", "train.jsonl")

    assert [("c004", "c090")] == [(pair["first"], pair["second"]) for pair in found["twins"]]
    assert [("c007", "c091, line 1", "training", 1.0)] == [tuple(leak.values()) for leak in found["leaks"]]


def test_flipped_labels_are_suspected():
    """Every planted error is found among 200 texts whose words tell the label, and hardly any other is named."""
    rows = [
        Labelled(f"{number:03}", case(number, ("negative", "positive")[number % 2])["inputs"]["feedback"], "", {}, {})
        for number in range(200)
    ]
    given = [("negative", "positive")[number % 2] for number in range(200)]
    flipped = {10, 55, 120, 171}
    labels = [
        ("positive" if label == "negative" else "negative") if number in flipped else label
        for number, label in enumerate(given)
    ]

    found = check_labels(rows, {"sentiment": labels})

    assert flipped == {int(item.id) for item in found.suspects}


def test_labels_that_texts_do_not_tell_are_not_doubted():
    """Models that guess no better than the commonest label say nothing, and the reason is given."""
    rows = [
        Labelled(f"{number:03}", f"text {number * 7919 % 9973} {chr(97 + number % 26)}", "", {}, {})
        for number in range(100)
    ]

    found = check_labels(
        rows, {"coin": [str(number * 31 // 7 % 2) for number in range(100)], "few": ["a"] * 97 + ["b"] * 3}
    )

    assert ((), {"coin", "few"}, {}) == (found.suspects, set(found.skipped), dict(found.accuracy))
    assert "too little to doubt one" in found.skipped["coin"]


def test_simple_answers_say_what_is_trivial(call: Call, sandbox: Sandbox):
    """With one label everywhere, the constant and the nearest case are always right."""
    sandbox.write_rows([case(number, "negative", ("product", "delivery")[number % 2]) for number in range(20)])

    found = stats(call)["simple"]

    assert (20, 20, 20) == (found["tried"], found["passed"]["constant"], found["passed"]["nearest"])


@pytest.mark.parametrize(
    "rows",
    [[case(1, "negative")], [case(number, "negative") for number in range(3)], [{**case(number, "negative"), "expected": {}} for number in range(12)],
     [{**case(number, "negative"), "inputs": {"feedback": "same"}} for number in range(12)]],
    ids=["one case", "one category", "no labels", "all the same"],
)  # fmt: skip
def test_odd_sets_are_measured_or_refused_clearly(call: Call, sandbox: Sandbox, rows: list[dict[str, Any]]):
    """No traceback: numbers where there are some, and reasons where there are none."""
    sandbox.write_rows(rows)
    sandbox.replace(f"golden/{PROMPT}.yaml", "categories:\n  delivery:\n  product:\n", "")

    found = call("golden", "stats", PROMPT)

    assert found.code in (0, 2)
    assert "Traceback" not in found.err
    assert found.code == 0 or found.err.startswith("error: golden/")


BAD_FILES = {
    "empty": (b"", "no cases"),
    "1 MB row": (json.dumps({**case(1, "negative"), "inputs": {"feedback": "x" * 1_100_000}}).encode() + b"\n", "bytes, more than max_case_bytes = 1000000"),
    "wrong encoding": (json.dumps({**case(1, "negative"), "inputs": {"feedback": "caf\xe9"}}, ensure_ascii=False).encode("latin-1") + b"\n", f"golden/{PROMPT}.jsonl:1: not a valid row"),
    "utf-16": ((json.dumps(case(1, "negative")) + "\n").encode("utf-16"), f"golden/{PROMPT}.jsonl:1: not a valid row"),
}  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [("golden", "stats", PROMPT), ("alternatives", PROMPT), ("golden", "coverage", PROMPT, "--traffic", "log.jsonl")],
)
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_golden_files_are_refused_with_their_line(
    call: Call, sandbox: Sandbox, name: str, command: tuple[str, ...]
):
    """Exit 2 before anything is computed, whoever reads the set."""
    content, said = BAD_FILES[name]
    sandbox.write("log.jsonl", '{"feedback": "late"}\n')
    sandbox.write(f"golden/{PROMPT}.jsonl", content)

    found = call(*command)

    assert (2, True) == (found.code, said in found.err), found.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "train.jsonl: no rows"), (b'{"id": "a", "category": "x", "inputs": {"feedback": "caf\xe9"}}\n', "train.jsonl:1: not a valid row"),
        (b"\xff\xfe{\x00", "train.jsonl:1: not a valid row"), (b'"' + b"x" * 10_000_001 + b'"\n', "train.jsonl:1: not a valid row, 10000003 bytes, more than 10000000"),
    ],
)  # fmt: skip
def test_bad_training_files_are_refused_with_their_line(call: Call, sandbox: Sandbox, content: bytes, said: str):
    sandbox.write("train.jsonl", content)

    found = call("golden", "stats", PROMPT, "--train", "train.jsonl")

    assert (2, True) == (found.code, said in found.err), found.err[:300]


def test_the_cases_that_a_category_needs_are_said(sandbox: Sandbox):
    """Those that make a drop as large as the tolerance visible: more than there are, and none where there are enough."""
    sandbox.write_rows([case(number, "negative", "product" if number < 20 else "delivery") for number in range(150)])

    found = golden_stats(open_project(sandbox.root), PROMPT)

    needed = {row.name: row.needed for row in found.categories}
    assert (0, True) == (needed["delivery"], 20 < (needed["product"] or 0) <= 200)
    out = StringIO()
    Console(width=200, file=out).print(render_stats(found, trained_on=0))
    assert f"in: product; about {needed['product']} cases in each would let it be seen" in out.getvalue()
