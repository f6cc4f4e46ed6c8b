"""The published JSON Schemas of the files people write, and how their violations become problems with a line."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from promptops.core.errors import Problem, did_you_mean
from promptops.core.jsontext import Json, parse_json
from promptops.core.schema import JsonSchema, SchemaViolation, compile_schema

FormatName = Literal["prompt", "suite", "case", "rubric", "rules", "config"]
FORMATS: tuple[FormatName, ...] = ("prompt", "suite", "case", "rubric", "rules", "config")
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
        if violation.unexpected:
            known = _known_keys(schema.document, violation)
            for key in violation.unexpected:
                yield Problem(
                    what=f"unknown key {key!r}", where=at((*violation.path, key)), hint=did_you_mean(key, known)
                )
        else:
            yield Problem(what=_describe(violation, value), where=at(violation.path))


def _describe(violation: SchemaViolation, value: Json) -> str:
    part = value
    for step in violation.path:
        part = part[step]
    where = ".".join(str(step) for step in violation.path)
    shown = "" if isinstance(part, dict | list) else f" {str(part)[:60]!r}"
    message = violation.message.removeprefix("value ")
    return (
        f"`{where}`{shown} {message}"
        if where
        else f"{shown.strip() or 'the file'} {message}".replace("the file value", "the file")
    )


def _known_keys(document: Mapping[str, Any], violation: SchemaViolation) -> list[str]:
    """Property names of the (sub)schema whose additionalProperties: false was hit."""
    node: Any = document
    for step in violation.schema_path[:-1]:
        try:
            node = node[step]
            while "$ref" in node:
                node = _resolve(document, node["$ref"])
        except (KeyError, IndexError, TypeError):
            return []
    return list(node.get("properties", {})) if isinstance(node, dict) else []


def _resolve(document: Mapping[str, Any], reference: str) -> Any:
    node: Any = document
    for token in reference.removeprefix("#/").split("/"):
        node = node[token]
    return node
