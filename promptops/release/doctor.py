"""Is this clone, its key and its protected branch fit to release? And which rules the server must hold."""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from promptops.core.errors import PromptopsError
from promptops.project.project import Project
from promptops.release.desk import Desk, open_desk, signing_key
from promptops.release.share import Share, prefixes_of
from promptops.release.trust import GIT
from promptops.release.verify import PROMOTE, RELEASE

OLDEST_GIT = (2, 34, 0)
"""The first with SSH signatures, which `git verify-tag` needs to check what is signed here."""
Level = Literal["ok", "note", "fail"]
RULES = (
    (
        "branch {branch}",
        "require pull requests and reviews; no force push; no deletion: the signers and the rules of releases are read from it",
    ),
    ("tags prompt/** and channel/**", "nobody may update or delete them; only those who release may create them"),
    ("refs promptops/**", "nobody may update or delete them, where the server has rules for such refs"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    findings: tuple[Finding, ...]
    rules: tuple[tuple[str, str], ...]

    @property
    def failed(self) -> bool:
        return any(item.level == "fail" for item in self.findings)


def examine(project: Project, *, clock: Callable[[], datetime]) -> Examination:
    """Look at everything a release needs; what is wrong is a finding, not an error."""
    findings = [_git_version(project)]
    branch = "main"
    try:
        desk = open_desk(project, clock=clock, online=True)
    except PromptopsError as error:
        problem = error.problems[0]
        findings.append(
            Finding(
                level="fail",
                what="protected branch and signers",
                detail=f"{problem.what}{', ' + problem.why if problem.why else ''}",
                hint=problem.hint,
            )
        )
    else:
        branch = desk.branch.rpartition("/")[2]
        findings += [_branch(desk), _signers(desk, clock()), _key(desk, clock()), *_remote(desk), *_hooks(desk)]
    return Examination(
        findings=tuple(findings), rules=tuple((what.format(branch=branch), rule) for what, rule in RULES)
    )


def _git_version(project: Project) -> Finding:
    try:
        text = project.git.run("--version").decode("utf-8", "replace").strip()
    except PromptopsError as error:
        return Finding(level="fail", what="git", detail=str(error), hint="install git")
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    version = tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if version < OLDEST_GIT:
        return Finding(
            level="note", what="git", detail=text, hint="from 2.34 on, `git verify-tag` checks what is signed here"
        )
    return Finding(level="ok", what="git", detail=text)


def _branch(desk: Desk) -> Finding:
    return Finding(
        level="ok",
        what="protected branch",
        detail=f"{desk.branch} at {desk.rules_at[:12]}; sign-offs asked for: {desk.rules.approvals}",
    )


def _signers(desk: Desk, now: datetime) -> Finding:
    if desk.trust.unsigned:
        return Finding(
            level="note",
            what="signers",
            detail="unsigned mode: anybody who may push tags can promote",
            hint=f"list keys in {desk.rules.signers}, and drop `unsigned = true`",
        )
    expired = [item.principals[0] for item in desk.trust.entries if item.valid_before and not item.valid_at(now)]
    able = [item for item in desk.trust.entries if item.valid_at(now) and item.may(GIT) and item.may(RELEASE)]
    detail = f"{len(desk.trust.entries)} in {desk.trust.source}" + (
        f"; not valid now: {', '.join(expired)}" if expired else ""
    )
    if not able:
        return Finding(
            level="fail",
            what="signers",
            detail=detail,
            hint=f"no key that is valid now may release: add one with {RELEASE}",
        )
    return Finding(level="ok", what="signers", detail=detail)


def _key(desk: Desk, now: datetime) -> Finding:
    place = signing_key(desk.git, desk.environment)
    if not place:
        level: Level = "note" if desk.trust.unsigned else "fail"
        return Finding(
            level=level,
            what="your key",
            detail="none is configured",
            hint="set PROMPTOPS_SIGNING_KEY, or gpg.format=ssh and user.signingkey in git",
        )
    try:
        signer = desk.signer()
        assert signer is not None, "a place was named"
        signer.sign(b"promptops doctor", GIT)
    except PromptopsError as error:
        return Finding(level="fail", what="your key", detail=str(error.problems[0]))
    path = Path(place).expanduser()
    if (
        path.is_file()
        and not place.endswith(".pub")
        and os.name == "posix"
        and stat.S_IMODE(path.stat().st_mode) & 0o077
    ):
        return Finding(level="fail", what="your key", detail=f"{path} can be read by others", hint=f"chmod 600 {path}")
    if desk.trust.unsigned:
        return Finding(
            level="ok", what="your key", detail=f"{signer.key.fingerprint} signs; nobody checks it in unsigned mode"
        )
    entries = [item for item in desk.trust.entries if item.key == signer.key]
    if not entries:
        return Finding(
            level="fail",
            what="your key",
            detail=f"{signer.key.fingerprint} is not in {desk.trust.source}",
            hint="have it listed there",
        )
    names = [
        role
        for role in (RELEASE, PROMOTE, "promptops-approve", "promptops-evidence")
        if any(item.may(role) and item.valid_at(now) for item in entries)
    ]
    if not names:
        return Finding(
            level="fail",
            what="your key",
            detail=f"{signer.key.fingerprint} of {desk.trust.principal_of(signer.key)} may sign nothing today",
            hint="see its line in the signers file; or is the clock wrong?",
        )
    return Finding(
        level="ok",
        what="your key",
        detail=f"{desk.trust.principal_of(signer.key) or 'listed'} from {signer.origin}: {', '.join(names)}",
    )


def _remote(desk: Desk) -> list[Finding]:
    if not desk.remote:
        return [Finding(level="note", what="remote", detail="there is none: releases stay in this clone")]
    try:
        found = Share(desk.git, desk.remote).look(prefixes_of(""))
    except PromptopsError as error:
        return [Finding(level="fail", what="remote", detail=str(problem)) for problem in error.problems[:20]]
    if found.pending or found.lost:
        return [
            Finding(
                level="note",
                what="remote",
                detail=f"{len(found.pending) + len(found.lost)} tags are only here",
                hint="promptops sync",
            )
        ]
    return [Finding(level="ok", what="remote", detail=f"{desk.remote} has what this clone has")]


def _hooks(desk: Desk) -> list[Finding]:
    """Hooks and configured commands of the repository; promptops runs none of them, plain git does."""
    folder = desk.git.common_folder / "hooks"
    active = (
        sorted(path.name for path in folder.iterdir() if not path.name.endswith(".sample") and os.access(path, os.X_OK))
        if folder.is_dir()
        else []
    )
    risky = [
        name
        for name in ("core.fsmonitor", "core.hooksPath", "core.sshCommand", "diff.external", "gpg.ssh.program")
        if desk.git.config(name, local=True) not in ("", "false", "true")
    ]
    if not (active or risky):
        return [Finding(level="ok", what="hooks", detail="none")]
    return [
        Finding(
            level="note",
            what="hooks",
            detail=f"of this clone: {', '.join([*active, *risky])}; promptops runs none of them, plain git does",
        )
    ]
