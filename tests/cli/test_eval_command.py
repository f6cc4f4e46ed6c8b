"""`promptops eval` with each of its options."""

import json
from collections.abc import Callable

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]


def planned(found: Outcome) -> list[int]:
    return [run["planned"] for run in found.json["runs"]]


@pytest.mark.parametrize(
    ("options", "cases"),
    [
        (("--category", "delivery"), 10),
        (("--category", "delivery", "--category", "product"), 22),
        (("--filter-tag", "length=long"), 9),
        (("--filter-tag", "length"), 22),
        (("--category", "product", "--filter-tag", "length=short"), 7),
        (("--limit", "3"), 3),
        (("--limit", "99"), 22),
        (("--limit", "3", "--repeat", "2"), 6),
        (("--concurrency", "1"), 22),
        (("--model", "local:rules"), 22),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_options_choose_the_cases(call: Call, options: tuple[str, ...], cases: int):
    """Filters intersect, values of one filter unite, --repeat multiplies."""
    found = call("eval", *options, "--json")

    assert [cases] == planned(found), found.err


def test_filters_count_what_the_golden_file_holds(sandbox: Sandbox):
    """The expected numbers above, counted from the file itself."""
    rows = sandbox.rows()

    short_products = [row for row in rows if row["category"] == "product" and row["tags"]["length"] == "short"]
    assert (22, 10, 9, 7) == (len(rows), sum(row["category"] == "delivery" for row in rows),
                              sum(row["tags"]["length"] == "long" for row in rows), len(short_products))  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--category", "delivry"), "did you mean 'delivery'?"),
        (("--filter-tag", "length=huge"), "no case is selected"),
        (("--model", "locl"), "did you mean 'local'?"),
        (("--model", "local:rule"), "did you mean 'rules'?"),
        (("--candidate", "terse"), "has no candidate 'terse'"),
        (("--at=--output=x",), "is not a git ref"),
        (("--limit", "0"), "--limit"),
        (("--limit", "many"), "--limit"),
        (("--repeat", "0"), "--repeat"),
        (("--colour",), "No such option: --colour"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_bad_input_that_says_which(call: Call, options: tuple[str, ...], said: str):
    """Exit 2, one line, before any work: no run is made."""
    found = call("eval", *options)

    assert (2, "", 1) == (found.code, found.out, found.err.count("\n")), found.err
    assert said in found.err
    assert [] == call("runs", "list", "--json").json["runs"]


def test_candidate_needs_one_prompt(sandbox: Sandbox, call: Call):
    """Two prompts cannot share a candidate."""
    sandbox.write("prompts/other/prompt.md", "")

    found = call("eval", "--candidate", "terse")

    assert (2, "error: --candidate needs one prompt; promptops eval NAME --candidate terse\n") == (
        found.code,
        found.err,
    )


def test_candidate_is_evaluated_in_place_of_the_prompt_and_can_be_compared_next(sandbox: Sandbox, call: Call):
    """The last line compares with the newest run of the plain prompt: it can be pasted."""
    plain = call("eval", "--json").json["runs"][0]
    prompt = sandbox.read(f"prompts/{PROMPT}/prompt.md")
    sandbox.write(f"prompts/{PROMPT}/candidates/terse/prompt.md", prompt.replace("You label", "Label"))

    found = call("eval", PROMPT, "--candidate", "terse")
    run = call("runs", "list", "--limit", "1", "--json").json["runs"][0]

    assert (0, "terse") == (found.code, run["candidate"])
    assert f"{PROMPT}@terse on local" in found.out.splitlines()[0]
    assert f"next: promptops compare {plain['run']} {run['run']}" in found.out


def test_at_evaluates_the_files_of_a_commit(sandbox: Sandbox, call: Call):
    """The work tree is neither read nor changed; the run names the commit and is not dirty."""
    commit = sandbox.commit_all()
    rows = sandbox.rows()
    sandbox.write_rows([*rows[:3], rows[-1]])

    now, then = call("eval", "--json"), call("eval", "--at", "main", "--json")

    assert ([4], [22]) == (planned(now), planned(then))
    assert (commit, False) == (then.json["runs"][0]["commit"], then.json["runs"][0]["dirty"])
    assert 4 == len(sandbox.rows())


def test_no_cache_asks_again_and_the_default_does_not(sandbox: Sandbox, call: Call):
    """The second run of unchanged cases takes its answers from the store, and scores the same either way."""
    runs = [call("eval", "--json", *more).json["runs"][0] for more in ((), (), ("--no-cache",))]

    assert 1 == len({json.dumps([run["total"][key] for key in ("n", "passed", "rate", "interval")]) for run in runs})


def test_dry_run_says_the_price_and_makes_nothing(sandbox: Sandbox, call: Call):
    """22 cases of at most 50 output tokens each; no run, no store entry."""
    found = call("eval", "--dry-run", "--json").json["dry_run"][0]
    text = call("eval", "--dry-run")

    assert (PROMPT, "local", 22, 1100, 0) == tuple(
        found[key] for key in ("prompt", "model", "calls", "output_tokens", "cost_nanousd")
    )
    assert text.out.startswith("DRY RUN  ")
    assert [] == call("runs", "list", "--json").json["runs"]


def test_the_answer_comes_first_and_the_next_command_last(call: Call):
    """STYLE: verdict, evidence worst category first, next command."""
    lines = [line for line in call("eval").out.splitlines() if line]

    assert lines[0].startswith(f"DONE  {PROMPT} on local: 16/22 cases pass (73%, 95% interval ")
    names = [line.split()[0] for line in lines if line.startswith(("delivery ", "product ", "length="))]
    assert ["delivery", "product", "length=long", "length=short"] == names
    assert "6 cases did not pass" in lines
    assert ["next:", "promptops", "view", "--case", "delivery-04"] == [
        word for word in lines[-1].split() if not word[0].isdigit()
    ]


def test_repeat_counts_answers_and_warns_about_the_interval(call: Call):
    """Draws of one case are alike, so an interval over all of them looks better than it is; that is said."""
    found = call("eval", "--repeat", "3")

    assert "48/66 answers pass" in found.out.splitlines()[0]
    assert "the intervals are too narrow" in found.out


@pytest.mark.parametrize(
    ("floor", "code", "named"),
    [("0.5", 0, []), ("0.72", 1, ["delivery"]), ("{product: 0.9}", 1, ["product"]), ('{"length=long": 0.5}', 1, ["length=long"])],
)  # fmt: skip
def test_a_category_below_its_floor_is_exit_1(sandbox: Sandbox, call: Call, floor: str, code: int, named: list[str]):
    """gate.min_pass: 7/10 deliveries, 9/12 products and 4/9 long ones pass; which is too low is named."""
    sandbox.replace(f"golden/{PROMPT}.yaml", "min_pass: 0.5", f"min_pass: {floor}")

    found, text = call("eval", "--json"), call("eval")

    assert (code, code, named) == (found.code, found.json["exit_code"], found.json["runs"][0]["missed_floors"])
    assert ("FAIL" if code else "DONE") == text.out.split()[0]
    assert all(name in text.out.splitlines()[0] for name in named)
