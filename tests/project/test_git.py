"""Git through one door: what may be a ref, what is missing and why, and that no repository makes us run its commands."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from conftest import Sandbox
from promptops.core.errors import DataError, EvaluationError
from promptops.project.git import Git, GitTree


@pytest.mark.parametrize(
    "ref",
    [
        "", "-n", "--output=x", "--all", "a..b", "HEAD...main", "main\nx", "main\n", "a b", "HEAD:file", "@{u}", "a//b", "a\\b",
        "$(x)", "a;b", "main\x00", "mäin", "HEAD^{tree}", ":/text",
    ],
)  # fmt: skip
def test_C12_what_cannot_be_a_ref_is_refused_before_git_runs(tmp_path: Path, ref: str):
    """An option, a range, a line break: exit 2 even where there is no repository to ask."""
    with pytest.raises(DataError, match="is not a git ref"):
        Git(tmp_path).commit(ref)


def test_C12_an_excluded_commit_is_not_one_commit(sandbox: Sandbox):
    """`^HEAD` is well formed and means everything but HEAD."""
    sandbox.commit_all()

    with pytest.raises(DataError, match=r"'\^HEAD' is not one commit"):
        Git(sandbox.root).commit("^HEAD")


def test_a_commit_by_every_usual_name(sandbox: Sandbox):
    """Branch, tag, short id, parent: all become the full id."""
    first = sandbox.commit_all("First")
    sandbox.git("tag", "-a", "v1", "-m", "one")
    sandbox.write("more", "x")
    second = sandbox.commit_all("Second")
    git = Git(sandbox.root)

    assert [second, second, first, first, first] == [
        git.commit(ref) for ref in ("main", "HEAD", "HEAD~1", "v1", first[:10])
    ]


def test_C1_a_missing_commit_names_the_fix(sandbox: Sandbox, tmp_path: Path):
    """In CI the usual reason is a shallow clone, or a branch that nobody fetched; a plain word in a whole clone is a typing error."""
    sandbox.commit_all()
    sandbox.write("more", "x")
    sandbox.commit_all("Second")
    sandbox.git("clone", "-q", "--depth", "1", sandbox.root.as_uri(), str(tmp_path / "shallow"))

    for place, ref in ((sandbox.root, "abcdef1"), (sandbox.root, "origin/main"), (tmp_path / "shallow", "v1")):
        with pytest.raises(EvaluationError, match=f"no commit '{ref}'.*fetch-depth: 0"):
            Git(place).commit(ref)
    with pytest.raises(EvaluationError, match=r"no commit 'v1'.*no branch or tag here has that name"):
        Git(sandbox.root).commit("v1")


def test_a_tree_of_files_is_no_commit(sandbox: Sandbox):
    """A tag of a tree resolves, but is not a state of the project with a history."""
    sandbox.commit_all()
    sandbox.git("tag", "files", sandbox.git("rev-parse", "HEAD^{tree}"))

    with pytest.raises(EvaluationError, match="no commit 'files'"):
        Git(sandbox.root).commit("files")


def test_outside_of_a_repository(tmp_path: Path):
    """C1: no repository is said to be none, not a shallow one."""
    git = Git(tmp_path)

    assert (False, ("", True)) == (git.inside(), git.state())
    with pytest.raises(EvaluationError, match="not in a git repository"):
        git.commit("HEAD")


def test_a_repository_without_commits(sandbox: Sandbox):
    """C1: there is a repository, and nothing to compare with."""
    sandbox.git("init", "-q")
    git = Git(sandbox.root)

    assert (True, ("", True)) == (git.inside(), git.state())
    with pytest.raises(EvaluationError, match=r"no commits yet; git add -A && git commit"):
        git.commit("HEAD")


def test_git_missing_from_the_path_is_said(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """C1: exit 3 that names git, not the commit."""
    sandbox.commit_all()
    git = Git(sandbox.root)
    git.commit("HEAD")
    monkeypatch.setenv("PATH", "/nonexistent")

    assert (False, ("", True)) == (git.inside(), git.state())
    with pytest.raises(EvaluationError, match="git is not on PATH; install git"):
        git.commit("HEAD")


def test_the_state_says_whether_files_differ(sandbox: Sandbox):
    """Clean, changed, and with a new file; a change outside the project's folder does not count."""
    commit = sandbox.commit_all()
    git = Git(sandbox.path("prompts"))
    clean = git.state()
    sandbox.write("README.md", "outside of the folder")
    outside = git.state()
    sandbox.write("prompts/new.md", "inside")

    assert [(commit, False), (commit, False), (commit, True)] == [clean, outside, git.state()]


