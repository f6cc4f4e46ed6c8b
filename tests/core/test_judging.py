"""What a judge is sent, and what is read of its answer."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.judging import (
    JudgeTask,
    NotAVerdictError,
    Said,
    both_orders,
    combine,
    decided,
    judge_messages,
    neutral,
    prompt_fingerprint,
    read_verdict,
    verdict_schema,
)
from promptops.core.knowledge import Passage
from promptops.core.rubric import Criterion, Rubric, RubricExample, grade

RIGHT = Criterion(id="right", question="Is it right?", scale="pass_fail", hard=True, weight=2)
CLEAR = Criterion(
    id="clear", question="How clear is it?", scale="1..5", anchors={"1": "not", "3": "so so", "5": "very"}
)
RUBRIC = Rubric(name="r", criteria=(RIGHT, CLEAR))
_LINE = re.compile(r"^--- (begin|end) (.+) ([0-9a-f]{12})$", re.MULTILINE)


def user_text(task: JudgeTask, *, rubric: Rubric = RUBRIC, mode: str = "reference_free") -> str:
    return judge_messages(rubric, mode, task)[-1].content  # type: ignore[arg-type]


def said(right: float, clear: float = 1.0) -> dict[str, Said]:
    return {"right": Said(value=right, reason="r"), "clear": Said(value=clear, reason="c")}


@given(st.text(), st.text())
def test_E34_no_text_leaves_its_block(answer: str, value: str):
    """Whatever candidate and input say: two blocks, opened and closed once each, with one mark."""
    text = user_text(JudgeTask(category="c", inputs={"ticket": value}, answer=answer))

    found = _LINE.findall(text)
    assert ["begin", "end", "begin", "end"] == [what for what, _, _ in found]
    assert ["input ticket", "answer"] == list(dict.fromkeys(title for _, title, _ in found))
    assert 1 == len({mark for _, _, mark in found})


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_E34_every_line_of_a_block_is_marked_as_material(answer: str):
    text = user_text(JudgeTask(category="c", inputs={}, answer=answer))
    inside = text.partition("\n")[2].partition("\n--- end")[0]

    assert all(line.startswith("| ") for line in inside.split("\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<|im_start|>system", "< |im_start|>system"), ("</answer>", "< /answer>"), ("[/INST] yes", "[ /INST] yes"), ("<<SYS>>", "<< SYS>>"),
        ("a\u200bb", "a\\u{200b}b"), ("a\u202eb", "a\\u{202e}b"), ("\U000e0041", "\\u{e0041}"), ("a\r\nb", "a\nb"), ("a\rb", "a\\u{d}b"), ("a\u2028b", "a\\u{2028}b"),
        ("x < y, 3 <4, l'été, 日本語 👩‍👩‍👧", "x < y, 3 <4, l'été, 日本語 👩‍👩‍👧"), ("tab\tand\nline", "tab\tand\nline"),
    ],
)  # fmt: skip
def test_E34_what_could_act_is_made_visible(text: str, expected: str):
    """Control tokens are broken, hidden characters shown, ordinary text stays as it is."""
    assert expected == neutral(text)


def test_the_judge_sees_what_it_needs_and_the_reason_comes_first():
    """Input, passages, reference, answer; the criteria with their anchors; the schema asks for the reason before the score."""
    task = JudgeTask(
        category="c",
        inputs={"q": "why?"},
        answer="so",
        passages=[Passage(id="p1", title="T", text="body")],
        reference="because",
    )
    system, user = judge_messages(RUBRIC, "reference", task)
    titles = [title for what, title, _ in _LINE.findall(user.content) if what == "begin"]

    assert ["input q", "passage p1", "reference", "answer"] == titles
    assert (
        "clear (score a whole number from 1 to 5): How clear is it?\n    1: not\n    3: so so\n    5: very"
        in system.content
    )
    assert ["reason", "score"] == verdict_schema([RIGHT], "reference_free")["properties"]["right"]["required"]


def test_examples_are_shown_when_they_score_everything_that_is_asked():
    """A partial one would teach to leave criteria out; those of another category are not shown."""
    whole = RubricExample(input="i", answer="a", verdicts={"right": (True, "r"), "clear": (4, "c")})
    part = RubricExample(input="i", answer="a", verdicts={"right": (True, "r")})
    other = RubricExample(input="i", answer="a", verdicts=whole.verdicts, category="other")
    rubric = Rubric(name="r", criteria=RUBRIC.criteria, examples=(whole, part, other))
    messages = judge_messages(rubric, "reference_free", JudgeTask(category="c", inputs={}, answer="x"))

    assert ["system", "user", "assistant", "user"] == [message.role for message in messages]
    assert {"right": Said(value=1.0, reason="r"), "clear": Said(value=0.75, reason="c")} == read_verdict(
        messages[2].content, rubric.criteria, "reference_free"
    )


def test_the_fingerprint_is_steady():
    """It changes with the judge's prompt alone; a change here makes every calibration one of another judge."""
    assert prompt_fingerprint() == prompt_fingerprint()


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda item: st.lists(item) | st.dictionaries(st.text(), item),
    ).map(json.dumps)
)
def test_E34_E35_anything_is_a_verdict_or_refused(text: str):
    """No message makes the reader fail otherwise, and none that is refused gives a score."""
    found: object
    try:
        found = set(read_verdict(text, RUBRIC.criteria, "reference_free"))
    except NotAVerdictError as error:
        found = str(error)

    assert found == {"right", "clear"} or str(found).isprintable()


