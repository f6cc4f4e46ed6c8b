"""A check as JSON, as it ships to services, and back."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from promptops.core.checks.answers import IsJson, JsonSchemaCheck
from promptops.core.checks.base import Check
from promptops.core.checks.sources import Pydantic, Python, Sql
from promptops.core.jsontext import Json
from promptops.core.schema import compile_schema

_GIVEN_HERE: Mapping[type[Check], str] = {Python: "function", Pydantic: "model", Sql: "run"}
"""What a check is given where it runs: code and connections are in no file."""


def check_document(check: Check) -> dict[str, Json]:
    """The JSON that `parse_check` reads; schemas are inside."""
    values: dict[str, Any] = {item.name: getattr(check, item.name) for item in fields(check)}  # type: ignore[arg-type]
    if isinstance(check, JsonSchemaCheck):
        values["default"] = check.default.document if check.default else None
        values["by_category"] = {name: schema.document for name, schema in check.by_category.items()}
    if isinstance(check, IsJson):
        values["schema"] = check.schema.document if check.schema else None
    for kind, name in _GIVEN_HERE.items():
        if isinstance(check, kind):
            del values[name]
    plain = {name: list(item) if isinstance(item, tuple) else item for name, item in values.items()}
    return {"check": check.kind, "version": check.version, "fields": plain}


def parse_check(document: Mapping[str, Any], kinds: Mapping[str, type[Check]], entry_point: Callable[[str, str], Any]) -> Check:  # fmt: skip
    """The check of a document; `entry_point` finds what a user installed, by group and name.

    Raises ValueError when this version of promptops has another check of that kind or not these fields.
    """
    make: Any = kinds.get(document["check"])
    if make is None or make.version != document["version"]:
        raise ValueError(f"check {document['check']} version {document['version']} is not known here")
    values = dict(document["fields"])
    known = {item.name for item in fields(make)}
    if not values.keys() <= known:
        raise ValueError(f"check {document['check']} has no {min(values.keys() - known)!r}")
    if make is JsonSchemaCheck:
        values["default"] = compile_schema(values["default"]) if values["default"] is not None else None
        values["by_category"] = {name: compile_schema(schema) for name, schema in values["by_category"].items()}
    if make is IsJson and values["schema"] is not None:
        values["schema"] = compile_schema(values["schema"])
    if make in _GIVEN_HERE and _GIVEN_HERE[make] in values:
        raise ValueError(f"check {document['check']} has no {_GIVEN_HERE[make]!r}")
    if make in (Python, Pydantic):
        values[_GIVEN_HERE[make]] = entry_point(make.group, values["entry_point"])
    try:
        check: Check = make(**values)
    except TypeError as error:
        raise ValueError(f"check {document['check']}: {error}") from error
    return check
