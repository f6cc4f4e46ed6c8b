"""Strict YAML: what two parsers could read differently is refused, and every value knows its line.

Refused: duplicate keys, merge keys, anchors and aliases, tags, several documents, YAML 1.1 booleans (`no`, `on`), numbers
that YAML 1.1 and 1.2 do not both read as the same number, infinity and NaN, and line ends that only YAML 1.1 knows.
Keys and dates stay text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.reader import ReaderError

from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import Json

Path = tuple[str | int, ...]
MAX_BYTES = 2_000_000
_MAX_DEPTH = 50
_TOO_DEEP = f"nested deeper than {_MAX_DEPTH} levels"
_LONGEST_INTEGER = 40
_MAX_WRITTEN_OUT = 200_000
_CORE_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"(?:[-+]?[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_AMBIGUOUS = re.compile(r"(?:y|yes|n|no|on|off|true|false|null|=|<<)", re.IGNORECASE)
_ODD_NUMBER = re.compile(r"[-+]?(?:0x[0-9a-f_]+|0o[0-7_]+|0b[01_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
                         r"|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:e[-+]?[0-9]+)?|\.inf|\.nan)", re.IGNORECASE)  # fmt: skip
_ODD_LINE_END = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed value, and the line of each part of it."""

    value: Json
    lines: dict[Path, int] = field(repr=False)

    def line(self, path: Path) -> int:
        """The line of a part, or of the nearest part around it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse_yaml(text: str, where: str, first_line: int = 1) -> Document:
    """The value of one YAML document. Raises DataError with every problem found (all but a syntax error at once)."""
    if len(text) > MAX_BYTES:
        raise DataError("file too large", where=where, why=f"more than {MAX_BYTES} characters")
    odd = _ODD_LINE_END.search(text)
    if odd:
        raise DataError(f"line end U+{ord(odd.group()):04X} is not allowed", where=_at(where, first_line, text[: odd.start()]),
                        hint="use a plain line break, or an escape in quotes")  # fmt: skip
    reader = _Reader(where, first_line)
    try:
        value = reader.read(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + first_line if error.problem_mark else first_line
        if "nesting depth" in (error.problem or ""):  # libyaml from 0.2.6 on gives up before our own limit is met
            raise DataError(_TOO_DEEP, where=f"{where}:{line}") from None
        raise DataError("YAML syntax error", where=f"{where}:{line}", why=error.problem or "") from None
    except ReaderError as error:
        before = text.encode()[: error.position].decode(errors="ignore")
        raise DataError("YAML syntax error", where=_at(where, first_line, before), why=str(error.reason)) from None
    if reader.problems:
        raise DataError(problems=reader.problems)
    return Document(value=value, lines=reader.lines)


def parse_foreign_yaml(text: str, where: str) -> Document:
    """The value of a YAML or JSON file that another tool reads, by the rules of YAML 1.2: `no` is text, aliases are written out.

    Raises DataError for what has no one meaning there either: duplicate keys, tags, several documents, aliases without end.
    """
    if len(text) > MAX_BYTES:
        raise DataError("file too large", where=where, why=f"more than {MAX_BYTES} characters")
    reader = _ForeignReader(where, 1)
    try:
        value = reader.read(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError("YAML syntax error", where=f"{where}:{line}", why=error.problem or "") from None
    except ReaderError as error:
        before = text.encode()[: error.position].decode(errors="ignore")
        raise DataError("YAML syntax error", where=_at(where, 1, before), why=str(error.reason)) from None
    if reader.problems:
        raise DataError(problems=reader.problems)
    return Document(value=value, lines=reader.lines)


def _at(where: str, first_line: int, before: str) -> str:
    return f"{where}:{first_line + before.count(chr(10))}"


class _Reader:
    def __init__(self, where: str, first_line: int) -> None:
        self.where, self.first_line = where, first_line
        self.problems: list[Problem] = []
        self.lines: dict[Path, int] = {}

    def read(self, text: str) -> Json:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        events = yaml.parse(text, Loader=loader)
        documents = 0
        value: Json = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document", "keep one document a file")
                    return value
                value = self._value(next(events), events, ())
        return value

    def _value(self, event: Event, events: Iterator[Event], path: Path) -> Json:
        self.lines[path] = self._line(event)
        if len(path) > _MAX_DEPTH:
            raise DataError(_TOO_DEEP, where=f"{self.where}:{self._line(event)}")
        if isinstance(event, AliasEvent):
            self._refuse(event, f"alias *{event.anchor}", "write the value out")
            return None
        self._decorations(event)
        if isinstance(event, MappingStartEvent):
            return self._mapping(events, path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(events, path)
        assert isinstance(event, ScalarEvent)
        return self._scalar(event)

    def _decorations(self, event: Event) -> None:
        if isinstance(event, NodeEvent) and event.anchor:
            self._refuse(event, f"anchor &{event.anchor}", "write the value out")
        if getattr(event, "tag", None):
            self._refuse(event, "a tag", "write a plain value")

    def _mapping(self, events: Iterator[Event], path: Path) -> dict[str, Json]:
        result: dict[str, Json] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            line = self._line(event)
            if not isinstance(event, ScalarEvent):
                self._refuse(event, "a key that is not text", "use a plain word as key")
                self._value(event, events, path)
                key = ""
            else:
                self._decorations(event)
                key = event.value
                if key == "<<" and not event.style:
                    self._merge_key(event)
            if key in result:
                self._refuse(event, f"duplicate key {key!r}", "keep one of them")
            value = self._value(next(events), events, (*path, key))
            self.lines[*path, key] = line
            result.setdefault(key, value)
        return result

    def _merge_key(self, event: Event) -> None:
        self._refuse(event, "merge key <<", "write the values out")

    def _sequence(self, events: Iterator[Event], path: Path) -> list[Json]:
        result: list[Json] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            result.append(self._value(event, events, (*path, len(result))))
        return result

    def _scalar(self, event: ScalarEvent) -> Json:
        text: str = event.value
        if event.style or not event.implicit[0]:
            return text
        if text in ("", "~", "null"):
            return None
        if text in ("true", "false"):
            return text == "true"
        if _AMBIGUOUS.fullmatch(text):
            self._refuse(event, f"ambiguous value {text}", "write true, false or null, or quote it")
        elif _INTEGER.fullmatch(text):
            if len(text) > _LONGEST_INTEGER or not -(2**63) <= int(text) < 2**63:
                self._refuse(event, "integer beyond 64 bits", "quote it")
                return 0
            return int(text)
        elif _FLOAT.fullmatch(text):
            return self._float(event, float(text))
        elif _ODD_NUMBER.fullmatch(text):
            self._refuse(event, f"ambiguous value {text[:40]}", "quote it, or write a decimal number")
        return text

    def _float(self, event: ScalarEvent, number: float) -> float:
        if number in (float("inf"), float("-inf")):
            self._refuse(event, "number too large", "quote it")
            return 0.0
        return number

    def _line(self, event: Event) -> int:
        mark: Any = event.start_mark
        return int(mark.line) + self.first_line

    def _refuse(self, event: Event, what: str, hint: str) -> None:
        line = self._line(event)
        self.problems.append(Problem(what=f"{what} is not allowed", where=f"{self.where}:{line}", hint=hint))


class _ForeignReader(_Reader):
    """YAML as other tools write it: anchors, aliases and merge keys are resolved, and every plain scalar has one reading."""

    def __init__(self, where: str, first_line: int) -> None:
        super().__init__(where, first_line)
        self.anchors: dict[str, Json] = {}
        self.written_out = 0

    def _value(self, event: Event, events: Iterator[Event], path: Path) -> Json:
        if isinstance(event, AliasEvent):
            self.lines[path] = self._line(event)
            if event.anchor not in self.anchors:
                self._refuse(event, f"alias *{event.anchor} of nothing before it", "name an anchor above")
                return None
            value = self.anchors[event.anchor]
            self.written_out += _size(value)
            if self.written_out > _MAX_WRITTEN_OUT:
                raise DataError("aliases stand for too much", where=f"{self.where}:{self._line(event)}")
            return value
        value = super()._value(event, events, path)
        if isinstance(event, NodeEvent) and event.anchor:
            self.anchors[event.anchor] = value
        return value

    def _decorations(self, event: Event) -> None:
        if getattr(event, "tag", None):
            self._refuse(event, "a tag", "write a plain value")

    def _mapping(self, events: Iterator[Event], path: Path) -> dict[str, Json]:
        found = super()._mapping(events, path)
        merged = found.pop("<<", None)
        for other in merged if isinstance(merged, list) else [merged]:
            if isinstance(other, dict):
                found = {**other, **found}
        return found

    def _merge_key(self, event: Event) -> None:
        """Merged by `_mapping`."""

    def _scalar(self, event: ScalarEvent) -> Json:
        text: str = event.value
        if event.style or not event.implicit[0]:
            return text
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            return text in ("true", "True", "TRUE")
        if _INTEGER.fullmatch(text) and len(text) <= _LONGEST_INTEGER and -(2**63) <= int(text) < 2**63:
            return int(text)
        if _CORE_FLOAT.fullmatch(text):
            return self._float(event, float(text))
        return text


def _size(value: Json) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1
