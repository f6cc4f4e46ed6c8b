"""golden/<name>.yaml: the checks it makes, and every problem that its schema cannot see."""

import pytest
import yaml

from conftest import PROMPT, Sandbox
from promptops.core.checks import Cost, Equals, JsonSchemaCheck, Language
from promptops.core.errors import DataError, RefusedError
from promptops.core.suite import GatePolicy, Suite
from promptops.project.prompts import load_prompt
from promptops.project.suites import load_suite
from promptops.project.tree import WorkTree

WHERE = f"golden/{PROMPT}.yaml"
HEAD = f"promptops: 1\nprompt: {PROMPT}\ncases: {PROMPT}.jsonl\n"


def load(sandbox: Sandbox, text: str = "") -> Suite:
    if text:
        sandbox.write(WHERE, text)
    tree = WorkTree(sandbox.root)
    return load_suite(tree, PROMPT, load_prompt(tree, PROMPT))


def problems_of(sandbox: Sandbox, text: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(sandbox, text)
    return [str(problem).removeprefix(WHERE + ":") for problem in caught.value.problems]


def test_a_suite_is_its_checks_and_its_gate(sandbox: Sandbox):
    """Options become checks; a category adds its own; the gate takes what is stated and defaults the rest."""
    text = HEAD + (
        "slices: [lang]\n"
        "checks:\n  - {check: json_schema}\n  - {check: equals, path: /sentiment}\n  - {check: cost, max_usd: '0.002'}\n"
        "categories:\n  plain:\n  odd:\n    tolerance: 0.2\n    checks:\n      - {check: language, is: en}\n"
        "gate:\n  min_pass: {odd: 0.5, lang=de: 0.4}\n  alpha: 0.01\n"
    )

    suite = load(sandbox, text)

    schema = load_prompt(WorkTree(sandbox.root), PROMPT).output_schema
    common = (
        JsonSchemaCheck(name="json_schema", default=schema, by_category={}),
        Equals(name="equals/sentiment", path="/sentiment"),
        Cost(name="cost", max_nanousd=2_000_000),
    )
    assert (common, common, (*common, Language(name="language", is_="en"))) == (
        suite.checks, suite.checks_for("plain"), suite.checks_for("odd"),
    )  # fmt: skip
    assert suite.gate == GatePolicy(
        by=("category", "lang"), alpha=0.01, tolerances={"odd": 0.2}, min_pass_by={"odd": 0.5, "lang=de": 0.4}
    )


def test_checks_have_names_of_their_own(sandbox: Sandbox):
    """Two checks of one case are told apart in every report, those of its category as well."""
    text = HEAD + (
        "checks:\n  - {check: equals}\n  - {check: equals, name: equals-2}\n  - {check: equals}\n"
        "categories:\n  a:\n    checks:\n      - {check: equals}\n"
    )

    assert ["equals", "equals-2", "equals-3", "equals-4"] == [
        check.name for check in load(sandbox, text).checks_for("a")
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("checks:\n  - {check: regex, pattern: '(?=x)'}\n", "5: invalid pattern '(?=x)'"),
        ("checks:\n  - {check: regex, pattern: '('}\n", "5: invalid pattern '('"),
        ("checks:\n  - {check: length, min: 5, max: 4}\n", "5: length.max is below length.min"),
        ("checks:\n  - {check: language, same_as: feedbak}\n", "5: 'feedbak' is not an input; did you mean 'feedback'?"),
        ("checks:\n  - {check: cost, max_usd: '9999999'}\n", "5: cost.max_usd '9999999' is not between 0 and 1000000"),
        ("checks:\n  - {check: python, entry_point: none.such}\n", "5: no entry point 'none.such' in the group promptops.checks"),
        ("checks:\n  - {check: equals, name: a}\n  - {check: equals, name: a}\n", "6: two checks are called 'a'; rename one"),
        ("checks:\n  - {check: equals}\nslices: [lang]\ngate:\n  by: [category, lung]\n",
         "8: 'lung' is neither `category` nor a declared slice; did you mean 'lang'?"),
        ("checks:\n  - {check: equals}\ncategories:\n  odd:\ngate:\n  min_pass: {od: 0.5}\n",
         "9: 'od' is neither a category nor `slice=value`; did you mean 'odd'?"),
        ("checks:\n  - {check: equals}\ngate:\n  min_pass:\n    lang=de: 0.5\n", "8: 'lang=de' is neither a category nor `slice=value`"),
        ("checks:\n  - {check: equal}\n", "5: `checks.0.check` 'equal' is not known; did you mean 'equals'?"),
        ("checks:\n  - {check: equals, tolerence: 1}\n", "5: unknown key 'tolerence'; did you mean 'tolerance'?"),
        ("checks: []\n", "4: `checks` has less than 1 item"),
        ("checks:\n  - {check: equals}\nchecks: []\n", "6: duplicate key 'checks' is not allowed"),
    ],
)  # fmt: skip
def test_a_problem_has_its_line_and_a_suggestion(sandbox: Sandbox, body: str, expected: str):
    """What would fail in the middle of a run, or silently mean something else, is found before it."""
    (problem,) = problems_of(sandbox, HEAD + body)

    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", ["5: check json_schema without a schema", "6: path '/a' needs an answer in JSON"]),
        ("output: {format: json}\n", ["5: check json_schema without a schema"]),
    ],
)
def test_checks_of_json_need_an_answer_in_json(sandbox: Sandbox, output: str, expected: list[str]):
    """A pointer into a text, or a schema check without a schema, could only fail."""
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "output: {format: json, schema: output.schema.json}\n", output)

    found = problems_of(sandbox, HEAD + "checks:\n  - {check: json_schema}\n  - {check: equals, path: /a}\n")

    assert expected == [problem.partition(";")[0] for problem in found]


