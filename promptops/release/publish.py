"""Release: the content of a commit, with evidence for exactly this content, becomes a version with a number of its own."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from promptops.core.compat import Bump, SchemaChange, needed_bump, schema_changes
from promptops.core.errors import ConflictError, DataError, EvaluationError, RefusedError
from promptops.project.changesets import Changeset, changelog_of, largest_bump, read_changesets
from promptops.project.git import GitTree, RefExistsError
from promptops.project.prompts import load_prompt
from promptops.project.suites import load_suite
from promptops.release.content import Content, content_at, refuse_dirty
from promptops.release.desk import Desk
from promptops.release.evidence import SIGN_OFF, TEST_RESULT, Evidence, read_evidence
from promptops.release.ledger import Ledger, VersionTag, read_ledger
from promptops.release.log import paths_of, read_commits
from promptops.release.share import Fetched, Share, UnknownPushError, drop, evidence_prefix, prefixes_of
from promptops.release.tags import Tagger, tag_content, utc, write_tag
from promptops.release.versions import VersionRecord, at_least, bumped

_MAX_CHANGELOG = 20_000
_MAX_COMMITS = 200
_NAMED = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A version, whether it was made just now, who signed off, and whether the remote has it."""

    record: VersionRecord
    made: bool
    published: bool
    approvers: tuple[str, ...]
    evidence_by: str


def release(
    desk: Desk, name: str, *, bump: Bump | None, notes: str, at: str, model: str, judge: str, offline: bool
) -> Released:
    """Tag the content of a commit as the next version. The same content again changes nothing.

    Raises DataError for a dirty tree or too small a bump, RefusedError without evidence for exactly this content, without enough
    sign-offs, or for content that was rolled back, ConflictError when somebody else took the number.
    """
    if not at:
        refuse_dirty(desk.project, name)
    content = content_at(desk.project, name, at or "HEAD", model=model, judge=judge)
    fetched = _look(desk, name, content.subject, offline=offline)
    ledger = read_ledger(desk.git, name)
    latest = _latest(desk, ledger, name)
    if latest and latest.record and latest.record.subject == content.subject:
        return Released(
            record=latest.record,
            made=False,
            published=latest.name.ref not in fetched.pending and bool(desk.remote),
            approvers=(),
            evidence_by="",
        )
    _refuse_unmerged(desk, content)
    _refuse_bad_content(ledger, name, content)
    results, approvers = _evidence(desk, name, content, latest)
    changes, needed = _needed(desk, content, latest)
    fragments = _fragments(desk, content, latest)
    wanted = _bump(bump, fragments, needed, changes, name)
    tagger, sign, _ = desk.acting()
    now = desk.clock()
    previous = latest.name.version if latest else None
    record = VersionRecord(
        prompt=name, version=bumped(previous, wanted), commit=content.commit, prompt_digest=content.prompt_digest, subject=content.subject,
        model=content.model, evidence=results[-1].digest, previous=previous, bump=wanted, reason=_reason(latest, content, changes, wanted, needed),
        changelog=_changelog(desk, content, latest, notes=notes, fragments=fragments, changes=changes), actor=tagger.email, at=utc(now),
    )  # fmt: skip
    body = tag_content(
        target=content.commit,
        tag=record.name.tag,
        tagger=tagger,
        at=now,
        title=f"{name} {record.version.tag}",
        body=record.as_dict(),
    )
    oid = write_tag(desk.git, record.name.ref, body, sign).oid
    try:
        desk.git.change_refs([f"create {record.name.ref} {oid}"])
    except RefExistsError as error:
        raise ConflictError(
            f"{record.name.tag} was written by another process meanwhile", hint="look again with `promptops log`"
        ) from error
    _refuse_own_key(desk, record, oid, tagger)
    if desk.remote and not offline:
        _publish(desk, record, oid, fetched)
    return Released(
        record=record,
        made=True,
        published=bool(desk.remote) and not offline,
        approvers=approvers,
        evidence_by=results[-1].actor,
    )


def _look(desk: Desk, name: str, subject: str, *, offline: bool) -> Fetched:
    if offline or not desk.remote:
        return Fetched()
    try:
        found = Share(desk.git, desk.remote).look([*prefixes_of(name), evidence_prefix(subject)])
    except EvaluationError as error:
        raise EvaluationError(f"{desk.remote} cannot be reached", why=error.problems[0].why, hint="with --offline it is written here, and `promptops sync` publishes it") from error  # fmt: skip
    if found.lost:
        tags = ", ".join(ref.removeprefix("refs/tags/") for ref in found.lost)
        raise ConflictError(
            f"{tags}: written here offline, and by somebody else on the remote",
            hint="`promptops sync` drops yours and takes theirs",
        )
    return found