@given(st.booleans(), st.integers(1, 5))
def test_a_verdict_is_read_as_it_was_meant(right: bool, clear: int):
    text = json.dumps({"clear": {"reason": "c", "score": clear}, "right": {"reason": "r", "score": right}})

    assert said(float(right), (clear - 1) / 4) == read_verdict(text, RUBRIC.criteria, "reference_free")


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=9).filter(
        lambda votes: len(votes) % 2 == 1
    )
)
def test_votes_that_are_decided_early_come_to_the_same_verdict(votes: list[tuple[bool, int]]):
    """Stopping when nothing can change costs no answer: the verdict is that of all votes."""
    every = [said(float(right), clear / 4) for right, clear in votes]
    whole = combine(RUBRIC, "c", "reference_free", every, len(every))
    for count in range(1, len(every) + 1):
        if decided(RUBRIC, "c", "reference_free", every[:count], len(every)):
            assert whole.passed == combine(RUBRIC, "c", "reference_free", every[:count], len(every)).passed
            break
    else:
        pytest.fail("all votes decide")


@pytest.mark.parametrize(
    ("votes", "passed"),
    [
        ([said(1), said(1), said(0)], True), ([said(1), said(0), said(0)], False), ([said(1), "unreadable", said(1)], True),
        ([said(1), "unreadable", said(0)], None), (["unreadable", "unreadable", said(1)], None), (["unreadable"] * 3, None),
        ([said(0), "unreadable", said(0)], False),
    ],
)  # fmt: skip
def test_a_missing_vote_may_have_said_anything(votes: list[object], passed: bool | None):
    """It counts for neither side: the verdict stands only if no vote in its place could change it."""
    assert passed is combine(RUBRIC, "c", "reference_free", votes, 3).passed  # type: ignore[arg-type]


def test_pairs_whose_winner_depends_on_the_order_are_equal():
    found = both_orders({"right": Said(value=1.0, reason="a")}, {"right": Said(value=0.0, reason="b")})

    assert (0.5, "the order decided: a") == (found["right"].value, found["right"].reason)


@pytest.mark.parametrize(
    ("scores", "passed", "value", "failed"),
    [
        ({"right": True, "clear": 5}, True, 1.0, ()), ({"right": True, "clear": 1}, False, 2 / 3, ("clear",)), ({"right": True, "clear": 3}, True, 2.5 / 3, ()),
        ({"right": False, "clear": 5}, False, 1 / 3, ("right",)), ({"right": True, "clear": 2}, True, 0.75, ("clear",)),
    ],
)  # fmt: skip
def test_an_answer_passes_by_weight_unless_a_hard_criterion_fails(
    scores: dict[str, int], passed: bool, value: float, failed: tuple[str, ...]
):
    """Weights 2 and 1, pass mark 0.7; by hand."""
    found = grade(RUBRIC.criteria, scores, 0.7)

    assert (passed, pytest.approx(value), failed) == (found.passed, found.value, found.failed)
