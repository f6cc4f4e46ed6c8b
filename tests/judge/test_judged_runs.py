"""Runs with a judge: exactly one verdict or none, counted apart, and a failing judge is never a bad answer."""

import json
from typing import Any

import pytest

from conftest import PROMPT, Sandbox
from faults.provider_runs import CASES, Command, configure, right_answers, rows
from faults.server import Call, Fault, FaultServer, Script, answer, failure, hang
from judge.judges import RUBRIC, blocks, honest, judge, judged_project, says, verdict

GOOD = json.dumps(verdict(True))


def judged(call: Command, *arguments: str) -> tuple[int, dict[str, Any]]:
    finished = call(*(arguments or ("eval",)), "--json")
    assert "Traceback" not in finished.err
    return finished.code, finished.json["runs"][0]


def test_a_judge_scores_what_passes_the_checks_and_is_counted_apart(sandbox: Sandbox, call: Command):
    """One call a case, its cost in the ledger, its verdicts by category; uncalibrated, it counts for nothing."""
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url)
        code, run = judged(call)

    assert (0, CASES, CASES, CASES) == (code, run["total"]["passed"], len(server.calls), run["judge_calls"])
    assert ("advisory", CASES, 0) == (
        run["judge"]["standing"],
        run["judge"]["total"]["judged"],
        run["judge"]["total"]["missed"],
    )
    assert CASES * 20_000 == run["judge_paid_nanousd"] == run["paid_nanousd"]


def test_a_failed_check_spares_the_judge(sandbox: Sandbox, call: Command):
    """The answer fails whatever a judge would say."""
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url, checks="{check: equals, path: /sentiment}")
        _, run = judged(call)

    failed = CASES - run["total"]["passed"]
    assert failed > 0, "the local rules are not perfect"
    assert (CASES - failed, failed) == (len(server.calls), run["judge"]["total"]["spared"])


def test_the_second_run_pays_nothing(sandbox: Sandbox, call: Command):
    """Verdicts are answers: the same question costs once, unless it is to be asked anew."""
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url)
        for _ in range(2):
            judged(call)
        assert CASES == len(server.calls)
        judged(call, "eval", "--no-cache")

    assert 2 * CASES == len(server.calls)


_NO_VERDICT = {
    "out of range": json.dumps(verdict(True, plain=7)),
    "5.5 of 5": GOOD.replace('"score": 5', '"score": 5.5'),
    "N/A": GOOD.replace('"score": true', '"score": "N/A"'),
    "pass and 0": json.dumps(verdict(True) | {"pass": True, "score": 0}),
    "one criterion": json.dumps({"right": verdict(True)["right"]}),
    "number for yes": GOOD.replace('"score": true', '"score": 1'),
    "text": "The answer is right. Score: 5/5",
    "other language": "回答は正しいです。合格。",
    "two verdicts": f"{GOOD}\n{json.dumps(verdict(False))}",
    "twice the same key": GOOD.replace('{"right"', '{"right": {"reason": "r", "score": false}, "right"'),
    "talk before": f"Here is my verdict:\n{GOOD}",
    "cut": GOOD[:-5],
    "empty": " ",
    "no reason": GOOD.replace('"reason": "because", ', ""),
}


@pytest.mark.parametrize("content", _NO_VERDICT.values(), ids=list(_NO_VERDICT))
def test_E34_E35_anything_but_exactly_one_verdict_is_no_verdict(sandbox: Sandbox, call: Command, content: str):
    """Neither 0 nor a pass: the run is no evaluation (3), and says in how many answers of which category."""
    with FaultServer(says(content)) as server:
        judged_project(sandbox, server.url)
        code, run = judged(call, "eval", "--limit", "3")

    assert (3, 3, 0, 0) == (
        code,
        run["judge"]["total"]["missed"],
        run["judge"]["total"]["judged"],
        run["judge"]["total"]["passed"],
    )
    assert "incomplete" == run["state"]
    assert 0 == rows(sandbox, "select count(*) from answers where key like 'judge:%'")[0][0], (
        "what is no verdict is not kept"
    )


def test_E35_a_fence_around_the_one_verdict_is_taken_off(sandbox: Sandbox, call: Command):
    """Models without structured output write it; there is still exactly one verdict."""
    with FaultServer(says(f"```json\n{GOOD}\n```\n")) as server:
        judged_project(sandbox, server.url)
        code, run = judged(call, "eval", "--limit", "3")

    assert (0, 3) == (code, run["judge"]["total"]["passed"])


