"""A rate that moved is named, with when it began; one that wanders as it always did is not."""

import math
import random

import pytest
from traffic import NOW, hours, read

from promptops.audit.drift import always_valid_interval, find_drift


def usual(hour: int, rng: random.Random) -> dict:
    language = "ja" if rng.random() < 0.2 + 0.1 * math.sin(hour / 24 * 2 * math.pi) else "en"
    return {"language": language, "latency_ms": rng.lognormvariate(5, 0.4), "category": rng.choice(("billing", "delivery")),
            "tenant": f"t{rng.randrange(8)}", "bad": rng.random() < 0.08 if rng.random() < 0.5 else None}  # fmt: skip


def found(change, many: int = 96) -> list[tuple[str, str, str, bool]]:
    drift = find_drift(read(hours(many, 60, change), NOW + 30 * 86_400), reference=48)
    assert all("2026-11-03T00" <= finding.since <= finding.seen for finding in drift.alerts)
    return [(finding.metric, finding.dimension, finding.value, finding.falls) for finding in drift.alerts]


def test_traffic_that_wanders_with_the_day_is_steady():
    """Languages follow their clocks: the limit allows what the reference already did."""
    assert [] == found(usual)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (lambda rng, event: {"bad": rng.random() < 0.5} if event["language"] == "ja" else {}, ("bad", "language", "ja", False)),
        (lambda rng, _event: {"tenant": "looping"} if rng.random() < 0.2 else {}, ("share", "tenant", "looping", False)),
        (lambda _rng, event: {"latency_ms": event["latency_ms"] * 2}, ("slow", "prompt", "", False)),
        (lambda rng, _event: {"category": "warranty"} if rng.random() < 0.1 else {}, ("share", "category", "warranty", False)),
        (lambda rng, _event: {"category": "billing"} if rng.random() < 0.9 else {}, ("share", "category", "delivery", True)),
        (lambda _rng, _event: {"cost_nanousd": 9000}, ("costly", "prompt", "", False)),
        (lambda rng, _event: {"steps": [{"stage": "model", "decision": "timeout", "reason": "", "at_ms": 5.0}]} if rng.random() < 0.1 else {}, ("errors", "prompt", "", False)),
        (lambda rng, event: {"steps": [{"stage": "guardrails", "decision": "rejected", "reason": "", "at_ms": 5.0}]} if event["category"] == "billing" and rng.random() < 0.2 else {},
         ("rejected", "category", "billing", False)),
    ],
    ids=["quality of a language", "a tenant loops", "slow", "a new category", "a category goes", "dear", "errors", "rejections of a category"],
)  # fmt: skip
def test_what_moved_is_named(changed, expected):
    """From the third day on; the alert says which rate of which traffic, and since when."""

    def change(hour: int, rng: random.Random) -> dict:
        event = usual(hour, rng)
        return event | changed(rng, event) if hour >= 60 else event

    assert expected in found(change)


def beside(hour: int, rng: random.Random) -> dict:
    """As usual, with a router, a judge of a sample, and audits of the semantic cache."""
    route = [{"stage": "route", "decision": "small" if rng.random() < 0.7 else "large", "reason": "", "at_ms": 1.0}]
    return usual(hour, rng) | {"bad": None, "steps": route, "failing": rng.random() < 0.1 if rng.random() < 0.4 else None,
                               "wrong": rng.random() < 0.01 if rng.random() < 0.2 else None}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (lambda _rng, _event: {}, []),
        (lambda rng, _event: {"failing": rng.random() < 0.4}, [("judged", "prompt", "", False)]),
        (lambda rng, event: {"failing": rng.random() < 0.9 if event["failing"] is not None else None} if event["language"] == "ja" else {},
         [("judged", "language", "ja", False)]),
        (lambda rng, event: {"wrong": rng.random() < 0.2 if event["wrong"] is not None else None}, [("false hits", "prompt", "", False)]),
        (lambda rng, event: {"steps": [event["steps"][0] | {"decision": "large"}] if rng.random() < 0.5 else event["steps"]}, [("small", "prompt", "", True)]),
        (lambda rng, event: {"steps": [event["steps"][0] | {"decision": "small"}] if rng.random() < 0.8 else event["steps"]}, [("small", "prompt", "", False)]),
    ],
    ids=["nothing", "the judge's score", "the judge's score of a language", "false hits", "less to the small model", "more to the small model"],
)  # fmt: skip
def test_sampled_quality_false_hits_and_the_router_have_limits(changed, expected):
    """Each is a rate with its own past; no other rate is named."""
    alerts = found(
        lambda hour, rng: (event := beside(hour, rng)) | (changed(rng, event) if hour >= 48 else {}), many=150
    )

    assert ([], {row[0] for row in expected}) == (
        [row for row in expected if row not in alerts],
        {row[0] for row in alerts},
    )


