"""The second reading of golden rows: a stream that ends in an error when the file is not what was scanned."""

from collections.abc import Callable

import pytest

from promptops.core.errors import DataError
from promptops.project.golden import read_cases
from promptops.project.project import Evaluable, open_project

CASES = "golden/feedback-sentiment.jsonl"


@pytest.fixture
def scanned(sandbox) -> Evaluable:
    return open_project(sandbox.root).load("feedback-sentiment")


def _read(content: Evaluable) -> list[str]:
    return [case.id for case in read_cases(content.tree, content.suite, content.scan)]


def test_cases_come_in_file_order(sandbox, scanned):
    """Every row is a case, in the order it was written."""
    assert [row["id"] for row in sandbox.rows()] == _read(scanned)


@pytest.mark.parametrize("rewrite", [lambda text: text.replace("\n", "\r\n"), lambda text: "\n" + text.replace("\n", "\n\n"), lambda text: "\ufeff" + text])  # fmt: skip
def test_line_ends_and_blank_lines_may_change(sandbox, scanned, rewrite: Callable[[str], str]):
    """An editor that rewrites line ends during a run changes no case."""
    before = _read(scanned)
    sandbox.write(CASES, rewrite(sandbox.read(CASES)))

    assert before == _read(scanned)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("positive", "negative", 1),
        lambda text: text + '{"id": "new", "category": "delivery", "inputs": {"feedback": "x"}}\n',
        lambda text: text.partition("\n")[2],
        lambda text: text[:-30],
        lambda text: text + "null\n",
        lambda text: text + '{"id": "half"}\n',
        lambda text: "".join(reversed(text.splitlines(keepends=True))),
    ],
    ids=["word", "row-more", "row-less", "torn", "no-object", "no-inputs", "order"],
)
def test_change_during_a_run_is_told(sandbox, scanned, rewrite: Callable[[str], str]):
    """Whatever happens to the file between the readings ends in one error that names it, and in no crash."""
    sandbox.write(CASES, rewrite(sandbox.read(CASES)))

    with pytest.raises(DataError) as caught:
        _read(scanned)

    assert f"{CASES}: the golden file changed during the run; run again" == str(caught.value)