@pytest.mark.parametrize(("share", "code"), [(0.04, 3), (0.10, 0)])
def test_E35_a_category_may_lack_as_many_verdicts_as_the_suite_allows(
    sandbox: Sandbox, call: Command, share: float, code: int
):
    """One of 11 answers is 9 %: above 4 % the run is no evaluation, within 10 % it is, and the count is shown."""
    target = sandbox.rows()[0]["inputs"]["feedback"]

    def script(asked: Call) -> Fault:
        return answer("N/A" if blocks(asked)["input feedback"] == target else GOOD)

    with FaultServer(script) as server:
        judged_project(sandbox, server.url, judge=f"model: judge, max_error_rate: {share}")
        found, run = judged(call)

    assert (code, 1) == (found, run["judge"]["total"]["missed"])


def test_E35_a_slow_judge_is_an_outage_not_a_bad_answer(sandbox: Sandbox, call: Command):
    """It is given up at its deadline; the answers are kept."""
    with FaultServer(lambda _: hang) as server:
        judged_project(sandbox, server.url, timeout_s=0.2)
        code, run = judged(call, "eval", "--limit", "2")

    assert (3, 2) == (code, run["judge"]["total"]["missed"])
    assert 2 == rows(sandbox, "select count(*) from answers")[0][0]


def _until(healthy: list[bool], right: Script) -> Script:
    """Candidate and judge on one server that is away until `healthy` says so."""

    def script(asked: Call) -> Fault:
        is_judge = "grade" in asked.body["messages"][0]["content"]
        if is_judge:
            return answer(GOOD) if healthy[0] else failure(503)
        return right(asked)

    return script


@pytest.mark.parametrize(
    "again", [("eval", "--resume"), ("rescore", "latest", "--judge", "judge")], ids=["resume", "rescore"]
)
def test_E36_when_the_judge_is_away_answers_are_kept_and_only_the_judge_is_paid_later(
    sandbox: Sandbox, call: Command, again: tuple[str, ...]
):
    """The same outage at both ends the run with 3; whoever goes on pays verdicts alone."""
    healthy = [False]
    with FaultServer(_until(healthy, right_answers(sandbox))) as server:
        judged_project(sandbox, server.url)
        sandbox.write(
            "promptops.toml",
            sandbox.read("promptops.toml")
            + sandbox.read("promptops.toml").partition("\n")[2].replace("models.judge", "models.small"),
        )
        code, _ = judged(call, "eval", "--model", "small", "--concurrency", "4")
        asked = sum("grade" not in item.body["messages"][0]["content"] for item in server.calls)
        healthy[0] = True
        if again[0] == "rescore":  # what never got an answer cannot be scored again
            judged(call, "eval", "--model", "small", "--judge", "none")
            asked = sum("grade" not in item.body["messages"][0]["content"] for item in server.calls)
        code_after, run = judged(call, *again)

    candidate_calls = sum("grade" not in item.body["messages"][0]["content"] for item in server.calls)
    assert (3, 0, CASES) == (code, code_after, run["judge"]["total"]["judged"])
    assert CASES == candidate_calls, "each answer was paid once"
    assert asked <= candidate_calls


def test_E36_retry_asks_the_judge_alone(sandbox: Sandbox, call: Command):
    """A verdict that could not be read is asked for again; the answer it is on is not."""
    broken = [True]
    with FaultServer(lambda _: answer("N/A" if broken[0] else GOOD)) as server:
        judged_project(sandbox, server.url)
        code, _ = judged(call, "eval", "--limit", "3")
        broken[0] = False
        retried, run = judged(call, "retry", "latest")

    assert (3, 0, 3) == (code, retried, run["judge"]["total"]["passed"])
    assert 6 == len(server.calls)


def test_votes_stop_when_the_verdict_is_decided(sandbox: Sandbox, call: Command):
    """Of five votes three alike decide; when they are split, more are asked."""
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url, judge="model: judge, votes: 5")
        judged(call, "eval", "--limit", "2")
        assert 6 == len(server.calls)

    seen: list[int] = []

    def split(asked: Call) -> Fault:
        seen.append(1)
        return answer(json.dumps(verdict(len(seen) % 2 == 0)))

    with FaultServer(split) as server:
        judged_project(sandbox, server.url, judge="model: judge, votes: 5")
        code, run = judged(call, "eval", "--limit", "1", "--concurrency", "1", "--no-cache")

    assert (0, 5, 0) == (code, len(server.calls), run["judge"]["total"]["passed"])