def test_every_problem_is_listed_at_once_in_order(sandbox: Sandbox):
    """Those of the suite by line, before those of the schema files it names."""
    sandbox.write(f"prompts/{PROMPT}/bad.json", '{"type": "objekt", "propertys": {}}')
    found = problems_of(
        sandbox,
        HEAD.replace(f"prompt: {PROMPT}", "prompt: other")
        + "checks:\n  - {check: regex, pattern: '('}\n  - {check: length, min: 2, max: 1}\n"
        + "categories:\n  a: {schema: none.json}\n  b: {schema: bad.json}\ngate: {by: [nope]}\n",
    )

    assert [
        "2: prompt 'other' differs from the file 'feedback-sentiment'", "5: invalid pattern '('", "6: length.max is below length.min",
        "10: 'nope' is neither `category` nor a declared slice", "prompts/feedback-sentiment/bad.json: unknown keyword 'propertys'",
        f"prompts/feedback-sentiment/none.json: file not found, named by {WHERE}:8",
    ] == [problem.partition(";")[0].partition(", value")[0].partition(", it would")[0] for problem in found]  # fmt: skip


def test_a_suite_that_is_not_there_says_who_wants_it(sandbox: Sandbox):
    """A prompt without a suite cannot be evaluated."""
    sandbox.path(WHERE).unlink()

    with pytest.raises(DataError, match=f"{WHERE}: file not found, named by prompt {PROMPT}"):
        load(sandbox)


def test_L11_a_category_schema_outside_of_the_project_is_refused(sandbox: Sandbox):
    """Its path may not climb out of the prompt's project."""
    with pytest.raises(RefusedError):
        load(sandbox, HEAD + "checks:\n  - {check: json_schema}\ncategories:\n  a: {schema: x/../../../../out.json}\n")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda text: text.replace("\n", "\r\n"), True),
        (lambda text: "# a comment\n" + text, True),
        (lambda text: yaml.safe_dump(yaml.safe_load(text), sort_keys=True), True),
        (lambda text: text.replace("0.5", "0.50"), True),
        (lambda text: text.replace("0.5", "0.6"), False),
        (lambda text: text.replace("equals", "equals, ignore_case: true"), False),
        (lambda text: text.replace("slices: [length]", "slices: []"), False),
    ],
)
def test_settings_change_with_their_meaning_only(sandbox: Sandbox, change, same: bool):
    """The subject covers what the suite says, not how it is written."""
    before = load(sandbox).settings

    assert same == (before == load(sandbox, change(sandbox.read(WHERE))).settings)


WEIGHTED = HEAD + "checks:\n  - {check: equals}\ncategories:\n  plain: PLAIN\n  odd: ODD\n"


def weighted(plain: str, odd: str) -> str:
    return WEIGHTED.replace("PLAIN", plain).replace("ODD", odd)


def test_weights_are_shares_of_the_traffic(sandbox: Sandbox):
    """Any unit will do: they are scaled to add up to 1; a suite without weights has none."""
    given = load(sandbox, weighted("{weight: 30}", "{weight: 10, tolerance: 0.2}"))
    none = load(sandbox, weighted("", "{tolerance: 0.2}"))

    assert ({"plain": 0.75, "odd": 0.25}, {}) == (given.weights, none.weights)


def test_weights_are_no_part_of_the_subject(sandbox: Sandbox):
    """They change neither a score nor a verdict, so that a new month's traffic does not void an approval."""
    without = load(sandbox, weighted("", "{tolerance: 0.2}"))

    for plain, odd in (
        ("{weight: 30}", "{weight: 10, tolerance: 0.2}"),
        ("{weight: 0}", "{tolerance: 0.2, weight: 1}"),
    ):
        assert without.settings == load(sandbox, weighted(plain, odd)).settings
    assert without.settings != load(sandbox, weighted("{weight: 1}", "{weight: 1, tolerance: 0.3}")).settings


@pytest.mark.parametrize(
    ("plain", "odd", "expected"),
    [
        ("{weight: -1}", "{weight: 1}", "7: `categories.plain.weight` '-1' is less than the minimum of 0"),
        ("{weight: 1}", "{weight: .nan}", "8: ambiguous value .nan is not allowed; quote it, or write a decimal number"),
        ("{weight: '.nan'}", "{weight: 1}", "7: `categories.plain.weight` '.nan' is not of type \"number\""),
        ("{weight: true}", "{weight: 1}", "7: `categories.plain.weight` 'True' is not of type \"number\""),
        ("{weight: 0}", "{weight: 0.0}", "7: all weights are 0; say what share of the traffic each category is"),
        ("{weight: 3}", "{tolerance: 0.2}", "8: category 'odd' has no weight; give each category one (0: no traffic), or none"),
        ("", "{weight: 0}", "7: category 'plain' has no weight; give each category one (0: no traffic), or none"),
        ("{wieght: 3}", "{weight: 3}", "7: unknown key 'wieght'; did you mean 'weight'?"),
    ],
)  # fmt: skip
def test_bad_weights_are_refused_with_their_line(sandbox: Sandbox, plain: str, odd: str, expected: str):
    """Negative, not a number, all zero, given for some only: a total of such shares would mean nothing."""
    assert [expected] == problems_of(sandbox, weighted(plain, odd))
