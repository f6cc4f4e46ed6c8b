"""Git, through one careful door: validated names, plumbing only, nothing of the repository's own configuration is run."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from promptops.core.errors import DataError, EvaluationError

_SAFE = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.pager=cat",
    "-c",
    "protocol.allow=never",
)
_REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\\))[A-Za-z0-9_./@^~+-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class Git:
    """The repository around a folder."""

    root: Path

    def run(self, *arguments: str) -> bytes:
        """Standard output of a git plumbing command. Raises EvaluationError with git's first line of complaint."""
        try:
            from git import Git as Command
            from git.exc import GitCommandError, GitCommandNotFound
        except ImportError as error:
            raise EvaluationError("git is not on PATH", hint="install git") from error
        command: Any = Command(str(self.root))
        environment = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        try:
            output = command.execute(
                ["git", *_SAFE, *arguments], env=environment, stdout_as_string=False, strip_newline_in_stdout=False
            )
        except GitCommandNotFound as error:
            raise EvaluationError("git is not on PATH", hint="install git") from error
        except GitCommandError as error:
            said = str(error.stderr or "").strip().strip("'").removeprefix("stderr: '").partition("\n")[0]
            raise EvaluationError(f"git {arguments[0]} failed", why=said[:200]) from error
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
        except EvaluationError as error:
            raise EvaluationError(
                f"no commit {ref!r} in this repository",
                why="it may be missing from a shallow clone",
                hint="fetch it (in CI: `fetch-depth: 0`)",
            ) from error
        assert _COMMIT.fullmatch(found)
        return found

    def state(self) -> tuple[str, bool]:
        """(current commit, whether files differ from it); ('', True) outside a repository with commits."""
        try:
            commit = self.commit("HEAD")
            return commit, bool(self.run("status", "--porcelain", "--no-renames", "--", ".").strip())
        except EvaluationError:
            return "", True


@dataclass(frozen=True)
class GitTree:
    """The project's files in one commit; the work tree is not touched."""

    git: Git
    commit: str

    @cached_property
    def _prefix(self) -> str:
        return self.git.run("rev-parse", "--show-prefix").decode().strip()

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

    def read(self, path: str) -> bytes:
        try:
            blob = self._entries[path]
        except KeyError:
            raise FileNotFoundError(path) from None
        return self.git.run("cat-file", "blob", blob)

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.read(path))

    def names(self, folder: str) -> list[str]:
        start = folder.rstrip("/") + "/"
        return sorted({path.removeprefix(start).partition("/")[0] for path in self._entries if path.startswith(start)})
