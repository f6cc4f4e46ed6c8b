"""Versions: the record of a release, and the number after a bump."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.release.names import Version, VersionName

if TYPE_CHECKING:  # it loads what a promotion does not need
    from promptops.core.compat import Bump

BUMPS: "tuple[Bump, ...]" = ("patch", "minor", "major")
FIRST = Version(1, 0, 0)
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """What a version tag says: the content by its digests, what allowed it, and what changed.

    `model` is the identity of the model the digests were taken with; `evidence` is empty for a version released without.
    """

    prompt: str
    version: Version
    commit: str
    prompt_digest: str
    subject: str
    model: Mapping[str, Json]
    evidence: str
    previous: Version | None
    bump: "Bump"
    reason: str
    changelog: str
    actor: str
    at: str

    @property
    def name(self) -> VersionName:
        return VersionName(self.prompt, self.version)

    def as_dict(self) -> dict[str, Json]:
        return {
            "promptops": FORMAT, "kind": "version", "prompt": self.prompt, "version": str(self.version), "commit": self.commit,
            "prompt_digest": self.prompt_digest, "subject": self.subject, "model": dict(self.model), "evidence": self.evidence,
            "previous": str(self.previous) if self.previous else "", "bump": self.bump, "reason": self.reason,
            "changelog": self.changelog, "actor": self.actor, "at": self.at,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, body: Mapping[str, Json]) -> "VersionRecord":
        """Inverse of `as_dict`. Raises ValueError saying what is wrong with the body."""
        if body.get("promptops") != FORMAT or body.get("kind") != "version":
            raise ValueError(f"not a version of format {FORMAT}")
        texts = ("prompt", "version", "commit", "prompt_digest", "subject", "evidence", "previous", "bump", "reason", "changelog", "actor", "at")  # fmt: skip
        expected = {"promptops", "kind", "model", *texts}
        if body.keys() != expected:
            raise ValueError(f"missing or unknown keys: {', '.join(sorted(body.keys() ^ expected))}")
        if not all(isinstance(body[key], str) for key in texts) or not isinstance(body["model"], dict):
            raise ValueError("a value has the wrong type")
        if body["bump"] not in BUMPS:
            raise ValueError("unknown bump")
        try:
            version = Version.parse(body["version"])
            previous = Version.parse(body["previous"]) if body["previous"] else None
        except DataError as error:
            raise ValueError(str(error)) from error
        return cls(
            prompt=body["prompt"], version=version, commit=body["commit"], prompt_digest=body["prompt_digest"], subject=body["subject"],
            model=body["model"], evidence=body["evidence"], previous=previous, bump=body["bump"], reason=body["reason"],
            changelog=body["changelog"], actor=body["actor"], at=body["at"],
        )  # fmt: skip


def bumped(version: Version | None, bump: "Bump") -> Version:
    """The version after `version`; the first is 1.0.0."""
    if version is None:
        return FIRST
    if bump == "major":
        return Version(version.major + 1, 0, 0)
    if bump == "minor":
        return Version(version.major, version.minor + 1, 0)
    return Version(version.major, version.minor, version.patch + 1)


def at_least(bump: "Bump", needed: "Bump") -> bool:
    """Whether `bump` is as large as the content needs."""
    return BUMPS.index(bump) >= BUMPS.index(needed)
