"""Pure checks: a completion and a case's facts in, a score out. The same checks guard answers online."""

from promptops.core.checks.answers import (
    Contains,
    EditDistance,
    Equals,
    IsJson,
    JsonSchemaCheck,
    Keywords,
    NotContains,
    Regex,
    Similarity,
    StartsWith,
)
from promptops.core.checks.base import CaseFacts, Check, Completion, Only, OutputFormat, Score, Unscored
from promptops.core.checks.forms import Format, Language, Length
from promptops.core.checks.sources import Citations, Cost, Latency, Pydantic, Python, Sql
from promptops.core.checks.tools import ToolCalls

CHECKS: dict[str, type[Check]] = {
    check.kind: check
    for check in (JsonSchemaCheck, Equals, Contains, NotContains, Keywords, Regex, Length, Format, Language, Citations,
                  Sql, Similarity, Latency, Cost, ToolCalls, Python, StartsWith, IsJson, EditDistance, Pydantic)
}  # fmt: skip

__all__ = ["CHECKS", "CaseFacts", "Check", "Citations", "Completion", "Contains", "Cost", "EditDistance", "Equals", "Format", "IsJson",
           "JsonSchemaCheck", "Keywords", "Language", "Latency", "Length", "NotContains", "Only", "OutputFormat", "Pydantic", "Python",
           "Regex", "Score", "Similarity", "Sql", "StartsWith", "ToolCalls", "Unscored"]  # fmt: skip
