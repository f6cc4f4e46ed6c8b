"""Approve and release: evidence for exactly this content, a number that the content allows, and nobody around it."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from promptops.core.errors import ConflictError
from promptops.project.git import Git
from promptops.release.evidence import pre_authentication
from promptops.release.publish import _publish, release
from promptops.release.share import Fetched
from release.shop import NAME, Clone, Shop, git, open_shop

RULES = f"prompts/{NAME}/rules.yaml"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A remote with v1.0.0 released from an approved run; Ana's clone has the run. Tests copy it."""
    shop = open_shop(tmp_path_factory.mktemp("released") / "shop")
    ana = shop.clone("ana")
    for command in (("eval", NAME), ("approve", NAME), ("release", NAME)):
        done = ana.call(*command)
        assert done.code == 0, done.err
    return shop


@pytest.fixture
def shop(released: Shop, tmp_path: Path) -> Shop:
    """A copy of its own for each test."""
    folder = tmp_path / "shop"
    subprocess.run(["cp", "-r", str(released.folder), str(folder)], check=True)
    copy = Shop(folder)
    git(folder / "ana", "remote", "set-url", "origin", f"file://{copy.remote}")
    return copy


@pytest.fixture
def ana(shop: Shop) -> Clone:
    return Clone(shop.folder / "ana", "ana", shop.folder / "keys")


