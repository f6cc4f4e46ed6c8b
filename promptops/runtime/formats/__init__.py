"""The published JSON Schemas of the files in a bundle."""

from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from promptops.core.schema import JsonSchema

BundleFormat = Literal[
    "manifest", "models", "prompt", "knowledge", "guardrails", "runtime", "classifier", "router", "cache"
]
BUNDLE_FORMATS: tuple[BundleFormat, ...] = ("manifest", "models", "prompt", "knowledge", "guardrails", "runtime", "classifier", "router", "cache")  # fmt: skip


def bundle_format_text(name: BundleFormat) -> str:
    """The schema as published."""
    from importlib.resources import files

    return (files(__name__) / f"{name}.schema.json").read_text("utf-8")


@cache
def bundle_format(name: BundleFormat) -> "JsonSchema":
    from promptops.core.jsontext import parse_json
    from promptops.core.schema import compile_schema

    return compile_schema(parse_json(bundle_format_text(name)))
