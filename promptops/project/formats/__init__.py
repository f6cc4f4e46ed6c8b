"""The published JSON Schemas of the files people write, and how their violations become problems with a line."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from promptops.core.errors import Problem, did_you_mean
from promptops.core.jsontext import Json, parse_json
from promptops.core.schema import JsonSchema, SchemaViolation, compile_schema

FormatName = Literal["prompt", "suite", "case", "rubric", "label", "rules", "tools", "config", "readiness"]
FORMATS: tuple[FormatName, ...] = (
    "prompt",
    "suite",
    "case",
    "rubric",
    "label",
    "rules",
    "tools",
    "config",
    "readiness",
)
Path = tuple[str | int, ...]


def format_text(name: FormatName) -> str:
    """The schema as published."""
    return (files(__name__) / f"{name}.schema.json").read_text("utf-8")


@cache
def format_schema(name: FormatName) -> JsonSchema:
    return compile_schema(parse_json(format_text(name)))


def format_problems(name: FormatName, value: Json, at: Callable[[Path], str]) -> Iterator[Problem]:
    """Everything in which `value` breaks the format; `at` tells file:line of a part."""
    schema = format_schema(name)
    if schema.accepts(value):
        return
    for violation in schema.violations(value):
        node = _schema_node(schema.document, violation.schema_path[:-1])
        if violation.unexpected:
            for key in violation.unexpected:
                hint = did_you_mean(key, node.get("properties", {}))
                yield Problem(what=f"unknown key {key!r}", where=at((*violation.path, key)), hint=hint)
        else:
            yield _problem(violation, node, value, at(violation.path))


def _problem(violation: SchemaViolation, node: Mapping[str, Any], value: Json, where: str) -> Problem:
    part = value
    for step in violation.path:
        part = part[step]
    name = f"`{'.'.join(str(step) for step in violation.path)}`" if violation.path else "the file"
    shown = "" if isinstance(part, dict | list) or not violation.path else f" {str(part)[:60]!r}"
    choices = (
        [branch.get("required") for branch in node.get(violation.keyword, ())]
        if violation.keyword in ("oneOf", "anyOf")
        else []
    )
    if violation.keyword == "enum" and isinstance(part, str):
        return Problem(what=f"{name}{shown} is not known", where=where, hint=did_you_mean(part, node["enum"]))
    if violation.keyword == "falseSchema":
        return Problem(what=f"{name} is not allowed here", where=where)
    if choices and all(choices):
        number = "exactly one" if violation.keyword == "oneOf" else "at least one"
        return Problem(what=f"{name} needs {number} of {', '.join(choice[0] for choice in choices)}", where=where)
    if violation.keyword == "required":
        missing = violation.message.partition('"')[2].partition('"')[0]
        return Problem(what=f"{name if violation.path else 'it'} has no {missing!r}", where=where)
    return Problem(what=f"{name}{shown} {violation.message.removeprefix('value ')}", where=where)


def _schema_node(document: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The (sub)schema a path of keywords leads to, references followed; empty when there is none."""
    node: Any = document
    for step in path:
        try:
            node = node[step]
            while "$ref" in node:
                node = _resolve(document, node["$ref"])
        except (KeyError, IndexError, TypeError):
            return {}
    return node if isinstance(node, dict) else {}


def _resolve(document: Mapping[str, Any], reference: str) -> Any:
    node: Any = document
    for token in reference.removeprefix("#/").split("/"):
        node = node[token]
    return node
