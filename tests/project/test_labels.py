"""golden/<name>.labels.jsonl: what people said of answers, in a file that git merges."""

import json
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Sandbox
from promptops.core.errors import DataError, RefusedError
from promptops.project.labels import (
    Label,
    add_labels,
    answer_digest,
    labels_path,
    labels_text,
    read_labels,
    remove_labels,
)
from promptops.project.tree import WorkTree

LABEL = Label(
    case_id="a-1", category="short", case_digest="0" * 32, answer="An answer.\nOf two lines, 日本語", rubric="tone", rubric_digest="sha256:" + "1" * 64,
    by="aiko", at="2026-01-31T12:00:00+00:00", passed=True, verdicts={"polite": True, "clear": 4}, note="good", inclusion=0.25, batch="b1",
    run="20260131-101500-1a2b3c", draw=2,
)  # fmt: skip


def at(second: int) -> str:
    return f"2026-01-31T12:00:{second:02}+00:00"


def test_labels_are_read_as_they_were_written(tmp_path: Path):
    """Every field comes back, whatever is in the answer."""
    labels = [
        LABEL,
        replace(LABEL, by="ben", passed=False, verdicts={}, note="", inclusion=None, batch="", run="", draw=0),
    ]

    add_labels(tmp_path, "p", labels)

    assert labels == read_labels(WorkTree(tmp_path), "p")


def test_no_file_is_no_label(tmp_path: Path):
    assert [] == read_labels(WorkTree(tmp_path), "p")


def test_the_same_labels_make_the_same_bytes_in_whatever_order_they_came(tmp_path: Path):
    """Two people who label in another order write the same file."""
    labels = [replace(LABEL, case_id=f"a-{n}", by=by) for n in range(3) for by in ("ben", "aiko")]
    one, two = tmp_path / "one", tmp_path / "two"
    for root, order in ((one, labels), (two, labels[::-1])):
        root.mkdir()
        for label in order:
            add_labels(root, "p", [label])

    assert (one / labels_path("p")).read_bytes() == (two / labels_path("p")).read_bytes()


def test_labelling_again_replaces_what_the_same_reviewer_said(tmp_path: Path):
    """One reviewer has one say on an answer; another reviewer, another answer or other criteria are labels of their own."""
    changed = replace(LABEL, at=at(1), passed=False)
    others = [
        replace(LABEL, by="ben"),
        replace(LABEL, answer="other"),
        replace(LABEL, rubric_digest="sha256:" + "2" * 64),
    ]
    add_labels(tmp_path, "p", [LABEL, *others])

    add_labels(tmp_path, "p", [changed])

    found = read_labels(WorkTree(tmp_path), "p")
    assert (4, True, False) == (len(found), changed in found, LABEL in found)


def test_a_label_taken_back_is_gone(tmp_path: Path):
    add_labels(tmp_path, "p", [LABEL, replace(LABEL, by="ben")])

    assert ["ben"] == [label.by for label in remove_labels(tmp_path, "p", [LABEL.key])]


def test_of_two_lines_of_a_merge_the_later_counts(tmp_path: Path):
    """Lines may be unsorted and twice: that is what a merge of two branches leaves."""
    lines = [labels_text([label]) for label in (replace(LABEL, at=at(5), passed=False), LABEL, LABEL)]
    (tmp_path / "golden").mkdir()
    (tmp_path / labels_path("p")).write_bytes(b"".join(lines))

    assert [replace(LABEL, at=at(5), passed=False)] == read_labels(WorkTree(tmp_path), "p")


def test_git_merges_the_labels_of_two_branches(sandbox: Sandbox):
    """Two reviewers on two branches: `merge=union` keeps the lines of both, and the file is valid as it is."""
    sandbox.write(".gitattributes", "golden/*.labels.jsonl merge=union\n")
    add_labels(sandbox.root, "p", [replace(LABEL, case_id="m")])
    sandbox.commit_all()
    for branch, case_id in (("one", "n"), ("two", "o")):
        sandbox.git("checkout", "-q", "-b", branch, "main")
        add_labels(sandbox.root, "p", [replace(LABEL, case_id=case_id, by=branch)])
        sandbox.commit_all()

    sandbox.git("merge", "-q", "one")

    assert ["m", "n", "o"] == [label.case_id for label in read_labels(WorkTree(sandbox.root), "p")]


def test_many_reviewers_at_once_lose_no_label(tmp_path: Path):
    """Each write reads, changes and replaces the file under a lock."""

    def label(number: int) -> None:
        for case in range(5):
            add_labels(tmp_path, "p", [replace(LABEL, case_id=f"c-{case}", by=f"r-{number}")])

    threads = [threading.Thread(target=label, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 20 == len(read_labels(WorkTree(tmp_path), "p"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"case_id"', "not a valid row"),
        (json.dumps(LABEL.as_row() | {"pased": True}), "unknown key 'pased'"),
        (json.dumps(LABEL.as_row() | {"passed": 1}), "`passed` '1' is not of type"),
        (json.dumps(LABEL.as_row() | {"verdicts": {"clear": 5.5}}), "5.5"),
        (json.dumps(LABEL.as_row() | {"inclusion": 0}), "`inclusion` '0'"),
        (json.dumps(LABEL.as_row() | {"at": "2026-01-31 12:00"}), "`at` '2026-01-31 12:00'"),
        (json.dumps(LABEL.as_row() | {"answer": "another"}), "answer_digest is not that of the answer"),
        ("<<<<<<< HEAD", "a merge conflict"),
    ],
)  # fmt: skip
def test_every_bad_line_is_named(tmp_path: Path, line: str, expected: str):
    """With file and line, and all of them at once; nothing is written over such a file."""
    (tmp_path / "golden").mkdir()
    (tmp_path / labels_path("p")).write_bytes(labels_text([LABEL]) + line.encode() + b"\n" + line.encode() + b"\n")

    with pytest.raises(DataError) as caught:
        add_labels(tmp_path, "p", [LABEL])

    assert ["golden/p.labels.jsonl:2", "golden/p.labels.jsonl:3"] == [item.where for item in caught.value.problems]
    assert expected in caught.value.problems[0].what
    assert line.encode() in (tmp_path / labels_path("p")).read_bytes()


def test_labels_are_not_written_through_a_link_out_of_the_project(tmp_path: Path):
    root = tmp_path / "project"
    (root / "golden").mkdir(parents=True)
    (tmp_path / "outside.jsonl").write_text("", "utf-8")
    (root / labels_path("p")).symlink_to(tmp_path / "outside.jsonl")

    with pytest.raises(RefusedError):
        add_labels(root, "p", [LABEL])

    assert "" == (tmp_path / "outside.jsonl").read_text("utf-8")


def test_an_answer_is_known_by_its_text_alone():
    """`printf '"An answer"' | sha256sum`: anyone can compute it."""
    found = (
        subprocess.run(["sha256sum"], input=b'"An answer"', capture_output=True, check=True).stdout.split()[0].decode()
    )

    assert f"sha256:{found}" == answer_digest("An answer")
