"""Strict JSON in, canonical JSON out."""

import json
import math
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.digest import digest, short
from promptops.core.jsontext import MAX_DEPTH, JsonError, at_pointer, canonical_json, parse_json

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT  # fmt: skip
VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4), max_leaves=20
)
_SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : "), (",", "\t:"), (",\r\n", "\n:")])


@given(value=VALUES, ascii_only=st.booleans(), separators=_SEPARATORS, indent=st.sampled_from([None, 0, 2]))
def test_parse_gives_what_any_writer_wrote(value, ascii_only: bool, separators: tuple[str, str], indent: int | None):
    """Blanks, line ends and escapes of a writer never change a value; the standard library is the oracle."""
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators, indent=indent)

    assert repr(json.loads(text)) == repr(parse_json(text)) == repr(parse_json(text.encode()))


@given(st.text('{}[]:," \\ntrue01.eE-+u', max_size=12))
def test_parse_accepts_nothing_the_standard_library_refuses(text: str):
    """What passes is JSON, and has the value that the standard library sees."""
    try:
        value = parse_json(text)
    except JsonError:
        return

    assert repr(json.loads(text)) == repr(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}', '{"a" :1,"a" :2}', '{"a"\n:1, "a":2}', '{"a"\t: 1,"b":2,"a" :1}', '{"b":{"a":1,"a":1}}', '[{"a":[],"a":[]}]',
        '{"a":1,"\\u0061":2}', '{"":1,"":2}', '{"a":1e16,"a":2}', '{"a\\"":1,"a\\"":2}', '{"x":"\\":","a":1,"a":2}',
        '{"a":{"x" : 1}, "a":{"x" : 2}}', '{"k":"\\": ","k":"v"}',
    ],
)  # fmt: skip
def test_a_key_given_twice_is_refused_however_it_is_written(text: str):
    """Parsers disagree which of two equal keys wins, so none does."""
    with pytest.raises(JsonError, match="duplicate key"):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"k":"\\":"}', {"k": '":'}),
        ('{"x":"\\":\\":","y":{"z" :1}}', {"x": '":":', "y": {"z": 1}}),
        ('[{"b":1},{"b":2}]', [{"b": 1}, {"b": 2}]),
        ('{"a":{"a":{"a":1}}}', {"a": {"a": {"a": 1}}}),
        ('"\\ud83d\\ude00"', "😀"),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9007199254740993", 2**53 + 1),
        ("123456789012345678901.5", 123456789012345678901.5),
        (" [1e16, 1.5E+3]\r\n", [1e16, 1500.0]),
        ("[-0]", [0]),
    ],
)
def test_what_looks_like_a_fault_and_is_none_passes(text: str, value: Any):
    """Key marks inside strings, equal keys of different objects and the edges of 64 bits are fine."""
    assert value == parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "nul", "NaN", "[NaN]", "Infinity", "-Infinity", '{"a":NaN}', "1e400", "[-1e999]", "01", "1.", ".5", "+1", "-", "0x1",
        "[1,]", '{"a":1,}', "{a:1}", "{'a':1}", '{"a" 1}', "[1 2]", "[1] [2]", "[1]x", "// c\n1", "/* c */ 1", '"\t"', '"\n"', '"\\x41"',
        '"\\u12"', "True", "None", "\ufeff[1]", "\u00a01", "```json\n{}\n```", '"\\ud800"', '"\\ude00\\ud83d"', '"\ud800"', "[", "]", '{"a":',
        "18446744073709551616", "-9223372036854775809", "1" + "0" * 400, '{"n":12345678901234567890123}', b'"\xff"', b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}", "1".encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_not_strict_json_is_refused(text: str | bytes):
    """Comments, trailing commas, NaN, lone surrogates, byte order marks and integers beyond 64 bits are errors."""
    with pytest.raises(JsonError):
        parse_json(text)


