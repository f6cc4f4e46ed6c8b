"""The template language of prompts: a small Jinja subset with a fuel gauge.

Output, `if`, `for`, six filters; partials are inlined before compilation. A template can reach nothing but the values it
is given: no attribute of an object, no function, no file. Each rendering has a bounded cost.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json, canonical_json

FUEL = 500_000
"""Engine steps for one message; a loop body of a few outputs costs about ten."""

_TAG = re.compile(r"\{%[-+]?\s*([A-Za-z_]*)")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_INCLUDE = re.compile(r"\{%[-+]?\s*include\s+(['\"])([^'\"]+)\1\s*[-+]?%\}")
_CODE = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.DOTALL)
_STRING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
_TAGS = frozenset(("if", "elif", "else", "endif", "for", "endfor", "include"))
_ENGINE_FILTERS = ("abs", "attr", "batch", "bool", "capitalize", "chain", "count", "d", "dictsort", "e", "escape", "first",
                   "float", "format", "groupby", "indent", "int", "items", "last", "length", "lines", "list", "map",
                   "max", "min", "pprint", "reject", "rejectattr", "reverse", "round", "safe", "select", "selectattr",
                   "slice", "sort", "split", "string", "sum", "title", "tojson", "unique", "upper", "urlencode",
                   "zip", "default", "join", "lower", "trim", "replace")  # fmt: skip
_KEPT_FILTERS = frozenset(("default", "join", "lower", "upper", "trim", "length"))
FILTERS = _KEPT_FILTERS | {"json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A compiled text; rendering is thread-safe."""

    source: str
    where: str = field(compare=False)
    variables: frozenset[str]
    _engine: Any = field(repr=False, compare=False)

    def render(self, values: Mapping[str, Json]) -> str:
        """The text with each value inserted once, as it is.

        Raises DataError when a variable is undefined or the fuel runs out.
        """
        import minijinja

        try:
            return str(self._engine.render_template("t", **values))
        except minijinja.TemplateError as error:
            raise DataError(problems=[_translate(error, self.where, 0)]) from None


def compile_template(source: str, where: str, first_line: int = 1) -> Template:
    """A template without includes. Raises DataError with every problem found."""
    import minijinja

    problems = [*_forbidden_tags(source, where, first_line), *_unknown_filters(source, where, first_line)]
    if problems:
        raise DataError(problems=problems)
    engine = _new_engine()
    try:
        engine.add_template("t", source)
        variables = frozenset(engine.undeclared_variables_in_template("t"))
    except minijinja.TemplateError as error:
        raise DataError(problems=[_translate(error, where, first_line)]) from None
    return Template(source=source, where=where, variables=variables, _engine=engine)


def inline_partials(source: str, partials: Mapping[str, str], where: str, first_line: int = 1) -> str:
    """`source` with each `{% include "name" %}` replaced by its text, one level deep.

    Raises DataError for a partial that is not declared.
    """
    problems: list[Problem] = []

    def text_of(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in partials:
            problems.append(Problem(what=f"partial {name!r} is not declared", hint="list it under `partials`",
                                    where=_at(where, source, match.start(), first_line)))  # fmt: skip
        return partials.get(name, "").removesuffix("\n")

    result = _INCLUDE.sub(text_of, source)
    if problems:
        raise DataError(problems=problems)
    return result


def _new_engine() -> Any:
    import minijinja

    engine = minijinja.Environment(
        fuel=FUEL, undefined_behavior="strict", pycompat=False, keep_trailing_newline=True, debug=True,
        auto_escape_callback=lambda _: False, finalizer=_write,
    )  # fmt: skip
    for name in _ENGINE_FILTERS:
        if name not in _KEPT_FILTERS:
            engine.remove_filter(name)
    for name in ("range", "dict", "debug", "namespace"):
        engine.remove_global(name)
    engine.add_filter("json", lambda value: canonical_json(value).decode())
    return engine


def _write(value: Json) -> Json:
    """JSON spelling for what Python would write as None, True, or a repr."""
    if value is None or isinstance(value, bool | dict | list):
        return canonical_json(value).decode()
    return value


def _forbidden_tags(source: str, where: str, first_line: int) -> Iterator[Problem]:
    visible = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), source)
    for match in _TAG.finditer(visible):
        tag = match.group(1)
        at = _at(where, source, match.start(), first_line)
        if tag == "include":
            yield Problem(what="`include` takes one constant file name", where=at,
                          hint='write {% include "_partials/name.md" %}, outside of other partials')  # fmt: skip
        elif tag not in _TAGS:
            yield Problem(what=f"tag {tag!r} is not part of the template language", where=at,
                          hint="use output, if, for and include")  # fmt: skip


def _unknown_filters(source: str, where: str, first_line: int) -> Iterator[Problem]:
    for code in _CODE.finditer(source):
        bare = _STRING.sub(lambda match: " " * len(match.group()), code.group())
        for match in _FILTER.finditer(bare):
            if match.group(1) not in FILTERS:
                yield Problem(what=f"unknown filter {match.group(1)!r}", hint=did_you_mean(match.group(1), FILTERS),
                              where=_at(where, source, code.start() + match.start(), first_line))  # fmt: skip


def _at(where: str, source: str, offset: int, first_line: int) -> str:
    return f"{where}:{first_line + source.count(chr(10), 0, offset)}"


def _translate(error: Any, where: str, first_line: int) -> Problem:
    message = str(error.message).partition("\n")[0].removesuffix(" (in t:1)")
    message = re.sub(r" \(in t:\d+\)$", "", message)
    at = f"{where}:{first_line + (error.line or 1) - 1}" if first_line else where
    hints = {
        "UnknownFilter": "filters: " + ", ".join(sorted(FILTERS)),
        "UndefinedError": "declare it in the input schema, or test it with `if`",
        "OutOfFuel": "loop over fewer items",
    }
    return Problem(what=message, where=at, hint=hints.get(error.kind, ""))