def test_a_vote_that_cannot_be_read_may_have_said_anything(sandbox: Sandbox, call: Command):
    """Two of three agree: decided. One for, one against, one unreadable: no verdict."""
    for contents, missed in (([GOOD, "N/A", GOOD], 0), ([GOOD, "N/A", json.dumps(verdict(False))], 1)):
        told = iter(contents)
        with FaultServer(lambda _, told=told: answer(next(told))) as server:
            judged_project(sandbox, server.url, judge="model: judge, votes: 3, max_error_rate: 1")
            _, run = judged(call, "eval", "--limit", "1", "--no-cache")
        assert (missed, 3) == (run["judge"]["total"]["missed"], len(server.calls))


def test_a_panel_of_judges_votes(sandbox: Sandbox, call: Command):
    """Each model is asked; the majority decides, and each vote is kept with its reasons."""

    def script(asked: Call) -> Fault:
        return answer(
            json.dumps(verdict(asked.body["model"] != "judge-2026-01-01", reason=f"I am {asked.body['model']}"))
        )

    with FaultServer(script) as server:
        judged_project(sandbox, server.url, judge="models: [judge, two, three]")
        section = sandbox.read("promptops.toml").partition("\n")[2]
        extra = "".join(
            section.replace("models.judge", f"models.{name}").replace("judge-2026", f"{name}-2026")
            for name in ("two", "three")
        )
        sandbox.write("promptops.toml", sandbox.read("promptops.toml") + extra)
        _, run = judged(call, "eval", "--limit", "1")
        shown = call("view", run["run"], "--case", sandbox.rows()[0]["id"], "--json").json

    assert 1 == run["judge"]["total"]["passed"]
    assert {"judge", "two", "three"} == {item["judge"] for item in shown["verdicts"]}
    assert "I am two-2026-01-01" in str(shown["verdicts"])


@pytest.mark.parametrize(
    ("prefers", "value"),
    [("candidate", 1.0), ("reference", 0.0), ("first", 0.5), ("equal", 0.5)],
)
def test_pairs_are_compared_in_both_orders(sandbox: Sandbox, call: Command, prefers: str, value: float):
    """Who wins only when named first has not won; no worse than the reference passes."""
    cases = sandbox.rows()
    for case in cases:
        case["expected"]["reference"] = "the right answer"
    sandbox.write_rows(cases)

    def script(asked: Call) -> Fault:
        first = "reference" if blocks(asked)["first answer"] == "the right answer" else "candidate"
        word = prefers if prefers in ("first", "equal") else "first" if first == prefers else "second"
        return answer(json.dumps({name: {"reason": "r", "score": word} for name in ("right", "plain")}))

    with FaultServer(script) as server:
        judged_project(sandbox, server.url, judge="model: judge, mode: pairwise")
        code, run = judged(call, "eval", "--limit", "2")
        shown = call("view", run["run"], "--case", cases[0]["id"], "--json").json

    scores = {item["check"]: item["value"] for item in shown["scores"]}
    assert (0, 4, value, 2 if value >= 0.5 else 0) == (
        code,
        len(server.calls),
        scores["judge"],
        run["judge"]["total"]["passed"],
    )


def test_a_judge_that_compares_needs_something_to_compare_with(sandbox: Sandbox, call: Command):
    """Before anything is asked, with the line of every case that lacks it."""
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url, judge="model: judge, mode: reference")
        finished = call("eval", "--json")

    problems = finished.json["error"]["problems"]
    assert (2, CASES, 0) == (finished.code, len(problems), len(server.calls))
    assert f"golden/{PROMPT}.jsonl:1" == problems[0]["where"]


def test_categories_have_criteria_of_their_own(sandbox: Sandbox, call: Command):
    """The judge is asked what the rubric asks of the category, no more."""
    category = sandbox.rows()[0]["category"]
    rubric = RUBRIC + f"categories:\n  {category}: {{skip: [plain]}}\n"
    asked: list[str] = []

    def script(item: Call) -> Fault:
        schema = item.body["response_format"]["json_schema"]["schema"]["required"]
        asked.append(",".join(schema))
        return answer(json.dumps({name: verdict(True)[name] for name in schema}))

    with FaultServer(script) as server:
        judged_project(sandbox, server.url, rubric=rubric)
        code, _ = judged(call)

    counts = {names: asked.count(names) for names in set(asked)}
    own = sum(row["category"] == category for row in sandbox.rows())
    assert (0, {"right": own, "right,plain": CASES - own}) == (code, counts)


