"""Changelog fragments: one shape, refused with a line where they differ from it, and written so that they read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.errors import DataError
from promptops.project.changesets import (
    Changeset,
    changelog_of,
    format_changeset,
    largest_bump,
    parse_changeset,
    read_changesets,
)
from promptops.project.tree import WorkTree

_TEXT = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1).map(str.strip).filter(bool)
_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?", fullmatch=True)


@given(st.dictionaries(_NAMES, st.sampled_from(["major", "minor", "patch"]), min_size=1, max_size=3), _TEXT)
def test_written_fragment_reads_back(bumps, text):
    """Writing and reading are inverses."""
    assert Changeset(path="x.md", bumps=bumps, text=text) == parse_changeset(format_changeset(bumps, text), "x.md")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("just text", "x.md:1: no frontmatter"),
        ('---\n"a": huge\n---\n\nText', "x.md:2: a: 'huge' is not a bump"),
        ('---\n"a": minor\n---\n\n', "it does not say what changed"),
        ("---\n- a\n---\n\nText", "names no prompts"),
        ('---\n"A b": minor\n---\n\nText', "x.md:2"),
    ],
)
def test_other_shape_is_refused(text, said):
    """What cannot be read is named with its line."""
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        parse_changeset(text, "x.md")


def test_fragments_of_a_project(tmp_path):
    """README and hidden files are no fragments; the largest bump wins, and larger bumps come first in the changelog."""
    folder = tmp_path / ".changeset"
    folder.mkdir()
    (folder / "README.md").write_text("How to use this folder.")
    (folder / "b.md").write_text('---\n"a": patch\n---\n\nFix a typo.\n')
    (folder / "c.md").write_text(
        '---\n"a": major\n"b": minor\n---\n\nAsk for the order number.\n\nCallers must send it.\n'
    )

    found = read_changesets(WorkTree(tmp_path))

    assert ("major", "minor", None) == tuple(largest_bump(found, name) for name in ("a", "b", "c"))
    assert "- Ask for the order number.\n\n  Callers must send it.\n- Fix a typo.\n" == changelog_of(found, "a")
