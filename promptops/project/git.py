"""Git, through one careful door: validated names, plumbing only, nothing of the repository's own configuration is run."""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

from promptops.core.errors import ConflictError, DataError, EvaluationError
from promptops.project.tree import refuse_escape

_SAFE = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.pager=cat",
    "-c",
    "core.attributesFile=/dev/null",
)
_EMPTY = "PROMPTOPS_EMPTY"
_ENVIRONMENT = {
    _EMPTY: "",
    "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "none",  # a missing object is not fetched: the repository names the command that would do it
}  # fmt: skip
_TOGETHER = "prompts/"
_PROTOCOLS = "file:https:http:ssh:git"
_EXCHANGE = {
    "push": ("--porcelain", "--no-verify", "--receive-pack=git-receive-pack"),
    "fetch": ("--no-tags", "--no-auto-maintenance", "--no-write-fetch-head", "--recurse-submodules=no", "--upload-pack=git-upload-pack"),
}  # fmt: skip
_REMOTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
_REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\\))[A-Za-z0-9_./@^~+-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ELSEWHERE = re.compile(r"[0-9a-f]{7,40}|[^/]+/.+")
"""A commit id, or a branch of a remote."""


class _CommandFailedError(EvaluationError):
    """Git ran, and said no."""


class RefExistsError(ConflictError):
    """A ref was made or changed by somebody else in between."""


@dataclass(frozen=True)
class Git:
    """The repository around a folder."""

    root: Path

    def run(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Standard output of a git plumbing command. Raises EvaluationError with git's first line of complaint."""
        return self._execute(arguments, _ENVIRONMENT, stdin)

    def refs(self, prefixes: Sequence[str]) -> dict[str, str]:
        """Full ref -> object id of all refs below the prefixes (each ends with a slash)."""
        listing = self.run(
            "for-each-ref", "--format=%(objectname) %(refname)", *(item.rstrip("/") for item in prefixes)
        )
        pairs = (line.partition(" ") for line in os.fsdecode(listing).splitlines())
        return {ref: oid for oid, _, ref in pairs}

    def objects(self, oids: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """Object id -> (type, content), in one process. Raises EvaluationError for one that is not here."""
        wanted = list(oids)
        if not wanted:
            return {}
        output = self.run("cat-file", "--batch", "--buffer", stdin="".join(f"{oid}\n" for oid in wanted).encode())
        found: dict[str, tuple[str, bytes]] = {}
        position = 0
        while position < len(output):
            end = output.index(b"\n", position)
            oid, kind, *size = output[position:end].decode().split(" ")
            if not size:
                raise EvaluationError(
                    f"object {oid} is {kind} in this repository", hint="fetch it again: `git fetch --refetch`"
                )
            start = end + 1
            position = start + int(size[0]) + 1
            found[oid] = (kind, output[start : position - 1])
        return found

    def write_object(self, kind: Literal["tag", "blob"], content: bytes) -> str:
        """Store an object; its id. Raises EvaluationError when git finds it malformed or the disk refuses."""
        return self.run("hash-object", "-t", kind, "-w", "--stdin", stdin=content).decode().strip()

    def change_refs(self, commands: Sequence[str]) -> None:
        """Run `update-ref` commands (`create REF OID`, `delete REF OID`) as one transaction: all or nothing.

        Raises RefExistsError when a ref is not in the state a command expects, EvaluationError when git cannot write.
        """
        try:
            self.run("update-ref", "--no-deref", "--stdin", stdin="".join(f"{line}\n" for line in commands).encode())
        except _CommandFailedError as error:
            said = error.problems[0].why
            if "already exists" in said or "but expected" in said or "reference is missing" in said:
                raise RefExistsError("a ref changed meanwhile", why=said) from error
            if ".lock" in said:
                raise EvaluationError("git is in use by another process, or one was killed", why=said,
                                      hint="wait for it; if there is none, remove the named .lock file") from error  # fmt: skip
            raise

    def config(self, name: str, *, local: bool = False) -> str:
        """A value of git's configuration, or of the repository's own alone; '' when it is not set."""
        try:
            return os.fsdecode(self.run("config", *(["--local"] if local else []), "--get", name)).removesuffix("\n")
        except _CommandFailedError:
            return ""

    def exchange(
        self,
        command: Literal["push", "fetch"],
        remote: str,
        refspecs: Sequence[str],
        *,
        depth: int = 0,
        atomic: bool = False,
    ) -> None:
        """Push or fetch refs by name, over the protocols that run no command the repository names.

        `depth` 1 fetches commits without their history. Raises DataError for what is no remote's name, EvaluationError when git or
        the remote refuses.
        """
        self._check_remote(remote)
        options: tuple[str, ...] = _EXCHANGE[command]
        if depth:
            options = (*options, f"--depth={depth}")
        if atomic:
            options = (*options, "--atomic")
        arguments: tuple[str, ...] = ("--end-of-options", remote, *refspecs)
        given: bytes | None = None
        if command == "fetch":  # by stdin: ten thousand refs do not fit on a command line
            arguments, given = (
                ("--stdin", "--end-of-options", remote),
                "".join(f"{item}\n" for item in refspecs).encode(),
            )
        network = _ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": _PROTOCOLS}
        self._execute((command, "--quiet", *options, *arguments), network, given)

    def remote_refs(self, remote: str, patterns: Sequence[str]) -> dict[str, str]:
        """Full ref -> object id of what a remote has now that matches the patterns.

        Raises DataError for what is no remote's name, EvaluationError when it cannot be reached.
        """
        self._check_remote(remote)
        options = ("--refs", "--quiet", "--upload-pack=git-upload-pack", "--end-of-options")
        listing = self._execute(
            ("ls-remote", *options, remote, *patterns), _ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": _PROTOCOLS}
        )
        pairs = (line.partition("\t") for line in os.fsdecode(listing).splitlines())
        return {ref: oid for oid, _, ref in pairs}

    def remotes(self) -> list[str]:
        return os.fsdecode(self.run("remote")).split()

    def symbolic_ref(self, ref: str) -> str:
        """The ref that a symbolic ref stands for; '' when there is none."""
        try:
            return os.fsdecode(self.run("symbolic-ref", "--quiet", ref)).strip()
        except _CommandFailedError:
            return ""

    def contains(self, branch: str, commit: str) -> bool:
        """Whether a commit is one of the branch's (both by full id)."""
        try:
            self.run("merge-base", "--is-ancestor", commit, branch)
        except _CommandFailedError:
            return False
        return True

    def shallow(self) -> bool:
        """Whether history is cut off, as in the clones of many CI systems."""
        return self.run("rev-parse", "--is-shallow-repository").strip() == b"true"

    @cached_property
    def common_folder(self) -> Path:
        """The folder of the repository itself, the same for all its work trees."""
        found = os.fsdecode(self.run("rev-parse", "--path-format=absolute", "--git-common-dir")).removesuffix("\n")
        return Path(found)

    @staticmethod
    def _check_remote(remote: str) -> None:
        if not _REMOTE.fullmatch(remote):
            raise DataError(f"{remote[:80]!r} is not the name of a remote", hint="see `git remote`")

    def _execute(self, arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes | None = None) -> bytes:
        try:
            from git import Git as Command
            from git.exc import GitCommandError, GitCommandNotFound
        except ImportError as error:
            raise EvaluationError("git is not on PATH", hint="install git") from error
        command: Any = Command(str(self.root))
        try:
            with tempfile.TemporaryFile() as given:  # a file, not a pipe: git may answer before it has read everything
                given.write(stdin or b"")
                given.seek(0)
                output = command.execute(
                    ["git", *_SAFE, *arguments],
                    istream=given,
                    env=dict(environment),
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                )
        except GitCommandNotFound as error:
            raise EvaluationError("git is not on PATH", hint="install git") from error
        except GitCommandError as error:
            said = str(error.stderr or "").strip().strip("'").removeprefix("stderr: '").partition("\n")[0]
            raise _CommandFailedError(f"git {arguments[0]} failed", why=said[:400]) from error
        assert isinstance(output, bytes)
        return output

    def inside(self) -> bool:
        """Whether the folder is in a git work tree (False as well when git is missing)."""
        try:
            return self.run("rev-parse", "--is-inside-work-tree").strip() == b"true"
        except EvaluationError:
            return False

    def commit(self, ref: str) -> str:
        """The full commit id of a ref.

        Raises DataError for what cannot be a ref, EvaluationError when there is no such commit here.
        """
        if not ref or ref.startswith("-") or not _REF.fullmatch(ref):
            raise DataError(f"{ref[:80]!r} is not a git ref", hint="use a branch, tag or commit id")
        try:
            found = (
                self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").decode().strip()
            )
        except _CommandFailedError as error:
            said = error.problems[0].why
            if "not a git repository" in said:
                raise EvaluationError("not in a git repository", hint="run `git init`, or go to the clone") from error
            if not said and not self.refs(["refs/"]):
                raise EvaluationError("this repository has no commits yet", hint="git add -A && git commit") from error
            why, hint = "no branch or tag here has that name", "see `git branch --all` and `git tag`"
            if self.shallow() or _ELSEWHERE.fullmatch(ref):
                why, hint = "this clone may lack it", "fetch it (in CI: `fetch-depth: 0`)"
            raise EvaluationError(f"no commit {ref!r} in this repository", why=said or why, hint=hint) from error
        if not _COMMIT.fullmatch(found):
            raise DataError(f"{ref[:80]!r} is not one commit", hint="use a branch, tag or commit id")
        return found

    def date_of(self, commit: str) -> str:
        """When a full commit id was committed: ISO 8601, UTC. Raises EvaluationError."""
        seconds = int(self.run("show", "--no-patch", "--format=%ct", "--end-of-options", commit).split()[0])
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    def merge_base(self, ref: str) -> str:
        """The commit that HEAD and `ref` both grew from. Raises as `commit`, and EvaluationError when they share none here."""
        commit = self.commit(ref)
        try:
            return self.run("merge-base", "--end-of-options", "HEAD", commit).decode().strip()
        except _CommandFailedError as error:
            raise EvaluationError(f"HEAD and {ref!r} share no commit in this repository", why="the clone may be shallow",
                                  hint="fetch more of it (in CI: `fetch-depth: 0`)") from error  # fmt: skip

    def staged(self) -> str:
        """The id of a tree that holds what is staged. Raises EvaluationError, also in the middle of a merge with conflicts."""
        return self.run("write-tree").decode().strip()

    def state(self) -> tuple[str, bool]:
        """(current commit, whether files differ from it); ('', True) outside a repository with commits."""
        try:
            commit = self.commit("HEAD")
            changed = self.run(
                *self._no_filters(), "status", "--porcelain", "--no-renames", "--ignore-submodules=all", "--", "."
            )
            return commit, bool(changed.strip())
        except EvaluationError:
            return "", True

    def _no_filters(self) -> list[str]:
        """Options that disarm every content filter of the configuration: `status` would run it on changed files."""
        try:
            names = os.fsdecode(
                self.run("config", "-z", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process|required)$")
            )
        except _CommandFailedError:
            return []
        return [f"--config-env={name}={_EMPTY}" for name in names.split("\0") if name]


@dataclass(frozen=True)
class GitTree:
    """The project's files in one commit; the work tree is not touched."""

    git: Git
    commit: str

    @cached_property
    def _prefix(self) -> str:
        return os.fsdecode(self.git.run("rev-parse", "--show-prefix")).removesuffix("\n")

    @cached_property
    def _entries(self) -> dict[str, str]:
        """Path -> blob id of every regular file of the project."""
        listing = self.git.run(
            "ls-tree", "-r", "-z", "--full-tree", self.commit, "--", *([self._prefix] if self._prefix else [])
        )
        entries: dict[str, str] = {}
        for line in os.fsdecode(listing).split("\0"):
            head, _, path = line.partition("\t")
            if head.startswith("100"):
                entries[path.removeprefix(self._prefix)] = head.split()[2]
        return entries

    @cached_property
    def _read(self) -> dict[str, bytes]:
        """Blobs that were read together: the files of a prompt are small and wanted together, and a process costs more than they do."""
        return {}

    def read(self, path: str) -> bytes:
        refuse_escape(path)
        try:
            blob = self._entries[path]
        except KeyError:
            raise FileNotFoundError(path) from None
        if not path.startswith(_TOGETHER):
            return self.git.run("cat-file", "blob", blob)
        if blob not in self._read:
            folder = "/".join(path.split("/")[:2]) + "/"
            beside = {blob, *(oid for other, oid in self._entries.items() if other.startswith(folder))}
            self._read.update({oid: content for oid, (_, content) in self.git.objects(beside).items()})
        return self._read[blob]

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.read(path))

    def names(self, folder: str) -> list[str]:
        refuse_escape(folder)
        start = folder.rstrip("/") + "/"
        return sorted({path.removeprefix(start).partition("/")[0] for path in self._entries if path.startswith(start)})
