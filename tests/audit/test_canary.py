"""A canary is aborted when it is worse, promoted when it is surely no worse, and otherwise it waits."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from traffic import hours, line, read, reply, stamp

from promptops.audit.canary import compare_canary
from promptops.core.errors import DataError
from promptops.release.names import Version
from release.shop import Clone, open_shop

FAILED = [{"stage": "model", "decision": "timeout", "reason": "", "at_ms": 5.0}]


def traffic_of(
    change: Callable[[random.Random], dict], *, a_hour: int = 500, share: float = 0.5, prompt: str = "triage"
):
    """Ten hours of v1.0.0 alone, then thirty with v1.1.0 beside it; `change` says what is other in the canary."""

    def of_hour(hour: int, rng: random.Random) -> dict:
        event: dict = {
            "prompt": prompt,
            "latency_ms": rng.lognormvariate(5, 0.3),
            "bad": rng.random() < 0.1,
        }
        if hour >= 10 and rng.random() < share:
            event |= {"version": "v1.1.0", **change(rng)}
        return event

    return hours(40, a_hour, of_hour)


def verdicts(change) -> tuple[str, dict[str, str]]:
    found = compare_canary(read(traffic_of(change)), "triage", control="v1.0.0", canary="1.1.0")
    return found.decision, {row.metric: row.verdict for row in found.rows if row.verdict != "no worse"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: {}, ("promote", {})),
        (lambda rng: {"steps": FAILED} if rng.random() < 0.1 else {}, ("abort", {"errors": "worse"})),
        (lambda rng: {"latency_ms": rng.lognormvariate(5.4, 0.3)}, ("abort", {"slow": "worse"})),
        (lambda _: {"cost_nanousd": 1500}, ("abort", {"costly": "worse"})),
        (lambda rng: {"bad": rng.random() < 0.3}, ("abort", {"bad": "worse"})),
        (
            lambda rng: {"source": "text", "degraded": "x"} if rng.random() < 0.2 else {},
            ("abort", {"fallbacks": "worse"}),
        ),
    ],
    ids=["the same", "errors", "slow", "dear", "bad answers", "fallbacks"],
)
def test_the_decision_names_what_is_worse(change, expected):
    """15,000 requests, half of them the canary's: each fault is seen, and only it."""
    assert expected == verdicts(change)


def test_a_few_requests_decide_nothing():
    """A canary with 20 errors-free requests is not good; it is not known."""
    found = compare_canary(
        read(traffic_of(lambda _: {}, a_hour=20, share=0.05)), "triage", control="v1.0.0", canary="v1.1.0"
    )

    assert ("wait", {"not known yet"}) == (found.decision, {row.verdict for row in found.rows})


def test_canaries_that_are_the_same_are_seldom_aborted_at_any_look():
    """30 canaries without a fault, looked at after each of ten times as many requests: at most 5 % may ever be aborted."""
    aborted = 0
    for seed in range(30):
        rng, sides = random.Random(seed), ("v1.0.0", "v1.1.0")
        events = [reply(stamp(0), number, version=sides[number % 2], steps=FAILED if rng.random() < 0.1 else []) for number in range(400)]  # fmt: skip
        aborted += any(compare_canary(read(events[:many]), "triage", control="v1.0.0", canary="v1.1.0").decision == "abort" for many in range(40, 401, 40))  # fmt: skip

    assert aborted <= 1


@pytest.mark.parametrize(
    ("versions", "said"),
    [(("v1.0.0", "v9.9.9"), "no request of triage v9.9.9"), (("v1.0.0", "v1.0.0"), "another version"), (("v1.0.0", "v0.9.0"), "never had requests in the same hour")],
)  # fmt: skip
def test_versions_that_cannot_be_compared_are_bad_input(versions, said):
    """Unknown to the events, the same twice, or never at the same time."""
    events = [reply(stamp(0), version="v0.9.0"), reply(stamp(1)), reply(stamp(1), version="v1.1.0")]
    with pytest.raises(DataError, match=said):
        compare_canary(read(events), "triage", control=versions[0], canary=versions[1])


@pytest.fixture
def ana(tmp_path: Path) -> Clone:
    """A channel with v1.0.0 live and v1.1.0 as its canary, on a real remote."""
    clone = open_shop(tmp_path / "shop").clone("ana")
    for number in ("1.0.0", "1.1.0"):
        clone.version(number)
    clone.promote("1.0.0")
    clone.promote("1.1.0", percent=50)
    return clone


def _events(path: Path, change) -> str:
    path.write_bytes(b"".join(map(line, traffic_of(change, prompt="feedback-sentiment"))))
    return str(path)


def test_a_bad_canary_is_rolled_back_only_when_asked(ana: Clone, tmp_path: Path):
    """Dry run by default: exit 1 and the command; with --apply the channel is back on the version that served the rest."""
    events = _events(tmp_path / "e.jsonl", lambda rng: {"steps": FAILED} if rng.random() < 0.1 else {})

    dry = ana.call("canary", "status", "feedback-sentiment", "--events", events)
    before = ana.call("status", "feedback-sentiment", "--offline", "--json").json["channels"][0]
    done = ana.call("canary", "status", "feedback-sentiment", "--events", events, "--apply")
    after = ana.call("status", "feedback-sentiment", "--offline", "--json").json["channels"][0]

    assert (1, True) == (dry.code, dry.out.startswith("ABORT  feedback-sentiment: v1.1.0 beside v1.0.0"))
    assert (
        "next: promptops rollback feedback-sentiment --channel prod --reason 'canary: errors worse than v1.0.0'"
        in dry.out
    )
    assert (1, "ROLLED BACK" in done.out) == (done.code, True)
    assert ("1.1.0", "", ["1.1.0"], "1.0.0") == (before["canary"], after["canary"], after["bad"], after["live"])


def test_a_good_canary_is_promoted_when_asked(ana: Clone, tmp_path: Path):
    """All rates no worse: it gets all the traffic."""
    events = _events(tmp_path / "e.jsonl", lambda _: {})

    done = ana.call("canary", "status", "feedback-sentiment", "--events", events, "--apply", "--json")
    again = ana.call("canary", "status", "feedback-sentiment", "--events", events)

    assert (0, "promote", True) == (done.code, done.json["decision"], done.json["applied"])
    assert Version(1, 1, 0) == Version.parse(
        ana.call("status", "feedback-sentiment", "--offline", "--json").json["channels"][0]["live"]
    )
    assert (2, True) == (again.code, "has no canary on prod" in again.err)
