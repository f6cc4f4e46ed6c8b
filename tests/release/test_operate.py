"""Promote and roll back in real clones of a real remote: who wins, what is refused, what is left behind."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from promptops.core.errors import ConflictError, DataError, EvaluationError, RefusedError
from promptops.release.names import Version
from promptops.release.operate import Wanted, _publish, operate, sync
from promptops.release.share import Fetched
from release.racing import race
from release.shop import NOW, Clone, Shop, git, open_shop

V1, V2, V3 = Version(1, 0, 0), Version(1, 1, 0), Version(1, 2, 0)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return open_shop(tmp_path / "shop")


@pytest.fixture
def ana(shop: Shop) -> Clone:
    """Ana's clone, with three released versions."""
    clone = shop.clone("ana")
    for number in ("1.0.0", "1.1.0", "1.2.0"):
        clone.version(number)
    return clone


def event_tag(seq: int, channel: str = "prod") -> str:
    return f"refs/tags/channel/feedback-sentiment/{channel}/{seq:06}"


def test_promote_and_roll_back_twice(ana: Clone, shop: Shop):
    """Each step is one tag on the remote; two rollbacks go two versions back, the third has nowhere to go."""
    states = [ana.promote(version).state.live for version in ("1.0.0", "1.1.0", "1.2.0")]
    states += [ana.rollback().state.live, ana.rollback().state.live]

    assert [V1, V2, V3, V2, V1] == states
    with pytest.raises(RefusedError, match=r"no good version before v1\.0\.0"):
        ana.rollback()
    assert [event_tag(seq) for seq in range(1, 6)] == sorted(ref for ref in shop.remote_refs() if "channel" in ref)


def test_git_itself_verifies_what_is_signed(ana: Clone, shop: Shop):
    """`git verify-tag` with the same signers file accepts versions and events."""
    ana.promote("1.0.0")
    for tag in ("prompt/feedback-sentiment/v1.0.0", "channel/feedback-sentiment/prod/000001"):
        ana.git(
            "-c",
            "gpg.format=ssh",
            "-c",
            f"gpg.ssh.allowedSignersFile={ana.root / '.promptops-signers'}",
            "verify-tag",
            tag,
        )


def test_the_same_again_is_done_already(ana: Clone):
    """A repeated promotion writes nothing."""
    ana.promote("1.0.0")

    assert (None, 1) == ((again := ana.promote("1.0.0")).event, again.state.seq)


def test_R9_an_older_version_needs_a_rollback(ana: Clone):
    """A downgrade is never silent: promote refuses and names the command."""
    ana.promote("1.1.0")

    with pytest.raises(
        RefusedError, match=r"older than v1\.1\.0.*promptops rollback feedback-sentiment --channel prod --to v1\.0\.0"
    ):
        ana.promote("1.0.0")


def test_R8_what_was_rolled_back_stays_refused_on_every_channel(ana: Clone, shop: Shop):
    """Also in a fresh clone and on another channel, unless somebody says why the mark is wrong."""
    ana.promote("1.0.0")
    ana.promote("1.1.0")
    ana.rollback()
    fresh = shop.clone("ana", name="fresh")

    with pytest.raises(RefusedError, match="marked bad"):
        fresh.promote("1.1.0")
    with pytest.raises(RefusedError, match="rolled back on prod"):
        fresh.promote("1.1.0", "dev")
    with pytest.raises(RefusedError, match="marked bad"):
        fresh.rollback(to="1.1.0")
    assert V2 == fresh.promote("1.1.0", reason="it was the network", clear_bad=True).state.live


def test_if_current_is_a_precondition(ana: Clone):
    """Exit 5 when the channel is elsewhere; nothing is written."""
    ana.promote("1.0.0")

    with pytest.raises(ConflictError, match=r"is at v1\.0\.0, not v1\.1\.0"):
        ana.promote("1.2.0", if_current=V2)
    assert V3 == ana.promote("1.2.0", if_current=V1).state.live


def test_a_canary_is_promoted_or_rolled_back(ana: Clone):
    """5 % of the traffic, then all of it; rolling a canary back marks it and leaves the rest alone."""
    ana.promote("1.0.0")
    first = ana.promote("1.1.0", percent=5).state
    second = ana.promote("1.1.0").state
    ana.promote("1.2.0", percent=5)
    third = ana.rollback().state

    assert [(V1, V2, 5), (V2, None, 100), (V2, None, 100)] == [
        (state.live, state.canary, state.percent) for state in (first, second, third)
    ]
    assert frozenset({V3}) == third.bad


