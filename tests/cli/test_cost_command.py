"""promptops cost: measured tokens and prices to a bill, on a run whose every number is chosen here."""

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from conftest import PROMPT, Outcome, Sandbox
from promptops.project.store import Result, RunHeader, StoredAnswer, Verdict, open_store
from promptops.release.routing import save_router
from promptops.runtime.router import Router

Call = Callable[..., Outcome]
RUN = "20260102-030405-abcdef"
START = "2026-01-02T03:04:05+00:00"
PRICE = {
    "input_nanousd_per_mtok": 150_000_000,
    "cached_input_nanousd_per_mtok": None,
    "output_nanousd_per_mtok": 600_000_000,
}
BIG = {
    "input_nanousd_per_mtok": 3_000_000_000,
    "cached_input_nanousd_per_mtok": None,
    "output_nanousd_per_mtok": 15_000_000_000,
}

BIG_MODEL = '[models.big]\nprovider = "openai"\nmodel = "big-2025-01-01"\nbase_url = "https://api.openai.com/v1"\napi_key_env = "OPENAI_API_KEY"\ninput_usd_per_mtok = "3"\noutput_usd_per_mtok = "15"\n\n'


@pytest.fixture
def measured(sandbox: Sandbox) -> Sandbox:
    """Ten answers of `small` ($0.15 and $0.60): 1,000 tokens in, 100 out; one breaks the schema, one call was made twice."""
    sandbox.replace("promptops.toml", 'default_model = "local"', 'default_model = "small"')
    a_run(sandbox)
    return sandbox


def a_run(sandbox: Sandbox, *, paid: int = 210_000, model: str = "small", run: str = RUN, judged: bool = False) -> None:
    """Paid answers are `k0` to `k9` of the run; a judge, if there is one, voted once on each for 1,000,000 nano-dollars."""
    price = PRICE if model == "small" else BIG
    with closing(open_store(sandbox.root)) as store:
        header = {
            "id": run, "prompt": PROMPT, "candidate": "", "model": model, "model_identity": {}, "prompt_digest": "p", "golden_digest": "g",
            "suite_digest": "s", "rubric_digest": "", "subject": "all", "gate": {"by": ["category"]}, "selection": {}, "slices": (), "repeat": 1,
            "commit": "", "dirty": False, "started_at": START, "planned": 10, "version": "1", "price": price, "judge": {"name": "j"} if judged else {},
        }  # fmt: skip
        store.begin_run(RunHeader(**header))
        for number in range(10):
            broken = number == 0
            store.add_answer(StoredAnswer(key=f"{run}-{number}", outcome="ok", text="{}", detail="", model="m", input_tokens=1000, output_tokens=100,
                                          usage_trusted=True, cost_nanousd=paid, latency_s=0.2, created_at=START))  # fmt: skip
            store.add_result(run, Result(case_id=f"c{number}", draw=0, category="product", tags={}, group="", line=1, case_digest="d", answer_key=f"{run}-{number}",
                                         outcome="ok", passed=not broken, value=None, latency_s=0.2, cost_nanousd=paid, scores=(("json_schema", not broken, "", None),)))  # fmt: skip
            if judged:
                key = f"judge:{run}-{number}"
                store.add_answer(StoredAnswer(key=key, outcome="ok", text="{}", detail="", model="j", input_tokens=1, output_tokens=1,
                                              usage_trusted=True, cost_nanousd=1_000_000, latency_s=0.2, created_at=START))  # fmt: skip
                store.add_verdicts(
                    run,
                    f"c{number}",
                    0,
                    [Verdict(judge="j", vote=0, swapped=False, answer_key=key, outcome="ok", detail="", scores={})],
                )
        calls = [(f"{run}-{number}", 9) for number in range(10)]
        for attempt in store.begin_attempts(run, [*calls, (f"{run}-3", 9)], START):
            store.end_attempt(attempt, "ok", paid)
        store.finish_run(run, "complete", START)


def month(call: Call, *options: str) -> dict[str, Any]:
    outcome = call("cost", PROMPT, "--json", *options)
    assert 0 == outcome.code, outcome.err
    return dict(outcome.json["month"])


