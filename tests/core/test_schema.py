"""JSON Schemas are compiled once, checked in full, and linted for what has no effect."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.checks import CaseFacts, Completion, JsonSchemaCheck, Score
from promptops.core.jsontext import canonical_json
from promptops.core.schema import SchemaViolation, compile_schema, lint_schema, pattern_schema

TICKET = {
    "type": "object",
    "properties": {
        "category": {"enum": ["billing", "delivery"]},
        "due": {"type": "string", "format": "date"},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}},
    },
    "required": ["category"],
    "additionalProperties": False,
}  # fmt: skip

_SMALL = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "", "a", "ab", "abc", [], [1], {}])
_NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    _SMALL, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3), max_leaves=6
)
_TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
_KEYWORDS = {
    "type": _TYPES | st.lists(_TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "const": VALUES,
    "minimum": st.integers(-2, 2), "exclusiveMaximum": st.integers(-2, 2), "multipleOf": st.sampled_from([1, 2, 0.5]),
    "minLength": st.integers(0, 2), "maxLength": st.integers(0, 2), "pattern": st.sampled_from(["^a", "b$", "^[ab]+$", ""]),
    "minItems": st.integers(0, 2), "maxItems": st.integers(0, 2), "uniqueItems": st.booleans(),
    "minProperties": st.integers(0, 2), "maxProperties": st.integers(0, 2), "required": st.lists(_NAMES, max_size=2, unique=True),
    "dependentRequired": st.dictionaries(_NAMES, st.lists(_NAMES, max_size=2, unique=True), max_size=1),
}  # fmt: skip


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    applicators = {
        "properties": st.dictionaries(_NAMES, inner, max_size=2), "patternProperties": st.dictionaries(st.sampled_from(["^a", "c"]), inner, max_size=1),
        "additionalProperties": inner, "propertyNames": inner, "items": inner, "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "contains": inner, "allOf": st.lists(inner, min_size=1, max_size=2), "anyOf": st.lists(inner, min_size=1, max_size=2),
        "oneOf": st.lists(inner, min_size=1, max_size=2), "not": inner, "if": inner, "then": inner, "else": inner,
        "unevaluatedProperties": inner, "unevaluatedItems": inner,
    }  # fmt: skip
    every = _KEYWORDS | applicators
    return st.lists(st.sampled_from(sorted(every)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: every[name] for name in names})
    )


SCHEMAS = st.recursive(st.booleans() | _schemas(st.booleans()), _schemas, max_leaves=4).filter(
    lambda it: isinstance(it, dict)
)


@given(schema=SCHEMAS, value=VALUES)
def test_json_schema_check_agrees_with_the_reference_validator(schema: dict[str, Any], value: Any):
    """The `jsonschema` library is the oracle for draft 2020-12; a failure always gives its reason."""
    check = JsonSchemaCheck(default=compile_schema(schema))
    completion = Completion.of(canonical_json(value).decode(), "json")

    score = check.score(completion, CaseFacts(category="x", inputs={}))

    assert isinstance(score, Score)
    assert jsonschema.Draft202012Validator(schema).is_valid(value) is score.passed
    assert score.reason


def test_violations_name_the_place_and_not_the_value():
    """A reason may be shown to everybody; the answer may not."""
    value = {"category": "secret", "due": "2024-02-30", "lines": [{"n": 1}, {"n": 0}, {}], "extra": "secret"}
    found = list(compile_schema(TICKET).violations(value))

    assert {("/category", "enum"), ("/due", "format"), ("/lines/1/n", "minimum"), ("/lines/2", "required"), ("", "additionalProperties")} == {
        (violation.pointer, violation.keyword) for violation in found
    }  # fmt: skip
    assert [("extra",)] == [violation.unexpected for violation in found if violation.keyword == "additionalProperties"]
    assert not any("secret" in violation.message for violation in found if violation.keyword != "additionalProperties")
    assert all(isinstance(violation, SchemaViolation) for violation in found)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29", ["2023-02-29", "2024-2-3", "2024-13-01", "20240203", "2024-02-03T00:00:00Z", ""]),
        ("date-time", "2024-02-03T04:05:06Z", ["2024-02-03", "2024-02-03 04:05", "2024-02-03T25:00:00Z", "2024-02-03T04:05:06"]),
        ("time", "04:05:06Z", ["24:00:00Z", "4:05"]),
        ("email", "a@example.com", ["a", "@example.com", "a@"]),
        ("ipv4", "127.0.0.1", ["127.0.0.256", "127.1", "::1"]),
        ("ipv6", "::1", ["127.0.0.1", ":::"]),
        ("uri", "https://example.com/a?b#c", ["example.com", "//example.com", "a b"]),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", ["123e4567", "g23e4567-e89b-12d3-a456-426614174000"]),
        ("hostname", "example.com", ["-example.com", "exa mple.com"]),
        ("json-pointer", "/a/b~1", ["a", "/~2"]),
        ("regex", "^a+$", ["(", "["]),
        ("duration", "P1DT2H", ["1D", "P"]),
    ],
)  # fmt: skip
def test_formats_are_checked(name: str, good: str, bad: list[str]):
    """A format that is stated is enforced, unlike the default of the specification."""
    schema = compile_schema({"type": "string", "format": name})

    assert [True] + [False] * len(bad) == [schema.accepts(text) for text in [good, *bad]]


def test_equal_documents_share_one_compiled_form():
    """Key order is no difference, so a suite compiles each schema once."""
    assert compile_schema({"type": "object", "required": ["a"]}) is compile_schema(
        {"required": ["a"], "type": "object"}
    )


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        (TICKET, []),
        ({"type": "object"}, []),
        ({"$defs": {"a": {"type": "string"}}, "type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}, []),
        ({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}, []),
        ({"type": "object", "properties": {"$ref": {"type": "string"}, "format": {"type": "string"}, "typo": True}}, []),
        ({"type": "string", "enum": ["http://x"], "default": {"$ref": "http://x", "typo": 1}}, []),
        ({"type": "object", "properties": {"a": {"typ": "string"}}}, [("s.json#/properties/a", "unknown keyword 'typ'")]),
        ({"type": "string", "foramt": "date"}, [("s.json", "unknown keyword 'foramt'")]),
        ({"type": "string", "format": "dat"}, [("s.json", "unknown format 'dat'")]),
        ({"type": "string", "format": []}, [("s.json", "invalid schema")]),
        ({"type": "array", "items": {"format": 5}}, [("s.json", "invalid schema")]),
        ({"type": "object", "properties": {"due": {}}, "required": ["deu"]}, [("s.json", "required property 'deu' is not under `properties`")]),
        ({"type": "object", "properties": {"a": {}}, "required": [["a"]]}, [("s.json", "invalid schema")]),
        ({"type": "object", "properties": {"a": {}}, "required": [{}, 5]}, [("s.json", "invalid schema")]),
        ({"type": "strin"}, [("s.json", "invalid schema")]),
        ({"minLength": -1}, [("s.json", "invalid schema")]),
        ({"type": "string", "pattern": "(?=x)"}, [("s.json", "invalid schema")]),
        ({"type": "string", "pattern": "(a)\\1"}, [("s.json", "invalid schema")]),
        ({"type": "array", "items": [{"type": "string"}]}, [("s.json#/items", "a schema must be an object or a boolean")]),
        ({"allOf": [{"type": "object"}, 5]}, [("s.json#/allOf/1", "a schema must be an object or a boolean")]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}, [("s.json", "unsupported $schema")]),
        ({"definitions": {}, "type": "object"}, [("s.json", "unknown keyword 'definitions'")]),
        ([], [("s.json", "a schema must be a JSON object")]),
        (True, [("s.json", "a schema must be a JSON object")]),
        ({"not": {"typo": 1}, "then": {"tpyo": 1}}, [("s.json#/not", "unknown keyword 'typo'"), ("s.json#/then", "unknown keyword 'tpyo'")]),
    ],
)  # fmt: skip
def test_E33_lint_finds_what_a_schema_would_ignore(document: Any, problems: list[tuple[str, str]]):
    """A typo in a keyword checks nothing: it is a problem with its place, all at once."""
    assert problems == [(problem.where, problem.what) for problem in lint_schema(document, "s.json")]


@pytest.mark.parametrize(
    "document",
    [
        {}, {"title": "Answer"}, {"description": "x", "$defs": {"a": {"type": "string"}}}, {"properties": {"a": {"type": "string"}}},
        {"type": ["object", "array", "string", "number", "null", "boolean"]}, {"anyOf": [True, {"type": "string"}]}, {"$ref": "#"},
        {"if": {"type": "string"}, "then": True}, {"not": {"not": {}}}, {"enum": [{}, {"x": 1}, [], [1], "x", 0, None, True]},
    ],
)  # fmt: skip
def test_E33_a_schema_that_accepts_everything_is_a_problem(document: dict[str, Any]):
    """A check that cannot fail would be a pass for every answer."""
    (problem,) = lint_schema(document, "s.json")

    assert ("the schema accepts every value", "state `type`, `properties` and `required`") == (
        problem.what,
        problem.hint,
    )


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [("^a+$", "aaa", True), ("b", "abc", True), (r"^\p{L}+$", "Größe", True), (r"\d", "٣", False), ("(?i)ABC", "xabcx", True), ("^$", "", True)],
)  # fmt: skip
def test_a_pattern_is_searched_in_the_text(pattern: str, text: str, *, found: bool):
    """Not anchored; Unicode classes by name, digits are ASCII as in ECMA-262."""
    assert found is pattern_schema(pattern).accepts(text)


@pytest.mark.parametrize("pattern", ["(", "(?<=a)b", "(a)\\1", "[", "a{1001}{1001}{1001}"])
def test_a_pattern_that_needs_backtracking_is_refused(pattern: str):
    """Only what runs in linear time."""
    with pytest.raises(ValueError, match="regex"):
        pattern_schema(pattern)