def said(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(subject, envelope, statement) of the only evidence on the remote."""
    ((ref, oid),) = Git(shop.remote).refs(["refs/promptops/evidence/"]).items()
    envelope = json.loads(Git(shop.remote).objects([oid])[oid][1])
    return ref.split("/")[3], envelope, json.loads(base64.b64decode(envelope["payload"]))


def test_evidence_is_an_in_toto_statement_that_openssh_verifies(shop: Shop, tmp_path: Path):
    """Subject, result, counts with intervals, fingerprints, cost and tools; the DSSE signature is one ssh-keygen accepts."""
    subject, envelope, statement = said(shop)
    predicate = statement["predicate"]
    detail = predicate["promptops"]
    (signature,) = envelope["signatures"]
    (tmp_path / "sig").write_bytes(base64.b64decode(signature["sig"]))
    done = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", str(shop.folder / "first" / ".promptops-signers"), "-I", "ana@example.com", "-n", "promptops-evidence", "-s",
         str(tmp_path / "sig")], input=pre_authentication(base64.b64decode(envelope["payload"])), capture_output=True, check=False,
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    assert ("https://in-toto.io/Statement/v1", "https://in-toto.io/attestation/test-result/v0.1", "PASSED", "application/vnd.in-toto+json") == (
        statement["_type"], statement["predicateType"], predicate["result"], envelope["payloadType"],
    )  # fmt: skip
    assert [{"name": f"prompts/{NAME}", "digest": {"sha256": subject}}] == statement["subject"]
    assert (["delivery", "product", "length=long", "length=short"], 0, "ana@example.com") == (
        predicate["passedTests"], detail["cost_nanousd"], detail["actor"],
    )  # fmt: skip
    delivery = detail["categories"][0]
    assert ("delivery", 7, 10) == (delivery["name"], delivery["passed"], delivery["scored"])
    assert delivery["low"] < 0.7 < delivery["high"]
    assert {"promptops", "python", "evaluated_with"} == detail["tools"].keys()


def test_the_same_content_again_is_done_already(ana: Clone):
    """A second release, and one after the golden rows changed places, change nothing."""
    golden = ana.root / f"golden/{NAME}.jsonl"
    before = ana.tags()
    first = ana.call("release", NAME)
    golden.write_text("\n".join(reversed(golden.read_text().splitlines())) + "\n")
    ana.git("commit", "-q", "-a", "-m", "Sort")
    ana.git("push", "-q", "origin", "HEAD:main")
    second = ana.call("release", NAME)

    assert (0, 0, before) == (first.code, second.code, ana.tags())
    assert first.out.startswith("UNCHANGED") and second.out.startswith("UNCHANGED")  # noqa: PT018


def test_R13_a_dirty_tree_releases_nothing(ana: Clone):
    """Exit 2; with --at HEAD what is committed is released, not what lies around."""
    (ana.root / RULES).write_text("half")

    assert (2, True) == ((refused := ana.call("release", NAME)).code, "differ from what is committed" in refused.err)
    assert "UNCHANGED" in ana.call("release", NAME, "--at", "HEAD").out


def test_R13_one_byte_of_golden_data_needs_evidence_of_its_own(ana: Clone):
    """The old run is of other content and the message says what differs; a release without evidence is refused."""
    ana.edit(f"golden/{NAME}.jsonl", '"id": "delivery-01"', '"id": "delivery-001"')
    approve = ana.call("approve", NAME)
    refused = ana.call("release", NAME)

    assert (3, True) == (approve.code, "different: golden cases" in approve.err)
    assert (4, True) == (refused.code, "no evidence for" in refused.err)


def test_a_worse_prompt_is_no_evidence(ana: Clone):
    """The gate says no against the released version: exit 1, the rows named, nothing written."""
    text = (ana.root / RULES).read_text()
    (ana.root / RULES).write_text(text.replace('"negative"', '"positive"').replace("negative", "positive"))
    ana.git("commit", "-q", "-a", "-m", "Break it")
    ana.git("push", "-q", "origin", "HEAD:main")
    ana.call("eval", NAME, "--against", f"prompt/{NAME}/v1.0.0")
    found = ana.call("approve", NAME)

    assert (1, True, True) == (found.code, found.out.startswith("FAIL"), "worse than v1.0.0" in found.out), (
        found.out + found.err
    )
    assert 1 == len(Git(ana.root).refs(["refs/promptops/evidence/"]))


def test_a_change_must_be_compared_with_the_version_before(ana: Clone):
    """A run alone does not say that nothing became worse: exit 3 names the command."""
    ana.edit(RULES, "late|", "late|soaked|")
    ana.call("eval", NAME)
    found = ana.call("approve", NAME)

    assert (0, True) == (found.code, "not worse than v1.0.0" in found.out)  # both runs are here, and are compared
    (ana.root / ".promptops").rename(ana.root.parent / "store of another machine")
    ana.call("eval", NAME)
    alone = ana.call("approve", NAME)
    assert (3, True) == (alone.code, f"promptops eval {NAME} --against prompt/{NAME}/v1.0.0" in alone.err)


def improve(ana: Clone, words: str = "soaked|missing|waiting|") -> None:
    """A better prompt, evaluated against the released one and approved."""
    ana.edit(RULES, "late|", f"late|{words}")
    assert ana.call("eval", NAME, "--against", f"prompt/{NAME}/v1.0.0").code == 0
    done = ana.call("approve", NAME)
    assert done.code == 0, done.err


def test_a_better_prompt_becomes_a_minor_version_with_a_changelog(ana: Clone, shop: Shop):
    """Numbered by content, pushed, its commits listed; the evidence says against what."""
    improve(ana)
    done = ana.call("release", NAME, "--notes", "Fewer misses.", "--json")

    record = done.json
    assert ("1.1.0", "minor", "1.0.0", True, True) == tuple(
        record[key] for key in ("version", "bump", "previous", "made", "published")
    )
    assert record["changelog"].startswith("Fewer misses.\n")
    assert f"Change {RULES}" in record["changelog"]
    assert f"refs/tags/prompt/{NAME}/v1.1.0" in shop.remote_refs()


def test_a_smaller_bump_than_the_content_needs_is_refused(ana: Clone):
    """Shorter inputs break callers: only major will do, whatever was asked for."""
    schema = f"prompts/{NAME}/input.schema.json"
    document = json.loads((ana.root / schema).read_text())
    document["properties"]["feedback"]["maxLength"] = 4_000
    (ana.root / schema).write_text(json.dumps(document))
    ana.git("commit", "-q", "-a", "-m", "Narrow the input")
    ana.git("push", "-q", "origin", "HEAD:main")
    assert ana.call("eval", NAME, "--against", f"prompt/{NAME}/v1.0.0").code == 0
    assert ana.call("approve", NAME).code == 0
    refused = ana.call("release", NAME, "--bump", "minor")
    done = ana.call("release", NAME, "--json")

    assert (2, True) == (refused.code, "the content needs major" in refused.err)
    assert ("2.0.0", "major") == (done.json["version"], done.json["bump"])


def test_sign_offs_by_others_than_the_authors(ana: Clone, shop: Shop):
    """One other person is asked for by the protected branch: the author's own does not count, nor one by a key without the role."""
    config = (ana.root / "promptops.toml").read_text()
    (ana.root / "promptops.toml").write_text(config + "\n[release]\napprovals = 1\n")
    ana.git("commit", "-q", "-a", "-m", "Ask for a second pair of eyes")
    ana.git("push", "-q", "origin", "HEAD:main")
    improve(ana)
    ana.call("approve", NAME, "--sign-off")
    alone = ana.call("release", NAME)
    ci = shop.clone("ci").call("approve", NAME, "--sign-off")
    bob = shop.clone("bob").call("approve", NAME, "--sign-off", "--comment", "read it")
    done = ana.call("release", NAME, "--json")

    assert (4, True) == (alone.code, "has 0 of 1" in alone.err)
    assert (4, True) == (ci.code, "has no role promptops-approve" in ci.err)
    assert (0, ["bob@example.com"]) == (bob.code, done.json["approvers"]), done.err


def test_the_suite_can_ask_for_sign_offs_and_only_merged_content_is_released(ana: Clone):
    """`gate.approvals` of the suite counts as well; a commit that lowers it is released only after it was merged."""
    ana.edit(f"golden/{NAME}.yaml", "  min_pass: 0.5", "  min_pass: 0.5\n  approvals: 1")
    ana.call("eval", NAME)
    assert 0 == ana.call("approve", NAME).code
    assert "needs 1 sign-off by others" in ana.call("release", NAME).err
    commit = ana.edit(f"golden/{NAME}.yaml", "approvals: 1", "approvals: 0", push=False)
    refused = ana.call("release", NAME, "--at", commit)

    assert (4, True) == (refused.code, "is not on origin/main" in refused.err)


def test_a_weaker_gate_is_named_before_it_is_approved(ana: Clone):
    """Cases that are gone block the approval until somebody accepts that by name; the evidence keeps the name."""
    golden = ana.root / f"golden/{NAME}.jsonl"
    golden.write_text("\n".join(golden.read_text().splitlines()[:-1]) + "\n")
    ana.git("commit", "-q", "-a", "-m", "Drop a case")
    ana.git("push", "-q", "origin", "HEAD:main")
    ana.call("eval", NAME)
    refused = ana.call("approve", NAME)
    done = ana.call("approve", NAME, "--accept-policy-change", "cases", "--json")

    assert (1, True) == (refused.code, "--accept-policy-change cases" in refused.out)
    assert ["cases"] == done.json["evidence"]["predicate"]["promptops"]["gate"]["accepted"]
    assert ("1.0.1", "patch") == ((made := ana.call("release", NAME, "--json").json)["version"], made["bump"])


def test_evidence_by_somebody_without_the_role_does_not_count(ana: Clone, shop: Shop):
    """Bob's key may not sign evidence: he is told, nothing is stored; and one pushed past the check is not counted."""
    ana.edit(f"golden/{NAME}.yaml", "min_pass: 0.5", "min_pass: 0.6")
    bob = shop.clone("bob")
    bob.call("eval", NAME)
    refused = bob.call("approve", NAME)

    assert (4, True) == (refused.code, "has no role promptops-evidence" in refused.err)
    assert 1 == len(
        Git(bob.root).refs(["refs/promptops/evidence/"]) | Git(shop.remote).refs(["refs/promptops/evidence/"])
    )


def test_R1_changed_evidence_does_not_count(ana: Clone, shop: Shop):
    """A statement whose content was changed is named as what it is, and a release does not rest on it."""
    remote = Git(shop.remote)
    ((ref, oid),) = remote.refs(["refs/promptops/evidence/"]).items()
    content = remote.objects([oid])[oid][1]
    changed = remote.write_object("blob", content.replace(b'"signatures"', b'"signatureS"'))
    remote.run("update-ref", ref, changed)
    fresh = shop.clone("ana", name="fresh")
    fresh.git("fetch", "-q", "origin", "refs/promptops/evidence/*:refs/promptops/evidence/*")
    found = fresh.call("audit-log")

    assert (4, True) == (found.code, "its content is not what its name says" in found.out)


def test_R15_two_releases_at_once_give_one_version(ana: Clone, shop: Shop):
    """The second clone wrote the same number without knowing: it loses, exits 5, and its tag is gone."""
    improve(ana)
    other = shop.clone("ana", name="other")
    other.git("fetch", "-q", "origin", "refs/promptops/evidence/*:refs/promptops/evidence/*")
    late = release(other.desk, NAME, bump=None, notes="", at="", model="", judge="", offline=True).record
    assert 0 == ana.call("release", NAME).code

    with pytest.raises(ConflictError, match=r"somebody else wrote prompt/.*/v1\.1\.0 first") as caught:
        _publish(other.desk, late, other.tags()[late.name.ref], Fetched())
    assert (5, False) == (caught.value.exit_code, late.name.ref in other.tags())


def test_R17_hidden_characters_release_nothing(ana: Clone):
    """A zero-width space in the prompt: refused with its line."""
    ana.edit(f"prompts/{NAME}/prompt.md", "user:\n", "user:\n\u200b")
    refused = ana.call("release", NAME)

    assert (2, True) == (refused.code, "hidden character U+200B" in refused.err)


def test_R8_content_that_was_rolled_back_is_not_released_again(ana: Clone):
    """Reverting the revert does not make a new version of the same bad prompt."""
    improve(ana)
    assert 0 == ana.call("release", NAME).code
    for command in (("promote", f"{NAME}@1.0.0", "--to", "prod"), ("promote", f"{NAME}@1.1.0", "--to", "prod"),
                    ("rollback", NAME, "--channel", "prod", "--reason", "worse")):  # fmt: skip
        assert 0 == ana.call(*command).code
    ana.edit(f"golden/{NAME}.yaml", "min_pass: 0.5", "min_pass: 0.6")
    ana.call("eval", NAME)
    ana.call("approve", NAME)
    refused = ana.call("release", NAME)

    assert (4, True) == (refused.code, "this prompt is v1.1.0, which was rolled back on prod" in refused.err)


def test_the_audit_log_tells_the_whole_story(ana: Clone, shop: Shop):
    """From git alone, in a clone without a run store: changes, evidence, release, promotion, with the state of each signature."""
    ana.call("promote", f"{NAME}@1.0.0", "--to", "prod", "--reason", "=1+1")
    fresh = shop.clone("bob", name="auditor")
    fresh.git("fetch", "-q", "origin", "refs/promptops/*:refs/promptops/*")
    found = fresh.call("audit-log", NAME, "--json").json
    table = fresh.call("audit-log", "--csv").out

    assert [("changed", "not-judged"), ("evaluated", "trusted"), ("released", "trusted"), ("promote", "trusted")] == [
        (record["action"], record["signature"]) for record in sorted(found["records"], key=lambda record: ("changed", "evaluated", "released", "promote").index(record["action"]))
    ]  # fmt: skip
    assert "'=1+1" in table
    assert [] == fresh.call("audit-log", "--since", "2999-01-01", "--json").json["records"]
    assert 2 == fresh.call("audit-log", "--since", "yesterday").code


def test_doctor_says_what_to_repair_and_which_rules_to_set(shop: Shop):
    """An unlisted key is a failure with what to do; the rules name branch and tags."""
    good, bad = shop.clone("bob").call("doctor"), shop.clone("eve").call("doctor", "--json")

    assert (0, True) == (good.code, "tags prompt/** and channel/**" in good.out)
    assert 4 == bad.code
    assert ["your key"] == [item["what"] for item in bad.json["findings"] if item["level"] == "fail"]
