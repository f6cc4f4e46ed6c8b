"""Evaluations as JUnit XML: a suite per prompt and category, a test per case, and the gate's verdicts as a suite of their own."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from promptops.evaluation.casebook import CaseRecord, Evaluation
from promptops.report.comparison import sentence
from promptops.report.run import run_name
from promptops.report.show import escape

_NO_XML = re.compile("[\ufffe\uffff]")


def junit(evaluations: Sequence[Evaluation]) -> str:
    """`failure` is a case that failed (type: the check), `error` one that has no score (type: how the call ended)."""
    root = ET.Element("testsuites")
    for evaluation in evaluations:
        name = run_name(evaluation.run)
        for category in dict.fromkeys(case.category for case in evaluation.cases):
            cases = [case for case in evaluation.cases if case.category == category]
            suite = _suite(root, f"{name}/{category}", [_case(name, case) for case in cases])
            suite.set("timestamp", evaluation.run.header.started_at)
        if evaluation.comparison:
            _suite(root, f"{name}/gate", _verdicts(name, evaluation))
    _count(root, root)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, tests: list[ET.Element]) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", {"name": _text(name)})
    suite.extend(tests)
    _count(suite, suite)
    return suite


def _count(element: ET.Element, below: ET.Element) -> None:
    tests = list(below.iter("testcase"))
    element.set("tests", str(len(tests)))
    element.set("failures", str(sum(test.find("failure") is not None for test in tests)))
    element.set("errors", str(sum(test.find("error") is not None for test in tests)))
    element.set("time", f"{sum(float(test.get('time', '0')) for test in tests):.3f}")


def _case(name: str, case: CaseRecord) -> ET.Element:
    test = ET.Element("testcase", {
        "classname": f"{name}.{_text(case.category)}", "name": _text(case.id), "file": case.file, "line": str(case.line),
        "time": f"{case.side.latency_s:.3f}",
    })  # fmt: skip
    if case.side.verdict is not True:
        failed = case.side.verdict is False
        kind = next(
            (check for check, passed, _, _ in case.side.scores if passed is case.side.verdict), case.side.outcome
        )
        _fault(test, "failure" if failed else "error", kind if failed or case.side.outcome == "ok" else case.side.outcome,
               case.side.reason or "no check applies", f"{case.file}:{case.line}\nanswer:\n{case.side.answer}")  # fmt: skip
    return test


def _verdicts(name: str, evaluation: Evaluation) -> list[ET.Element]:
    assert evaluation.comparison is not None
    comparison = evaluation.comparison.comparison
    tests = []
    for verdict in comparison.verdicts:
        test = ET.Element("testcase", {"classname": f"{name}.gate", "name": _text(verdict.category), "time": "0"})
        if verdict in comparison.blocking:
            broken = "\n".join(f"broke: {change.case_id}" for change in verdict.broken)
            _fault(test, "failure", verdict.verdict, sentence(verdict, comparison), broken)
        tests.append(test)
    for what, message in _other_blocks(evaluation):
        test = ET.Element("testcase", {"classname": f"{name}.gate", "name": _text(what), "time": "0"})
        _fault(test, "failure", "gate", message, "")
        tests.append(test)
    return tests


def _other_blocks(evaluation: Evaluation) -> list[tuple[str, str]]:
    assert evaluation.comparison is not None
    found = [(category, "no case of it is left") for category in evaluation.comparison.comparison.vanished]
    found += [(change.name, f"the gate became weaker: {change.what}") for change in evaluation.weaker]
    found += [
        (ratio.name, f"x{ratio.after / ratio.before:.2f}, allowed x{ratio.limit}")
        for ratio in evaluation.comparison.spending
        if ratio.exceeded
    ]
    return found


def _fault(test: ET.Element, tag: str, kind: str, message: str, text: str) -> None:
    fault = ET.SubElement(test, tag, {"type": _text(kind), "message": _text(message)})
    fault.text = _text(text)


def _text(text: str) -> str:
    """Text that XML can hold: what it forbids is written as an escape, or replaced."""
    return _NO_XML.sub("\ufffd", escape(text))
