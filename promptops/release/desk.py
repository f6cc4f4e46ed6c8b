"""What every release command works with: repository, rules and signers of the protected branch, the key of who acts, the clock."""

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.project.config import ReleaseConfig, load_config
from promptops.project.git import Git, GitTree
from promptops.project.project import Project
from promptops.project.tree import decode_text
from promptops.release.sshsig import Signer, open_signer
from promptops.release.tags import Sign, Tagger, tagger_of
from promptops.release.trust import GIT, Trust, parse_signers
from promptops.release.verify import Judge

BRANCH_VARIABLE = "PROMPTOPS_PROTECTED_BRANCH"
KEY_VARIABLE = "PROMPTOPS_SIGNING_KEY"
_BRANCHES = ("main", "master")
_BRANCH = re.compile(r"(?!.*(?:\.\.|//))[A-Za-z0-9][A-Za-z0-9_./-]*")
NO_SIGNERS = "no signers are listed, and working without signatures is not allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One command's view: the rules are those of commit `rules_at` of the protected branch.

    `remote` is '' when the repository has none. `trust` has no entries when `rules.unsigned` says so.
    """

    project: Project
    rules: ReleaseConfig
    rules_at: str
    branch: str
    remote: str
    trust: Trust
    clock: Callable[[], datetime]
    environment: Mapping[str, str]
    git: Git

    @property
    def judge(self) -> Judge:
        return Judge(trust=self.trust, now=self.clock())

    def signer(self) -> Signer | None:
        """The key of whoever acts; None when none is configured. Raises DataError when it cannot be used."""
        place = signing_key(self.git, self.environment)
        return open_signer(place, agent=self.environment.get("SSH_AUTH_SOCK", "")) if place else None

    def acting(self) -> tuple[Tagger, Sign | None, Signer | None]:
        """Who acts and how tags are signed. Raises RefusedError without a key where signatures are asked for."""
        tagger, signer = tagger_of(self.git, self.environment), self.signer()
        if signer is None and not self.trust.unsigned:
            raise RefusedError("no signing key is configured", why=f"{self.trust.source} asks for signatures",
                               hint=f"set {KEY_VARIABLE}, or `git config gpg.format ssh` and `git config user.signingkey FILE`")  # fmt: skip
        if signer is None:
            return tagger, None, None
        known = self.trust.principal_of(signer.key)
        return replace(tagger, email=known or tagger.email), lambda payload: signer.sign(payload, GIT), signer


def open_desk(
    project: Project,
    *,
    clock: Callable[[], datetime],
    environment: Mapping[str, str] | None = None,
    need_rules: bool = True,
    online: bool = False,
) -> Desk:
    """The desk of a project. Raises EvaluationError when the protected branch cannot be found, RefusedError without rules.

    With `need_rules` false, missing signers make an empty trust, which trusts nobody. `online` fetches the protected branch
    first; a remote that cannot be reached is left to whoever needs it.
    """
    found = os.environ if environment is None else environment
    git = project.git
    if not git.inside():
        raise EvaluationError("not in a git repository", hint="run `git init`, or go to the clone")
    known = git.remotes()
    wanted = project.config.release.remote
    if not known and wanted == ReleaseConfig().remote:
        wanted = ""
    elif wanted not in known:
        raise DataError(f"no remote {wanted!r} in this repository", hint="see `git remote`, or set release.remote")
    if online and wanted:
        _refresh(git, wanted, found)
    branch, commit = protected_branch(git, wanted, found)
    tree = GitTree(git, commit)
    rules = load_config(tree).release
    return Desk(project=project, rules=rules, rules_at=commit, branch=branch, remote=wanted, clock=clock, environment=found, git=git,
                trust=_trust(tree, rules, branch, need_rules=need_rules))  # fmt: skip


def protected_branch(git: Git, remote: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """(name, commit) of the branch whose rules count: the remote's default branch where there is a remote.

    It is named by the environment or by the remote, never by a file of the repository. Raises EvaluationError.
    """
    prefix = f"refs/remotes/{remote}/" if remote else "refs/heads/"
    refs = git.refs([prefix])
    names = _branch_names(git, remote, environment)
    for name in names:
        if f"{prefix}{name}" in refs:
            return (f"{remote}/{name}" if remote else name), git.commit(f"{prefix}{name}")
    where = f"{remote}/" if remote else ""
    get = (
        f"fetch it (`git fetch {remote} {names[0]}:{prefix}{names[0]}`)"
        if remote
        else f"make it (`git branch {names[0]}`)"
    )
    raise EvaluationError(f"no protected branch: there is no {' or '.join(where + name for name in names)} here",
                          hint=f"{get}, or name another in {BRANCH_VARIABLE}")  # fmt: skip


def _branch_names(git: Git, remote: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    stated = environment.get(BRANCH_VARIABLE, "")
    if stated:
        return (stated,)
    prefix = f"refs/remotes/{remote}/"
    head = git.symbolic_ref(f"{prefix}HEAD") if remote else ""
    return (head.removeprefix(prefix),) if head else _BRANCHES


def _refresh(git: Git, remote: str, environment: Mapping[str, str]) -> None:
    """Bring the remote's protected branch up to date, as far as the remote answers."""
    for name in _branch_names(git, remote, environment):
        if not _BRANCH.fullmatch(name):
            continue
        with contextlib.suppress(EvaluationError):
            git.exchange(
                "fetch", remote, [f"+refs/heads/{name}:refs/remotes/{remote}/{name}"], depth=1 if git.shallow() else 0
            )
            return


def _trust(tree: GitTree, rules: ReleaseConfig, branch: str, *, need_rules: bool) -> Trust:
    source = f"{rules.signers} on {branch}"
    accepted = frozenset(rules.accepted)
    try:
        text = decode_text(tree.read(rules.signers), rules.signers)
    except FileNotFoundError:
        if rules.unsigned:
            return Trust(entries=(), source=source, unsigned=True, accepted=accepted)
        if not need_rules:
            return Trust(entries=(), source=source, accepted=accepted)
        raise RefusedError(
            NO_SIGNERS, where=branch, why=f"it has neither {rules.signers} nor `unsigned = true` under release",
            hint=f"add {rules.signers} (see docs/release.md), or state `[release] unsigned = true` there",
        ) from None  # fmt: skip
    if rules.unsigned:
        raise DataError(
            f"{branch} lists signers and says `unsigned = true`", where=rules.signers, hint="keep one of the two"
        )
    return Trust(entries=parse_signers(text, source), source=source, accepted=accepted)


def signing_key(git: Git, environment: Mapping[str, str]) -> str:
    """Where the key is: PROMPTOPS_SIGNING_KEY, else git's own signing key when it is an SSH key; '' when there is none."""
    stated = environment.get(KEY_VARIABLE, "")
    if stated:
        return stated
    return git.config("user.signingkey") if git.config("gpg.format") == "ssh" else ""
