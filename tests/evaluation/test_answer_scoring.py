"""From the verdicts of single checks to the verdict of one answer."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from promptops.core.checks import CaseFacts, Completion, Score, Unscored
from promptops.evaluation.scoring import Scored, score

_COMPLETION = Completion.of("an answer", "text")
_CASE = CaseFacts(category="any", inputs={})


@dataclass(frozen=True)
class Says:
    """A check with a fixed verdict."""

    verdict: Score | Unscored | None
    name: str = "says"
    kind: ClassVar[str] = "says"
    version: ClassVar[int] = 1

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        return self.verdict


PASS = Says(Score(check="p", passed=True, reason="good"))
FAIL = Says(Score(check="f", passed=False, reason="bad"))
UNSCORED = Says(Unscored(check="u", reason="broken"))
SILENT = Says(None)
HALF = Says(Score(check="h", passed=True, reason="half", value=0.5))
POOR = Says(Score(check="q", passed=False, reason="poor", value=0.25))


@pytest.mark.parametrize(
    ("checks", "passed", "value"),
    [
        pytest.param((PASS, PASS), True, 1.0, id="all pass"),
        pytest.param((PASS, FAIL), False, 0.5, id="one fails"),
        pytest.param((PASS, SILENT), True, 1.0, id="one does not apply"),
        pytest.param((PASS, UNSCORED), None, 1.0, id="one could not run"),
        pytest.param((UNSCORED, FAIL), False, 0.0, id="failed beats unscored"),
        pytest.param((FAIL, UNSCORED, PASS), False, 0.5, id="failed beats unscored in any order"),
        pytest.param((UNSCORED,), None, None, id="nothing could run"),
        pytest.param((SILENT, SILENT), None, None, id="none applies"),
        pytest.param((), None, None, id="no checks"),
        pytest.param((HALF,), True, 0.5, id="a graded pass"),
        pytest.param((HALF, POOR, PASS, FAIL), False, 0.4375, id="grades and verdicts share one mean"),
        pytest.param((HALF, UNSCORED), None, 0.5, id="unscored is left out of the mean"),
    ],
)
def test_verdict_of_an_answer(checks: tuple[Says, ...], passed: bool | None, value: float | None):
    """One failed check fails; else one that could not run, or none at all, leaves it open; `value` is the mean."""
    found = score(checks, _COMPLETION, _CASE)

    assert (passed, value) == (found.passed, found.value)


def test_every_check_that_applies_leaves_a_row_with_its_reason():
    """Rows keep the order of the checks; a check that does not apply leaves none."""
    expected = Scored(
        passed=False,
        value=0.625,
        scores=(("p", True, "good", None), ("u", None, "broken", None), ("q", False, "poor", 0.25)),
    )

    assert expected == score((PASS, SILENT, UNSCORED, POOR), _COMPLETION, _CASE)
