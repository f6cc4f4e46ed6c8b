"""rubrics/<name>.yaml: criteria a judge can answer, one question each."""

from pathlib import Path

import pytest

from promptops.core.errors import DataError, RefusedError
from promptops.core.rubric import Criterion
from promptops.project.rubrics import load_rubric, rubric_names
from promptops.project.tree import WorkTree

GOOD = """promptops: 1
name: tone
description: for people
criteria:
  - {id: polite, question: Is it polite?, scale: pass_fail, hard: true}
  - id: clear
    question: How clear is it?
    scale: 1..5
    weight: 2
    anchors: {"1": none, "3": so so, "5": clear}
examples:
  - input: i
    answer: a
    verdicts:
      polite: {reason: r, score: true}
"""


def write(root: Path, text: str) -> WorkTree:
    (root / "rubrics").mkdir(exist_ok=True)
    (root / "rubrics" / "tone.yaml").write_text(text, "utf-8")
    return WorkTree(root)


def test_a_rubric_is_its_criteria(tmp_path: Path):
    """Name and description are outside of what the subject covers."""
    tree = write(tmp_path, GOOD)

    rubric = load_rubric(tree, "tone")

    assert (
        Criterion(id="polite", question="Is it polite?", scale="pass_fail", hard=True),
        Criterion(id="clear", question="How clear is it?", scale="1..5", weight=2, anchors={"1": "none", "3": "so so", "5": "clear"}),
    ) == rubric.criteria  # fmt: skip
    assert (["tone"], {"promptops", "criteria", "examples"}) == (rubric_names(tree), set(rubric.document))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: tone", "name: ton", ["2: name 'ton' differs from the file 'tone'; make them equal"]),
        ("id: clear", "id: polite", ["6: criterion 'polite' is given twice; rename or remove one"]),
        ("Is it polite?", "Is it polite and short?", ["5: criterion 'polite' asks two things at once, a judge cannot answer both with one verdict; split it at the `and`"]),
        ("      polite:", "      polit:", ["15: unknown criterion 'polit'; did you mean 'polite'?"]),
        ("Is it polite?", "It is polite.", ["5: `criteria.0.question` 'It is polite.' does not match \"\\?$\""]),
        (', "5": clear', "", ["10: `criteria.1.anchors` has no '5'"]),
        ("hard: true", "anchors: {}", ["5: `criteria.0.anchors` is not allowed here"]),
        ("weight: 2", "wieght: 2", ["9: unknown key 'wieght'; did you mean 'weight'?"]),
        ("scale: 1..5", "scale: 1-5", ["8: `criteria.1.scale` '1-5' is not known; known: 1..5, pass_fail", "10: `criteria.1.anchors` is not allowed here"]),
    ],
)  # fmt: skip
def test_a_problem_has_its_line(tmp_path: Path, old: str, new: str, expected: list[str]):
    """What a judge could not answer is refused before it is asked."""
    assert old in GOOD
    with pytest.raises(DataError) as caught:
        load_rubric(write(tmp_path, GOOD.replace(old, new)), "tone")

    assert expected == [str(problem).removeprefix("rubrics/tone.yaml:") for problem in caught.value.problems]


@pytest.mark.parametrize("name", ["tome", "../rubrics/tone", "/etc/passwd"])
def test_a_rubric_that_is_not_there(tmp_path: Path, name: str):
    """Named by a suite, with the place of the name; a path is not a name."""
    with pytest.raises(DataError) as caught:
        load_rubric(write(tmp_path, GOOD), name, wanted_by="golden/x.yaml")

    assert f"golden/x.yaml: no rubric {name!r}" == str(caught.value).partition(",")[0]


def test_L11_a_rubric_linked_from_outside_is_refused(tmp_path: Path):
    """A rubric decides verdicts; it is one of the project's own files."""
    (tmp_path / "outside.yaml").write_text(GOOD, "utf-8")
    (tmp_path / "p" / "rubrics").mkdir(parents=True)
    (tmp_path / "p" / "rubrics" / "tone.yaml").symlink_to(tmp_path / "outside.yaml")

    with pytest.raises(RefusedError):
        load_rubric(WorkTree(tmp_path / "p"), "tone")