def _latest(desk: Desk, ledger: Ledger, name: str) -> VersionTag | None:
    """The highest version. Raises RefusedError when it does not count: a number above it would rest on it."""
    known = ledger.versions.get(name, {})
    if not known:
        return None
    highest = known[max(known)]
    signature = desk.judge.version(highest)
    if highest.record is None or not signature.counts:
        raise RefusedError(f"{highest.name.tag} does not count", where=highest.name.ref, why=highest.fault or signature.why,
                           hint="an owner of the repository removes it, or lists its id under release.accepted on the protected branch")  # fmt: skip
    return highest


def _refuse_unmerged(desk: Desk, content: Content) -> None:
    if not desk.git.contains(desk.rules_at, content.commit):
        raise RefusedError(f"commit {content.commit[:12]} is not on {desk.branch}", why="what is released was reviewed and merged",
                           hint="merge it and push, or name the branch in PROMPTOPS_PROTECTED_BRANCH")  # fmt: skip


def _refuse_bad_content(ledger: Ledger, name: str, content: Content) -> None:
    for channel in ledger.channels(name):
        for version in sorted(ledger.state(name, channel).bad):
            old = ledger.versions.get(name, {}).get(version)
            if old and old.record and old.record.prompt_digest == content.prompt_digest:
                raise RefusedError(f"this prompt is {version.tag}, which was rolled back on {channel}",
                                   hint=f"if the mark is wrong, `promptops promote {name}@{version.tag} --to {channel} --clear-bad --reason ...`")  # fmt: skip


def _evidence(
    desk: Desk, name: str, content: Content, latest: VersionTag | None
) -> tuple[list[Evidence], tuple[str, ...]]:
    """Test results that count, and the people who signed off. Raises RefusedError when there are too few of either."""
    known = read_evidence(desk.git, desk.trust, [content.subject], desk.clock())
    results = [item for item in known if item.kind == TEST_RESULT and item.counts]
    if not results:
        others = "; ".join(
            f"{item.name.digest[:12]}: {item.fault or item.signature.why}" for item in known if not item.counts
        )
        raise RefusedError(f"no evidence for {name} as {content.commit[:12]} has it", why=others or "nobody approved exactly this content",
                           hint=f"promptops eval {name} && promptops approve {name}")  # fmt: skip
    authors = _authors(desk, name, content, latest) | {item.actor for item in results}
    approvers = sorted({item.actor for item in known if item.kind == SIGN_OFF and item.counts} - authors)
    needed = _approvals(desk, name, content)
    if len(approvers) < needed:
        have = f"{len(approvers)} of {needed}" + (f" ({', '.join(approvers)})" if approvers else "")
        wanted = "1 sign-off" if needed == 1 else f"{needed} sign-offs"
        raise RefusedError(f"{name} needs {wanted} by others than its authors and who signed the evidence, and has {have}", why=f"these are {', '.join(sorted(authors))}",
                           hint=f"somebody else runs `promptops approve {name} --sign-off`")  # fmt: skip
    return results, tuple(approvers)


def _approvals(desk: Desk, name: str, content: Content) -> int:
    """The most that the rules, the suite of the content or that of the protected branch ask for: a change cannot ask less of itself."""
    asked = [desk.rules.approvals, content.evaluable.suite.gate.approvals]
    tree = GitTree(desk.git, desk.rules_at)
    with contextlib.suppress(DataError):  # a prompt that the protected branch does not have yet, or has in another form
        asked.append(load_suite(tree, name, load_prompt(tree, name)).gate.approvals)
    return max(asked)


def _authors(desk: Desk, name: str, content: Content, latest: VersionTag | None) -> frozenset[str]:
    """Who wrote what is new since the version before; at least the author of the commit."""
    since = latest.tag.target if latest else ""
    commits = read_commits(
        desk.git, name, paths_of(desk.project, name), since=since, limit=_MAX_COMMITS, until=content.commit
    )
    author = (
        desk.git.run("show", "-s", "--no-show-signature", "--format=%ae", "--end-of-options", content.commit)
        .decode("utf-8", "replace")
        .strip()
    )
    return frozenset({author, *(commit.email for commit in commits)})


