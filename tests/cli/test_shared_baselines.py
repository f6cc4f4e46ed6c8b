"""Baselines in a team: pushed from one clone by name, fetched in another, with real repositories."""

import subprocess
from pathlib import Path

import pytest

from conftest import PROMPT, Sandbox


@pytest.fixture
def clones(sandbox: Sandbox, tmp_path: Path) -> tuple[Sandbox, Sandbox]:
    """Two clones of one bare repository."""
    sandbox.commit_all()
    bare, other = tmp_path / "bare.git", tmp_path / "other"
    sandbox.git("init", "-q", "--bare", str(bare))
    sandbox.git("remote", "add", "origin", str(bare))
    sandbox.git("push", "-q", "origin", "main")
    subprocess.run(["git", "clone", "-q", "-b", "main", str(bare), str(other)], check=True)
    return sandbox, Sandbox(other)


def test_a_baseline_recorded_by_one_screens_the_change_of_another(clones: tuple[Sandbox, Sandbox]):
    """Nobody draws again what a colleague has drawn of the same content."""
    first, second = clones
    recorded = first.run("baseline", "record", PROMPT, "--at", "HEAD", "--json").json["run"]
    pushed = first.run("baseline", "push", "--json")

    fetched = second.run("baseline", "fetch", "--json")
    again = second.run("baseline", "fetch", "--json")
    judged = second.run("eval", PROMPT, "--against", "HEAD", "--json")

    ref = f"refs/promptops/baselines/{PROMPT}/{recorded}"
    assert (0, [ref]) == (pushed.code, pushed.json["refs"])
    assert ([recorded], []) == (fetched.json["runs"], again.json["runs"])
    (comparison,) = judged.json["comparisons"]
    assert (0, True, recorded) == (judged.code, comparison["cached_baseline"], comparison["baseline"])


@pytest.mark.parametrize(("remote", "code"), [("--upload-pack=touch x", 2), ("nowhere", 3), ("ext::touch x", 2)])
def test_C12_what_is_no_remote_is_refused(sandbox: Sandbox, remote: str, code: int):
    """Names only, and only of remotes that git knows: nothing a name says is run."""
    sandbox.commit_all()

    found = sandbox.run("baseline", "fetch", "--json", "--", remote)

    assert (code, False) == (found.code, sandbox.path("x").exists())


def test_nothing_to_push_is_said(sandbox: Sandbox):
    sandbox.commit_all()

    assert 2 == sandbox.run("baseline", "push").code