def test_the_second_to_push_loses_and_leaves_nothing_behind(ana: Clone, shop: Shop):
    """Both wrote event 2 from the same state, neither knew of the other: exit 5, and the loser's tag is gone."""
    ana.promote("1.0.0")
    other = shop.clone("ana", name="other")
    late = other.promote("1.2.0", offline=True)
    ana.promote("1.1.0")

    with pytest.raises(
        ConflictError, match="somebody else wrote channel/feedback-sentiment/prod/000002 first"
    ) as caught:
        _publish(other.desk, late.event, other.tags()[late.event.name.ref], Fetched())
    assert (5, False) == (caught.value.exit_code, late.event.name.ref in other.tags())
    assert V3 == other.promote("1.2.0").state.live


@pytest.mark.parametrize("rounds", [3])
def test_R15_racing_processes_have_exactly_one_winner(ana: Clone, shop: Shop, rounds: int):
    """Real processes at the same time, over file://; benchmarks/release.py plays 100 rounds."""
    ana.promote("1.0.0")
    others = [shop.clone("ana", name="one"), shop.clone("ana", name="two")]
    outcomes = race([clone.root for clone in others], ana.environment, "feedback-sentiment", rounds)

    assert [(1, 1, True)] * rounds == outcomes


def test_offline_work_is_published_later(ana: Clone, shop: Shop):
    """--offline writes here and says so; sync publishes it, in order and all at once."""
    ana.promote("1.0.0", offline=True)
    done = ana.promote("1.1.0", offline=True)
    before = [ref for ref in shop.remote_refs() if "channel" in ref]
    synced = sync(ana.desk)

    assert (False, [], (event_tag(1), event_tag(2))) == (done.published, before, synced.pushed)
    assert {event_tag(1), event_tag(2)} <= shop.remote_refs().keys()


def test_offline_work_that_lost_is_dropped_and_named(ana: Clone, shop: Shop):
    """Somebody promoted meanwhile: theirs counts, mine goes with all that was built on it."""
    bob = shop.clone("ana", name="bob-of-ana")
    ana.promote("1.0.0")
    bob.promote("1.1.0", offline=True)
    bob.promote("1.2.0", offline=True)

    with pytest.raises(ConflictError, match="promptops sync"):
        bob.rollback()
    synced = sync(bob.desk)
    assert ((event_tag(1), event_tag(2)), (), (event_tag(1),)) == (synced.dropped, synced.pushed, synced.fetched)
    assert ana.tags() == bob.tags()


def test_without_network_nothing_is_written_unless_asked(ana: Clone, shop: Shop):
    """The remote is away: exit 3 names --offline, and the rollback of the night works with it."""
    ana.promote("1.0.0")
    ana.promote("1.1.0")
    before = ana.tags()
    shop.remote.rename(shop.folder / "away.git")

    with pytest.raises(EvaluationError, match="--offline"):
        ana.rollback()
    assert before == ana.tags()
    assert (V1, False) == ((done := ana.rollback(offline=True)).state.live, done.published)


def test_a_dirty_tree_does_not_matter(ana: Clone):
    """A rollback needs no clean tree, and touches none of it."""
    ana.promote("1.0.0")
    ana.promote("1.1.0")
    (ana.root / "prompts/feedback-sentiment/prompt.md").write_text("half an edit")

    assert V1 == ana.rollback().state.live
    assert "half an edit" == (ana.root / "prompts/feedback-sentiment/prompt.md").read_text()


def test_a_shallow_clone_fetches_what_it_needs(ana: Clone, shop: Shop):
    """As CI clones: depth 1, no tags. The history stays cut."""
    ana.promote("1.0.0")
    (ana.root / "more").write_text("x")
    ana.git("add", "more")
    ana.git("commit", "-q", "-m", "More")
    ana.git("push", "-q", "origin", "main")
    ana.version("1.3.0")
    shallow = shop.clone("ana", "--depth", "1", "--no-tags", name="shallow")

    assert Version(1, 3, 0) == shallow.promote("1.3.0").state.live
    assert "true" == shallow.git("rev-parse", "--is-shallow-repository")


@pytest.mark.parametrize("skew", [timedelta(days=-400), timedelta(days=1400)])
def test_R11_wrong_clocks_change_no_order(ana: Clone, shop: Shop, skew: timedelta):
    """A clock a year back or in 2030: numbers order events, and others with a right clock go on."""
    wrong = shop.clone("ana", name="wrong", clock=lambda: NOW + skew)
    ana.promote("1.0.0")
    wrong.promote("1.1.0")

    assert V3 == ana.promote("1.2.0").state.live
    assert V2 == wrong.rollback().state.live


