"""The commands of docs/scale.md, run as written against servers that the test starts in place of those it names."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import REPOSITORY, Outcome, Sandbox


def shell_blocks() -> list[str]:
    """What a reader copies, in order."""
    text = (REPOSITORY / "docs" / "scale.md").read_text("utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def type_in(sandbox: Sandbox, commands: str) -> str:
    """As a shell does; the first that fails ends it. What it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTOPS_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=sandbox.root, env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("pulled", [False, True])
def test_three_commands_take_a_laptop_project_to_a_cluster_and_one_takes_it_back(
    sandbox: Sandbox,
    call: Callable[..., Outcome],
    postgres_url: str,
    ray_address: str,
    monkeypatch: pytest.MonkeyPatch,
    pulled: bool,
):
    """There: the old run and the new one are on the server, and the new one was made on Ray. Back: the file is as it was, and so is the folder unless the runs were pulled."""
    monkeypatch.setenv("RAY_ADDRESS", ray_address)  # what `ray` alone then means
    there, back = (
        block.replace("postgresql://promptops@db.example.com/promptops", postgres_url).replace(
            "ray://head.example.com:10001", "ray"
        )
        for block in shell_blocks()[:2]
    )
    before = sandbox.read("promptops.toml")
    call("eval")
    old = call("runs", "list", "--json").json["runs"]
    said = type_in(sandbox, there)
    shared = call("runs", "list", "--json").json["runs"]
    if pulled:
        call("runs", "pull", "--all")
    type_in(sandbox, back)
    local = call("runs", "list", "--json").json["runs"]

    assert (["complete", "complete"], old) == ([run["state"] for run in shared], shared[1:])
    assert (shared if pulled else old, before) == (local, sandbox.read("promptops.toml"))
    assert "DONE  feedback-sentiment" in said
