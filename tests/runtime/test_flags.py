"""The flags file: what a rule means, what is refused, and edits that touch nothing else."""

import json

import pytest

from promptops.runtime.flags import FlagsError, Kills, parse_flags, set_kill

BOOLEANS = {"on": True, "off": False}


def document(**flags: object) -> bytes:
    return json.dumps(
        {"flags": {f"promptops.{key.replace('__', '.')}": value for key, value in flags.items()}}
    ).encode()


def rule(default: str = "off", targeting: object = None, **changes: object) -> dict[str, object]:
    return {"state": "ENABLED", "variants": BOOLEANS, "defaultVariant": default, "targeting": targeting or {}} | changes


def off(kills: Kills, *pairs: tuple[str, str]) -> list[bool]:
    return [bool(kills.reason(*pair)) for pair in pairs]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (rule("off"), [False, False]),
        (rule("on"), [True, True]),
        (rule("on", state="DISABLED"), [False, False]),
        (rule("off", {"if": [{"in": [{"var": "tenant"}, ["acme"]]}, "on", "off"]}), [True, False]),
        (rule("on", {"if": [{"==": [{"var": ["tenant"]}, "acme"]}, "off"]}), [False, True]),
        (rule("off", {"!=": [{"var": "targetingKey"}, "acme"]}, variants={"true": True, "false": False, "off": False}), [False, True]),
        (rule("off", {"if": [{"in": ["me", {"var": "tenant"}]}, "on", "off"]}), [True, False]),
        (rule("off", {"if": [{"and": [{"!": [{"var": "missing"}]}, {"or": [False, True]}]}, "on"]}), [True, True]),
        (rule("off", {"if": [True, "a-typing-error", "off"]}), [True, True]),
    ],
)  # fmt: skip
def test_a_flag_means_what_flagd_says(flag: dict[str, object], expected: list[bool]):
    """Default, targeting by tenant, disabled; a rule that names no variant switches off rather than on."""
    kills = parse_flags(document(kill__triage=flag))

    assert [*expected, False] == off(kills, ("triage", "acme"), ("triage", "globex"), ("invoice", "globex"))


def test_the_flag_for_all_switches_every_prompt_off():
    """`promptops.kill` needs no list of prompts."""
    assert [True, True] == off(parse_flags(document(kill=rule("on"))), ("triage", ""), ("invoice", "acme"))


def test_other_flags_are_nobody_elses_business():
    """An application keeps its own flags in the same file, of any type and with any targeting."""
    raw = json.dumps({"flags": {"colour": {"state": "ENABLED", "variants": {"a": "red"}, "defaultVariant": "a",
                                           "targeting": {"fractional": [["a", 100]]}}}}).encode()  # fmt: skip

    assert Kills() == parse_flags(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (document(kill__triage=rule("on"))[:-7], "not JSON"),
        (b"[]", "not an object"),
        (b'{"flags": []}', "not an object"),
        (b'{"flags": {}, "flags": {}}', "duplicate key"),
        (b'{"flags":' + b"[" * 9999, "not JSON"),
        (b" " * 1_000_001, "more than 1000000 bytes"),
        (document(kill__triage=rule("off", variants={"on": "true", "off": "false"})), "true or false, not text"),
        (document(kill__triage=rule("off", variants={"on": 1, "off": 0})), "true or false, not text"),
        (document(kill__triage=rule("false")), "defaultVariant"),
        (document(kill__triage=rule(state="enabled")), "ENABLED or DISABLED"),
        (document(kill__triage="on"), "not an object"),
        (document(kill__triage=rule("off", {"fractional": [["on", 50]]})), "not supported"),
        (document(kill__triage=rule("off", {"==": ["a"]})), "number of arguments"),
        (document(kill__triage=rule("off", {"var": 3})), "var takes"),
    ],
    ids=range(15),
)
def test_T30_what_is_not_a_flags_file_is_refused_whole(raw: bytes, why: str):
    """Half-written, empty, the text "false" for false: nothing of it is taken."""
    with pytest.raises(FlagsError, match=why):
        parse_flags(raw)


def test_edits_add_up_and_leave_the_rest_alone():
    """One tenant, another, one back, all, all back; comments and flags of others stay."""
    raw = json.dumps({"metadata": {"team": "é"}, "flags": {"colour": {"state": "ENABLED"}}}).encode()
    pairs = (("triage", "acme"), ("triage", "globex"), ("triage", "initech"), ("invoice", "acme"))
    seen = []
    for tenant, back in (("acme", False), ("globex", False), ("acme", True), ("", False), ("", True)):
        raw = set_kill(raw, "triage", tenant=tenant, off=back)
        seen.append(off(parse_flags(raw), *pairs))

    assert [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, False, False],
        [True, True, True, False],
        [False, False, False, False],
    ] == seen
    left = json.loads(raw)
    assert ({"team": "é"}, {"state": "ENABLED"}) == (left["metadata"], left["flags"]["colour"])


@pytest.mark.parametrize(
    ("flag", "tenant", "why"),
    [
        (rule("on"), "acme", "on for every tenant"),
        (rule("off", {"if": [{"==": [{"var": "tenant"}, "acme"]}, "on", "off"]}), "acme", "rule of its own"),
        (rule("stop", variants={"stop": True, "go": False}), "acme", "variants of its own"),
    ],
)
def test_an_edit_that_would_change_a_rule_written_by_hand_is_refused(flag: dict[str, object], tenant: str, why: str):
    """The command never replaces what it does not understand."""
    with pytest.raises(FlagsError, match=why):
        set_kill(document(kill__triage=flag), "triage", tenant=tenant, off=True)
