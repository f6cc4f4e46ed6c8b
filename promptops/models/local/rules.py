"""local:rules answers by the `rules` of rules.yaml: per property, the first rule that applies gives the value."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from promptops.core.checks.forms import detect_language
from promptops.core.jsontext import Json
from promptops.core.text import fold
from promptops.models.base import ModelRequest
from promptops.models.local import input_text
from promptops.models.local.reading import read_date, read_duration, read_number

_MAX_TEXT = 100_000
_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of rules.yaml, compiled."""

    source: Literal["value", "extract", "extract_all", "detect"]
    value: Json = None
    pattern: re.Pattern[str] | None = None
    when: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    only_if: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    as_: str = "text"
    map: Mapping[str, Json] = field(default_factory=dict)
    limit: int = 20

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> "Rule":
        source: Any = next(key for key in ("value", "extract", "extract_all", "detect") if key in spec)
        return cls(
            source=source,
            value=spec.get("value"),
            pattern=re.compile(spec[source], re.MULTILINE) if source.startswith("extract") else None,
            when=_condition(spec.get("when")),
            unless=_condition(spec.get("unless")),
            only_if=spec.get("if", {}),
            as_=spec.get("as", "text"),
            map={fold(key): item for key, item in spec.get("map", {}).items()},
            limit=spec.get("limit", 20),
        )

    def apply(self, text: str, so_far: Mapping[str, Json]) -> Json:
        """The value, or _ABSENT when the rule does not apply."""
        if any(so_far.get(name) not in values for name, values in self.only_if.items()):
            return _ABSENT
        if (self.when and not self.when.search(text)) or (self.unless and self.unless.search(text)):
            return _ABSENT
        if self.source == "value":
            return self.value
        if self.source == "detect":
            return detect_language(text) or _ABSENT
        assert self.pattern
        found = [self._read(match.group(1)) for match in self.pattern.finditer(text) if match.group(1)]
        kept = [item for item in found if item is not _ABSENT]
        if self.source == "extract_all":
            return list(dict.fromkeys(kept))[: self.limit] or _ABSENT
        return kept[0] if kept else _ABSENT

    def _read(self, found: str) -> Json:
        plain = " ".join(found.split())
        if fold(plain) in self.map:
            return self.map[fold(plain)]
        value = _convert(plain, self.as_)
        return _ABSENT if value is None else value


def _convert(text: str, as_: str) -> Json:
    """The text as what the rule asks for; None when it cannot be read so."""
    match as_:
        case "upper":
            return text.upper()
        case "integer" | "number":
            number = read_number(text)
            return int(number) if number is not None and as_ == "integer" else number
        case "date":
            return read_date(text)
        case "months" | "days":
            return read_duration(text, unit=as_)
        case _:
            return text


def _condition(source: str | None) -> re.Pattern[str] | None:
    return re.compile(source, re.IGNORECASE | re.MULTILINE) if source else None


class Rules:
    """The rules of one prompt. A text answer takes the property `text`."""

    version: ClassVar[int] = 2

    def __init__(self, rules: Mapping[str, Sequence[Mapping[str, Any]]], text: tuple[str, ...]) -> None:
        self._rules = {name: [Rule.parse(spec) for spec in specs] for name, specs in rules.items()}
        self._text = text

    def respond(self, request: ModelRequest) -> Json:
        return self.answer(request, {})

    def answer(self, request: ModelRequest, known: Mapping[str, Json]) -> Json:
        """The properties, or for a text prompt the property `text`, in the form that the request asks for."""
        values = self.values(request, known)
        return values if request.output_format == "json" else str(values.get("text", ""))

    def values(self, request: ModelRequest, known: Mapping[str, Json]) -> dict[str, Json]:
        """The properties in the order of the rules; `known` ones are taken as they are."""
        text = input_text(request, self._text)[:_MAX_TEXT]
        result: dict[str, Json] = dict(known)
        for name, rules in self._rules.items():
            if name in known:
                continue
            value = next((found for rule in rules if (found := rule.apply(text, result)) is not _ABSENT), _ABSENT)
            if value is not _ABSENT:
                result[name] = value
        return result
