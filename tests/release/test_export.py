"""promptops export and bundle: what a channel serves, with evidence, signed, the same everywhere."""

import json
import subprocess
from pathlib import Path

import pytest

from promptops.runtime import Runtime
from promptops.runtime.bundle import Trust, load_bundle, read_files
from release.shop import NAME, Clone, Shop, git, open_shop


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A remote with v1.0.0 of the starter prompt, approved, released and promoted to prod."""
    shop = open_shop(tmp_path_factory.mktemp("promoted") / "shop")
    ana = shop.clone("ana")
    for command in (
        ("eval", NAME),
        ("approve", NAME),
        ("release", NAME),
        ("promote", f"{NAME}@v1.0.0", "--to", "prod"),
    ):
        done = ana.call(*command)
        assert done.code == 0, done.err
    return shop


@pytest.fixture
def ana(promoted: Shop, tmp_path: Path) -> Clone:
    folder = tmp_path / "shop"
    subprocess.run(["cp", "-r", str(promoted.folder), str(folder)], check=True)
    git(folder / "ana", "remote", "set-url", "origin", f"file://{Shop(folder).remote}")
    return Clone(folder / "ana", "ana", folder / "keys")


def test_a_channel_is_exported_signed_and_served(ana: Clone, tmp_path: Path) -> None:
    """The bundle verifies with Ana's key, names its evidence, and answers."""
    done = ana.call("export", "--channel", "prod", "-o", str(tmp_path / "b"), "--json")
    said = done.json
    key = said["signed_by"]

    assert (0, False, "prod", "v1.0.0", 1) == (done.code, said["development"], said["channel"], said["releases"][NAME]["version"], said["releases"][NAME]["seq"])  # fmt: skip
    assert 0 == ana.call("bundle", "verify", str(tmp_path / "b"), "--trusted-key", key).code
    assert f"evidence/{said['releases'][NAME]['evidence'].removeprefix('sha256:')}.json" in read_files(tmp_path / "b")
    runtime = Runtime.load(tmp_path / "b", trusted_keys=[key])
    assert ("model", "v1.0.0") == ((reply := runtime.complete(NAME, {"feedback": "I love it"})).source, reply.version)
    runtime.close()


def test_R18_folder_and_archive_and_another_clone_give_the_same_bytes(ana: Clone, tmp_path: Path) -> None:
    """Twice, as an archive, and from a clone elsewhere in another time zone."""
    git(tmp_path, "clone", "-q", f"file://{Shop(ana.root.parent).remote}", "elsewhere")
    git(tmp_path / "elsewhere", "fetch", "-q", "origin", "refs/promptops/*:refs/promptops/*")
    other = Clone(tmp_path / "elsewhere", "ana", ana.keys)
    for clone, arguments in ((ana, ("-o", str(tmp_path / "a"))), (ana, ("-o", str(tmp_path / "a.tar"), "--archive")), (other, ("-o", str(tmp_path / "c")))):  # fmt: skip
        done = clone.call("export", "--channel", "prod", *arguments)
        assert 0 == done.code, done.err
    found = [read_files(tmp_path / name) for name in ("a", "a.tar", "c")]

    assert found[0] == found[1] == found[2]


def test_R13_R14_what_has_no_valid_evidence_is_refused(ana: Clone, tmp_path: Path) -> None:
    """Evidence that is gone, and a channel that has nothing."""
    (ref,) = ana.desk.git.refs(["refs/promptops/evidence/"])
    nothing = ana.call("export", "--channel", "staging", "-o", str(tmp_path / "n"))
    git(ana.root, "update-ref", "-d", ref)
    missing = ana.call("export", "--channel", "prod", "-o", str(tmp_path / "m"))

    assert (2, True) == (nothing.code, "serves nothing" in nothing.err)
    assert (4, True) == (missing.code, "is missing" in missing.err)
    assert [] == [name for name in ("n", "m") if (tmp_path / name).exists()]


def test_a_tag_that_was_moved_is_refused(ana: Clone, tmp_path: Path) -> None:
    """The record is signed and names its commit: a tag made again for another commit does not count."""
    ana.edit(f"prompts/{NAME}/prompt.md", "You label customer feedback", "You judge customer feedback")
    git(ana.root, "tag", "-f", "-m", "x", f"prompt/{NAME}/v1.0.0", "HEAD")
    done = ana.call("export", "--channel", "prod", "-o", str(tmp_path / "b"))

    assert (4, True) == (done.code, "cannot be read" in done.err), done.err


