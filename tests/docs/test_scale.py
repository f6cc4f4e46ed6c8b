"""The commands of docs/scale.md, run as written against servers that the test starts in place of those it names."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import REPOSITORY, Outcome, Sandbox


def shell_blocks() -> list[str]:
    """What a reader copies, in order."""
    text = (REPOSITORY / "docs" / "scale.md").read_text("utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def type_in(sandbox: Sandbox, commands: str) -> None:
    """As a shell does; the first that fails ends it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTOPS_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=sandbox.root, env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_three_commands_share_the_runs_of_a_laptop_and_two_bring_them_back(
    sandbox: Sandbox, call: Callable[..., Outcome], postgres_url: str
):
    """There: the old run and the new one are on the server, the folder has the old one. Back: the folder has both, and the file is as it was."""
    there, back = (
        block.replace("postgresql://promptops@db.example.com/promptops", postgres_url) for block in shell_blocks()[:2]
    )
    assert postgres_url in there
    before = sandbox.read("promptops.toml")
    call("eval")
    type_in(sandbox, there)
    shared = call("runs", "list", "--json").json["runs"]
    type_in(sandbox, back)
    local = call("runs", "list", "--json").json["runs"]

    assert (2, shared, before) == (len(shared), local, sandbox.read("promptops.toml"))
