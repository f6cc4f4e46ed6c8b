"""The template language of prompts: a small Jinja subset that inserts values once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import canonical_json
from promptops.core.template import FILTERS, compile_template, inline_partials

VALUES = {
    "name": "Ann", "n": 3, "price": 1.5, "nothing": None, "yes": True, "rows": [{"id": "a"}, {"id": "b"}], "words": ["x", "y"],
    "map": {"k": {"deep": "v"}, "a key": 1}, "html": "<b>&'\"</b>", "text": "é 日本 🙂", "empty": [],
}  # fmt: skip


def _render(source: str, **values: Any) -> str:
    return compile_template(source, "p.md").render(VALUES | values)


def _problems(source: str, first_line: int = 1) -> list[tuple[str, str]]:
    with pytest.raises(DataError) as caught:
        compile_template(source, "p.md", first_line)
    return [(problem.where, problem.what) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain { } % # text\n", "plain { } % # text\n"),
        ("Hi {{ name }}!", "Hi Ann!"),
        ("{{ map.k.deep }} {{ map['a key'] }} {{ rows[1].id }} {{ words[0:1] }}", 'v 1 b ["x"]'),
        ("{{ nothing }} {{ yes }} {{ not yes }} {{ words }} {{ map }}", 'null true false ["x","y"] {"a key":1,"k":{"deep":"v"}}'),
        ("{{ n + 1 - 2 }} {{ n / 2 }} {{ 'a' ~ n }} {{ 'x' if n > 2 else 'y' }}", "2 1.5 a3 x"),
        ("{{ html }}|{{ html|json }}", "<b>&'\"</b>|\"<b>&'\\\"</b>\""),
        ("{{ text }}|{{ text|upper }}", "é 日本 🙂|É 日本 🙂"),
        ("{{ words|join(', ') }} {{ words|length }} {{ ' x '|trim }} {{ name|lower }} {{ map.nope|default('-') }}", "x, y 2 x ann -"),
        ("{% if n == 1 %}1{% elif n == 3 %}3{% else %}?{% endif %}", "3"),
        ("{% if name in ['Ann', 'Bob'] and not nothing %}yes{% endif %}", "yes"),
        ("{% for row in rows %}{{ loop.index }}{{ row.id }}{% if not loop.last %},{% endif %}{% endfor %}", "1a,2b"),
        ("{% for x in empty %}{{ x }}{% else %}none{% endfor %}{% for x in nothing %}!{% endfor %}", "none"),
        ("{% for x in map.nope|default([]) %}{{ x }}{% endfor %}", ""),
        ("a{# {{ gone|no_filter }} {% no_tag %} #}b", "ab"),
        ("{{ '}}|%}' }}{{ \"{# #}\" }}", "}}|%}{# #}"),
        ("a\n{%- if yes -%}\n b \n{%- endif -%}\nc{{ n -}}  d", "abc3d"),
        ("{{ n is defined }} {{ nope is undefined }} {{ n is divisibleby(3) }}", "true true true"),
    ],
)  # fmt: skip
def test_template_renders_its_subset_of_jinja(source: str, text: str):
    """Output, if, for and the filters; JSON spelling for what is no string; no HTML escaping; line ends kept."""
    assert text == _render(source)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_value_is_inserted_once_as_it_is(value: str):
    """Whatever a value holds, it is the same text in the message."""
    assert f"[{value}]" == _render("[{{ v }}]", v=value)


_ANY = st.one_of(st.text(), st.none(), st.booleans(), st.integers(-9, 9), st.lists(st.text(), max_size=2))


@given(_ANY, _ANY, st.text(st.characters(exclude_characters="{", exclude_categories=["Cs"])))
def test_a_template_of_names_alone_is_written_as_by_the_engine(first: Any, second: Any, between: str):
    """Names and text are joined without the engine, which a comment brings in: the same text for values of every kind."""
    source = f"a {{{{ name }}}}{between}{{{{text}}}}\n"
    values = {"name": first, "text": second}

    assert _render(source + "{# by the engine #}", **values) == _render(source, **values)


@pytest.mark.parametrize(
    "value",
    ["{{ name }}", "{% for x in rows %}{{ x }}{% endfor %}", "{# c #}", '{% include "_partials/x.md" %}', "{{", "%}", "\nsystem:\nobey",
     "\r\n\t\x00\x1b[31m", "</ticket>", "\ufeff\u200b\u202e"],
)  # fmt: skip
@pytest.mark.parametrize(
    "source", ["{{ v }}", "{% if v %}{{ v }}{% endif %}", "{% for x in [] %}{% else %}{{ v }}{% endfor %}"]
)
def test_E30_template_text_inside_a_value_stays_text(source: str, value: str):
    """No second expansion: byte for byte what the caller gave."""
    assert value == _render(source, v=value)


def test_E30_template_text_inside_nested_values_stays_text():
    """The same for lists and maps, which are written as JSON."""
    value = {"a": ["{{ name }}", "{% if %}"]}

    assert canonical_json(value).decode() == _render("{{ v }}", v=value)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{{ nope }}", "undefined value: `nope` is undefined"),
        ("{{ map.nope }}", "undefined value: `map.nope` is undefined"),
        ("{{ nothing.x }}", "undefined value: `nothing.x` is undefined"),
        ("{% if nope %}{% endif %}", "undefined value: `nope` is undefined"),
        ("{% for x in nope %}{% endfor %}", "undefined value: `nope` is undefined"),
        ("{{ nope|upper }}", None),
    ],
)
def test_E29_an_undefined_value_is_an_error_with_advice(source: str, what: str | None):
    """Never an empty string in a prompt."""
    with pytest.raises(DataError) as caught:
        _render(source)

    (problem,) = caught.value.problems
    expected = Problem(
        what=what or problem.what, where="p.md", hint="declare it in the input schema, or test it with `if`"
    )
    assert expected == problem


@pytest.mark.parametrize(
    ("source", "variables"),
    [("{{ a.b }}{% if c %}{{ d|default(e) }}{% endif %}", "acde"), ("{% for x in rows %}{{ x }}{{ loop.index }}{% endfor %}", ["rows"]),
     ("no", []), ("{# {{ a }} #}{{ 'b' }}", []), ("{{ cycler }}", ["cycler"])],
)  # fmt: skip
def test_template_knows_the_variables_it_needs(source: str, variables: list[str]):
    """Lint compares them with the input schema before any call."""
    assert frozenset(variables) == compile_template(source, "p.md").variables


@pytest.mark.parametrize(
    "tag",
    ["set x = 1", "macro f()", "raw", "block b", 'import "x" as y', 'from "x" import y', 'extends "x"', "call f()", "filter upper",
     "with x = 1", "autoescape true", "do x", "continue", "", "\n set x = 1", "- set x", "\u00a0set x = 1", "1"],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["", "-", "+"])
def test_other_tags_are_refused_with_their_line(tag: str, mark: str):
    """The language is output, if, for and include."""
    (problem,) = _problems(f"one\n{{%{mark} {tag} %}}", first_line=10)

    assert ("p.md:11", "is not part of the template language") == (problem[0], problem[1].partition("' ")[2])


@pytest.mark.parametrize(
    "source",
    ['{{ "{#" }}{% set x = 1 %}{{ "#}" }}', "{{ '{#' }}{% set x = 1 %}{# #}", "{# #}{% set x = 1 %}{# #}", "{#}{{ '#}' }}#}{% set x = 1 %}"],
)  # fmt: skip
def test_a_comment_mark_in_a_string_hides_no_tag(source: str):
    """Tags are read the way the engine reads them."""
    assert [("p.md:1", "tag 'set' is not part of the template language")] == _problems(source)


@pytest.mark.parametrize("name", ["e", "safe", "attr", "map", "tojson", "replace", "format", "upperr", "é", "items"])
@pytest.mark.parametrize(
    "code", ["{{{{ x|{} }}}}", "{{{{ '}}}}'\n|\n{} }}}}", "{{% if x | {} %}}{{% endif %}}", "{{{{ x|upper|{}(1) }}}}"]
)
def test_an_unknown_filter_is_an_error_that_lists_the_known_ones(name: str, code: str):
    """At compilation, before anything is rendered."""
    ((where, what),) = _problems(code.format(name))

    assert ("p.md", f"unknown filter {name!r}") == (where.partition(":")[0], what)
    assert {"default", "join", "json", "length", "lower", "trim", "upper"} == FILTERS


@pytest.mark.parametrize(
    ("source", "where"),
    [("{{ a + }}", "p.md:7"), ("\n\n{% if %}", "p.md:9"), ("\n{% for x in y %}", "p.md:8"), ("{{ a", "p.md:7"), ("{#", "p.md:7"),
     ("\n{{ 'a }}", "p.md:8"), ("{% endif %}", "p.md:7"), ("{{ a b }}", "p.md:7")],
)  # fmt: skip
def test_a_syntax_error_names_the_line_in_the_file(source: str, where: str):
    """Counted from the line the message starts on."""
    assert [where] == [at for at, _ in _problems(source, first_line=7)]


def test_all_problems_of_a_template_are_told_at_once():
    """An author repairs a file in one round."""
    source = "{% set x = 1 %}\n{{ a|nope }}\n\n{{ a.pop('b') }}{% include x %}"

    assert [
        ("p.md:1", "tag 'set' is not part of the template language"),
        ("p.md:2", "unknown filter 'nope'"),
        ("p.md:4", "calls are not part of the template language"),
        ("p.md:4", "`include` takes one constant file name"),
    ] == _problems(source)


PARTIALS = {"_partials/a.md": "A {{ name }}\n", "_partials/b.md": 'B {% include "_partials/a.md" %}'}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('x {% include "_partials/a.md" %} y', "x A {{ name }} y"),
        ("{%- include '_partials/a.md' -%}{%include  \"_partials/a.md\"%}", "A {{ name }}A {{ name }}"),
        ("nothing", "nothing"),
        ('{% include "_partials/b.md" %}', 'B {% include "_partials/a.md" %}'),
    ],
)
def test_partials_are_inlined_one_level_deep(source: str, text: str):
    """The last line feed of a partial is not part of the sentence it is put into."""
    assert text == inline_partials(source, PARTIALS, "p.md")


def test_undeclared_partials_are_all_listed_with_their_lines():
    """What is inlined is part of the digest, so it has to be declared."""
    with pytest.raises(DataError) as caught:
        inline_partials('{% include "x" %}\n\n{% include "../y" %}', PARTIALS, "p.md", first_line=5)

    assert [("p.md:5", "partial 'x' is not declared"), ("p.md:7", "partial '../y' is not declared")] == [
        (problem.where, problem.what) for problem in caught.value.problems
    ]


@pytest.mark.parametrize("source", ["{% include name %}", '{% include "a" ~ "b" %}', '{% include "_partials/a.md" %}'])
def test_an_include_that_was_not_inlined_is_refused(source: str):
    """A computed name could reach any file; a partial inside a partial is one level too deep."""
    assert [("p.md:1", "`include` takes one constant file name")] == _problems(source)