def test_a_bill_by_stage_for_two_volumes(measured: Sandbox, call: Call):
    """By hand: 210,000 nano-dollars a call, 30,000 calls a month, 10 % repairs, 10 % of these 33,000 made again; a pilot is a tenth."""
    found = month(call)

    answers, repairs = 30_000 * 210_000, 3_000 * 210_000
    assert [
        ("large model", 30_000, answers),
        ("repairs", 3_000, repairs),
        ("retries", 3_300, (answers + repairs) // 10),
    ] == [tuple(stage.values()) for stage in found["general"]["stages"]]
    assert (30_000, 3_000, found["general"]["nanousd"]) == (found["general"]["requests"], found["pilot"]["requests"], 10 * found["pilot"]["nanousd"])  # fmt: skip


def test_every_assumption_says_where_it_comes_from(measured: Sandbox, call: Call):
    """Measured in the run, configured in the suite, or assumed; each in the sensitivity when it can be otherwise, largest swing first."""
    found = month(call)

    assert {"input_tokens": "measured", "output_tokens": "measured", "repairs": "measured", "retries": "measured", "length": "assumed", "exact_hits": "assumed"} == {
        item["key"]: item["source"] for item in found["assumptions"]
    }  # fmt: skip
    assert all(RUN in item["where"] for item in found["assumptions"] if item["source"] == "measured")
    swings = [item["swing_nanousd"] for item in found["sensitivity"]]
    assert (sorted(swings, reverse=True), {"repairs", "retries", "length", "exact_hits"}) == (swings, {item["key"] for item in found["sensitivity"]})  # fmt: skip
    assert all(item["low_nanousd"] <= item["base_nanousd"] <= item["high_nanousd"] for item in found["sensitivity"] if item["key"] != "exact_hits")  # fmt: skip


def test_an_assumption_can_be_given(measured: Sandbox, call: Call):
    """It has no range then, and says that it was given."""
    found = month(
        call, "--assume", "exact_hits=0.5", "--assume", "retries=0", "--requests-per-day", "100", "--pilot", "7"
    )

    given = {item["key"]: (item["value"], item["low"], item["high"], item["source"]) for item in found["assumptions"]}
    assert ((0.5, 0.5, 0.5, "given"), (0.0, 0.0, 0.0, "given")) == (given["exact_hits"], given["retries"])
    assert (1500 * 210_000 + 150 * 210_000, 210) == (found["general"]["nanousd"], found["pilot"]["requests"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exact_hit=0.1", "no assumption 'exact_hit'"), ("exact_hits=2", "exact_hits=2 cannot be, a share is 0 to 1"),
        ("length=-1", "length=-1 cannot be, it is not negative"), ("exact_hits", "is no KEY=NUMBER"), ("exact_hits=nan", "is no KEY=NUMBER"),
        ("length=1e300", "is no KEY=NUMBER"),
    ],
)  # fmt: skip
def test_an_assumption_that_cannot_be_is_refused(measured: Sandbox, call: Call, text: str, said: str):
    outcome = call("cost", PROMPT, "--assume", text)

    assert (2, True) == (outcome.code, said in outcome.err), outcome.err


def test_a_price_that_changed_is_todays(measured: Sandbox, call: Call):
    """Tokens are kept, so that a new price needs no new run; the reader is told."""
    measured.replace("promptops.toml", 'input_usd_per_mtok = "0.15"', 'input_usd_per_mtok = "0.30"')
    outcome = call("cost", PROMPT, "--json", "--assume", "retries=0", "--assume", "repairs=0").json

    assert (30_000 * 360_000, True) == (outcome["month"]["general"]["nanousd"], any("price of small changed" in note for note in outcome["notes"]))  # fmt: skip


def test_cached_input_lowers_the_bill_as_measured(sandbox: Sandbox, call: Call):
    """Half of the list price was billed: so it is assumed to stay, and at worst is not."""
    sandbox.replace("promptops.toml", 'default_model = "local"', 'default_model = "small"')
    a_run(sandbox, paid=105_000)

    (billed,) = [item for item in month(call)["assumptions"] if item["key"] == "billed"]

    assert (0.5, 0.5, 1.0, "measured") == (billed["value"], billed["low"], billed["high"], billed["source"])


def test_what_is_configured_is_in_the_bill(measured: Sandbox, call: Call):
    """No exact cache, no repairs, second calls for up to 5 %."""
    measured.write(f"golden/{PROMPT}.yaml", measured.read(f"golden/{PROMPT}.yaml")
                   + "runtime:\n  cache: {ttl_s: 0}\n  guardrails: {repair: false}\n  retry: {most: 0}\n  hedge: {share: 0.05}\n")  # fmt: skip

    found = month(call)

    assert {("exact_hits", 0.0), ("repairs", 0.0), ("retries", 0.0), ("hedges", 0.05)} == {
        (item["key"], item["value"]) for item in found["assumptions"] if item["source"] == "configured"
    }
    assert ("second calls (hedging)", 1500, 1500 * 210_000) == tuple(found["general"]["stages"][-1].values())


def test_alternatives_reckons_with_the_same_bill(measured: Sandbox, call: Call):
    """The month of a model there is the model alone with its retries and repairs, as here."""
    from promptops.core.bill import month_bill
    from promptops.evaluation.call_cost import call_cost
    from promptops.project.project import open_project

    project = open_project(measured.root)
    with closing(open_store(measured.root)) as store:
        found = call_cost(store, store.run(RUN), project.config, project.load(PROMPT).suite)

    assert (
        month(call)["general"]["nanousd"] == month_bill(found.assumptions, {"large": found.price}, per_day=1000).nanousd
    )


def test_a_free_model_has_shares_instead_of_money(call: Call):
    call("eval")

    outcome = call("cost", PROMPT)

    assert (0, True, True) == (outcome.code, "costs nothing; shares of model calls are shown" in outcome.out, "what moves the bill" not in outcome.out)  # fmt: skip


def test_the_first_line_is_the_bill(measured: Sandbox, call: Call):
    """A reader sees the money, then what it rests on, then what moves it."""
    out = call("cost", PROMPT).out

    assert out.startswith(
        f"COST  {PROMPT}: $7.62 a month at 1,000 requests a day to small; $0.7623 in a pilot of 100 a day"
    )
    places = [out.index(text) for text in ("together", "it rests on", "what moves the bill", "\n1,000 requests ")]
    assert sorted(places) == places


def test_router_shadow_and_judge_are_stages(sandbox: Sandbox, call: Call):
    """By hand: 30,000 requests, 40 % to the small model (10 % of those rejected), 20 % shadowed, 1 % judged; without retries and repairs."""
    sandbox.replace("promptops.toml", "[models.small]", BIG_MODEL + "[models.small]")
    a_run(sandbox)
    a_run(sandbox, paid=4_500_000, model="big", run="20260102-030405-bbbbbb", judged=True)
    evidence = {"share_small": 0.4, "threshold_cases": 100, "summary": "proven"}
    save_router(
        sandbox.root, PROMPT, Router(rule="length", threshold=0.0, small="small", large="big", evidence=evidence)
    )
    sandbox.write(
        f"golden/{PROMPT}.yaml",
        sandbox.read(f"golden/{PROMPT}.yaml") + "runtime:\n  shadow: {model: small, percent: 20}\n",
    )

    outcome = call("cost", PROMPT, "--json", "--assume", "repairs=0", "--assume", "retries=0")

    assert 0 == outcome.code, outcome.err
    assert [
        ("small model", 12_000, 12_000 * 210_000), ("large model", 18_000, 18_000 * 4_500_000), ("small rejected, large asked", 1_200, 1_200 * 4_500_000),
        ("shadow model", 6_000, 6_000 * 210_000), ("judge", 300, 300 * 1_000_000),
    ] == [tuple(stage.values()) for stage in outcome.json["month"]["general"]["stages"]]  # fmt: skip
    sources = {item["key"]: (item["source"], item["where"]) for item in outcome.json["month"]["assumptions"]}
    assert ("measured", "100 cases that chose only the threshold") == sources["small_share"]
    assert ("configured", "assumed", "measured") == (
        sources["shadowed"][0],
        sources["judged"][0],
        sources["judge_cost"][0],
    )
    assert ["as it is", "with the router"] == [row["what"] for row in outcome.json["rows"]]
    assert outcome.json["rows"][1]["saved"] > 0.3


def test_the_model_that_serves_is_billed_not_the_newest_run(measured: Sandbox, call: Call):
    """A look at something simpler does not change the bill; a model that is named and has no run is asked for."""
    call("eval", "--model", "local:constant")
    assert "small" == call("cost", PROMPT, "--json").json["model"]

    measured.write(f"golden/{PROMPT}.yaml", measured.read(f"golden/{PROMPT}.yaml") + "runtime:\n  large: local:rules\n")
    found = call("cost", PROMPT)
    assert (2, True) == (
        found.code,
        f"no complete run of {PROMPT} on local:rules" in found.err and "--model local:rules" in found.err,
    ), found.err


def test_a_log_measures_length_and_repeats(measured: Sandbox, call: Call):
    """By hand: golden texts of 10 tokens, requests of 110 (400 characters more), 1,000 tokens a call: x1.1; 3 of 4 requests repeat."""
    measured.write_rows(
        [{**row, "inputs": {"feedback": f"{number:040}"}} for number, row in enumerate(measured.rows())]
    )
    measured.write("log.jsonl", json.dumps({"feedback": "y" * 440, "count": 4}) + "\n")

    found = {item["key"]: item for item in month(call, "--traffic", "log.jsonl")["assumptions"]}

    assert ("measured", pytest.approx(1.1)) == (found["length"]["source"], found["length"]["value"])
    assert (0.0, 0.75, "75% of the requests of log.jsonl repeat another") == (found["exact_hits"]["value"], found["exact_hits"]["high"], found["exact_hits"]["where"].partition(";")[0])  # fmt: skip
    assert 2 == call("cost", PROMPT, "--traffic", "none.jsonl").code
