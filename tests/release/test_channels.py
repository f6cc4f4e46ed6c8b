"""The fold of a channel's events: what is live, what is bad, and where the chain breaks."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptops.release.channels import ChannelState, Event, Link, fold, rule_broken
from promptops.release.names import EventName, Version

V1, V2, V3, V4 = (Version(1, minor, 0) for minor in range(4))


def event(state: ChannelState, action: str, to: Version | None = None, *, bad: Version | None = None, percent: int = 100,
          reason: str = "", at: str = "2026-01-01T00:00:00+00:00") -> Event:  # fmt: skip
    return Event(prompt="a", channel="prod", seq=state.seq + 1, prev=state.head, action=action, came_from=state.live, to=to, bad=bad,
                 percent=percent, evidence="", actor="ana", reason=reason, at=at, nonce="0")  # fmt: skip


def oid(seq: int) -> str:
    return f"{seq:040x}"


def chain(*steps: tuple[str, dict]) -> list[Link]:
    """Events one after the other; rollbacks are given their target and mark what they leave."""
    links: list[Link] = []
    for action, options in steps:
        state = fold("a", "prod", links)
        assert not state.fault, state.fault
        made = event(state, action, **options)
        links.append(Link(oid=oid(made.seq), name=made.name, event=made))
    return links


def promote(version: Version, **options) -> tuple[str, dict]:
    return "promote", {"to": version, **options}


def rollback(bad: Version, to: Version) -> tuple[str, dict]:
    return "rollback", {"to": to, "bad": bad, "reason": "wrong"}


def test_nothing_happened_yet():
    """A channel without events points nowhere."""
    assert ChannelState(prompt="a", channel="prod") == fold("a", "prod", [])


def test_two_rollbacks_go_further_back_and_never_bounce():
    """The first marks v3 and lands on v2, the second marks v2 and goes to v1: not back to v3."""
    links = chain(promote(V1), promote(V2), promote(V3))
    first = fold("a", "prod", links)
    links = chain(promote(V1), promote(V2), promote(V3), rollback(V3, V2))
    second = fold("a", "prod", links)
    links = chain(promote(V1), promote(V2), promote(V3), rollback(V3, V2), rollback(V2, V1))
    third = fold("a", "prod", links)

    assert [(V3, V2), (V2, V1), (V1, None)] == [
        (state.live, state.last_good(state.live)) for state in (first, second, third)
    ]
    assert frozenset({V2, V3}) == third.bad


def test_a_rollback_while_a_canary_runs_ends_the_canary():
    """What is marked bad is the canary; the version that served the rest stays."""
    state = fold("a", "prod", chain(promote(V1), ("canary", {"to": V2, "percent": 5}), rollback(V2, V1)))

    assert (V1, None, frozenset({V2}), 3) == (state.live, state.canary, state.bad, state.seq)


def test_order_is_the_number_and_not_the_clock():
    """A clock in 2030 or one that runs backwards changes nothing."""
    links = chain(promote(V1, at="2030-01-01T00:00:00+00:00"), promote(V2, at="1999-01-01T00:00:00+00:00"))

    assert V2 == fold("a", "prod", reversed(links)).live


def test_a_missing_event_in_the_middle_is_a_gap():
    """What comes after a gap does not count, and the message names the missing number."""
    links = chain(promote(V1), promote(V2), promote(V3))
    state = fold("a", "prod", [links[0], links[2]])

    assert (V1, 1, "event 000002 is missing before 000003") == (state.live, state.seq, state.fault)


def test_a_replaced_event_breaks_the_chain_after_it():
    """The next event names the object that was there before."""
    links = chain(promote(V1), promote(V2), promote(V3))
    links[1] = replace(links[1], oid=oid(99))
    state = fold("a", "prod", links)

    assert (V2, "event 000003 does not follow the event before it: one of the two was replaced") == (
        state.live,
        state.fault,
    )


def test_an_event_under_another_number_is_refused():
    """A copy of an old event under the next number is not a new event."""
    links = chain(promote(V1), promote(V2))
    copied = Link(oid=oid(3), name=EventName("a", "prod", 3), event=links[0].event)

    assert "event 000003 says that it is channel/a/prod/000001" == fold("a", "prod", [*links, copied]).fault


def test_an_event_that_cannot_be_read_stops_the_fold():
    """Better the last state that is sure than a guess."""
    links = chain(promote(V1))
    broken = Link(oid=oid(2), name=EventName("a", "prod", 2), event=None, fault="its record is not JSON")

    assert (V1, "event 000002 cannot be read: its record is not JSON") == (
        (state := fold("a", "prod", [*links, broken])).live, state.fault,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "action", "options", "broken"),
    [
        ([promote(V2)], "promote", {"to": V1}, "v1.0.0 is older than v1.1.0: that is a rollback"),
        ([promote(V1), promote(V2), rollback(V2, V1)], "promote", {"to": V2}, "v1.1.0 is marked bad, and no reason is given to use it again"),
        ([promote(V1), promote(V2), rollback(V2, V1)], "promote", {"to": V2, "reason": "false alarm"}, ""),
        ([promote(V1), promote(V2), rollback(V2, V1), promote(V3)], "rollback", {"to": V2, "bad": V3}, "a rollback must not land on v1.1.0, which is marked bad"),
        ([promote(V1)], "rollback", {"to": V1, "bad": V1}, "a rollback must not land on v1.0.0, which is marked bad"),
        ([promote(V1), promote(V2)], "rollback", {"to": V1, "bad": V1}, "a rollback marks the version it leaves"),
        ([], "rollback", {"to": V1, "bad": V2}, "a rollback marks the version it leaves"),
        ([], "canary", {"to": V1, "percent": 5}, "a canary needs another version that serves the rest"),
        ([promote(V1)], "canary", {"to": V2, "percent": 100}, "a canary gets less than all traffic"),
        ([promote(V1)], "promote", {"to": V2, "percent": 50}, "a promotion serves all traffic"),
        ([promote(V1), ("hold", {"to": V1})], "promote", {"to": V2}, "the channel is held"),
        ([promote(V1), promote(V2), ("hold", {"to": V2})], "rollback", {"to": V1, "bad": V2}, ""),
        ([promote(V1), ("hold", {"to": V1})], "hold", {"to": V1}, "the channel is already held"),
        ([promote(V1)], "resume", {"to": V1}, "the channel is not held"),
        ([promote(V1)], "hold", {"to": V2}, "a hold changes no version"),
        ([promote(V1), promote(V2), ("canary", {"to": V3, "percent": 5})], "rollback", {"to": V1, "bad": V3}, "a rollback of a canary lands on the live version, v1.1.0"),
    ],
)  # fmt: skip
def test_R9_rules_of_a_channel(steps: list, action: str, options: dict, broken: str):
    """No downgrade but a rollback, no rollback onto what is bad, nothing but rollbacks while held."""
    state = fold("a", "prod", chain(*steps))

    assert broken == rule_broken(state, event(state, action, **options))


@settings(max_examples=150)
@given(data=st.data())
def test_the_fold_keeps_its_promises_whatever_happens(data):
    """After any events that fit: what is live is never bad, a rollback target is never bad or live, and the record survives as JSON."""
    links: list[Link] = []
    for _ in range(data.draw(st.integers(0, 14))):
        state = fold("a", "prod", links)
        leaving = state.canary or state.live
        action = data.draw(st.sampled_from(["promote", "canary", "rollback", "hold", "resume"]))
        version = data.draw(st.sampled_from([V1, V2, V3, V4]))
        options = {
            "promote": {"to": version, "reason": data.draw(st.sampled_from(["", "again"]))},
            "canary": {"to": version, "percent": 5, "reason": "try"},
            "rollback": {"to": state.last_good(leaving) if leaving else None, "bad": leaving},
            "hold": {"to": state.live}, "resume": {"to": state.live},
        }[action]  # fmt: skip
        made = event(state, action, **options)
        if rule_broken(state, made):
            continue
        links.append(Link(oid=oid(made.seq), name=made.name, event=Event.from_dict(made.as_dict())))
        after = fold("a", "prod", links)
        assert not after.fault
        assert after.live not in after.bad or after.live is None
        if after.live:
            target = after.last_good(after.live)
            assert target is None or (target != after.live and target not in after.bad)
    assert fold("a", "prod", links) == fold("a", "prod", reversed(links))


@pytest.mark.parametrize(
    "change",
    [{"seq": 0}, {"seq": True}, {"seq": 1_000_000}, {"percent": 0}, {"percent": "5"}, {"action": "delete"}, {"to": "1.0"}, {"to": "v01.0.0"}, {"promptops": 2},
     {"kind": "version"}, {"extra": 1}, {"reason": None}],
)  # fmt: skip
def test_a_record_that_is_no_event_says_why(change: dict):
    """Out of range, unknown, wrongly typed: a ValueError, never another kind of event."""
    body = event(ChannelState(prompt="a", channel="prod"), "promote", V1).as_dict() | change

    with pytest.raises(ValueError, match=r"\w"):
        Event.from_dict(body)