def test_R14_a_tag_that_was_moved_on_the_remote_is_refused(ana: Clone, shop: Shop):
    """Force-pushed to another object: exit 4, with the command that puts it back; that command does."""
    ana.promote("1.0.0")
    ana.promote("1.1.0")
    there = shop.remote_refs()
    git(shop.remote, "update-ref", event_tag(2), there[event_tag(1)])

    with pytest.raises(RefusedError, match="was moved on origin") as caught:
        ana.rollback()
    _run_hint(ana, str(caught.value))
    assert V1 == ana.rollback().state.live


def test_R14_a_version_that_was_moved_before_this_clone_saw_it_is_refused(ana: Clone, shop: Shop):
    """Released again under the same number from another commit: a fresh clone sees that it is not what was promoted."""
    ana.promote("1.0.0")
    ana.promote("1.1.0")
    ref = "refs/tags/prompt/feedback-sentiment/v1.0.0"
    git(shop.remote, "update-ref", "-d", ref)
    thief = shop.clone("ana", name="thief")
    thief.git("commit", "-q", "--allow-empty", "-m", "Other")
    thief.git("push", "-q", "origin", "HEAD:main")
    thief.version("1.0.0")
    fresh = shop.clone("ana", name="fresh")

    with pytest.raises(RefusedError, match=r"v1\.0\.0 was moved"):
        fresh.rollback()


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_a_deleted_event_is_noticed_and_put_back(ana: Clone, shop: Shop, seq: int):
    """First, middle or newest: a clone that has seen it refuses, names it, and says how to put it back."""
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        ana.promote(version)
    git(shop.remote, "update-ref", "-d", event_tag(seq))

    with pytest.raises(RefusedError, match="was deleted on origin") as caught:
        ana.rollback()
    _run_hint(ana, str(caught.value))
    assert V2 == ana.rollback().state.live


def _run_hint(clone: Clone, message: str) -> None:
    command = message.rpartition("`git ")[2].rstrip("`\n").split(" ")
    clone.git(*command)


def test_a_gap_is_refused_by_a_clone_that_never_saw_it(ana: Clone, shop: Shop):
    """A fresh clone of a remote that lost its middle event cannot be told what is live."""
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        ana.promote(version)
    git(shop.remote, "update-ref", "-d", event_tag(2))
    fresh = shop.clone("ana", name="fresh")

    with pytest.raises(RefusedError, match="event 000002 is missing before 000003"):
        fresh.rollback()


def _forge(shop: Shop, name: str, who: str, version: str = "1.2.0", **settings) -> None:
    """Somebody writes the next event past promptops' own refusal, and pushes it."""
    forger = shop.clone(who, name=name, **settings)
    desk = replace(forger.desk, trust=replace(forger.desk.trust, unsigned=True))
    operate(
        desk,
        Wanted(prompt="feedback-sentiment", channel="prod", action="promote", to=Version.parse(version)),
        offline=False,
    )


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("nobody", "it has no signature"), ("eve", "is not in .promptops-signers on origin/main"),
        ("bob", "bob@example.com has no role"), ("ci", "ci@example.com has no role"), ("old", "was not valid on 2026-06-01"),
    ],
)  # fmt: skip
def test_an_event_by_somebody_who_may_not_is_refused_by_all(ana: Clone, shop: Shop, who: str, why: str):
    """Unsigned, unlisted, without the role, expired: it does not count, and nobody builds on it."""
    ana.promote("1.0.0")
    _forge(shop, "forger", who)

    with pytest.raises(RefusedError, match="event 000002 does not count") as caught:
        ana.promote("1.1.0")
    assert why in str(caught.value)


@pytest.mark.parametrize("who", ["nobody", "eve", "bob", "ci", "old"])
def test_who_may_not_is_told_before_anything_is_written(ana: Clone, shop: Shop, who: str):
    """Exit 4, and no tag."""
    clone = shop.clone(who)
    before = clone.tags()

    with pytest.raises(RefusedError):
        clone.promote("1.0.0")
    assert before == clone.tags()


def test_a_role_can_be_for_one_channel(shop: Shop, ana: Clone):
    """Bob promotes on dev and not on prod."""
    assert V1 == shop.clone("bob").promote("1.0.0", "dev").state.live


def test_an_expired_key_cannot_date_itself_back(ana: Clone, shop: Shop):
    """The leaked key of somebody who left signs 'last year' after newer events: it does not count."""
    ana.promote("1.0.0")
    _forge(shop, "forger", "old", clock=lambda: datetime(2025, 6, 1, tzinfo=UTC))

    with pytest.raises(RefusedError, match="was not valid on 2026-06-01"):
        ana.promote("1.1.0")


