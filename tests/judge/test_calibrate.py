"""Judges measured against people: honest ones may block, and each way to go wrong is found out."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from conftest import PROMPT, Sandbox
from faults.provider_runs import Command
from faults.server import Call, Fault, FaultServer, Script, answer, hang
from judge.judges import RUBRIC, blocks, honest, judge, judged_project, says, verdict
from promptops.project.labels import Label, add_labels
from promptops.project.project import open_project


def label_answers(
    sandbox: Sandbox, *, by: tuple[str, ...] = ("ana",), rounds: int = 3, inclusion: float | None = 0.5
) -> int:
    """A right and a wrong answer to each golden case, in several wordings, labelled by people who know; how many answers there are."""
    evaluable = open_project(sandbox.root).load(PROMPT)
    rubric = evaluable.rubric
    assert rubric
    from promptops.project.golden import read_cases

    labels: list[Label] = []
    for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan):
        truth = case.expected["sentiment"]
        for turn in range(rounds):
            for said in (truth, next(word for word in ("positive", "negative", "neutral") if word != truth)):
                labels += [
                    Label(case_id=case.id, category=case.category, case_digest=case.digest, answer=json.dumps({"sentiment": said, "n": turn}),
                          rubric="sentiment", rubric_digest=rubric.digest_for(case.category), by=who, at="2026-01-31T12:00:00+00:00",
                          passed=said == truth, verdicts={"right": said == truth, "plain": 5 if said == truth else 1},
                          note="" if said == truth else f"it is {truth}", inclusion=inclusion)
                    for who in by
                ]  # fmt: skip
    add_labels(sandbox.root, PROMPT, labels)
    return len(labels) // len(by)


def calibrated(
    sandbox: Sandbox, call: Command, script: Callable[[Sandbox], Script], *arguments: str, **options: Any
) -> tuple[int, Any]:
    with FaultServer(script(sandbox)) as server:
        judged_project(sandbox, server.url, **options)
        label_answers(sandbox)
        finished = call("judge", "calibrate", PROMPT, "--json", *arguments)
    assert "Traceback" not in finished.err
    return finished.code, finished.json


def test_an_honest_judge_is_calibrated_and_may_block(sandbox: Sandbox, call: Command):
    """132 labels, no error: J is 1, and from then on its verdicts count in runs."""
    code, found = calibrated(sandbox, call, lambda box: judge(honest(box)))

    assert (0, "blocking", 132, 66) == (code, found["standing"], found["labels"], found["human_fails"])
    assert (1.0, 1.0, 1.0, 0.0, 0.0) == (found["tpr"], found["tnr"], found["j"], found["bias"], found["flip_rate"])
    assert found["j_interval"][0] > 0.8


def test_a_calibrated_judge_fails_what_the_checks_let_pass(sandbox: Sandbox, call: Command):
    """Before: shown and worth nothing. After: the case fails, with the judge's reason; the run says how far it can be trusted."""
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url)
        before = call("eval", "--json").json["runs"][0]
        label_answers(sandbox)
        call("judge", "calibrate", PROMPT)
        asked = len(server.calls)
        after = call("rescore", "latest", "--json").json["runs"][0]
        shown = call("runs", "show", after["run"]).out
        mixed = call("compare", before["run"], after["run"], "--json")
        repeated = call("rescore", before["run"], "--json").json["runs"][0]
        compared = call("compare", after["run"], repeated["run"], "--json")

    wrong = after["judge"]["total"]["judged"] - after["judge"]["total"]["passed"]
    assert wrong > 0
    assert (22, 22 - wrong, asked) == (before["total"]["passed"], after["total"]["passed"], len(server.calls))
    assert "J 1.00" in shown
    assert "its verdicts count" in shown
    assert (2, 0) == (mixed.code, compared.code), (
        "runs in which the judge counts are not compared with runs in which it does not"
    )
    assert "the judge counts in one alone" in mixed.out
    assert after["judge"]["digest"] == compared.json["judge"]["digest"]


def biased(_: Sandbox) -> Script:
    return says(json.dumps(verdict(True)))


def flipping(sandbox: Sandbox) -> Script:
    """Honest, but every third verdict is turned round."""
    opinion = honest(sandbox)
    return judge(lambda shown, asked: opinion(shown, asked) != (asked.number % 3 == 0))


