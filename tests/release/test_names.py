"""Names of versions, events and evidence: one spelling each, and reading is the inverse of writing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptops.core.errors import DataError
from promptops.core.names import NAME_PATTERN, is_name
from promptops.release.names import EventName, EvidenceName, Version, VersionName, parse_pin, parse_ref

SLUG = st.from_regex(NAME_PATTERN, fullmatch=True).filter(is_name)
NUMBER = st.integers(0, 999_999)
VERSION = st.builds(Version, NUMBER, NUMBER, NUMBER)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.one_of(
    st.builds(VersionName, SLUG, VERSION),
    st.builds(EventName, SLUG, SLUG, st.integers(1, 999_999)),
    st.builds(EvidenceName, HEX, HEX),
)


@given(name=NAMES)
def test_reading_a_name_gives_back_what_was_written(name):
    """name -> ref -> name is the identity, for every kind."""
    assert name == parse_ref(name.ref)


@given(ref=st.one_of(st.text(), NAMES.map(lambda name: name.ref).flatmap(lambda ref: st.integers(0, len(ref) - 1).map(
    lambda place: ref[:place] + ref[place + 1 :]))))  # fmt: skip
def test_what_is_read_is_written_the_same_way(ref: str):
    """A ref that is accepted is the one spelling of its name: no two refs mean the same version or event."""
    name = parse_ref(ref)

    assert name is None or ref == name.ref


@pytest.mark.parametrize(
    "ref",
    [
        "refs/tags/prompt/a/1.0.0", "refs/tags/prompt/a/v1.0", "refs/tags/prompt/a/v01.0.0", "refs/tags/prompt/a/v1.0.0-rc1", "refs/tags/prompt/A/v1.0.0",
        "refs/tags/prompt/a/v1.0.0/x", "refs/heads/prompt/a/v1.0.0", "refs/tags/channel/a/prod/000000", "refs/tags/channel/a/prod/1",
        "refs/tags/channel/a/prod/0000001", "refs/tags/channel/a/prod", "refs/promptops/evidence/abc/def", "refs/tags/prompt/a/v1.0.0\n",
        "refs/tags/channel/a/prod/٠٠٠٠٠١",
    ],
)  # fmt: skip
def test_other_spellings_name_nothing(ref: str):
    """Leading zeros, pre-releases, number 0, other digits: none of them is read as something else."""
    assert parse_ref(ref) is None


@pytest.mark.parametrize("text", ["", "a", "a@", "@v1.0.0", "a@latest", "a@1.0", "A@v1.0.0", "a@v1.0.0\n", "-a@v1.0.0"])
def test_C12_a_pin_that_names_no_version_is_bad_input(text: str):
    """NAME@v1.4.0 and nothing else; refused before git runs."""
    with pytest.raises(DataError):
        parse_pin(text)


def test_versions_are_ordered_by_number():
    """1.10.0 comes after 1.9.0."""
    assert [Version(1, 9, 0), Version(1, 10, 0), Version(2, 0, 0)] == sorted(
        [Version(2, 0, 0), Version(1, 10, 0), Version.parse("v1.9.0")]
    )
