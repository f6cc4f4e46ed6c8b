"""GTO's tags: what they say, and where numbers and clocks disagree."""

import os

import pytest

from promptops.release.gto import GtoTag, parse_gto


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("churn@v1.2.3", GtoTag(tag="churn@v1.2.3", name="churn", kind="version", commit="", at=0, version="v1.2.3")),
        (
            "a/b@v1.2.3!#2",
            GtoTag(tag="a/b@v1.2.3!#2", name="a/b", kind="deregistration", commit="", at=0, version="v1.2.3", number=2),
        ),
        (
            "churn#prod#4",
            GtoTag(tag="churn#prod#4", name="churn", kind="assignment", commit="", at=0, stage="prod", number=4),
        ),
        ("churn#prod", GtoTag(tag="churn#prod", name="churn", kind="assignment", commit="", at=0, stage="prod")),
        (
            "churn#prod!#5",
            GtoTag(tag="churn#prod!#5", name="churn", kind="unassignment", commit="", at=0, stage="prod", number=5),
        ),
        ("churn@deprecated", GtoTag(tag="churn@deprecated", name="churn", kind="deprecation", commit="", at=0)),
        ("v1.0.0", None),
        ("churn@1.2.3", None),
        ("churn#", None),
    ],
)
def test_name_of_a_tag(tag, expected):
    """The grammar of names, and nothing near it."""
    assert expected == parse_gto(tag)


def _tag(sandbox, name, date, commit="HEAD"):
    environment = {"GIT_COMMITTER_DATE": date}
    os.environ.update(environment)
    try:
        sandbox.git("tag", "-a", name, "-m", name, commit)
    finally:
        del os.environ["GIT_COMMITTER_DATE"]


def test_disagreement_of_numbers_and_dates_is_reported(sandbox, call):
    """A tagger whose clock was a year behind: GTO would serve the old version, the numbers say the new one."""
    first = sandbox.commit_all("Begin")
    sandbox.write("x", "1")
    second = sandbox.commit_all("More")
    _tag(sandbox, "churn@v1.0.0", "2026-03-01T00:00:00Z", first)
    _tag(sandbox, "churn@v1.1.0", "2025-03-01T00:00:00Z", second)
    _tag(sandbox, "churn#prod#1", "2026-03-02T00:00:00Z", first)
    _tag(sandbox, "churn#prod#2", "2025-03-02T00:00:00Z", second)
    _tag(sandbox, "other@v0.1.0", "2026-03-02T00:00:00Z", first)
    _tag(sandbox, "odd#", "2026-03-02T00:00:00Z", first)

    outcome, found = call("import", "gto"), call("import", "gto", "--json").json

    assert {"churn": ["v1.0.0", "v1.1.0"], "other": ["v0.1.0"]} == found["versions"]
    assert ("v1.1.0", "v1.0.0", True) == tuple(found["stages"][0][key] for key in ("by_number", "by_date", "disagree"))
    assert (2, ["odd#"]) == (found["disagreements"], found["strange"])
    assert outcome.out.startswith("DISAGREE  5 GTO tags of 2 artifacts")


def test_repository_without_such_tags_says_so(sandbox, call):
    """Nothing to read is bad input."""
    sandbox.commit_all()

    outcome = call("import", "gto")

    assert (2, True) == (outcome.code, "no GTO tags" in outcome.err)
