"""promptops review assign, export, import, report, due: batches dealt out, labels taken in, and what they say."""

import csv
import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from reviewed import batch_of, evaluated, with_rubric

from conftest import PROMPT, Outcome, Sandbox
from promptops.core.suite import ReviewPolicy
from promptops.evaluation.review_due import review_due
from promptops.project.labels import Label, read_labels
from promptops.project.reviews import save_batch
from promptops.project.tree import WorkTree

Call = Callable[..., Outcome]


def labels(sandbox: Sandbox) -> list[Label]:
    return read_labels(WorkTree(sandbox.root), PROMPT)


def fill(text: str, passed: Callable[[int], bool]) -> str:
    """An exported CSV as a colleague sends it back."""
    rows = list(csv.DictReader(io.StringIO(text)))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(
        {**row, "right": "pass" if passed(index) else "fail", "certain": "4", "note": "hm" if index == 0 else ""}
        for index, row in enumerate(rows)
    )
    return out.getvalue()


def test_a_batch_is_dealt_out_with_an_overlap_and_its_chances(sandbox: Sandbox, call: Call):
    """Half of ten answers go to both reviewers, the rest to one each; the same plan is the same batch."""
    evaluated(sandbox, call)
    assigned = (
        "review",
        "assign",
        PROMPT,
        "--to",
        "ana",
        "--to",
        "ben",
        "--sample",
        "10",
        "--overlap",
        "0.4",
        "--json",
    )

    first, again = call(*assigned).json, call(*assigned).json

    assert first == again
    assert ({"ana": 7, "ben": 7}, 10, 22) == (first["reviewers"], len(first["items"]), first["population"])
    assert [4, 6] == [sum(len(item["reviewers"]) == count for item in first["items"]) for count in (2, 1)]
    assert all(0 < item["inclusion"] <= 1 for item in first["items"])


def test_labels_made_in_a_spreadsheet_come_back_with_their_chances(sandbox: Sandbox, call: Call):
    """Export as CSV, fill in, import: a label an answer, drawn with its probability, passing as the rubric says."""
    evaluated(sandbox, call)
    made = call(
        "review", "assign", PROMPT, "--to", "ana", "--to", "ben", "--sample", "12", "--overlap", "1", "--json"
    ).json
    inclusion = {item["item"]: item["inclusion"] for item in made["items"]}
    for who, passed in (("ana", lambda index: index % 3 > 0), ("ben", lambda index: index % 4 > 0)):
        assert 0 == call("review", "export", PROMPT, "--as", who, "-o", f"{who}.csv").code
        sandbox.write(f"{who}.csv", fill(sandbox.read(f"{who}.csv"), passed))
        assert 12 == call("review", "import", PROMPT, f"{who}.csv", "--as", who, "--json").json["labels"]

    found = call("review", "report", PROMPT, "--json").json
    kept = labels(sandbox)

    assert sorted([*inclusion.values()] * 2) == sorted(label.inclusion or 0 for label in kept)
    assert {"ana": {"labelled": 12, "assigned": 12}, "ben": {"labelled": 12, "assigned": 12}} == found["progress"]
    assert ("kappa", 12, 7 / 12) == (
        found["agreement"]["statistic"],
        found["agreement"]["answers"],
        pytest.approx(found["agreement"]["agreed"]),
    )
    assert {"right", "certain"} == set(found["agreement_by"])
    weights = {label.case_id: 1 / (label.inclusion or 1) for label in kept}
    by_case: dict[str, list[bool]] = {}
    for label in kept:
        by_case.setdefault(label.case_id, []).append(label.passed)
    hajek = sum(weights[case] * sum(said) / len(said) for case, said in by_case.items()) / sum(weights.values())
    assert pytest.approx(hajek) == found["runs"][0]["pass_rate"]["rate"]
    assert [{"case": found["notes"][0]["case"], "by": "ana", "note": "hm"}] == found["notes"][:1]