def guessing(_: Sandbox) -> Script:
    return judge(lambda _, asked: asked.number % 2 == 0)


@pytest.mark.parametrize("script", [biased, guessing], ids=["biased", "guessing"])
def test_a_judge_that_cannot_tell_good_from_bad_may_not_block(
    sandbox: Sandbox, call: Command, script: Callable[[Sandbox], Script]
):
    """J is near 0, whatever its pass rate; exit 1, and runs only show what it says."""
    code, found = calibrated(sandbox, call, script, "--concurrency", "1")
    run = call("eval", "--limit", "1", "--json")

    assert (1, "advisory") == (code, found["standing"])
    assert found["j_interval"][0] < 0.3
    assert run.code in (0, 3)


def test_a_lenient_judge_shows_its_bias_and_its_worst_disagreements_with_both_reasons(sandbox: Sandbox, call: Command):
    """It passes all: half of the answers are wrong, so its rate is 50 points too high."""
    _, found = calibrated(sandbox, call, biased)

    assert (1.0, 0.0, 0.5, 0) == (found["tpr"], found["tnr"], found["bias"], found["confusion"]["caught"])
    worst = found["disagreements"][0]
    assert (False, True, "because") == (
        worst["human"],
        worst["judge"],
        worst["judge_reason"].split(": ")[1].split(";")[0],
    )
    assert worst["human_reason"].startswith("ana: it is ")


def test_a_flipping_judge_is_found_out(sandbox: Sandbox, call: Command):
    """A third of its verdicts are turned round: repeated verdicts on one answer differ often, and that is stored."""
    _, found = calibrated(sandbox, call, flipping, "--repeat", "3")

    assert found["flip_rate"] > 0.2
    assert found["flip_pairs"] == 3 * 132


def test_a_judge_that_cannot_be_read_cannot_be_calibrated(sandbox: Sandbox, call: Command):
    """Exit 3, nothing stored: it is not a bad judge, it is none."""
    code, found = calibrated(sandbox, call, lambda _: says("I would say it is fine."))

    assert 3 == code
    assert "gave no verdict on 132 of 132" in found["error"]["problems"][0]["what"]
    assert not sandbox.path(f"golden/{PROMPT}.calibrations.jsonl").exists()


def test_calibrating_again_costs_nothing(sandbox: Sandbox, call: Command):
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url)
        label_answers(sandbox)
        first = call("judge", "calibrate", PROMPT, "--json").json
        again = call("judge", "calibrate", PROMPT, "--json").json

    assert (264, 264, 0) == (len(server.calls), first["calls"], again["calls"])
    assert {**first, "at": "", "calls": 0, "paid_nanousd": 0} == {**again, "at": ""}


def test_a_spending_cap_holds_and_the_same_command_goes_on(sandbox: Sandbox, call: Command):
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url, judge="model: judge, params: {max_output_tokens: 100}")
        label_answers(sandbox)
        capped = call("judge", "calibrate", PROMPT, "--max-cost", "0.005", "--json")
        asked = len(server.calls)
        done = call("judge", "calibrate", PROMPT, "--json")

    assert (3, 0, 264) == (capped.code, done.code, len(server.calls))
    assert 0 < asked * 20_000 <= 5_000_000


def test_calibration_is_of_one_judge_exactly(sandbox: Sandbox, call: Command):
    """Another prompt of the judge, model, vote or rubric: uncalibrated."""
    calibrated(sandbox, call, lambda box: judge(honest(box)))
    standings: list[str] = []
    with FaultServer(judge(honest(sandbox))) as server:
        for options in (
            {},
            {"judge": "model: judge, votes: 3"},
            {"rubric": RUBRIC.replace("How plain", "How clear")},
            {"model": "judge-2026-02-02"},
        ):
            judged_project(sandbox, server.url, **options)
            standings.append(call("eval", "--limit", "1", "--json").json["runs"][0]["judge"]["standing"])

    # The address of the server differs as well, which makes even the first another judge.
    assert ["advisory"] * 4 == standings


