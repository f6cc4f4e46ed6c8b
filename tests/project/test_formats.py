"""The published schemas: sound, in step with the code, and clear about what breaks them."""

import dataclasses
import json
from typing import Any

import jsonschema
import pytest

from promptops.core.checks import CHECKS
from promptops.core.jsontext import parse_json
from promptops.core.schema import lint_schema
from promptops.core.serving import Settings
from promptops.project.config import Config, ModelConfig
from promptops.project.formats import FORMATS, FormatName, format_problems, format_schema, format_text
from promptops.runtime.formats import bundle_format_text

SUITE: dict[str, Any] = {"promptops": 1, "prompt": "p", "cases": "p.jsonl", "checks": [{"check": "equals"}]}
RESOLVED = {
    "json_schema": {"default", "by_category"},
    "python": {"function", "distribution"},
    "pydantic": {"model", "distribution"},
    "sql": {"run"},
}
"""Fields that are filled from other files, packages and databases; nobody writes them."""
WRITTEN_AS = {("language", "is_"): "is", ("cost", "max_nanousd"): "max_usd"}


def options_in_schema() -> dict[str, set[str]]:
    branches = parse_json(format_text("suite"))["$defs"]["check"]["allOf"]
    return {
        branch["if"]["properties"]["check"]["const"]: set(branch["then"]["properties"]) - {"check"}
        for branch in branches
    }


def said(name: FormatName, value: object) -> list[str]:
    return [str(problem) for problem in format_problems(name, value, lambda path: "/".join(map(str, path)))]


@pytest.mark.parametrize("name", FORMATS)
def test_every_published_schema_is_valid_and_lints_clean(name: FormatName):
    """The schemas hold to the rules they hold others to, and to the standard as another library reads it."""
    document = json.loads(format_text(name))

    jsonschema.Draft202012Validator.check_schema(document)
    assert [] == lint_schema(document, name)


def test_the_checks_of_the_schema_are_those_of_the_code():
    """A check exists in both or in neither."""
    listed = parse_json(format_text("suite"))["$defs"]["check"]["properties"]["check"]["enum"]

    assert (sorted(CHECKS), sorted(CHECKS)) == (sorted(listed), sorted(options_in_schema()))


@pytest.mark.parametrize("kind", sorted(CHECKS))
def test_every_option_of_a_check_is_a_field_of_its_class_and_back(kind: str):
    """An option that nothing reads would be a silent choice; a field nobody can set, dead code."""
    fields = {field.name for field in dataclasses.fields(CHECKS[kind])}  # type: ignore[arg-type]
    settable = {WRITTEN_AS.get((kind, name), name) for name in fields - RESOLVED.get(kind, set())}

    assert settable == options_in_schema()[kind] - {"online", "only"}


def test_the_settings_of_the_schema_are_those_of_the_configuration():
    """Every key of [tool.promptops] ends up in Config, every key of a model in ModelConfig; `chosen` says who set some."""
    schema = parse_json(format_text("config"))["properties"]
    model = {field.name for field in dataclasses.fields(ModelConfig)} - {"alias", "price"}
    prices = {"input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok"}

    assert {field.name for field in dataclasses.fields(Config)} - {"chosen"} == set(schema)
    assert model | prices == set(schema["models"]["additionalProperties"]["properties"])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("config", {"concurency": 1}, ["concurency: unknown key 'concurency'; did you mean 'concurrency'?"]),
        (
            "suite",
            SUITE | {"gate": {"alfa": 0.1}},
            ["gate/alfa: unknown key 'alfa'; did you mean 'alpha'?"],
        ),
        (
            "suite",
            SUITE | {"checks": [{"check": "equals", "ignorecase": True}]},
            ["checks/0/ignorecase: unknown key 'ignorecase'; did you mean 'ignore_case'?"],
        ),
        (
            "suite",
            SUITE | {"categories": {"a": {"toleranz": 0.1}}},
            ["categories/a/toleranz: unknown key 'toleranz'; did you mean 'tolerance'?"],
        ),
        (
            "rules",
            {"promptops": 1, "default": "echo", "rules": {"a": [{"value": 1, "whenn": "x"}]}},
            ["rules/a/0/whenn: unknown key 'whenn'; did you mean 'when'?"],
        ),
        (
            "case",
            {"id": "a", "category": "c", "inputs": {}, "expcted": {}},
            ["expcted: unknown key 'expcted'; did you mean 'expected'?"],
        ),
        (
            "prompt",
            {"promptops": 1, "name": "a", "input": {"schema": "s.json"}, "params": {"temprature": 0}},
            ["params/temprature: unknown key 'temprature'; did you mean 'temperature'?"],
        ),
    ],
)
def test_an_unknown_key_is_placed_and_gets_a_suggestion(name: FormatName, value: object, expected: list[str]):
    """At every depth, also below a reference or a condition of the schema."""
    assert expected == said(name, value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "suite",
            SUITE | {"checks": [{"check": "equal"}]},
            ["checks/0/check: `checks.0.check` 'equal' is not known; did you mean 'equals'?"],
        ),
        ("suite", SUITE | {"checks": [{"name": "x"}]}, ["checks/0: `checks.0` has no 'check'"]),
        (
            "suite",
            SUITE | {"checks": [{"check": "contains"}]},
            ["checks/0: `checks.0` needs exactly one of values, expected"],
        ),
        (
            "suite",
            SUITE | {"checks": [{"check": "length"}]},
            ["checks/0: `checks.0` needs at least one of min, max"],
        ),
        (
            "rubric",
            {
                "promptops": 1,
                "name": "r",
                "criteria": [{"id": "a", "question": "Is it?", "scale": "pass_fail", "anchors": {}}],
            },
            ["criteria/0/anchors: `criteria.0.anchors` is not allowed here"],
        ),
        ("suite", None, ['the file is not of type "object"']),
        ("suite", [1], ['the file is not of type "object"']),
        (
            "config",
            {"concurrency": "x" * 100},
            [f'concurrency: `concurrency` {"x" * 60!r} is not of type "integer"'],
        ),
    ],
)
def test_a_wrong_value_is_said_in_words(name: FormatName, value: object, expected: list[str]):
    """One problem for one mistake, in the words of the file, not of JSON Schema."""
    assert expected == said(name, value)


def test_all_violations_are_listed():
    """As many problems as mistakes."""
    value = {"id": "a b", "category": "C", "inputs": 1, "tags": {"A": "x"}, "more": 1}

    assert ["category", "id", "inputs", "more", "tags"] == sorted(
        line.partition(":")[0] for line in said("case", value)
    )


def test_a_schema_is_compiled_once():
    """Each row of a million is checked against the same compiled schema."""
    assert format_schema("case") is format_schema("case")


def test_the_runtime_section_of_a_suite_is_the_runtime_file_of_a_bundle():
    """What people write and what ships are one format."""
    suite = parse_json(format_text("suite"))["properties"]["runtime"]
    bundle = parse_json(bundle_format_text("runtime"))

    assert suite["properties"] == bundle["properties"]
    assert {field.name for field in dataclasses.fields(Settings)} == set(suite["properties"])