class Trap:
    """A script that leaves a mark when anything runs it."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "ran"
        self.script = folder / "trap.sh"
        self.script.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.mark}\n', "utf-8")
        self.script.chmod(self.script.stat().st_mode | stat.S_IXUSR)

    def names(self) -> list[str]:
        return self.mark.read_text("utf-8").splitlines() if self.mark.exists() else []


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


def use_everything(root: Path, commit: str) -> bool:
    """Every question the product asks of a repository; whether files differ."""
    git = Git(root)
    tree = GitTree(git, commit)
    assert git.inside()
    assert tree.read("golden/feedback-sentiment.jsonl")
    assert tree.names("prompts")
    return git.state()[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"core.fsmonitor": "{trap}"},
        {"core.hooksPath": "{folder}"},
        {"diff.external": "{trap}"},
        {"diff.trap.textconv": "{trap}", "diff.trap.command": "{trap}"},
        {"filter.trap.clean": "{trap}", "filter.trap.smudge": "{trap}", "filter.trap.required": "true"},
        {"filter.trap.process": "{trap}"},
        {"filter.a=b.clean": "{trap}", "filter.a=b.required": "true"},
        {"core.pager": "{trap}", "pager.status": "true", "core.editor": "{trap}", "core.sshCommand": "{trap}"},
        {"alias.status": "!{trap}", "alias.rev-parse": "!{trap}"},
        {"credential.helper": "!{trap}", "gpg.program": "{trap}", "log.showSignature": "true"},
    ],
    ids="+".join,
)
def test_C13_a_hostile_configuration_runs_nothing(sandbox: Sandbox, trap: Trap, settings: dict[str, str]):
    """Whoever unpacks somebody's repository and looks at a prompt in it has run none of its commands."""
    commit = sandbox.commit_all()
    for name in ("post-index-change", "post-checkout", "pre-commit", "reference-transaction", "fsmonitor-watchman"):
        (trap.script.parent / name).symlink_to(trap.script)
        sandbox.path(f".git/hooks/{name}").symlink_to(trap.script)
    for key, value in settings.items():
        sandbox.git("config", key, value.format(trap=trap.script, folder=trap.script.parent))
    sandbox.write(".git/info/attributes", "* diff=trap filter=trap\n*.yaml filter=a=b\n")
    sandbox.write(".gitattributes", "* diff=trap filter=trap\n")
    for path in sandbox.root.glob("golden/*"):
        os.utime(path, (1, 1))

    assert (True, []) == (use_everything(sandbox.root, commit), trap.names())


def test_C13_the_trap_works(sandbox: Sandbox, trap: Trap):
    """Plain git does run a filter of the configuration, so the test above can fail."""
    sandbox.commit_all()
    sandbox.git("config", "filter.trap.clean", str(trap.script))
    sandbox.write(".git/info/attributes", "* filter=trap\n")
    os.utime(sandbox.path("golden/feedback-sentiment.jsonl"), (1, 1))

    sandbox.git("status")

    assert trap.names()


def test_C13_a_missing_object_is_not_fetched(sandbox: Sandbox, trap: Trap):
    """A partial clone may name a command as its remote; reading an object it lacks does not run it."""
    commit = sandbox.commit_all()
    blob = sandbox.git("rev-parse", "HEAD:golden/feedback-sentiment.jsonl")
    for key, value in {
        "extensions.partialClone": "origin",
        "remote.origin.url": f"ext::{trap.script} %S",
        "remote.origin.promisor": "true",
        "protocol.ext.allow": "always",
        "core.repositoryformatversion": "1",
    }.items():
        sandbox.git("config", key, value)
    sandbox.path(f".git/objects/{blob[:2]}/{blob[2:]}").unlink()

    with pytest.raises(EvaluationError, match="git cat-file failed"):
        GitTree(Git(sandbox.root), commit).read("golden/feedback-sentiment.jsonl")
    assert [] == trap.names()
    subprocess.run(["git", "cat-file", "blob", blob], cwd=sandbox.root, capture_output=True, check=False)
    assert trap.names(), "plain git runs it, so this test can fail"


def test_C13_a_hostile_submodule_runs_nothing(sandbox: Sandbox, trap: Trap):
    """A repository inside the project has a configuration of its own, which is not asked."""
    inner = Sandbox(sandbox.path("inner"))
    inner.write("file", "text")
    inner.commit_all()
    sandbox.git("init", "-q", "-b", "main")
    sandbox.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "./inner", "inner")
    commit = sandbox.commit_all()
    inner.git("config", "core.fsmonitor", str(trap.script))
    inner.git("config", "filter.inner.clean", str(trap.script))
    inner.write(".git/info/attributes", "* filter=inner\n")
    os.utime(inner.path("file"), (1, 1))

    assert (False, []) == (use_everything(sandbox.root, commit), trap.names())