def test_what_was_signed_before_a_key_expired_still_counts(ana: Clone, shop: Shop):
    """Keys are replaced every year; the history stays good."""
    shop.clone("old", clock=lambda: datetime(2025, 6, 1, tzinfo=UTC)).promote("1.0.0")

    assert V2 == ana.promote("1.1.0").state.live


def test_the_trust_file_of_a_change_does_not_count(ana: Clone, shop: Shop):
    """Eve lists herself on a branch, in her work tree and on her local main: the protected branch of the remote decides."""
    eve = shop.clone("eve")
    key = (eve.keys / "eve.pub").read_text().strip()
    with (eve.root / ".promptops-signers").open("a") as file:
        file.write(f"eve@example.com {key}\n")
    (eve.root / "promptops.toml").write_text("[release]\nunsigned = true\n")
    eve.git("commit", "-q", "-a", "-m", "Trust me")

    with pytest.raises(RefusedError, match=r"is not in \.promptops-signers on origin/main"):
        eve.promote("1.0.0")


def test_a_tag_is_accepted_by_its_id_on_the_protected_branch(ana: Clone, shop: Shop):
    """How a team starts to sign, or lets go of a key: the id of the last tag is listed, and what is before it counts."""
    ana.promote("1.0.0")
    _forge(shop, "forger", "nobody", "1.1.0")
    oid = shop.remote_refs()[event_tag(2)]
    (ana.root / "promptops.toml").write_text(f'default_model = "local"\n[release]\naccepted = ["{oid}"]\n')
    ana.git("commit", "-q", "-a", "-m", "Accept it")
    ana.git("push", "-q", "origin", "HEAD:main")

    assert V3 == ana.promote("1.2.0").state.live


def test_without_signers_and_without_saying_so_nothing_works(tmp_path: Path):
    """Unsigned mode is explicit: a missing trust file is not a permission."""
    shop = open_shop(tmp_path / "shop", signed=False)
    clone = shop.clone("ana")
    assert clone.desk.trust.unsigned
    (clone.root / "promptops.toml").write_text("")
    clone.git("commit", "-q", "-a", "-m", "x")
    clone.git("push", "-q", "origin", "main")

    with pytest.raises(RefusedError, match="unsigned = true"):
        clone.desk  # noqa: B018


def test_unsigned_mode_works_without_keys(tmp_path: Path):
    """The same operations, and the state of every signature says what it is."""
    clone = open_shop(tmp_path / "shop", signed=False).clone("ana")
    clone.version("1.0.0")
    clone.version("1.1.0")
    clone.promote("1.0.0")
    clone.promote("1.1.0")

    assert V1 == clone.rollback().state.live


@pytest.mark.parametrize("channel", ["-x", "a b", "a/b", "..", "A", "", "a\n"])
def test_C12_what_cannot_be_a_channel_is_refused_before_git_runs(ana: Clone, channel: str):
    """Exit 2."""
    with pytest.raises(DataError, match="not the name of a channel"):
        ana.promote("1.0.0", channel)


def test_C13_no_hook_and_no_command_of_the_repository_runs(ana: Clone, shop: Shop):
    """Hooks and configured commands of a hostile clone stay silent while it promotes, pushes and rolls back."""
    trace = shop.folder / "ran"
    script = f"#!/bin/sh\necho ran >> {trace}\n"
    hooks = ana.root / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "pre-push", "post-checkout", "pre-commit", "commit-msg", "post-merge"):
        (hooks / name).write_text(script)
        (hooks / name).chmod(0o755)
    program = shop.folder / "program"
    program.write_text(script)
    program.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "gpg.ssh.program", "gpg.program", "diff.external", "core.sshCommand", "remote.origin.uploadpack",
                "remote.origin.receivepack", "credential.helper", "core.editor"):  # fmt: skip
        ana.git("config", key, str(program))
    ana.promote("1.0.0")
    ana.promote("1.1.0")
    ana.rollback()

    assert not trace.exists()


def test_C1_a_missing_protected_branch_names_the_fix(ana: Clone, shop: Shop):
    """A clone of one branch has no main of the remote: exit 3 with the command."""
    ana.git("push", "-q", "origin", "HEAD:refs/heads/change")
    single = shop.clone("ana", "--single-branch", "-b", "change", name="single")

    with pytest.raises(EvaluationError, match=r"no protected branch.*git fetch origin main:refs/remotes/origin/main"):
        single.desk  # noqa: B018
