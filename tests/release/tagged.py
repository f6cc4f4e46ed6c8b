"""Version and event tags for tests of what reads them, written as the release commands write them."""

from datetime import UTC, datetime

from promptops.project.git import Git
from promptops.release.channels import Event
from promptops.release.names import EventName, Version, VersionName
from promptops.release.tags import Tagger, tag_content, write_tag
from promptops.release.versions import VersionRecord

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHO = Tagger("Rel Manager", "rel@example.com")


def release_version(
    sandbox, prompt, version, commit, *, at=AT, changelog="Shorter answers.", previous=None, bump="minor"
):
    """A version tag on a commit."""
    number = Version.parse(version)
    record = VersionRecord(
        prompt=prompt, version=number, commit=commit, prompt_digest="sha256:" + "1" * 64, subject="sha256:" + "2" * 64, model={},
        evidence="sha256:" + "3" * 64, previous=Version.parse(previous) if previous else None, bump=bump, reason="", changelog=changelog,
        actor="rel@example.com", at=at.isoformat(timespec="seconds"),
    )  # fmt: skip
    _tag(sandbox, VersionName(prompt, number), commit, at, record.as_dict(), f"{prompt} {version}")


def say_event(
    sandbox, prompt, channel, *, to, seq=1, prev="", came_from=None, action="promote", bad=None, reason="", at=AT
):
    """An event tag on the commit of HEAD; the object id of the tag, which the next event names as `prev`."""
    version = Version.parse(to)
    event = Event(
        prompt=prompt, channel=channel, seq=seq, prev=prev, action=action, came_from=Version.parse(came_from) if came_from else None,
        to=version, bad=Version.parse(bad) if bad else None, percent=100, evidence="", actor="rel@example.com", reason=reason,
        at=at.isoformat(timespec="seconds"), nonce=f"{seq:032x}",
    )  # fmt: skip
    target = sandbox.git("rev-parse", "HEAD")
    return _tag(sandbox, EventName(prompt, channel, seq), target, at, event.as_dict(), f"{action} {prompt}")


def _tag(sandbox, name, commit, at, body, title):
    git = Git(sandbox.root)
    oid = write_tag(
        git, name.ref, tag_content(target=commit, tag=name.tag, tagger=WHO, at=at, title=title, body=body), None
    ).oid
    git.run("update-ref", name.ref, oid)
    return oid