def test_spending_caps_hold_over_prompt_and_judge(sandbox: Sandbox, call: Command):
    """The judge's worst case is reserved as any other."""
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url, judge="model: judge, params: {max_output_tokens: 100}")
        finished = call("eval", "--max-calls", "5", "--json")
        capped = call("eval", "--no-cache", "--max-cost", "0.02", "--json").json["runs"][0]

    assert (3, 5) == (finished.code, finished.json["runs"][0]["judge_calls"])
    assert capped["paid_nanousd"] + capped["possibly_paid_nanousd"] <= 20_000_000


def test_a_dry_run_prices_the_judge(sandbox: Sandbox, call: Command):
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url, judge="model: judge, votes: 3")
        (found,) = call("eval", "--dry-run", "--json").json["dry_run"]
        shown = call("eval", "--dry-run")

    assert (3 * CASES, 0) == (found["judge_calls"], len(server.calls))
    assert found["judge_cost_nanousd"] > 0
    assert f"{3 * CASES}" in shown.out


def test_gc_keeps_verdicts_of_kept_runs_and_drops_the_others(sandbox: Sandbox, call: Command):
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url)
        judged(call)
        call("runs", "gc", "--keep", "1", "--yes")
        kept = rows(sandbox, "select count(*) from answers where key like 'judge:%'")[0][0]
        judged(call)
        assert CASES == len(server.calls), "the verdicts are still there"
        call("runs", "gc", "--keep", "0", "--yes")

    left = rows(sandbox, "select (select count(*) from answers), (select count(*) from verdicts)")
    assert (CASES, [(0, 0)]) == (kept, left)


def test_an_exported_run_brings_its_verdicts(sandbox: Sandbox, call: Command):
    """What judges said, and the answers they gave, so that the receiver pays nothing."""
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url)
        _, run = judged(call)
        call("runs", "export", run["run"], "-o", "run.jsonl")
        for name in ("store.sqlite3", "store.sqlite3-wal", "store.sqlite3-shm"):
            sandbox.path(f".promptops/{name}").unlink(missing_ok=True)
        imported = call("runs", "import", "run.jsonl")
        again = call("runs", "show", run["run"], "--json").json
        judged(call)

    assert (0, run["judge"], CASES) == (imported.code, again["judge"], len(server.calls))


def test_a_recorded_run_is_replayed_with_its_judge(sandbox: Sandbox, call: Command):
    """No key, no network: the verdicts come from the recording too."""
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url)
        judged(call, "eval", "--record", "rec")
    code, run = judged(call, "eval", "--replay", "rec")

    assert (0, CASES, 0) == (code, run["judge"]["total"]["passed"], run["judge_calls"])


def test_the_judge_is_part_of_what_a_run_is_bound_to(sandbox: Sandbox, call: Command):
    """Rubric, model, parameters and votes: another judge is another subject, and no such runs are compared."""
    subjects: list[str] = []
    runs: list[str] = []
    with FaultServer(says(GOOD)) as server:
        for section in (
            "model: judge",
            "model: judge, votes: 3",
            "model: judge, params: {temperature: 0.5}",
            "model: judge",
        ):
            judged_project(sandbox, server.url, judge=section)
            _, run = judged(call, "eval", "--limit", "2")
            subjects.append(run["subject"])
            runs.append(run["run"])
        compared = call("compare", runs[0], runs[1], "--json")

    assert (3, subjects[0]) == (len(set(subjects)), subjects[3])
    assert 2 == compared.code
    assert "other judge" in str(compared.json)


def test_a_changed_judge_is_not_mixed_into_a_run_that_goes_on(sandbox: Sandbox, call: Command):
    with FaultServer(says(GOOD)) as server:
        judged_project(sandbox, server.url)
        judged(call, "eval", "--max-calls", "3")
        judged_project(sandbox, server.url, rubric=RUBRIC.replace("plain is", "terse is"))
        finished = call("eval", "--resume", "latest", "--json")

    assert 2 == finished.code
    assert "the judge" in str(finished.json)


def test_nobody_judges_without_rubric_or_model(sandbox: Sandbox, call: Command):
    """Each says what to write where."""
    configure(sandbox, "http://127.0.0.1:9/v1")
    no_rubric = call("eval", "--judge", "small", "--json")
    judged_project(sandbox, "http://127.0.0.1:9/v1", judge="votes: 3")
    nobody = call("eval", "--json")
    local = call("eval", "--judge", "local:echo", "--json")

    assert [2, 2, 2] == [no_rubric.code, nobody.code, local.code]
    assert ["nothing to judge", "nobody is named", "local:echo cannot judge"] == [
        word for word, found in zip(["nothing to judge", "nobody is named", "local:echo cannot judge"], [no_rubric, nobody, local], strict=True)
        if word in found.out
    ]  # fmt: skip
