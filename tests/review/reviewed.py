"""A project with a rubric and a run to review, and answers of a test's choice."""

from collections.abc import Callable, Mapping

from conftest import PROMPT, Outcome, Sandbox
from promptops.project.project import open_project
from promptops.project.reviews import Batch, ReviewItem, save_batch

RUBRIC = """promptops: 1
name: feedback
description: For reviewers of sentiment labels.
criteria:
  - {id: right, question: "Is the sentiment the customer's own?", scale: pass_fail, hard: true}
  - id: certain
    question: "How sure is the text about it?"
    scale: 1..5
    anchors: {"1": It could be anything., "3": It leans that way., "5": It says so.}
"""


def with_rubric(sandbox: Sandbox, review: str = "") -> None:
    sandbox.write("rubrics/feedback.yaml", RUBRIC)
    suite = f"golden/{PROMPT}.yaml"
    sandbox.write(suite, sandbox.read(suite) + "rubric: feedback\n" + (f"review: {review}\n" if review else ""))


def evaluated(sandbox: Sandbox, call: Callable[..., Outcome], review: str = "") -> str:
    """The run of a project with a rubric."""
    with_rubric(sandbox, review)
    return str(call("eval", "--json").json["runs"][0]["run"])


def batch_of(
    sandbox: Sandbox, answers: Mapping[str, str], *, to: tuple[str, ...] = ("ana",), expected: str = ""
) -> Batch:
    """A batch of these answers (by case id), as if each had been drawn for certain from one run."""
    items = tuple(
        ReviewItem(
            id=f"{index:012x}", case_id=case, category="delivery", case_digest="0" * 32, inputs={"feedback": answer}, expected={"sentiment": expected} if expected else {},
            answer=answer, inclusion=1.0, weights={"20260102-030405-abcdef": 1}, reviewers=to,
        )
        for index, (case, answer) in enumerate(answers.items())
    )  # fmt: skip
    batch = Batch(id=f"{PROMPT}-000000000001", prompt=PROMPT, runs=("20260102-030405-abcdef",), seed=0, created_at="2026-01-02T03:04:05+00:00",
                  population=len(items), items=items)  # fmt: skip
    save_batch(open_project(sandbox.root).root, batch)
    return batch
