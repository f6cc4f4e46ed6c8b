"""The template language of prompts: a small Jinja subset with a fuel gauge.

Output, `if`, `for`, a few filters; partials are inlined before compilation. A template can reach nothing but the values it
is given: no attribute of an object, no function, no file. Each rendering has a bounded cost: the engine's fuel pays for steps
and for text, and what it does not see (repetition, lists that hold themselves twice, long chains) is refused at compilation.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json, canonical_json

FUEL = 500_000
"""Engine steps for one message; a loop body of a few outputs costs about ten."""

_INCLUDE = re.compile(r"\{%[-+]?\s*include\s+(['\"])([^'\"]+)\1\s*[-+]?%\}")
_OPENING = re.compile(r"\{\{|\{%|\{#")
_NAME_ALONE = re.compile(r"\{\{ ?([a-z_][a-z0-9_]*) ?\}\}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_JOINED_CHARS, _JOINED_NAMES = 10_000, 10
_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\W\d]\w*|\d[\w.]*|\}\}|%\}|\S", re.DOTALL)
_WORDS = frozenset(("and", "or", "not", "in", "is", "if", "else", "elif"))
_MAX_TOKENS = 200
_MAX_BRANCHES = 200
_INCLUDE_HINT = 'write {% include "_partials/name.md" %}, outside of other partials'
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
    _parts: tuple[str, ...] = field(repr=False, compare=False, default=())

    def render(self, values: Mapping[str, Json]) -> str:
        """The text with each value inserted once, as it is.

        Raises DataError when a variable is undefined or the fuel runs out.
        """
        plain = self._joined(values)
        if plain is not None:
            return plain
        import minijinja

        try:
            return str(self._engine.render_template("t", **values))
        except minijinja.TemplateError as error:
            raise DataError(problems=[_translate(error, self.where, 0)]) from None

    def _joined(self, values: Mapping[str, Json]) -> str | None:
        """What the engine would write for a template of plain text and names, all of them short texts; None for any other."""
        if not self._parts:
            return None
        written = list(self._parts)
        for place in range(1, len(written), 2):
            value = values.get(written[place])
            if type(value) is not str or len(value) > _JOINED_CHARS or _SURROGATE.search(value):
                return None
            written[place] = value
        return "".join(written)


def compile_template(source: str, where: str, first_line: int = 1) -> Template:
    """A template without includes. Raises DataError with every problem found."""
    import minijinja

    problems = [
        Problem(what=what, hint=hint, where=_at(where, source, offset, first_line))
        for offset, what, hint in _faults(source)
    ]
    if problems:
        raise DataError(problems=problems)
    engine = _new_engine()
    try:
        engine.add_template("t", source)
        variables = frozenset(engine.undeclared_variables_in_template("t"))
    except minijinja.TemplateError as error:
        raise DataError(problems=[_translate(error, where, first_line)]) from None
    return Template(
        source=source, where=where, variables=variables, _engine=engine, _parts=_plain_parts(source, variables)
    )


def _plain_parts(source: str, variables: frozenset[str]) -> tuple[str, ...]:
    """Text and names by turns, beginning and ending with text; empty when there is more in the template than that."""
    parts = _NAME_ALONE.split(source)
    if (
        len(parts) > 2 * _JOINED_NAMES
        or any(_OPENING.search(text) for text in parts[::2])
        or not variables.issuperset(parts[1::2])
    ):
        return ()
    return tuple(parts)


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


def includes(source: str) -> list[tuple[int, int, str]]:
    """(start, end, name) of each partial that `source` includes."""
    return [(match.start(), match.end(), match.group(2)) for match in _INCLUDE.finditer(source)]


def _new_engine() -> Any:
    import minijinja

    engine = minijinja.Environment(
        fuel=FUEL, undefined_behavior="strict", pycompat=False, keep_trailing_newline=True, debug=True,
        auto_escape_callback=lambda _: False, finalizer=_write,
    )  # fmt: skip
    for name in _ENGINE_FILTERS:
        if name not in _KEPT_FILTERS:
            engine.remove_filter(name)
    for name in list(engine.globals):
        engine.remove_global(name)
    engine.add_filter("json", lambda value: canonical_json(value).decode())
    return engine


def _write(value: Json) -> Json:
    """JSON spelling for what Python would write as None, True, or a repr."""
    if value is None or isinstance(value, bool | dict | list):
        return canonical_json(value).decode()
    return value


def _faults(source: str) -> Iterator[tuple[int, str, str]]:
    """(offset, what, hint) of everything in the tags of `source` that is outside the template language."""
    branches = 0
    for offset, tokens in _code(source):
        if source.startswith("{%", offset):
            tag = tokens[0].group() if tokens and tokens[0].group().isidentifier() else ""
            branches += tag == "elif"
            if tag == "include":
                yield offset, "`include` takes one constant file name", _INCLUDE_HINT
                continue
            if tag not in _TAGS:
                yield offset, f"tag {tag!r} is not part of the template language", "use output, if, for and include"
                continue
            if tag == "for":
                yield from _loop_faults(tokens[1:])
        # The engine compiles by recursion, on a stack without a guard.
        if len(tokens) > _MAX_TOKENS or branches > _MAX_BRANCHES:
            what = "the tag is too long" if len(tokens) > _MAX_TOKENS else "too many `elif`"
            yield offset, what, "compute the value before, and pass it as an input"
            return
        yield from _expression_faults(tokens)


def _code(source: str) -> Iterator[tuple[int, list[re.Match[str]]]]:
    """Each output and statement tag: its offset and the tokens between its braces, without blank control."""
    position = 0
    while opening := _OPENING.search(source, position):
        if opening.group() == "{#":
            end = source.find("#}", opening.end())
            position = len(source) if end < 0 else end + 2
            continue
        closing = "}}" if opening.group() == "{{" else "%}"
        tokens: list[re.Match[str]] = []
        position = opening.end() + source.startswith(("-", "+"), opening.end())
        while len(tokens) <= _MAX_TOKENS and (token := _TOKEN.search(source, position)):
            position = token.end()
            if token.group() == closing:
                if tokens and tokens[-1].group() in ("-", "+"):
                    tokens.pop()
                break
            if token.group() in ("'", '"'):  # an open string: the engine refuses the rest
                position = len(source)
            tokens.append(token)
        yield opening.start(), tokens


def _expression_faults(tokens: list[re.Match[str]]) -> Iterator[tuple[int, str, str]]:
    """Calls, repetition, maps and unknown filters: what runs code, or costs more than the fuel gauge sees."""
    texts = ["", "", *(token.group() for token in tokens)]
    for token, before, previous, text in zip(tokens, texts, texts[1:], texts[2:], strict=False):
        if text == "(" and _ends_value(previous) and before not in ("|", "is", "not"):
            yield token.start(), "calls are not part of the template language", "pass the value as an input"
        elif text == "*":
            yield token.start(), "`*` is not part of the template language", "pass the value as an input"
        elif text == "{":
            yield token.start(), "maps are not part of the template language", "pass the map as an input"
        elif previous == "|" and text not in FILTERS:
            yield token.start(), f"unknown filter {text!r}", did_you_mean(text, FILTERS)


def _loop_faults(tokens: list[re.Match[str]]) -> Iterator[tuple[int, str, str]]:
    """Lists made in a `for` could be nested to hold themselves twice, which grows without using fuel."""
    texts = ["", *(token.group() for token in tokens)]
    for token, previous, text, following in zip(tokens, texts, texts[1:], [*texts[2:], ""], strict=False):
        if text == "[" and following != "]" and not _ends_value(previous):
            yield token.start(), "a list inside `for`", "pass the list as an input"
    if texts[-1] == "recursive":
        yield tokens[-1].start(), "recursive loops are not part of the template language", "nest two loops"


def _ends_value(token: str) -> bool:
    return token not in _WORDS and (token in (")", "]") or token[:1] in ("'", '"') or token[:1].isidentifier())


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
