"""What a shell offers after Tab."""

import pytest

from conftest import PROMPT, Sandbox


def offered(sandbox: Sandbox, line: str) -> list[str]:
    """As bash asks: the words so far, and which of them the cursor is in."""
    words = line.split(" ")
    environment = {"_PROMPTOPS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return sandbox.run(env=environment).out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("promptops show ", [PROMPT]),
        ("promptops eval feed", [PROMPT]),
        ("promptops eval x", []),
        ("promptops compare lat", ["latest"]),
    ],
)
def test_names_of_prompts_and_runs_are_offered(line: str, expected: list[str], sandbox: Sandbox):
    assert expected == offered(sandbox, line)


def test_runs_and_branches_are_offered(sandbox: Sandbox):
    """Newest first; a ref where a command takes one."""
    sandbox.commit_all()
    run = sandbox.run("eval", "--json").json["runs"][0]["run"]

    assert ["latest", run] == offered(sandbox, "promptops runs show ")
    assert ["main"] == offered(sandbox, "promptops eval --against ma")


def test_nothing_is_offered_and_nothing_is_made_outside_a_project(sandbox: Sandbox, tmp_path):
    """A Tab in the wrong folder is silent and writes nothing."""
    folder = tmp_path / "empty"
    folder.mkdir()

    assert ([], []) == (offered(Sandbox(folder), "promptops show "), list(folder.iterdir()))