def _needed(desk: Desk, content: Content, latest: VersionTag | None) -> tuple[tuple[SchemaChange, ...], Bump]:
    if latest is None or latest.record is None:
        return (), "minor"
    before = load_prompt(GitTree(desk.git, desk.git.commit(latest.tag.target)), content.evaluable.prompt.name)
    changes = schema_changes(before, content.evaluable.prompt)
    return changes, needed_bump(changes, same_content=latest.record.prompt_digest == content.prompt_digest)


def _fragments(desk: Desk, content: Content, latest: VersionTag | None) -> tuple[Changeset, ...]:
    """The changelog fragments that the version before did not have."""
    now = read_changesets(content.evaluable.tree)
    if latest is None:
        return now
    then = read_changesets(GitTree(desk.git, desk.git.commit(latest.tag.target)))
    known = {(item.path, item.text) for item in then}
    return tuple(item for item in now if (item.path, item.text) not in known)


def _bump(
    asked: Bump | None, fragments: Sequence[Changeset], needed: Bump, changes: Sequence[SchemaChange], name: str
) -> Bump:
    wanted = asked or largest_bump(fragments, name) or needed
    if at_least(wanted, needed):
        return wanted
    if asked:
        why = (
            "; ".join(f"{change.side}{change.where}: {change.what}" for change in changes if change.breaking)
            or "the prompt has other content"
        )
        raise DataError(
            f"a {wanted} bump is too small, the content needs {needed}",
            why=why,
            hint=f"--bump {needed}, or leave it out",
        )
    return needed


def _reason(
    latest: VersionTag | None, content: Content, changes: Sequence[SchemaChange], wanted: Bump, needed: Bump
) -> str:
    if latest is None or latest.record is None:
        return "first version"
    breaking = [f"{change.side}{change.where}: {change.what}" for change in changes if change.breaking]
    if breaking:
        rest = f" and {len(breaking) - _NAMED} more" if len(breaking) > _NAMED else ""
        why = "; ".join(breaking[:_NAMED]) + rest
    else:
        same = latest.record.prompt_digest == content.prompt_digest
        why = (
            "the prompt is the same, its golden data or gate changed"
            if same
            else "the prompt has other content, callers and readers need not follow"
        )
    return why if wanted == needed else f"{why}; {wanted} was asked for"


def _changelog(
    desk: Desk, content: Content, latest: VersionTag | None, *, notes: str, fragments: Sequence[Changeset], changes: Sequence[SchemaChange]
) -> str:  # fmt: skip
    """Notes, fragments, changes of the schemas and commits, as Markdown."""
    name = content.evaluable.prompt.name
    since = latest.tag.target if latest else ""
    commits = read_commits(
        desk.git, name, paths_of(desk.project, name), since=since, limit=_MAX_COMMITS, until=content.commit
    )
    parts = [
        f"{notes.strip()}\n" if notes.strip() else "",
        changelog_of(fragments, name),
        "".join(
            f"- {'breaking: ' if change.breaking else ''}{change.side}{change.where}: {change.what}\n"
            for change in changes
        ),
        "".join(f"- {commit.subject} ({commit.commit[:12]}, {commit.email})\n" for commit in commits),
    ]
    text = "\n".join(part for part in parts if part)
    return text if len(text) <= _MAX_CHANGELOG else text[:_MAX_CHANGELOG] + "\n[cut]\n"


def _refuse_own_key(desk: Desk, record: VersionRecord, oid: str, tagger: Tagger) -> None:
    """Take the tag back when others would not count it."""
    item = read_ledger(desk.git, record.prompt).versions[record.prompt][record.version]
    found = desk.judge.version(item)
    if not found.counts:
        drop(desk.git, {record.name.ref: oid})
        raise RefusedError(
            f"{tagger.email} may not release",
            why=found.why,
            hint="have your key listed with the role promptops-release on the protected branch",
        )


def _publish(desk: Desk, record: VersionRecord, oid: str, fetched: Fetched) -> None:
    try:
        waiting = {ref: own for ref, own in fetched.pending.items() if not ref.startswith("refs/tags/channel/")}
        Share(desk.git, desk.remote).push(waiting | {record.name.ref: oid})
    except UnknownPushError:
        raise
    except (ConflictError, EvaluationError):
        drop(desk.git, {record.name.ref: oid})
        raise