@pytest.mark.parametrize("core", ["1", "null", "[]", "1.5", '"x"'])
@pytest.mark.parametrize("beside", ["", "1e300,"])
def test_depth_is_limited_the_same_for_every_content(core: str, beside: str):
    """A level is an array or object; what stands inside or beside does not move the limit."""
    levels = MAX_DEPTH - (core == "[]")
    parse_json("[" + beside + "[" * (levels - 1) + core + "]" * levels)

    with pytest.raises(JsonError, match="nested deeper than 200 levels"):
        parse_json("[" + beside + "[" * levels + core + "]" * (levels + 1))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 1000 + "]" * 1000, "[1e16," * 1000 + "1" + "]" * 1000, '{"a":' * 5000]
)
def test_very_deep_json_is_an_error_and_no_crash(text: str):
    """Nesting is refused before anything recurses over it."""
    with pytest.raises(JsonError):
        parse_json(text)


def test_an_error_does_not_repeat_the_text():
    """Answers of models may hold customers' data; the message names the place only."""
    with pytest.raises(JsonError) as caught:
        parse_json('{"card": 4111111111111111 secret')

    assert "secret" not in str(caught.value)
    assert "4111" not in str(caught.value)


@given(VALUES)
def test_canonical_json_is_read_back_as_the_same_value(value: Any):
    """Nothing is lost on the way to a digest."""
    assert repr(_sorted(value)) == repr(_sorted(parse_json(canonical_json(value))))


@given(st.dictionaries(_TEXT, st.integers(-5, 5), max_size=6), st.randoms(use_true_random=False))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, int], random: Any):
    """Equal objects give equal bytes, in the order of code points, as `json` with sorted keys writes them."""
    keys = list(value)
    random.shuffle(keys)
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    assert [expected] * 2 == [canonical_json(value), canonical_json({key: value[key] for key in keys})]


def test_canonical_bytes_and_digest_are_fixed():
    """These bytes are in every stored run: a change of library must not change them. The digest is from sha256sum."""
    value = MappingProxyType({"z": [1, 1.0, -0.0, 1e16, 1e-7, None, True], "é": {"b": '\u2028"\\\n/', "a": "<&>"}, "Z": ()})  # fmt: skip
    expected = '{"Z":[],"z":[1,1.0,-0.0,1e+16,1e-7,null,true],"é":{"a":"<&>","b":"\u2028\\"\\\\\\n/"}}'

    assert expected.encode() == canonical_json(value)
    assert "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" == digest({})
    assert "44136fa355b3" == short(digest({}))


@pytest.mark.parametrize(
    "value", [2**64, -(2**63) - 1, {1: 2}, {"a": {1}}, b"x", "\ud800", {"\ud800": 1}, object(), math, {"a": 1j}]
)
def test_a_value_without_a_json_form_has_no_digest(value: Any):
    """Foreign types are errors, never a guess at their spelling."""
    with pytest.raises(JsonError):
        digest(value)


def test_dates_and_dataclasses_are_not_json():
    """The serialiser knows them, JSON does not: two spellings of one moment would be two digests."""
    from dataclasses import dataclass
    from datetime import UTC, date, datetime

    @dataclass
    class Point:
        x: int = 1

    for value in (date(2024, 1, 2), datetime(2024, 1, 2, tzinfo=UTC), Point()):
        with pytest.raises(JsonError):
            canonical_json({"at": value})


@given(VALUES, VALUES)
def test_digests_are_equal_for_equal_values_only(left: Any, right: Any):
    """1 and 1.0 are different documents; key order is no difference."""
    assert (repr(_sorted(left)) == repr(_sorted(right))) is (digest(left) == digest(right))


_DOCUMENT = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "m~n": 8, " ": 7, "~1": 9, "0": 5}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("", _DOCUMENT), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/m~0n", 8), ("/ ", 7),
     ("/~01", 9), ("/0", 5)],
)  # fmt: skip
def test_pointer_names_a_part_as_in_rfc_6901(pointer: str, value: Any):
    """The table of RFC 6901, section 5."""
    assert value == at_pointer(_DOCUMENT, pointer)


@pytest.mark.parametrize(
    "pointer", ["/nope", "/foo/2", "/foo/-1", "/foo/01", "/foo/٠", "/foo/-", "/foo/", "/foo/0/0", "//x"]
)
def test_pointer_to_nothing_raises(pointer: str):
    """No index but 0 or a number without leading zeros; a scalar has no parts."""
    with pytest.raises(KeyError):
        at_pointer(_DOCUMENT, pointer)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