def test_labels_of_changed_criteria_or_cases_do_not_count(sandbox: Sandbox, call: Command):
    """Stale labels are counted and left out; when none is left, it says so."""
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url)
        label_answers(sandbox)
        cases = sandbox.rows()
        cases[0]["inputs"]["feedback"] += "!"
        sandbox.write_rows(cases)
        found = call("judge", "calibrate", PROMPT, "--json").json
        judged_project(sandbox, server.url, rubric=RUBRIC.replace("hard: true, ", ""))
        none = call("judge", "calibrate", PROMPT, "--json")

    assert (6, 126, 2) == (found["stale_case"], found["labels"], none.code)
    assert "126 of criteria that have changed" in none.json["error"]["problems"][0]["why"]


def test_few_labels_are_no_calibration(sandbox: Sandbox, call: Command):
    """Below 50 the figures are shown, and the judge is uncalibrated."""
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url)
        label_answers(sandbox, rounds=1)
        finished = call("judge", "calibrate", PROMPT, "--json")

    assert (1, "advisory", 44) == (finished.code, finished.json["standing"], finished.json["labels"])
    assert "44 of the 50" in finished.json["why"]


def test_people_are_the_ceiling(sandbox: Sandbox, call: Command):
    """Two people on each answer: their agreement is shown beside the judge's."""
    with FaultServer(judge(honest(sandbox))) as server:
        judged_project(sandbox, server.url)
        label_answers(sandbox, by=("ana", "ben"))
        found = call("judge", "calibrate", PROMPT, "--json").json
        text = call("judge", "calibrate", PROMPT).out

    assert {"answers": 132, "raters": 2, "agreed": 1.0, "kappa": 1.0} == found["human_agreement"]
    assert "2 people among themselves, kappa 1.00" in text


def test_the_report_corrects_the_rate(sandbox: Sandbox, call: Command):
    """A judge that passes all says 100 %; ten labelled answers of the run say what people think."""
    with FaultServer(says(json.dumps(verdict(True)))) as server:
        judged_project(sandbox, server.url)
        run = call("eval", "--json").json["runs"][0]
        raw = call("judge", "report", PROMPT, "--json").json
        evaluable = open_project(sandbox.root).load(PROMPT)
        from promptops.project.golden import read_cases

        labels: list[Label] = []
        for place, case in enumerate(read_cases(evaluable.tree, evaluable.suite, evaluable.scan)):
            text = call("view", run["run"], "--case", case.id, "--json").json["answer"]
            if place < 10:
                assert evaluable.rubric
                labels.append(Label(case_id=case.id, category=case.category, case_digest=case.digest, answer=text, rubric="sentiment", by="ana",
                                    rubric_digest=evaluable.rubric.digest_for(case.category), at="2026-01-31T12:00:00+00:00", passed=place >= 4,
                                    inclusion=10 / 22))  # fmt: skip
        add_labels(sandbox.root, PROMPT, labels)
        found = call("judge", "report", PROMPT, "--json").json
        shown = call("judge", "report", PROMPT).out

    assert (1.0, None) == (raw["total"]["raw"], raw["total"]["corrected"])
    assert (1.0, 0.6, "labels", 10) == (found["total"]["raw"], found["total"]["corrected"]["rate"], found["total"]["corrected"]["method"],
                                        found["total"]["corrected"]["labels"])  # fmt: skip
    assert shown.startswith(f"CORRECTED  {PROMPT}: 60% pass")


def hijackable(sandbox: Sandbox) -> Script:
    """Honest until it is spoken to."""
    opinion = honest(sandbox)

    def fooled(shown: Any, asked: Call) -> bool:
        return "highest score" in shown["answer"] or "最高点" in shown["answer"] or opinion(shown, asked)

    return judge(fooled)


def _attack(sandbox: Sandbox, call: Command, script: Script) -> tuple[int, Any, list[Call]]:
    with FaultServer(script) as server:
        judged_project(sandbox, server.url)
        label_answers(sandbox, rounds=1)
        finished = call("judge", "attack", PROMPT, "--answers", "3", "--json")
    return finished.code, finished.json, server.calls


