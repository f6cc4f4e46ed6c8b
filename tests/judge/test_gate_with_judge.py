"""The gate with a judge: it blocks only when calibrated, and the change under test cannot loosen it unseen."""

import json
import re
from typing import Any

import pytest

from conftest import PROMPT, Sandbox
from faults.provider_runs import Command
from faults.server import Call, Fault, FaultServer, answer
from judge.judges import RUBRIC, honest, judge, judged_project, verdict
from judge.test_calibrate import label_answers

AGAINST = ("eval", PROMPT, "--against", "main", "--model", "local", "--json")


def spoil(sandbox: Sandbox) -> None:
    """A candidate prompt whose local rules say `neutral` to everything: no check sees it, a judge does."""
    sandbox.write(
        f"prompts/{PROMPT}/rules.yaml",
        "promptops: 1\ndefault: rules\ntext: [feedback]\nrules:\n  sentiment:\n    - {value: neutral}\n",
    )


def prepared(sandbox: Sandbox, call: Command, server: FaultServer, *, calibrated: bool) -> None:
    judged_project(sandbox, server.url)
    if calibrated:
        label_answers(sandbox)
        assert 0 == call("judge", "calibrate", PROMPT).code
    sandbox.commit_all()


def test_a_calibrated_judge_blocks_a_change_that_no_check_sees(sandbox: Sandbox, call: Command):
    """Answers stay well-formed and become wrong: the checks pass, the judge blocks, and the report says how far it can be trusted."""
    with FaultServer(judge(honest(sandbox))) as server:
        prepared(sandbox, call, server, calibrated=True)
        spoil(sandbox)
        found = call(*AGAINST)
        text = call(*AGAINST[:-1]).out
        page = call(*AGAINST[:-1], "--markdown").out

    (comparison,) = found.json["comparisons"]
    assert (1, True, "blocking") == (found.code, comparison["blocked"], comparison["judge"]["standing"])
    assert set(comparison["regressed"]) <= {"delivery", "product"}
    assert "its verdicts count" in text
    assert "J 1.00" in text
    assert "its verdicts count" in page


def test_an_uncalibrated_judge_cannot_block(sandbox: Sandbox, call: Command):
    """The same change, the same judge, no calibration: the checks alone decide, and it is said."""
    with FaultServer(judge(honest(sandbox))) as server:
        prepared(sandbox, call, server, calibrated=False)
        spoil(sandbox)
        found = call(*AGAINST)
        text = call(*AGAINST[:-1]).out

    (comparison,) = found.json["comparisons"]
    assert (0, [], "advisory") == (found.code, comparison["regressed"], comparison["judge"]["standing"])
    assert "the checks alone decide: uncalibrated" in text
    assert re.search(r"it passes \d+/22 \(\d+%\) before, \d+/22", text)
    assert [22, 22] == [side["judged"] for side in comparison["judged"]]


_LOOSER: dict[str, tuple[dict[str, Any], str]] = {
    "no judge": ({"judge": ""}, "judge"),
    "other model": ({"model": "judge-2026-02-02"}, "judge"),
    "soft": ({"rubric": RUBRIC.replace("hard: true, ", "")}, "rubric.right"),
    "gone": ({"rubric": RUBRIC.replace("id: plain", "id: terse")}, "rubric.plain"),
    "pass mark": ({"rubric": RUBRIC + "pass_at: 0.2\n"}, "rubric.pass_at"),
    "errors": ({"judge": "model: judge, max_error_rate: 0.5"}, "judge.max_error_rate"),
}


@pytest.mark.parametrize(("options", "name"), _LOOSER.values(), ids=list(_LOOSER))
def test_a_change_that_loosens_the_judge_blocks_until_it_is_named(
    sandbox: Sandbox, call: Command, options: dict[str, Any], name: str
):
    """Judge and rubric are part of the gate: the base's are what a change is held to."""
    with FaultServer(judge(honest(sandbox))) as server:
        prepared(sandbox, call, server, calibrated=True)
        judged_project(sandbox, server.url, **options)
        found = call(*AGAINST)
        changes = [item["name"] for item in found.json["comparisons"][0]["policy_changes"]]
        accepted = call(*AGAINST, *(word for change in changes for word in ("--accept-policy-change", change)))

    assert name in changes
    assert (1, 0) == (found.code, accepted.code)


def test_a_judge_that_flips_sees_less(sandbox: Sandbox, call: Command):
    """Its flip rate enters what could have been seen."""
    from promptops.core.suite import GatePolicy
    from promptops.gate.power import detectable_drop

    rates = [0.95] * 80
    steady, flipping = (detectable_drop(rates, rows=3, policy=GatePolicy(), flip_rate=rate) for rate in (0.0, 0.2))

    assert steady is not None
    assert flipping is not None
    assert steady < flipping


def test_a_run_with_a_judge_is_found_by_the_commit_it_is_of(sandbox: Sandbox, call: Command):
    """`compare main latest`: the subject covers the judge, and is recomputed from the commit."""
    with FaultServer(judge(honest(sandbox))) as server:
        prepared(sandbox, call, server, calibrated=True)
        call("eval", PROMPT)
        spoil(sandbox)
        call("eval", PROMPT)
        found = call("compare", "main", "latest", "--json")

    assert 1 == found.code
    assert [] != found.json["regressed"]


def test_lint_names_what_is_wrong_with_a_judge(sandbox: Sandbox, call: Command):
    """A judge of its own answers is an error; an undated one, and votes that cannot differ, are warned of."""
    judged_project(
        sandbox, "http://127.0.0.1:9/v1", judge="model: judge, votes: 3, params: {temperature: 0}", model="judge-latest"
    )
    sandbox.write("promptops.toml", 'default_model = "judge"\n' + sandbox.read("promptops.toml"))
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "\npromptops: 1\n", "\npromptops: 1\nmodel: judge\n")
    found = call("lint", "--json").json

    assert ["model 'judge' judges its own answers"] == [item["what"] for item in found["problems"]]
    assert {"model 'judge' has no date in 'judge-latest'", "3 votes at temperature 0"} <= {
        item["what"] for item in found["warnings"]
    }


def test_show_tells_who_judges_and_how_far_to_trust_it(sandbox: Sandbox, call: Command):
    with FaultServer(judge(honest(sandbox))) as server:
        prepared(sandbox, call, server, calibrated=True)
    shown = call("show", PROMPT)
    found = call("show", PROMPT, "--json").json

    assert "reference free, blocking" in shown.out
    assert ("blocking", 132) == (found["judge"]["standing"], found["judge"]["calibration"]["labels"])


def test_a_redraw_without_a_verdict_is_no_verdict(sandbox: Sandbox, call: Command):
    """A final test that lacks draws ends with 3, never with a pass."""
    truth = honest(sandbox)
    calls: list[int] = []
    broken = [False]

    def script(asked: Call) -> Fault:
        calls.append(1)
        if broken[0] and asked.number % 2:
            return answer("N/A")
        from judge.judges import blocks

        return answer(json.dumps(verdict(truth(blocks(asked), asked))))

    with FaultServer(script) as server:
        prepared(sandbox, call, server, calibrated=True)
        spoil(sandbox)
        broken[0] = True
        found = call(*AGAINST)

    assert 3 == found.code
