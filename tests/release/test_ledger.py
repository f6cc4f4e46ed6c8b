"""Tags as git holds them: written, read back in one pass, and refused when they are not what they say."""

import re
from datetime import UTC, datetime

import pytest

from conftest import Sandbox
from promptops.core.errors import EvaluationError
from promptops.project.git import Git, RefExistsError
from promptops.release.channels import ChannelState
from promptops.release.ledger import read_ledger
from promptops.release.names import Version
from promptops.release.tags import Tagger, tag_content, write_tag
from promptops.release.versions import VersionRecord

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ANA = Tagger("Ana", "ana@example.com")


def version_of(commit: str, version: str = "v1.0.0") -> VersionRecord:
    return VersionRecord(prompt="a", version=Version.parse(version), commit=commit, prompt_digest="sha256:1", subject="sha256:2", model={"provider": "local"},
                         evidence="", previous=None, bump="minor", reason="first", changelog="", actor="ana@example.com", at="2026-01-02T03:04:05+00:00")  # fmt: skip


def put(git: Git, record: VersionRecord, ref: str = "") -> str:
    content = tag_content(
        target=record.commit, tag=record.name.tag, tagger=ANA, at=NOW, title="a v1.0.0", body=record.as_dict()
    )
    oid = write_tag(git, record.name.ref, content, None).oid
    git.change_refs([f"create {ref or record.name.ref} {oid}"])
    return oid


def test_what_is_written_is_read_back(sandbox: Sandbox):
    """The record, who made the tag and its title; git itself takes it for an annotated tag."""
    commit = sandbox.commit_all()
    git = Git(sandbox.root)
    record = version_of(commit)
    oid = put(git, record)
    found = read_ledger(git, "a").versions["a"][Version(1, 0, 0)]

    assert (record, oid, "ana@example.com", "a v1.0.0", "") == (
        found.record, found.tag.oid, found.tag.tagger, found.tag.title, found.fault,
    )  # fmt: skip
    assert "a v1.0.0" == sandbox.git("for-each-ref", "--format=%(contents:subject)", record.name.ref)


def test_R14_a_tag_under_another_name_is_refused(sandbox: Sandbox):
    """A copy of v1.0.0 as v9.0.0 does not make a version 9."""
    git = Git(sandbox.root)
    put(git, version_of(sandbox.commit_all()), "refs/tags/prompt/a/v9.0.0")
    found = read_ledger(git).versions["a"][Version(9, 0, 0)]

    assert (None, "it was made under another name, prompt/a/v1.0.0") == (found.record, found.fault)


def test_plain_tags_and_foreign_records_are_faults_not_crashes(sandbox: Sandbox):
    """A lightweight tag, a tag by hand, a name outside the grammar: each is named."""
    sandbox.commit_all()
    sandbox.git("tag", "prompt/a/v1.0.0")
    sandbox.git("tag", "-a", "-m", "by hand\n\nnot json", "prompt/a/v1.1.0")
    sandbox.git("tag", "-a", "-m", "by hand\n\n[1]", "channel/a/prod/000001")
    sandbox.git("tag", "-a", "-m", "x\n\n{}", "channel/a/prod/000002")
    sandbox.git("tag", "prompt/a/latest")
    ledger = read_ledger(Git(sandbox.root))

    assert ["it is not an annotated tag", "its record is not JSON: invalid literal, expected 'null' at column 1"] == [
        item.fault for item in ledger.versions["a"].values()
    ]  # fmt: skip
    assert ["its record is not a JSON object", "not an event of format 1"] == [
        item.link.fault for item in ledger.events["a", "prod"]
    ]
    assert ("refs/tags/prompt/a/latest",) == ledger.strange


def test_of_two_that_make_a_ref_one_loses(sandbox: Sandbox):
    """Creating a ref is all or nothing: a second create of the same name fails, and so does what came with it."""
    commit = sandbox.commit_all()
    git = Git(sandbox.root)
    put(git, version_of(commit))

    with pytest.raises(RefExistsError):
        git.change_refs([f"create refs/tags/other {commit}", f"create refs/tags/prompt/a/v1.0.0 {commit}"])
    assert {} == git.refs(["refs/tags/other/"])


def test_C15_a_lock_that_was_left_behind_is_named(sandbox: Sandbox):
    """Exit 3 with the path, not a wait without end."""
    commit = sandbox.commit_all()
    lock = sandbox.write(".git/refs/tags/x.lock", "")

    with pytest.raises(EvaluationError, match=re.escape(lock.name)):
        Git(sandbox.root).change_refs([f"create refs/tags/x {commit}"])


def test_an_empty_repository_has_an_empty_ledger(sandbox: Sandbox):
    """Nothing released is a result."""
    sandbox.git("init", "-q")

    ledger = read_ledger(Git(sandbox.root))

    assert ({}, {}, None, ChannelState(prompt="a", channel="prod")) == (
        ledger.versions, ledger.events, ledger.latest("a"), ledger.state("a", "prod"),
    )  # fmt: skip
