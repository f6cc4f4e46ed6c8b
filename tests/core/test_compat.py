"""What schema changes mean: never called harmless when a value proves otherwise, and named as a person would."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from promptops.core.compat import Difference, SchemaChange, differences, needed_bump
from promptops.core.schema import compile_schema
from tests.core.test_schema import SCHEMAS, VALUES


def _object(properties, required=(), **more):
    return {"type": "object", "properties": properties, "required": list(required), **more}


@pytest.mark.parametrize(
    ("before", "after", "narrows", "widens", "what"),
    [
        ({"type": "string"}, {"type": ["string", "null"]}, False, True, "type string became string or null"),
        ({"type": "number"}, {"type": "integer"}, True, False, "type number became integer"),
        ({"type": "string"}, {"type": "integer"}, True, True, "type string became integer"),
        ({"enum": ["a", "b"]}, {"enum": ["b", "c", "a"]}, False, True, 'values added: "c"'),
        ({"enum": ["a", "b"]}, {"const": "a"}, True, False, 'values removed: "b"'),
        ({"enum": ["a"]}, {"type": "string", "enum": ["a", 1]}, None, None, ""),
        ({"maximum": 5, "type": "integer"}, {"maximum": 9, "type": "integer"}, False, True, "`maximum` 5 became 9"),
        ({"minLength": 2, "type": "string"}, {"minLength": 3, "type": "string"}, True, False, "`minLength` 2 became 3"),
        ({"type": "string"}, {"type": "string", "pattern": "^a"}, True, False, '`pattern` "^a" was added'),
        ({"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}, True, True, '`pattern` "a" became "b"'),
        ({"multipleOf": 2, "type": "integer"}, {"multipleOf": 4, "type": "integer"}, True, False, "`multipleOf` 2 became 4"),
        ({"title": "x", "type": "string"}, {"type": "string", "description": "y"}, None, None, ""),
        ({"not": {"const": 1}}, {"not": {"const": 2}}, True, True, "`not` changed (cannot be decided)"),
    ],
)  # fmt: skip
def test_one_difference_narrows_or_widens(before, after, narrows, widens, what):
    """Each keyword says in which direction the accepted values moved; annotations say nothing."""
    expected = [] if narrows is None else [Difference(where="", what=what, narrows=narrows, widens=widens)]
    assert expected == differences(before, after)


def test_properties_of_inputs_are_closed():
    """An input that is no longer declared is refused, so callers that send it break; a new optional one breaks nobody."""
    before = _object({"a": {"type": "string"}, "b": {"type": "string"}}, ["a"])
    after = _object({"a": {"type": "string"}, "c": {"type": "string"}}, ["a"])

    found = differences(before, after, closed=True)

    assert [("/b", "removed", True), ("/c", "added, optional", False)] == [
        (item.where, item.what, item.narrows) for item in found
    ]


def test_property_gone_from_the_answer_breaks_readers():
    """A reader loses what it read, also where the schema would still accept the property."""
    before, after = _object({"a": {"type": "string"}}, ["a"]), _object({}, [])

    found = differences(before, after, answers=True)

    assert [Difference(where="/a", what="removed", narrows=False, widens=True)] == found


def test_change_behind_a_reference_is_found_once():
    """References are followed, also when they come back to themselves."""

    def tree(kind):
        return {
            "$ref": "#/$defs/node",
            "$defs": {"node": _object({"value": {"type": kind}, "next": {"$ref": "#/$defs/node"}}, ["value"])},
        }

    assert [] == differences(tree("string"), tree("string"))
    assert [Difference(where="/value", what="type integer became number", narrows=False, widens=True)] == differences(
        tree("integer"), tree("number")
    )


def test_unchanged_alternative_with_a_reference_is_no_change():
    """The form that Pydantic writes for an optional model is compared by what it refers to."""
    schema = {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}], "$defs": {"a": {"type": "string"}}}
    longer = {**schema, "$defs": {"a": {"type": "string", "maxLength": 9}}}

    assert [] == differences(schema, dict(schema))
    assert [("`maxLength` 9 was added", True, False)] == [
        (item.what, item.narrows, item.widens) for item in differences(schema, longer)
    ]


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=8, max_size=8))
def test_no_value_contradicts_a_difference(before, after, values):
    """Where nothing narrows every accepted value stays accepted; where nothing widens none is new. Added properties are a convention."""
    found = differences(before, after)
    assume(not any(item.what.startswith("added") for item in found))
    old, new = compile_schema(before), compile_schema(after)

    for value in values:
        if not any(item.narrows for item in found):
            assert new.accepts(value) or not old.accepts(value), value
        if not any(item.widens for item in found):
            assert old.accepts(value) or not new.accepts(value), value


@given(SCHEMAS)
def test_schema_does_not_differ_from_itself(schema):
    """The same schema is no change, however odd."""
    assert [] == differences(schema, dict(schema))


def test_breaking_change_needs_a_major_version():
    """Breaking: major. Other content: minor. The same content: patch."""
    breaking = SchemaChange(side="input", where="/a", what="removed", breaking=True)
    harmless = SchemaChange(side="output", where="/a", what="added, optional", breaking=False)

    assert "major" == needed_bump([harmless, breaking], same_content=False)
    assert "minor" == needed_bump([harmless], same_content=False)
    assert "patch" == needed_bump([], same_content=True)
