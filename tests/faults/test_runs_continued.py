"""Going on with a run: resume refuses what changed, retry asks what has no answer, rescore asks nobody."""

from collections.abc import Callable
from typing import Any

import pytest
from slow_server import Reply, paid_project

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
RUBRIC = """\
promptops: 1
name: tone
criteria:
  - {id: polite, question: Is it polite?, scale: pass_fail}
"""


def the_run(outcome: Outcome) -> dict[str, Any]:
    (row,) = outcome.json["runs"]
    return row


def other_rows(sandbox: Sandbox) -> None:
    rows = sandbox.rows()
    rows[-1]["inputs"]["feedback"] = "Another text."
    sandbox.write_rows(rows)


CHANGES: dict[str, tuple[Callable[[Sandbox], None], str]] = {
    "golden": (other_rows, "the golden cases"),
    "prompt": (
        lambda sandbox: sandbox.replace(f"prompts/{PROMPT}/prompt.md", "You label", "You carefully label"),
        "the prompt, its schemas, examples or knowledge",
    ),
    "model": (
        lambda sandbox: sandbox.replace("promptops.toml", 'model = "slow-1"', 'model = "slow-2"'),
        "the model that answers, or its settings",
    ),
    "suite": (
        lambda sandbox: sandbox.replace(f"golden/{PROMPT}.yaml", "min_pass: 0.5", "min_pass: 0.4"),
        "the suite: checks, schemas or gate",
    ),
    "rubric": (
        lambda sandbox: sandbox.replace("rubrics/tone.yaml", "Is it polite?", "Is it kind?"),
        "the rubric",
    ),
    "price": (
        lambda sandbox: sandbox.replace("promptops.toml", '_mtok = "20"', '_mtok = "21"'),
        "the price of the model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_E20_resume_refuses_to_mix_and_says_what_changed(sandbox: Sandbox, call: Call, change: str):
    """One problem for the one thing that changed, exit 2, nothing asked; changed back, the run goes on."""
    make, what = CHANGES[change]
    with paid_project(sandbox, cases=6) as server:
        sandbox.write("rubrics/tone.yaml", RUBRIC)
        sandbox.replace(f"golden/{PROMPT}.yaml", "slices:", "rubric: tone\nslices:")
        call("eval", "--max-calls", "2")
        files = (
            "promptops.toml",
            "rubrics/tone.yaml",
            f"golden/{PROMPT}.jsonl",
            f"golden/{PROMPT}.yaml",
            f"prompts/{PROMPT}/prompt.md",
        )
        before = {name: sandbox.read(name) for name in files}
        make(sandbox)
        refused = call("eval", "--resume", "--json")
        calls = server.calls
        for name, text in before.items():
            sandbox.write(name, text)
        finished = call("eval", "--resume", "--json")

    run = the_run(finished)["run"]
    assert (2, 2) == (refused.code, calls)
    assert [f"changed since run {run}: {what}"] == [item["what"] for item in refused.json["error"]["problems"]]
    assert (0, 6) == (finished.code, server.calls)


def test_E20_every_change_is_named(sandbox: Sandbox, call: Call):
    """Two things changed are two problems."""
    with paid_project(sandbox, cases=6):
        call("eval", "--max-calls", "2")
        CHANGES["price"][0](sandbox)
        CHANGES["golden"][0](sandbox)
        refused = call("eval", "--resume", "--json")

    assert 2 == refused.code
    assert ["the golden cases", "the price of the model"] == [
        item["what"].partition(": ")[2] for item in refused.json["error"]["problems"]
    ]


@pytest.mark.parametrize(
    "option", [("--category", "delivery"), ("--limit", "3"), ("--model", "local:echo"), ("--dry-run",)]
)
def test_resume_takes_a_run_as_it_is(sandbox: Sandbox, call: Call, option: tuple[str, ...]):
    """Filters and models cannot be given again."""
    with paid_project(sandbox, cases=4) as server:
        call("eval", "--max-calls", "1")
        refused = call("eval", *option, "--resume")

    assert (2, 1) == (refused.code, server.calls)


def test_resume_keeps_the_selection_of_the_run(sandbox: Sandbox, call: Call):
    """A run of one category and two draws goes on with that category and two draws."""
    with paid_project(sandbox, cases=6) as server:
        call("eval", "--category", "product", "--repeat", "2", "--max-calls", "1")
        finished = call("eval", "--resume", "--json")

    assert (0, 6, ["product"]) == (
        finished.code,
        server.calls,
        [row["name"] for row in the_run(finished)["categories"]],
    )


def test_resume_without_any_run_says_so(sandbox: Sandbox, call: Call):
    """There is nothing to go on with: bad input, not success."""
    refused = call("eval", "--resume")

    assert (2, "error: no runs yet; run `promptops eval`\n") == (refused.code, refused.err)


def test_E36_answers_from_before_an_outage_are_kept(sandbox: Sandbox, call: Call):
    """A provider that goes away stops the run; what came before is never paid again, and retry asks the rest."""
    good = 12
    down = True

    def reply(_: str, before: int) -> Reply:
        return Reply(status=503) if down and before >= good else Reply()

    with paid_project(sandbox, cases=30, reply=reply) as server:
        sandbox.write("promptops.toml", "outage_patience_s = 1\n" + sandbox.read("promptops.toml"))
        stopped = call("eval", "--json", "--concurrency", "4")
        asked_well = set(list(server.asked)[:good])
        down = False
        call("eval", "--resume")
        finished = call("retry", "--json")

    assert (3, "incomplete", good) == (stopped.code, the_run(stopped)["state"], the_run(stopped)["total"]["passed"])
    assert (0, "complete", 30) == (finished.code, the_run(finished)["state"], the_run(finished)["total"]["passed"])
    assert {1} == {server.asked[text] for text in asked_well}


def test_retry_asks_only_what_has_no_answer(sandbox: Sandbox, call: Call):
    """Errors, refusals and truncations are asked again; answers, also wrong ones, stay."""
    healed = False
    special = {"1": Reply(status=400), "2": Reply(extra={"choices": []}), "3": Reply(text='{"sentiment": "negative"}')}

    def reply(text: str, _: int) -> Reply:
        number = text.split("number ")[1][0]
        return Reply() if healed and number != "3" else special.get(number, Reply())

    with paid_project(sandbox, cases=6, reply=reply) as server:
        first = call("eval", "--json")
        server.asked.clear()
        healed = True
        retried = call("retry", "--json")
        again = call("retry", "--json")

    assert (3, 3, 2) == (first.code, the_run(first)["total"]["passed"], the_run(first)["total"]["unscored"])
    assert (0, 5, 0) == (retried.code, the_run(retried)["total"]["passed"], the_run(retried)["total"]["unscored"])
    assert ["Feedback number 1.", "Feedback number 2."] == sorted(text.split("\n")[1] for text in server.asked)
    assert the_run(retried) | {"finished_at": ""} == the_run(again) | {"finished_at": ""}


def test_rescore_applies_a_changed_check_without_a_call(sandbox: Sandbox, call: Call):
    """The same answers, the checks of today, a new run; the old run keeps its scores."""
    with paid_project(sandbox, cases=4) as server:
        before = call("eval", "--json")
        sandbox.replace(
            f"golden/{PROMPT}.yaml", "  - {check: json_schema}\n", "  - {check: not_contains, values: [positive]}\n"
        )
        rescored = call("rescore", "--json")
        shown = call("runs", "show", the_run(before)["run"], "--json")

    assert (1, 4, 0, 0) == (
        rescored.code,
        server.calls,
        the_run(rescored)["total"]["passed"],
        the_run(rescored)["calls"],
    )
    assert the_run(rescored)["run"] != the_run(before)["run"]
    assert (4, 0) == (shown.json["total"]["passed"], before.code)


def test_rescore_takes_the_answers_of_its_own_run(sandbox: Sandbox, call: Call):
    """Not those another run got to the same requests, and what the run had no answer to stays without."""
    text = '{"sentiment": "positive"}'

    with paid_project(sandbox, cases=4, reply=lambda *_: Reply(text=text)) as server:
        call("eval")
        text = '{"sentiment": "negative"}'
        fresh = call("eval", "--no-cache", "--json")
        server.reply = lambda asked, _: Reply(extra={"choices": []}) if "number 1." in asked else Reply(text=text)
        holed = call("eval", "--no-cache", "--json")
        calls = server.calls
        again = [call("rescore", the_run(found)["run"], "--json") for found in (fresh, holed)]

    kept = [(found.code, the_run(found)["total"]["passed"], the_run(found)["outcomes"]) for found in (fresh, holed)]
    assert kept == [(found.code, the_run(found)["total"]["passed"], the_run(found)["outcomes"]) for found in again]
    assert ([(1, 0, {}), (3, 0, {"bad_response": 1})], calls) == (kept, server.calls)


def test_rescore_of_a_changed_prompt_is_refused(sandbox: Sandbox, call: Call):
    """Answers to another prompt are not scored as answers to this one."""
    with paid_project(sandbox, cases=4) as server:
        call("eval")
        CHANGES["prompt"][0](sandbox)
        refused = call("rescore")

    assert (2, 4) == (refused.code, server.calls)


def test_rescore_says_which_cases_have_no_answer(sandbox: Sandbox, call: Call):
    """A case whose input changed since has no stored answer: unscored, exit 3, and not asked."""
    with paid_project(sandbox, cases=4) as server:
        call("eval")
        other_rows(sandbox)
        rescored = call("rescore", "--json")

    worst = the_run(rescored)["worst"]
    assert (3, 4, {"not_recorded": 1}) == (rescored.code, server.calls, the_run(rescored)["outcomes"])
    assert ["case-003"] == [item["case"] for item in worst if item["passed"] is None]
