"""What status says: what is live, what is not published, what cannot be relied on, and that nobody signs."""

from pathlib import Path

import pytest

from release.shop import NAME, Clone, open_shop


@pytest.fixture
def ana(tmp_path: Path) -> Clone:
    """Unsigned, with two versions on prod."""
    clone = open_shop(tmp_path / "shop", signed=False).clone("ana")
    for version in ("1.0.0", "1.1.0"):
        clone.version(version)
        clone.promote(version)
    return clone


def test_status_names_what_is_live_and_that_nobody_signs(ana: Clone):
    """Unsigned mode is said in every answer, for people and as JSON."""
    text, data = ana.call("status"), ana.call("status", NAME, "--json").json

    assert (0, True, True) == (text.code, text.out.startswith("LIVE  1 channel of 1 prompt"), "UNSIGNED" in text.out)
    assert (True, True, "1.1.0", "unsigned-mode") == (
        data["unsigned"], data["remote_checked"], data["channels"][0]["live"], data["channels"][0]["signature"],
    )  # fmt: skip


def test_offline_work_is_shown_as_not_published(ana: Clone):
    """And the next command is the one that publishes it."""
    done = ana.call("rollback", NAME, "--channel", "prod", "--reason", "worse", "--offline")
    found = ana.call("status", "--offline")

    assert (0, True) == (done.code, "in this clone only" in done.out)
    assert ("not published" in found.out, found.out.rstrip().endswith("next: promptops sync")) == (True, True)
    assert 0 == ana.call("sync").code
    assert "not published" not in ana.call("status").out


def test_a_broken_channel_exits_4_and_says_what_still_counts(ana: Clone):
    """A gap in this clone: the last state that is sure is shown, marked, and nothing is promoted on it."""
    ana.git("tag", "-d", f"channel/{NAME}/prod/000001")
    found = ana.call("status", "--offline")
    refused = ana.call("rollback", NAME, "--channel", "prod", "--reason", "x", "--offline")

    assert (4, True, True) == (
        found.code,
        found.out.startswith("REFUSED"),
        "event 000001 is missing before 000002" in found.out,
    )
    assert (4, True) == (refused.code, "000001 is missing" in refused.err)
    assert (0, 0) == (ana.call("sync").code, ana.call("status").code)  # the remote still has it


def test_status_of_what_was_never_released_says_so(ana: Clone):
    """A typing error is bad input with a suggestion; a remote that is away is said and does not stop an answer."""
    wrong = ana.call("status", "feedback-sentimnet")
    (ana.root.parent / "remote.git").rename(ana.root.parent / "away.git")
    away = ana.call("status")

    assert (2, True) == (wrong.code, "did you mean 'feedback-sentiment'" in wrong.err)
    assert (0, True) == (away.code, "was not asked" in away.out)


def test_status_without_a_remote_says_that_there_is_none(ana: Clone):
    """Nobody was not asked: a repository of one person has no remote at all."""
    ana.git("remote", "remove", "origin")

    found = ana.call("status")

    assert (0, True) == (found.code, "as this clone has it, which has no remote; signers of main" in found.out)


def test_export_of_an_empty_channel_names_the_command_that_fills_it(sandbox, call):
    """The hint can be typed as it is: promote takes NAME@VERSION and --to."""
    sandbox.replace(
        "promptops.toml",
        sandbox.read("promptops.toml"),
        sandbox.read("promptops.toml") + "\n[release]\nunsigned = true\n",
    )
    sandbox.commit_all()

    found = call("export", "--channel", "prod", "-o", "out")

    assert (2, True) == (found.code, "promptops promote NAME@VERSION --to prod" in found.err), found