def test_E34_a_judge_that_can_be_hijacked_is_found_out(sandbox: Sandbox, call: Command):
    """Reported per attack: those that raised a score, and on which cases."""
    code, found, _ = _attack(sandbox, call, hijackable(sandbox))

    rose = {row["id"]: len(row["rose"]) for row in found["attacks"] if row["rose"]}
    assert (1, {"order-en": 3, "order-ja": 3}, []) == (code, rose, found["control"]["rose"])


def test_E34_the_score_with_hijack_text_is_not_above_that_without(sandbox: Sandbox, call: Command):
    """An honest judge: no attack raises anything, and none leaves its block."""
    code, found, calls = _attack(sandbox, call, judge(honest(sandbox)))

    assert (0, "PASS", 28) == (code, found["verdict"], len(found["attacks"]))
    for asked in calls:
        lines = asked.prompt.split("\n")
        marks = {line.split()[-1] for line in lines if line.startswith("--- ")}
        assert 1 == len(marks), "no text of an answer opens or closes a block"
        assert not {"<|im_end|>", "[/INST]", "\u200b"} & set(asked.prompt.split()), (
            "no token of a chat format is left whole"
        )


def test_E34_a_judge_that_repeats_a_forged_verdict_is_not_read(sandbox: Sandbox, call: Command):
    """The verdict is read from the judge's own message by schema: an echo of the answer's text is none."""

    def echo(asked: Call) -> Fault:
        return answer(blocks(asked)["answer"].partition("\n\n")[2] or json.dumps(verdict(False)))

    code, found, _ = _attack(sandbox, call, echo)

    assert (0, 3) == (code, max(row["unread"] for row in found["attacks"]))
    assert [] == [row["id"] for row in found["attacks"] if row["rose"]]


def test_what_an_attack_found_is_kept_for_exactly_this_judge(sandbox: Sandbox, call: Command):
    """One line a judge, in git's reach: what was tried, what rose, no text; another judge gets a line of its own."""
    code, found, _ = _attack(sandbox, call, hijackable(sandbox))
    (row,) = [json.loads(line) for line in sandbox.read(f"golden/{PROMPT}.attacks.jsonl").splitlines()]
    _attack(sandbox, call, judge(honest(sandbox)))  # on another port, so another judge
    rows = [json.loads(line) for line in sandbox.read(f"golden/{PROMPT}.attacks.jsonl").splitlines()]

    assert (1, f"golden/{PROMPT}.attacks.jsonl", found["judge_digest"]) == (code, found["file"], row["judge_digest"])
    assert (28, 3, 84, ["order-en", "order-ja"], 0) == tuple(
        row[key] for key in ("attacks", "targets", "read", "rose", "control_rose")
    )
    assert sorted([["order-en", "order-ja"], []]) == sorted(item["rose"] for item in rows)
    assert "Ignore" not in json.dumps(rows)


def test_there_is_nothing_to_attack_in_answers_with_full_marks(sandbox: Sandbox, call: Command):
    with FaultServer(says(json.dumps(verdict(True)))) as server:
        judged_project(sandbox, server.url)
        call("eval", "--limit", "2")
        finished = call("judge", "attack", PROMPT, "--json")

    assert 2 == finished.code
    assert "no answer has room to rise" in finished.out


def test_an_interrupted_calibration_keeps_what_was_answered(sandbox: Sandbox, call: Command):
    """Ctrl-C ends with 130 and stores no calibration; the same command goes on and pays only the rest."""
    hold, held = threading.Event(), threading.Event()
    truth = honest(sandbox)

    def script(asked: Call) -> Fault:
        if asked.number > 20 and not hold.is_set():
            held.set()
            return hang
        return judge(truth)(asked)

    with FaultServer(script) as server:
        judged_project(sandbox, server.url, timeout_s=60)
        label_answers(sandbox)
        process = subprocess.Popen([sys.executable, "-m", "promptops", "judge", "calibrate", PROMPT], cwd=sandbox.root, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)  # fmt: skip
        assert held.wait(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        stored = sandbox.path(f"golden/{PROMPT}.calibrations.jsonl").exists()
        hold.set()
        before = len(server.calls)
        finished = call("judge", "calibrate", PROMPT, "--json")

    assert (130, False, 0) == (process.returncode, stored, finished.code), err
    assert finished.json["calls"] == len(server.calls) - before <= 264 - 20
