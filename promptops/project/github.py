"""GitHub, as a job sees it: the base of the change, the files to write to, and the one comment that updates itself."""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptops.core.errors import DataError, EvaluationError

MARKER = "<!-- promptops -->"
MOST_COMMENT = 65_536
"""Characters GitHub takes in a comment."""
_MOST_SUMMARY = 1_000_000
_TIMEOUT_S = 30.0
_PAGE = 100


@dataclass(frozen=True, slots=True)
class GitHubJob:
    """The job this process runs in, read from its environment. Nothing of it is ever part of a command line."""

    environment: Mapping[str, str]

    @classmethod
    def here(cls) -> "GitHubJob | None":
        """The job, or None when this is no job of GitHub's."""
        return cls(dict(os.environ)) if os.environ.get("GITHUB_ACTIONS") == "true" else None

    @property
    def base(self) -> str:
        """The commit or branch the change is for: of a merge group, of a pull request, else what was there before a push."""
        event = self.event
        merge_group = event.get("merge_group", {}).get("base_sha")
        pull_request = event.get("pull_request", {}).get("base", {}).get("sha")
        before = event.get("before", "")
        return str(merge_group or pull_request or (before if before.strip("0") else ""))

    @property
    def head(self) -> str:
        """The head of the pull request, which differs from the merge commit that is checked out; '' elsewhere."""
        return str(self.event.get("pull_request", {}).get("head", {}).get("sha", ""))

    @property
    def number(self) -> int | None:
        number = self.event.get("pull_request", {}).get("number")
        return number if isinstance(number, int) else None

    @property
    def fork(self) -> bool:
        """Whether the change comes from another repository, whose jobs get no secret."""
        head = self.event.get("pull_request", {}).get("head", {}).get("repo") or {}
        return bool(self.number) and head.get("full_name") != self.environment.get("GITHUB_REPOSITORY")

    @property
    def event(self) -> Mapping[str, Any]:
        path = self.environment.get("GITHUB_EVENT_PATH", "")
        try:
            found = json.loads(Path(path).read_bytes()) if path else {}
        except (OSError, ValueError):
            found = {}
        return found if isinstance(found, dict) else {}

    def write_summary(self, markdown: str) -> None:
        """Add to the page of the job; GitHub takes 1 MiB."""
        self._append("GITHUB_STEP_SUMMARY", markdown[:_MOST_SUMMARY] + "\n")

    def write_outputs(self, values: Mapping[str, str]) -> None:
        """Hand values to later steps, each under a delimiter nobody can know beforehand."""
        for name, value in values.items():
            delimiter = f"promptops-{secrets.token_hex(16)}"
            self._append("GITHUB_OUTPUT", f"{name}<<{delimiter}\n{value}\n{delimiter}\n")

    def _append(self, variable: str, text: str) -> None:
        path = self.environment.get(variable, "")
        if not path:
            return
        try:
            with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            raise EvaluationError(f"cannot write {variable}", why=error.strerror or "") from error


def post_comment(job: GitHubJob, body: str) -> str:
    """Write the pull request's comment, or rewrite the one written before; the address it has then.

    The comment is found by its author and its first line together, so that nobody else's text is taken for it. Raises
    DataError outside a pull request or without a token, EvaluationError when GitHub says no.
    """
    repository, token = job.environment.get("GITHUB_REPOSITORY", ""), job.environment.get("GITHUB_TOKEN", "")
    if job.number is None or repository.count("/") != 1:
        raise DataError("not in a job of a pull request", hint="run it in a workflow with `on: pull_request`")
    if not token:
        raise DataError(
            "no token to write the comment with",
            where="GITHUB_TOKEN",
            hint="pass `secrets.GITHUB_TOKEN` with `pull-requests: write`",
        )
    address = job.environment.get("GITHUB_API_URL") or "https://api.github.com"
    author = job.environment.get("PROMPTOPS_COMMENT_AUTHOR") or "github-actions[bot]"
    return asyncio.run(
        _post(f"{address}/repos/{repository}", job.number, f"{MARKER}\n{body}"[:MOST_COMMENT], author, token)
    )


async def _post(repository: str, number: int, body: str, author: str, token: str) -> str:
    import aiohttp

    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
            found = await _own_comment(session, f"{repository}/issues/{number}/comments", author)
            method, url = (
                ("PATCH", f"{repository}/issues/comments/{found}")
                if found
                else ("POST", f"{repository}/issues/{number}/comments")
            )
            answer = await _call(session, method, url, {"body": body})
            return str(answer.get("html_url", ""))
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise EvaluationError(
            "the comment could not be written", why=type(error).__name__, hint="run the job again"
        ) from error


async def _own_comment(session: Any, url: str, author: str) -> int | None:
    page = 1
    while True:
        comments = await _call(session, "GET", f"{url}?per_page={_PAGE}&page={page}")
        for comment in comments:
            by = (comment.get("user") or {}).get("login")
            if by == author and str(comment.get("body") or "").startswith(MARKER):
                return int(comment["id"])
        if len(comments) < _PAGE:
            return None
        page += 1


async def _call(session: Any, method: str, url: str, payload: Mapping[str, Any] | None = None) -> Any:
    async with session.request(method, url, json=payload, allow_redirects=False) as response:
        if response.status >= 300:
            raise EvaluationError(f"GitHub answered {response.status} to {method} of the comment",
                                  hint="the job needs `pull-requests: write`" if response.status in (401, 403, 404) else "run the job again")  # fmt: skip
        return await response.json()
