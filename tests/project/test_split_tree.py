"""The prompts of a commit with the golden data of today."""

from pathlib import Path

import pytest

from promptops.project.tree import SplitTree, WorkTree


@pytest.fixture
def tree(tmp_path: Path) -> SplitTree:
    for name, text in {
        "then/prompts/a.md": "old",
        "now/prompts/a.md": "new",
        "now/prompts/b.md": "added",
        "now/golden/a.jsonl": "today",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SplitTree("prompts", WorkTree(tmp_path / "then"), WorkTree(tmp_path / "now"))


@pytest.mark.parametrize(
    ("path", "expected"), [("prompts/a.md", b"old"), ("prompts/b.md", b"added"), ("golden/a.jsonl", b"today")]
)
def test_file_comes_from_then_inside_the_folder_and_from_today_elsewhere(tree: SplitTree, path: str, expected: bytes):
    """What the folder had then wins; what it lacked, and everything outside, is today's."""
    with tree.open(path) as file:
        streamed = file.read()

    assert (expected, expected) == (tree.read(path), streamed)


def test_names_are_those_of_then(tree: SplitTree):
    """A file added since is read when it is named, not found by listing: rules.yaml of today is no rule of then."""
    assert ["a.md"] == tree.names("prompts")