def test_everything_wrong_with_an_import_is_said_at_once_and_nothing_is_kept(sandbox: Sandbox, call: Call):
    """Each line with what is wrong; a correct line beside them is not taken in alone."""
    evaluated(sandbox, call)
    items = call("review", "assign", PROMPT, "--to", "ana", "--sample", "3", "--json").json["items"]
    rows = [
        {"item": items[0]["item"], "right": "maybe", "certain": "4"}, {"item": items[1]["item"], "right": "pass", "certain": "6"},
        {"item": "ffffffffffff", "right": "pass", "certain": "1"}, {"item": items[2]["item"], "verdicts": {"right": True, "certain": 5}},
        {"item": items[2]["item"], "verdicts": {"right": True}},
    ]  # fmt: skip
    sandbox.write("in.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    found = call("review", "import", PROMPT, "in.jsonl", "--as", "ana")

    assert (2, []) == (found.code, labels(sandbox))
    assert [1, 2, 3, 5] == [int(line.partition("in.jsonl:")[2].partition(":")[0]) for line in found.err.splitlines()]


def test_labels_of_a_colleague_are_taken_in_and_empty_rows_left_out(sandbox: Sandbox, call: Call):
    """A labels file is merged; an export with nothing filled in adds nothing."""
    evaluated(sandbox, call)
    call("review", "assign", PROMPT, "--to", "ana", "--sample", "4")
    call("review", "export", PROMPT, "-o", "all.jsonl")
    assert {"labels": 0, "empty": 4} == {
        key: value
        for key, value in call("review", "import", PROMPT, "all.jsonl", "--json").json.items()
        if key != "prompt"
    }

    rows = [json.loads(line) for line in sandbox.read("all.jsonl").splitlines()]
    rows[0]["passed"] = "fail"
    sandbox.write("all.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    call("review", "import", PROMPT, "all.jsonl", "--as", "ana")
    sandbox.write("theirs.labels.jsonl", sandbox.read(f"golden/{PROMPT}.labels.jsonl").replace('"ana"', '"ben"'))

    assert 1 == call("review", "import", PROMPT, "theirs.labels.jsonl", "--json").json["labels"]
    assert [("ana", False, {}), ("ben", False, {})] == [
        (label.by, label.passed, dict(label.verdicts)) for label in labels(sandbox)
    ]


def test_C14_an_exported_answer_is_no_formula(sandbox: Sandbox, call: Call):
    """What a spreadsheet would run starts with an apostrophe; the label still is of the answer as it was."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "=HYPERLINK(1)"})

    call("review", "export", PROMPT, "-o", "x.csv")
    sandbox.write("x.csv", fill(sandbox.read("x.csv"), lambda _: True))
    call("review", "import", PROMPT, "x.csv", "--as", "ana")

    assert "'=HYPERLINK(1)" == next(csv.DictReader(io.StringIO(sandbox.read("x.csv"))))["answer"]
    assert ["=HYPERLINK(1)"] == [label.answer for label in labels(sandbox)]


def test_changed_verdicts_between_two_runs_are_likelier_to_be_chosen(sandbox: Sandbox, call: Call):
    """An answer both runs gave counts once and for both; where the verdict changed, both answers are likelier."""
    before = evaluated(sandbox, call)
    sandbox.replace(f"prompts/{PROMPT}/rules.yaml", "late|", "late|soaked|missing|waiting|")
    after = call("eval", "--json").json["runs"][0]["run"]

    found = call(
        "review", "assign", PROMPT, "--to", "ana", "--run", after, "--against", before, "--sample", "8", "--json"
    ).json
    chances = found["reasons"]

    assert [after, before] == found["runs"]
    assert found["population"] > 22
    assert chances["changed"][1] >= 4
    assert chances["changed"][0] / chances["changed"][1] > 8 / found["population"]


def test_without_a_rubric_or_a_run_there_is_nothing_to_review(sandbox: Sandbox, call: Call):
    """Both are said, with what to do; so are a batch of another prompt and a bad batch file."""
    no_rubric = call("review", "assign", PROMPT, "--to", "ana")
    with_rubric(sandbox)
    no_run = call("review", "assign", PROMPT, "--to", "ana")
    sandbox.write("x.json", '{"format": 1}')
    bad = call("review", "report", PROMPT, "--batch", "x.json")
    none = call("review", "report", PROMPT)

    assert [2, 2, 2, 2] == [found.code for found in (no_rubric, no_run, bad, none)]
    assert "names no rubric" in no_rubric.err
    assert "promptops eval" in no_run.err
    assert "not a review batch" in bad.err
    assert "no review batch" in none.err


def test_a_batch_can_go_to_a_colleague_as_a_file(sandbox: Sandbox, call: Call):
    """It holds the answers: a run is not needed where it is labelled."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "yes", "a-2": "no"})
    sandbox.path(f".promptops/reviews/{PROMPT}-000000000001.json").rename(sandbox.path("sent.json"))

    found = call("review", "report", PROMPT, "--batch", "sent.json", "--json")

    assert (0, 2) == (found.code, found.json["open"])


@pytest.mark.parametrize("who", ["", " ", "a\x1b[31m", "x" * 121, "a\u202eb"])
def test_a_name_that_no_label_could_carry_is_refused(sandbox: Sandbox, call: Call, who: str):
    """Before anything is drawn or written."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "yes"})
    call("review", "export", PROMPT, "-o", "x.csv")

    found = [
        call("review", "assign", PROMPT, "--to", who),
        *([call("review", "import", PROMPT, "x.csv", "--as", who)] if who.strip() else []),
    ]

    assert {2} == {one.code for one in found}
    assert all("cannot be a reviewer's name" in one.err for one in found)


def test_a_sent_batch_cannot_make_the_labels_file_unreadable(sandbox: Sandbox, call: Call):
    """An item that no valid label can be made of is refused when it is labelled, and the file stays as it was."""
    with_rubric(sandbox)
    batch = batch_of(sandbox, {"a-1": "yes"})
    save_batch(sandbox.root, replace(batch, items=(replace(batch.items[0], case_digest="../x"),)))
    call("review", "export", PROMPT, "-o", "x.csv")
    sandbox.write("x.csv", fill(sandbox.read("x.csv"), lambda _: True))
    header_only = sandbox.write("y.csv", "a,b\n")

    assert 2 == call("review", "import", PROMPT, "x.csv", "--as", "ana").code
    assert 2 == call("review", "import", PROMPT, header_only.name, "--as", "ana").code
    assert [] == labels(sandbox)


def test_a_review_without_a_terminal_says_what_else_there_is(sandbox: Sandbox):
    """No screen, no page: exit 2 and the two other ways."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "yes"})

    found = sandbox.run("review", PROMPT, "--as", "ana", stdin=subprocess.DEVNULL)

    assert (2, True, True) == (found.code, "--web" in found.err, "export" in found.err)


# Due

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LABEL = Label(case_id="a-1", category="short", case_digest="0" * 32, answer="x", rubric="tone", rubric_digest="sha256:" + "1" * 64, by="ana",
              at="2026-01-31T12:00:00+00:00", passed=True)  # fmt: skip


def labelled(*days_ago: float) -> list[Label]:
    return [
        replace(LABEL, case_id=f"a-{index}", at=(NOW - timedelta(days=days)).isoformat(timespec="seconds"))
        for index, days in enumerate(days_ago)
    ]


@pytest.mark.parametrize(
    ("days_ago", "recent", "days_left", "overdue"),
    [
        ((), 0, 0, True),
        ((1.0, 2.0), 2, 0, True),
        ((1.0, 2.0, 3.0), 3, 27, False),
        ((1.0, 2.0, 29.5), 3, 0, False),
        ((1.0, 2.0, 30.0), 2, 0, True),
        ((-5.0, 2.0, 3.0), 3, 27, False),
    ],
)
def test_a_review_is_due_when_the_period_no_longer_holds_enough_labels(
    days_ago: tuple[float, ...], recent: int, days_left: int, overdue: bool
):
    """Three answers every 30 days; a label from a clock that is ahead counts as of now; never reviewed is overdue."""
    found = review_due("p", ReviewPolicy(every_days=30, sample=3), labelled(*days_ago), NOW)

    assert (recent, days_left, overdue) == (found.recent, found.days_left, found.overdue)


def test_two_labels_of_one_answer_are_one_reviewed_answer():
    """Two reviewers looked at the same two answers: two, not four."""
    twice = [*labelled(1.0, 2.0), *(replace(label, by="ben") for label in labelled(1.0, 2.0))]

    assert 2 == review_due("p", ReviewPolicy(every_days=30, sample=3), twice, NOW).recent


def test_an_overdue_review_fails_only_where_the_suite_asks_for_it(sandbox: Sandbox, call: Call):
    """`required: true` is exit 1; without it a notice; after enough labels it is OK, with the next date."""
    with_rubric(sandbox, "{every_days: 30, sample: 2}")
    batch_of(sandbox, {"a-1": "yes", "a-2": "no"})
    notice = call("review", "due")
    sandbox.replace(f"golden/{PROMPT}.yaml", "sample: 2}", "sample: 2, required: true}")
    failed = call("review", "due")
    call("review", "export", PROMPT, "-o", "x.csv")
    sandbox.write("x.csv", fill(sandbox.read("x.csv"), lambda _: True))
    call("review", "import", PROMPT, "x.csv", "--as", "ana")
    done = call("review", "due", PROMPT, "--json")

    assert (0, 1, 0) == (notice.code, failed.code, done.code)
    assert failed.out.startswith("OVERDUE  1 of 1 review overdue\n")
    assert "never reviewed in full: 0 of 2 answers every 30 days labelled" in failed.out
    assert (False, 2) == (done.json["reviews"][0]["overdue"], done.json["reviews"][0]["labelled"])


def test_the_plan_of_reviews_is_outside_the_subject(sandbox: Sandbox, call: Call):
    """Changing how often people look does not make evidence void."""
    before = evaluated(sandbox, call)
    sandbox.write(f"golden/{PROMPT}.yaml", sandbox.read(f"golden/{PROMPT}.yaml") + "review: {every_days: 30}\n")
    after = call("eval", "--json").json["runs"][0]["run"]
    subjects = [call("runs", "show", run, "--json").json["subject"] for run in (before, after)]

    assert subjects[0] == subjects[1]
