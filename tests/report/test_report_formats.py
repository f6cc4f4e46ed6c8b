"""The files that eval, compare and report write, as their readers read them."""

import csv
import json
from io import StringIO
from xml.etree import ElementTree as ET

import pytest
from evaluations import Call, a_case, a_side, evaluation_of, with_cases

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError
from promptops.report.annotations import annotation, annotations
from promptops.report.formats import split_output
from promptops.report.junit import junit
from promptops.report.rows import csv_rows
from promptops.report.sarif import sarif

FORMULAS = ("=1+2", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "  =1")


@pytest.fixture
def evaluated(sandbox: Sandbox, call: Call):
    call("eval")
    return evaluation_of(sandbox)


def test_every_format_is_written_from_one_evaluation(sandbox: Sandbox, call: Call):
    """Several -o in one run: each file is what its ending says."""
    names = ("a.json", "b.jsonl", "c.xml", "d.sarif", "e.md", "f.csv", "g.html", "github:h.txt")

    outcome = call("eval", *(part for name in names for part in ("-o", name)))

    texts = {name: sandbox.read(name.removeprefix("github:")) for name in names}
    assert 0 == outcome.code
    assert 22 == len(json.loads(texts["a.json"])["evaluations"][0]["run"]["worst"]) + 22 - 6
    assert 22 == len([json.loads(line) for line in texts["b.jsonl"].splitlines()])
    assert "22" == ET.fromstring(texts["c.xml"]).get("tests")
    assert "2.1.0" == json.loads(texts["d.sarif"])["version"]
    assert texts["e.md"].startswith("**DONE** ")
    assert 23 == len(list(csv.reader(StringIO(texts["f.csv"]))))
    assert texts["g.html"].startswith("<!doctype html>")
    assert "" == texts["github:h.txt"]


def test_format_prints_that_format_and_nothing_else(call: Call):
    """With --format, stdout is the report alone."""
    printed = call("eval", "--format", "junit").out

    assert "22" == ET.fromstring(printed).get("tests")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "report.pdf"), "cannot tell the format of 'report.pdf'; write FORMAT:FILE, with one of json, jsonl,"),
        (("--format", "junti"), "no format 'junti'; did you mean 'junit'?"),
        (("--format", "csv", "--json"), "--json and --format csv exclude each other"),
    ],
)
def test_a_format_there_is_not_is_refused_before_anything_is_evaluated(arguments, said, call: Call):
    outcome = call("eval", *arguments)

    assert 2 == outcome.code
    assert said in outcome.err + outcome.out
    assert [] == call("runs", "list", "--json").json["runs"]


def test_junit_tells_failures_from_errors(evaluated):
    """A wrong answer is a failure of its check; an outage is an error, and both name the golden row."""
    outage = a_case("c", side=a_side(passed=None, outcome="timeout", reason="no answer in 30 s"))
    root = ET.fromstring(junit([with_cases(evaluated, a_case("a"), a_case("b", passed=False), outage)]))

    (suite,) = root
    found = {test.get("name"): [(fault.tag, fault.get("type")) for fault in test] for test in suite}
    assert {"a": [], "b": [("failure", "equals/label")], "c": [("error", "timeout")]} == found
    assert (f"{PROMPT}/billing", "3", "1", "1") == (
        suite.get("name"),
        suite.get("tests"),
        suite.get("failures"),
        suite.get("errors"),
    )
    assert {("golden/p.jsonl", "3")} == {(test.get("file"), test.get("line")) for test in suite}


def test_junit_is_xml_whatever_a_model_says(evaluated):
    """NUL, escape sequences, noncharacters and markup are text."""
    text = "\x00\x1b[31m\ufffe\uffff]]></failure><!--\ud800"
    root = ET.fromstring(
        junit([with_cases(evaluated, a_case("x" + text, passed=False, answer=text))]).encode("utf-8", "replace")
    )

    assert 1 == len(list(root.iter("failure")))


@pytest.mark.parametrize("formula", FORMULAS)
def test_C14_no_cell_is_a_formula(formula: str, evaluated):
    """What a spreadsheet would run is prefixed with an apostrophe; numbers of ours stay numbers."""
    rows = list(
        csv.DictReader(StringIO(csv_rows([with_cases(evaluated, a_case(formula, answer=formula, category=formula))])))
    )

    cells = [value for row in rows for value in row.values()]
    assert [] == [cell for cell in cells if cell.lstrip()[:1] in ("=", "+", "-", "@")]
    assert "0.25" == rows[0]["latency_s"]


HOSTILE_LINES = "ok\n::error::x\r\n::set-output name=a::b\n##[error]y%0A::stop-commands::z"


def test_C7_text_of_a_model_is_never_a_workflow_command():
    """One annotation is one line; its text has no line break of its own and its properties cannot be left."""
    line = annotation("warning", HOSTILE_LINES, file="golden/a,line=9::x.jsonl", line=4, title="t::u,v\nw")

    assert line.count("\n") == 1
    assert line.startswith("::warning file=golden/a%2Cline=9%3A%3Ax.jsonl,line=4,title=t%3A%3Au%2Cv")
    assert "%250A" in line


def test_C5_annotations_of_an_unevaluated_run_are_no_verdict(sandbox: Sandbox, call: Call):
    """A run without all answers says so, and names no regression."""
    call("eval")
    evaluation = evaluation_of(sandbox)
    run = evaluation.run
    object.__setattr__(run, "state", "incomplete")

    assert "could not be evaluated; this is no verdict" in annotations([evaluation])
    assert ["not-evaluated"] == [item["ruleId"] for item in json.loads(sarif([evaluation]))["runs"][0]["results"]]


def test_lint_findings_are_sarif_with_places(sandbox: Sandbox, call: Call):
    """Every problem is a result at its file and line, so that code scanning shows it beside the change."""
    sandbox.write(f"golden/{PROMPT}.jsonl", sandbox.read(f"golden/{PROMPT}.jsonl") + '{"id": "x"}\n')

    outcome = call("lint", "--format", "sarif")

    results = json.loads(outcome.out)["runs"][0]["results"]
    places = {(item["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], item["locations"][0]["physicalLocation"]["region"]["startLine"])
              for item in results if item["level"] == "error"}  # fmt: skip
    assert (2, {(f"golden/{PROMPT}.jsonl", 23)}) == (outcome.code, places)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("csv:out.txt", ("csv", "out.txt")), ("a/b.html", ("html", "a/b.html")), ("C:x.md", ("markdown", "C:x.md"))],
)
def test_the_ending_of_a_file_says_its_format(text: str, expected: tuple[str, str]):
    assert expected == split_output(text)


def test_a_file_without_a_known_ending_needs_a_format():
    with pytest.raises(DataError, match="cannot tell the format"):
        split_output("report")
