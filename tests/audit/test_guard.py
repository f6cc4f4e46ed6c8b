"""A canary is held or rolled back by the policy that is on the protected branch, only when asked to, and with figures in the event."""

import json
import random
from pathlib import Path

import pytest
from test_canary import FAILED, traffic_of
from traffic import hours, line

from release.shop import NAME, Clone, open_shop

SUITE = f"golden/{NAME}.yaml"


@pytest.fixture
def ana(tmp_path: Path) -> Clone:
    """v1.0.0 is live, v1.1.0 has half of the traffic, and errors of a canary call for a rollback."""
    clone = open_shop(tmp_path / "shop").clone("ana")
    clone.edit(SUITE, "checks:", "monitor: {canary: {errors: rollback, slow: hold}, drift: {costly: hold}}\nchecks:")
    for number in ("1.0.0", "1.1.0"):
        clone.version(number)
    clone.promote("1.0.0")
    clone.promote("1.1.0", percent=50)
    return clone


def events(path: Path, change) -> str:
    path.write_bytes(b"".join(map(line, traffic_of(change, prompt=NAME))))
    return str(path)


def errors(rng: random.Random) -> dict:
    return {"steps": FAILED} if rng.random() < 0.1 else {}


def state(clone: Clone) -> dict:
    return clone.call("status", NAME, "--json").json["channels"][0]


def last_event(clone: Clone) -> dict:
    tag = clone.git("tag", "--list", "channel/*", "--sort=-refname").splitlines()[0]
    message = clone.git("cat-file", "tag", tag)
    return json.loads(message[message.index("{") : message.rindex("}") + 1])


def test_a_worse_canary_is_rolled_back_only_with_act_and_the_event_has_the_figures(ana: Clone, tmp_path: Path):
    """Without --act the command is printed and nothing changes; with it the event is signed, pushed and says why; then there is nothing to guard."""
    address = events(tmp_path / "e.jsonl", errors)
    arguments = ("canary", "guard", NAME, "--events", address)
    dry, before = ana.call(*arguments), state(ana)
    done, after = ana.call(*arguments, "--act"), state(ana)
    again = ana.call(*arguments, "--act")

    assert (1, True, True) == (
        dry.code,
        dry.out.startswith(f"ROLL BACK  {NAME} on prod: v1.1.0 (50%) beside v1.0.0"),
        "nothing was changed; with --act" in dry.out,
    )
    assert (
        f"next: promptops rollback {NAME} --channel prod --reason 'canary: requests with a failed model call" in dry.out
    )
    assert (1, True) == (done.code, "ROLLED BACK" in done.out)
    assert ("1.1.0", "", ["1.1.0"], "1.0.0", "trusted") == (
        before["canary"],
        after["canary"],
        after["bad"],
        after["live"],
        after["signature"],
    )
    event = last_event(ana)
    assert ("rollback", "ana@example.com") == (event["action"], event["actor"])
    assert "with v1.1.0, 0.0% of" in event["reason"]
    assert "points at every look" in event["reason"]
    assert (0, True) == (again.code, again.out.startswith("NO CANARY"))


def test_a_hold_is_made_once(ana: Clone, tmp_path: Path):
    """A slow canary is held; the next look finds the hold in force and does nothing, and still says that something is wrong."""
    address = events(tmp_path / "e.jsonl", lambda rng: {"latency_ms": rng.lognormvariate(5.4, 0.3)})
    arguments = ("canary", "guard", NAME, "--events", address, "--act", "--json")
    first, second = ana.call(*arguments), ana.call(*arguments)

    assert (1, "hold", True, True) == (first.code, first.json["act"], first.json["due"], first.json["acted"])
    assert (1, "hold", False, False) == (second.code, second.json["act"], second.json["due"], second.json["acted"])
    assert (True, "1.1.0") == (state(ana)["held"], state(ana)["canary"])


def test_what_the_policy_does_not_name_changes_nothing(ana: Clone, tmp_path: Path):
    """More bad answers are worse, and this policy leaves them to people."""
    address = events(tmp_path / "e.jsonl", lambda rng: {"bad": rng.random() < 0.5})
    found = ana.call("canary", "guard", NAME, "--events", address, "--act")

    assert (0, True) == (found.code, found.out.startswith("KEEP"))
    assert "1.1.0" == state(ana)["canary"]


@pytest.mark.parametrize(("begins", "code"), [(40, 1), (20, 0)], ids=["after it came", "before it came"])
def test_drift_counts_against_a_canary_only_when_it_began_after_it(ana: Clone, tmp_path: Path, begins: int, code: int):
    """All answers get dearer, of both versions: with the canary it may be its doing, before it cannot."""

    def of_hour(hour: int, rng: random.Random) -> dict:
        event = {
            "prompt": NAME,
            "latency_ms": rng.lognormvariate(5, 0.3),
            "cost_nanousd": 9000 if hour >= begins else 1000,
        }
        return event | ({"version": "v1.1.0"} if hour >= 30 and rng.random() < 0.5 else {})

    path = tmp_path / "e.jsonl"
    path.write_bytes(b"".join(map(line, hours(60, 100, of_hour))))
    found = ana.call("canary", "guard", NAME, "--events", str(path), "--reference", "10", "--json")

    assert (code, "hold" if code else None, 1 - code) == (found.code, found.json["act"], len(found.json["passed_over"]))
    assert [("drift", "costly")] * code == [(item["origin"], item["metric"]) for item in found.json["triggers"]]


def test_the_policy_is_that_of_the_protected_branch(ana: Clone, tmp_path: Path):
    """Whoever edits the suite in a work tree, or in a commit nobody took, cannot switch the guard off."""
    address = events(tmp_path / "e.jsonl", errors)
    ana.edit(SUITE, "errors: rollback", "errors: hold", push=False)

    assert "rollback" == ana.call("canary", "guard", NAME, "--events", address, "--json").json["act"]


def test_without_a_policy_or_events_it_is_bad_input(ana: Clone, tmp_path: Path):
    """No policy, no file, no address; and a policy with a word that is none is named with its line."""
    address = events(tmp_path / "e.jsonl", errors)
    missing = ana.call("canary", "guard", NAME, "--events", str(tmp_path / "gone.jsonl"))
    none = ana.call("canary", "guard", NAME)
    ana.edit(SUITE, "errors: rollback", "errors: explode")
    wrong = ana.call("canary", "guard", NAME, "--events", address)
    ana.edit(SUITE, "monitor: {canary: {errors: explode, slow: hold}, drift: {costly: hold}}\n", "")
    without = ana.call("canary", "guard", NAME, "--events", address)

    assert [2, 2, 2, 2] == [found.code for found in (missing, none, wrong, without)]
    assert [True] * 4 == [said in found.err for said, found in (("no events file", missing), ("nothing says which events", none), (SUITE, wrong), ("has no policy", without))]  # fmt: skip


def test_the_policy_is_no_part_of_what_a_release_is_bound_to(ana: Clone):
    """A change of it needs no new evaluation."""
    from promptops.project.project import open_project

    before = open_project(ana.root).load(NAME).suite_digest
    ana.edit(SUITE, "errors: rollback", "errors: hold")

    assert before == open_project(ana.root).load(NAME).suite_digest