def test_a_language_that_is_worse_in_every_prompt_is_seen_in_all_of_them_together():
    """Each prompt alone has too little feedback for a limit; together they have enough."""

    def change(hour: int, rng: random.Random) -> dict:
        event = usual(hour, rng) | {
            "prompt": rng.choice("abcdef"),
            "language": rng.choice(("ja", "en", "de", "fr", "es")),
        }
        worse = hour >= 48 and event["language"] == "ja"
        return event | {"bad": rng.random() < (0.5 if worse else 0.08) if rng.random() < 0.5 else None}

    drift = find_drift(read(hours(150, 60, change), NOW + 30 * 86_400), reference=48)

    assert [("bad", "language", "", "ja")] == [
        (found.metric, found.dimension, found.prompt, found.value) for found in drift.alerts
    ]


def test_what_came_back_is_no_alert_any_more():
    """An hour of outage two days ago is history: it is told, and the exit code is good."""

    def change(hour: int, rng: random.Random) -> dict:
        event = usual(hour, rng)
        return event | {"latency_ms": 5000.0} if 60 <= hour < 64 else event

    drift = find_drift(read(hours(120, 60, change)), reference=48)

    assert ((), [("slow", "2026-11-03T12")]) == (
        drift.alerts,
        [(finding.metric, finding.since) for finding in drift.findings if finding.state == "recovered"],
    )


def test_too_little_traffic_has_no_limits():
    """Nothing is called steady that could not have been seen to move."""
    few, short = find_drift(read(hours(90, 1, usual))), find_drift(read(hours(2, 60, usual)))

    assert ({"too few"}, 0, ()) == ({finding.state for finding in few.findings}, short.reference, short.findings)


def test_the_threshold_pays_for_every_rate_and_bucket():
    """K rates, 336 hours a fortnight, 0.2 false alarms: the evidence must pass K * 336 / 0.2."""
    drift = find_drift(read(hours(9, 60, usual)))
    rates = 2 * sum(
        finding.metric == "share" and finding.dimension != "tenant" for finding in drift.findings if not finding.falls
    )
    others = sum(finding.metric != "share" or finding.dimension == "tenant" for finding in drift.findings)

    assert pytest.approx((rates + others) * 336 / 0.2) == drift.threshold


def test_an_interval_that_holds_at_every_look_is_wider_than_one_for_a_single_look():
    """Beta(1/2, 1/2) mixture: at 50 of 100 the edges solve log BF = log 20; nothing known is [0, 1]."""
    low, high = always_valid_interval(50, 100)
    # by hand: log B(50.5, 50.5) - log B(.5, .5) = 50 log(p (1-p)) + log 20
    target = math.lgamma(50.5) * 2 - math.lgamma(101) - math.log(math.pi) + math.log(0.05)

    assert pytest.approx(target, abs=1e-6) == 50 * math.log(low * (1 - low))
    assert (pytest.approx(1 - low), True, (0.0, 1.0), 0.0) == (
        high,
        low < 0.404,
        always_valid_interval(0, 0),
        always_valid_interval(0, 10)[0],
    )


def test_an_always_valid_interval_misses_seldom_over_all_looks():
    """400 streams of 500 looks each at p = 0.1: at most 5 % ever leave the truth out (expected far fewer)."""
    rng, missed = random.Random(3), 0
    for _ in range(400):
        hits = 0
        for n in range(1, 501):
            hits += rng.random() < 0.1
            if n % 25 == 0:
                low, high = always_valid_interval(hits, n)
                if not low <= 0.1 <= high:
                    missed += 1
                    break

    assert missed <= 20
