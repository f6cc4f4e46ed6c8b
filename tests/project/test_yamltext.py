"""Strict YAML: what is accepted, what is refused and where, and that it agrees with PyYAML."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.errors import DataError
from promptops.project.yamltext import MAX_BYTES, Document, parse_yaml

SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029"), max_size=12).filter(
    lambda word: (
        word not in set("yYnN")
    )  # PyYAML writes them plain, and other parsers read them as booleans: refused here
)
DOCUMENTS = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


class NoDates(yaml.SafeLoader):
    """PyYAML without its dates, which stay text here."""


NoDates.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def problems_of(text: str, first_line: int = 1) -> list[str]:
    with pytest.raises(DataError) as caught:
        parse_yaml(text, "f.yaml", first_line)
    return [f"{problem.where} {problem.what}" for problem in caught.value.problems]


@given(DOCUMENTS, st.booleans())
def test_a_dumped_document_reads_back_as_it_was(value: object, flow: bool):
    """Everything that JSON can say survives PyYAML's writer and this reader, in block and in flow style."""
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow)

    assert value == parse_yaml(text, "f.yaml").value


@given(st.lists(st.from_regex(r"[-+.~0-9eExonfl_:]{0,7}[0-9a-zN._~]", fullmatch=True), max_size=3))
def test_what_is_accepted_means_the_same_to_pyyaml(scalars: list[str]):
    """A plain scalar that a YAML 1.1 parser would read as something else is refused, never read differently."""
    text = "[" + ", ".join(f"{scalar} " for scalar in scalars) + "]"
    try:
        mine = parse_yaml(text, "f.yaml").value
    except DataError:
        return

    theirs = yaml.load(text, Loader=NoDates)

    assert [repr(item) for item in theirs] == [repr(item) for item in mine]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("a:", {"a": None}),
        ("a: 2024-01-31", {"a": "2024-01-31"}),
        ("no: 1", {"no": 1}),
        ("1: x", {"1": "x"}),
        ("'<<': 1", {"<<": 1}),
        ("a: 'yes'", {"a": "yes"}),
        ('a: "012"', {"a": "012"}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("a: |\n  one\n  two", {"a": "one\ntwo"}),
        ("[1, -2, 3.5, 1.5e+3]", [1, -2, 3.5, 1500.0]),
    ],
)
def test_plain_values(text: str, value: object):
    """Keys and dates stay text, quoted text stays text, an empty value is null."""
    assert value == parse_yaml(text, "f.yaml").value


@pytest.mark.parametrize(
    "scalar",
    ["yes", "No", "on", "OFF", "y", "N", "True", "FALSE", "Null", "NULL", "012", "0x1F", "0o17", "0b11", "12:30:00", "190:20:30.15", "1_000", "1_", "1_0.5", "1e3", "1.0e3", "-.5", ".inf", "-.INF", ".nan", "=", "<<", "12345678901234567890", "1.5e+999"],
)  # fmt: skip
def test_L10_a_scalar_that_parsers_read_differently_is_refused(scalar: str):
    """YAML 1.1 and 1.2 disagree about these, or no JSON number holds them: one problem, with the line."""
    (problem,) = problems_of(f"a: 1\nb: {scalar}\n")

    assert problem.startswith("f.yaml:2 ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x", ["f.yaml:1 anchor &x is not allowed", "f.yaml:2 alias *x is not allowed"]),
        ("&k a: 1", ["f.yaml:1 anchor &k is not allowed"]),
        ("a: !!python/object:os.system x", ["f.yaml:1 a tag is not allowed"]),
        ("!!int 1: x", ["f.yaml:1 a tag is not allowed"]),
        ("b: {}\n<<: {c: 1}", ["f.yaml:2 merge key << is not allowed"]),
        ("a: 1\nb: 2\na: 3", ["f.yaml:3 duplicate key 'a' is not allowed"]),
        ("? [a]\n: 1", ["f.yaml:1 a key that is not text is not allowed"]),
        ("a: 1\n---\nb: 1", ["f.yaml:2 a second document is not allowed"]),
        ("a: 1\nb: [", ["f.yaml:3 YAML syntax error"]),
        ("a: 1\nb: \x07", ["f.yaml:2 YAML syntax error"]),
        ("a: 1\nb: é\x1b", ["f.yaml:2 YAML syntax error"]),
        ("a: 1\nb: 'x\u2028y'", ["f.yaml:2 line end U+2028 is not allowed"]),
        ("a: 1\n\tb: 1", ["f.yaml:2 YAML syntax error"]),
        ("a: 1\nb: " + "[" * 60 + "]" * 60, ["f.yaml:2 nested deeper than 50 levels"]),
        ("a: 1\nb: " + "[" * 200_000, ["f.yaml:2 nested deeper than 50 levels"]),
    ],
)
def test_L10_bombs_tags_duplicates_and_cycles_are_refused_with_the_line(text: str, expected: list[str]):
    """Nothing is expanded or constructed; each problem names its line."""
    assert expected == problems_of(text)


def test_L10_an_alias_bomb_is_refused_without_being_expanded():
    """Ten levels of ten aliases: every anchor and alias is a problem, and no memory is spent on their product."""
    levels = ["a0: &a0 [x]"] + [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]

    found = problems_of("\n".join(levels))

    assert (10, 90) == (sum("anchor" in item for item in found), sum("alias" in item for item in found))


def test_every_problem_is_listed_at_once():
    """A reader who fixes what is listed needs no second round; a frontmatter's lines are those of its file."""
    assert [
        "f.yaml:6 ambiguous value no is not allowed",
        "f.yaml:7 duplicate key 'a' is not allowed",
        "f.yaml:8 ambiguous value 010 is not allowed",
    ] == problems_of("a: no\na: 1\nb: [1,\n 2]\nc: 3".replace("b: [1,\n 2]", "b: 010"), first_line=6)


def test_a_file_too_large_is_refused_unread():
    """A limit that is stated, not a machine that swaps."""
    assert ["f.yaml file too large"] == problems_of("a" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("b", 0, "x"), 4),
        (("b", 1), 5),
        (("b", 1, "y"), 6),
        (("b", 1, "missing", 3), 5),
        (("nothing",), 1),
    ],
)
def test_the_line_of_a_part_or_of_what_is_around_it(path: tuple[str | int, ...], line: int):
    """A problem about something absent points at the nearest part that is there."""
    text = "a: |\n  long\nb:\n  - x: 1\n  - x: 1\n    y: 2\n"

    assert line == parse_yaml(text, "f.yaml").line(path)


def test_an_empty_document_is_at_its_first_line():
    """No value has no lines; line 1 is still a place to look."""
    assert (Document(value=None, lines={}), 1) == (
        parse_yaml("# only a comment\n", "f.yaml"),
        parse_yaml("", "f.yaml").line(("a",)),
    )
