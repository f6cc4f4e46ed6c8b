"""JSON Schema (draft 2020-12) that cannot reach the network, cannot hang, and says what it ignores.

Patterns run in a linear-time engine, references resolve inside the document only, formats are checked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from promptops.core.errors import Problem, did_you_mean
from promptops.core.jsontext import Json, canonical_json, parse_json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_IN_PLACE = ("not", "if", "then", "else", "items", "contains", "additionalProperties", "propertyNames",
             "unevaluatedItems", "unevaluatedProperties", "contentSchema")  # fmt: skip
_MAPS = ("properties", "patternProperties", "$defs", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_ASSERTIONS = frozenset((
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains", "maxProperties",
    "minProperties", "required", "dependentRequired", "format", "$ref", "$dynamicRef", "contentMediaType",
    "contentEncoding",
))  # fmt: skip
_ANNOTATIONS = frozenset((
    "$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment", "title", "description", "default",
    "deprecated", "readOnly", "writeOnly", "examples",
))  # fmt: skip
_KNOWN = _ASSERTIONS | _ANNOTATIONS | set(_IN_PLACE) | set(_MAPS) | set(_LISTS)
_FORMATS = frozenset((
    "date", "date-time", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri",
    "uri-reference", "uri-template", "iri", "iri-reference", "uuid", "json-pointer", "relative-json-pointer", "regex",
))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaViolation:
    """One place where a value breaks its schema: JSON pointer, message without the value's text, keyword."""

    pointer: str
    message: str
    keyword: str
    path: tuple[str | int, ...] = ()
    unexpected: tuple[str, ...] = ()
    schema_path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchema:
    """A compiled schema; equal documents share one compiled form. Thread-safe."""

    document: Mapping[str, Any]
    _validator: Any = field(repr=False, compare=False)

    def accepts(self, value: Json) -> bool:
        return bool(self._validator.is_valid(value))

    def violations(self, value: Json) -> Iterator[SchemaViolation]:
        for error in self._validator.iter_errors(value):
            path = tuple(error.instance_path)
            unexpected = (
                error.kind.as_dict().get("unexpected", ())
                if error.kind.name.startswith(("additional", "unevaluated"))
                else ()
            )
            yield SchemaViolation(
                pointer="".join(f"/{part}" for part in path),
                message=error.message,
                keyword=error.kind.name,
                path=path,
                unexpected=tuple(str(name) for name in unexpected),
                schema_path=tuple(error.schema_path),
            )


def compile_schema(document: Mapping[str, Any]) -> JsonSchema:
    """The checked, compiled schema.

    Raises ValueError when the document is no schema or refers to anything outside itself.
    """
    return _compile(canonical_json(document))


@lru_cache(maxsize=512)
def _compile(text: bytes) -> JsonSchema:
    import jsonschema_rs

    document = parse_json(text)
    try:
        validator = jsonschema_rs.Draft202012Validator(
            document,
            pattern_options=jsonschema_rs.RegexOptions(),
            validate_formats=True,
            ignore_unknown_formats=True,
            offline=True,
            mask="value",
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # the Rust extension reports its own bugs this way
            raise ValueError("the schema cannot be compiled") from error
        raise
    return JsonSchema(document=document, _validator=validator)


def lint_schema(document: Json, where: str) -> list[Problem]:
    """Everything wrong or without effect in a schema: typos, vacuous parts, unknown formats, outside references."""
    if not isinstance(document, dict):
        return [Problem(what="a schema must be a JSON object", where=where)]
    problems = list(_lint_node(document, "", where))
    if not problems:
        try:
            compile_schema(document)
        except ValueError as error:
            problems.append(Problem(what="invalid schema", where=where, why=str(error)))
    if not problems and is_vacuous(document):
        problems.append(
            Problem(
                what="the schema accepts every value", where=where, hint="state `type`, `properties` and `required`"
            )
        )
    return problems


def is_vacuous(document: Mapping[str, Any]) -> bool:
    """Whether a schema accepts a sample of quite different values, so that checking against it says nothing."""
    schema = compile_schema(document)
    return all(schema.accepts(value) for value in ({}, {"x": 1}, [], [1], "x", 0, None, True))


def _lint_node(node: Json, pointer: str, where: str) -> Iterator[Problem]:
    if isinstance(node, bool):
        return
    at = f"{where}#{pointer}" if pointer else where
    if not isinstance(node, dict):
        yield Problem(what="a schema must be an object or a boolean", where=at)
        return
    for key in node:
        if key not in _KNOWN:
            yield Problem(what=f"unknown keyword {key!r}", where=at, why="it would be ignored",
                          hint=did_you_mean(key, _KNOWN))  # fmt: skip
    reference = node.get("$ref", "#")
    if not isinstance(reference, str) or not reference.startswith("#"):
        yield Problem(what=f"$ref {str(reference)[:80]!r} leaves the file", where=at,
                      why="remote and file references are refused", hint="put it under $defs")  # fmt: skip
    if node.get("$schema", DIALECT) != DIALECT:
        yield Problem(what="unsupported $schema", where=at, hint=f"use {DIALECT}")
    if isinstance(node.get("format"), str) and node["format"] not in _FORMATS:
        yield Problem(what=f"unknown format {node['format']!r}", where=at, why="it would be ignored",
                      hint=did_you_mean(node["format"], _FORMATS))  # fmt: skip
    yield from _lint_required(node, at)
    for key, child in _children(node):
        yield from _lint_node(child, f"{pointer}/{key}", where)


def _lint_required(node: Mapping[str, Any], at: str) -> Iterator[Problem]:
    required, properties = node.get("required"), node.get("properties")
    if isinstance(required, list) and isinstance(properties, dict):
        for name in required:
            if isinstance(name, str) and name not in properties:
                yield Problem(what=f"required property {name!r} is not under `properties`", where=at,
                              hint=did_you_mean(name, properties))  # fmt: skip


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, Json]]:
    for key in _IN_PLACE:
        if key in node:
            yield key, node[key]
    for key in _MAPS:
        if isinstance(node.get(key), dict):
            yield from ((f"{key}/{name}", child) for name, child in node[key].items())
    for key in _LISTS:
        if isinstance(node.get(key), list):
            yield from ((f"{key}/{index}", child) for index, child in enumerate(node[key]))


@lru_cache(maxsize=1024)
def pattern_schema(pattern: str) -> JsonSchema:
    """A schema that accepts the strings in which `pattern` is found, in linear time. Raises ValueError if invalid."""
    return compile_schema({"type": "string", "pattern": pattern})
