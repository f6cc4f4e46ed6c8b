"""The grammar of what is kept in git: versions, channel events, evidence. Writing a name and reading it are inverses."""

import re
from dataclasses import dataclass
from functools import lru_cache

from promptops.core.errors import DataError
from promptops.core.names import NAME_PATTERN, is_name

VERSIONS = "refs/tags/prompt/"
EVENTS = "refs/tags/channel/"
EVIDENCE = "refs/promptops/evidence/"
NAMESPACES = (VERSIONS, EVENTS, EVIDENCE)
LAST_SEQ = 999_999
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")
_VERSION_REF = re.compile(rf"{VERSIONS}(?P<prompt>{NAME_PATTERN})/v(?P<version>[0-9.]+)")
_EVENT_REF = re.compile(rf"{EVENTS}(?P<prompt>{NAME_PATTERN})/(?P<channel>{NAME_PATTERN})/(?P<seq>[0-9]{{6}})")
_EVIDENCE_REF = re.compile(rf"{EVIDENCE}(?P<subject>[0-9a-f]{{64}})/(?P<digest>[0-9a-f]{{64}})")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A semantic version without pre-release; `1.4.0` as text."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def tag(self) -> str:
        """As people write it: `v1.4.0`."""
        return f"v{self}"

    @classmethod
    @lru_cache(maxsize=4096)  # a repository of 10,000 tags names a few hundred versions
    def parse(cls, text: str) -> "Version":
        """The version that `1.4.0` or `v1.4.0` names. Raises DataError for anything else."""
        match = _VERSION.fullmatch(text.removeprefix("v"))
        if match is None:
            raise DataError(f"{text[:60]!r} is not a version", hint="write it as v1.4.0")
        return cls(*map(int, match.groups()))


@dataclass(frozen=True, slots=True)
class VersionName:
    """`prompt/<prompt>/v1.4.0`: the annotated tag of a released version."""

    prompt: str
    version: Version

    @property
    def tag(self) -> str:
        return f"prompt/{self.prompt}/{self.version.tag}"

    @property
    def ref(self) -> str:
        return f"refs/tags/{self.tag}"


@dataclass(frozen=True, slots=True)
class EventName:
    """`channel/<prompt>/<channel>/000007`: the annotated tag of one event of a channel; the first has number 1."""

    prompt: str
    channel: str
    seq: int

    @property
    def tag(self) -> str:
        return f"channel/{self.prompt}/{self.channel}/{self.seq:06}"

    @property
    def ref(self) -> str:
        return f"refs/tags/{self.tag}"


@dataclass(frozen=True, slots=True)
class EvidenceName:
    """`refs/promptops/evidence/<subject>/<digest>`: one signed statement; both are 64 hex digits of a sha256."""

    subject: str
    digest: str

    @property
    def ref(self) -> str:
        return f"{EVIDENCE}{self.subject}/{self.digest}"


RefName = VersionName | EventName | EvidenceName


def parse_ref(ref: str) -> RefName | None:
    """What a full ref names; None when it is none of ours or not spelled the one way we write it."""
    name: RefName | None = None
    if match := _EVENT_REF.fullmatch(ref):
        name = EventName(match["prompt"], match["channel"], int(match["seq"]))
        return name if name.seq and is_name(name.prompt) and is_name(name.channel) else None
    if (match := _VERSION_REF.fullmatch(ref)) and _VERSION.fullmatch(match["version"]):
        name = VersionName(match["prompt"], Version.parse(match["version"]))
        return name if is_name(name.prompt) else None
    if match := _EVIDENCE_REF.fullmatch(ref):
        return EvidenceName(match["subject"], match["digest"])
    return None


def is_ours(ref: str) -> bool:
    """Whether a ref lies in a namespace of promptops, well spelled or not."""
    return ref.startswith(NAMESPACES)


def parse_pin(text: str) -> tuple[str, Version]:
    """(prompt, version) of `NAME@v1.4.0`. Raises DataError."""
    name, at, version = text.partition("@")
    if not at or not is_name(name):
        raise DataError(f"{text[:90]!r} names no version of a prompt", hint="write NAME@v1.4.0")
    return name, Version.parse(version)


def check_channel(name: str) -> str:
    """The name of a channel, when it is one. Raises DataError."""
    if not is_name(name):
        raise DataError(f"{name[:60]!r} is not the name of a channel", hint="use a slug such as dev, staging or prod")
    return name