def test_a_development_bundle_says_so_and_needs_no_release(ana: Clone, tmp_path: Path) -> None:
    """It is made from a commit, unsigned, and marked; a place that is taken is not written to."""
    first = ana.call("export", "--development", "-o", str(tmp_path / "d"))
    again = ana.call("export", "--development", "-o", str(tmp_path / "d"))
    both = ana.call("export", "--development", "--channel", "prod", "-o", str(tmp_path / "e"))

    assert (0, True) == (first.code, "no release, no evidence, no signature" in first.err)
    assert load_bundle(tmp_path / "d", Trust(unsigned=True)).development
    assert (2, True, 2) == (again.code, "is there already" in again.err, both.code)


def test_show_and_diff_tell_what_is_served(ana: Clone, tmp_path: Path) -> None:
    """Settings, prompt texts and whether a runtime would take it."""
    ana.call("export", "--development", "-o", str(tmp_path / "old"))
    ana.edit(f"golden/{NAME}.yaml", "gate:\n", "runtime: {deadline_s: 2, fallback: [{step: rules}]}\ngate:\n")
    ana.call("export", "--development", "-o", str(tmp_path / "new"))
    shown, diff = ana.call("bundle", "show", str(tmp_path / "new")), ana.call("bundle", "diff", str(tmp_path / "old"), str(tmp_path / "new"), "--json")  # fmt: skip
    changes = {row["what"]: (row["old"], row["new"]) for row in json.loads(diff.out)["changes"]}

    assert all(word in shown.out for word in ("BUNDLE", NAME, "2 s", "rules"))
    assert ("3.0", "2") == changes["runtime.deadline_s"]
    assert {"version", "runtime.deadline_s", "runtime.fallback"} == set(changes)
    assert "SAME" in ana.call("bundle", "diff", str(tmp_path / "old"), str(tmp_path / "old")).out


@pytest.mark.parametrize("arguments", [("verify",), ("show",), ("install", "--into", "x", "--allow-unsigned")])
def test_R1_a_damaged_bundle_is_refused_by_every_command(
    ana: Clone, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Exit 4, and nothing is installed."""
    ana.call("export", "--development", "-o", str(tmp_path / "b"))
    with (tmp_path / "b" / "models.json").open("ab") as file:
        file.write(b" ")
    command, *rest = arguments
    done = ana.call("bundle", command, str(tmp_path / "b"), *rest)

    assert (4, True, False) == (done.code, "models.json was changed" in done.err, (ana.root / "x").exists())


def test_an_older_bundle_is_not_installed_over_a_newer_one(ana: Clone, tmp_path: Path) -> None:
    """A rollback is an event of the channel with a higher number, and its bundle is taken."""
    ana.call("export", "--channel", "prod", "-o", str(tmp_path / "first"))
    ana.edit(f"prompts/{NAME}/rules.yaml", "love", "adore")
    for command in (("eval", NAME), ("approve", NAME), ("release", NAME)):
        done = ana.call(*command)
        assert done.code == 0, done.err
    newest = max(ref for ref in ana.tags() if "/prompt/" in ref).rpartition("/")[2]
    assert 0 == ana.call("promote", f"{NAME}@{newest}", "--to", "prod").code
    ana.call("export", "--channel", "prod", "-o", str(tmp_path / "second"))
    assert 0 == ana.call("rollback", NAME, "--channel", "prod", "--reason", "worse").code
    ana.call("export", "--channel", "prod", "-o", str(tmp_path / "third"))
    codes = [ana.call("bundle", "install", str(tmp_path / name), "--into", str(tmp_path / "live"), "--allow-unsigned").code for name in ("second", "first", "third", "third")]  # fmt: skip
    served = load_bundle(tmp_path / "third", Trust(unsigned=True)).channels[NAME]

    assert [0, 4, 0, 0] == codes
    assert ("v1.0.0", 3, 1) == (served.live.version, served.seq, len(served.revoked))
