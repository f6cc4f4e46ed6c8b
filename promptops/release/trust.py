"""Who may sign what: an `allowed_signers` file, whose namespaces are the roles.

    ana@example.com namespaces="git,promptops-approve,promptops-release,promptops-promote" ssh-ed25519 AAAA...
    ci@example.com  namespaces="promptops-evidence",valid-before="20270101Z" ssh-ed25519 AAAA...

Without `namespaces` a key may sign everything, as in ssh. Events of one channel alone: `promptops-promote-staging`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Literal

from promptops.core.errors import DataError, Problem
from promptops.core.sshsig import PublicKey, parse_public_key, parse_signature

Role = Literal["evidence", "approve", "release", "promote"]
SignatureStatus = Literal[
    "trusted", "accepted", "unchecked", "unsigned-mode", "unsigned", "bad", "unknown-key", "no-role", "expired"
]
GIT = "git"
_TOKEN = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION = re.compile(r'([a-z-]+)(?:="([^"]*)")?(?:,|$)')
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2})?)?Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line: a key, whose it is, what it may sign, and when."""

    principals: tuple[str, ...]
    key: PublicKey
    namespaces: tuple[str, ...] = ("*",)
    valid_after: datetime | None = None
    valid_before: datetime | None = None
    line: int = 0

    def may(self, namespace: str) -> bool:
        """Whether the patterns allow a namespace; `!pattern` excludes, as in ssh."""
        hits = [item for item in self.namespaces if fnmatchcase(namespace, item.removeprefix("!"))]
        return bool(hits) and not any(item.startswith("!") for item in hits)

    def valid_at(self, when: datetime) -> bool:
        return (self.valid_after is None or when >= self.valid_after) and (
            self.valid_before is None or when < self.valid_before
        )

    def is_for(self, principal: str) -> bool:
        hits = [item for item in self.principals if fnmatchcase(principal, item.removeprefix("!"))]
        return bool(hits) and not any(item.startswith("!") for item in hits)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureState:
    """What is known about a signature: its status, whose key it was, and why it does not count."""

    status: SignatureStatus
    principal: str = ""
    why: str = ""

    @property
    def counts(self) -> bool:
        return self.status in ("trusted", "accepted", "unchecked", "unsigned-mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The signers in force, and where they were read. `unsigned` is the explicit mode of a team without keys.

    `accepted` are ids of tags that count as they are, with everything before them in their chain.
    """

    entries: tuple[Entry, ...]
    source: str
    unsigned: bool = False
    accepted: frozenset[str] = frozenset()

    def principal_of(self, key: PublicKey) -> str:
        """The name that a key acts under; '' when it is not listed or only by a pattern."""
        names = [name for entry in self.entries if entry.key == key for name in entry.principals]
        return next((name for name in names if not re.search(r"[*?!\[]", name)), "")

    def judge(self, armored: str, message: bytes, *, namespace: str, roles: Sequence[str], actor: str, when: datetime) -> SignatureState:  # fmt: skip
        """Whether somebody with one of the roles signed the message as `actor` with a key that was valid then."""
        if self.unsigned:
            return SignatureState(
                status="unchecked" if armored else "unsigned-mode", why="unsigned mode: signatures are not checked"
            )
        if not armored:
            return SignatureState(status="unsigned", why="it has no signature")
        try:
            signature = parse_signature(armored)
        except ValueError as error:
            return SignatureState(status="bad", why=str(error))
        if signature.namespace != namespace:
            return SignatureState(status="bad", why=f"it was signed for {signature.namespace[:40]!r}")
        if not signature.matches(message):
            return SignatureState(status="bad", why="the signature does not belong to this content")
        return self._judge_key(signature.key, (namespace, roles), actor, when)

    def _judge_key(
        self, key: PublicKey, wanted: tuple[str, Sequence[str]], actor: str, when: datetime
    ) -> SignatureState:
        namespace, roles = wanted
        entries = [entry for entry in self.entries if entry.key == key]
        if not entries:
            return SignatureState(status="unknown-key", why=f"key {key.fingerprint} is not in {self.source}")
        whose = self.principal_of(key) or actor
        able = [entry for entry in entries if entry.may(namespace) and any(entry.may(role) for role in roles)]
        if not able:
            return SignatureState(
                status="no-role", principal=whose, why=f"{whose} has no role {' or '.join(roles)} in {self.source}"
            )
        named = [entry for entry in able if entry.is_for(actor)]
        if not named:
            return SignatureState(status="bad", principal=whose, why=f"it says {actor[:60]}, and {whose} signed it")
        if not any(entry.valid_at(when) for entry in named):
            return SignatureState(
                status="expired", principal=actor, why=f"the key of {actor} was not valid on {when:%Y-%m-%d}"
            )
        return SignatureState(status="trusted", principal=actor)


def parse_signers(text: str, where: str) -> tuple[Entry, ...]:
    """The entries of an `allowed_signers` file. Raises DataError with every line that is wrong."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entries.append(_entry(line, number))
        except ValueError as error:
            problems.append(Problem(what=str(error), where=f"{where}:{number}"))
    if problems:
        raise DataError(problems=problems)
    return tuple(entries)


def _entry(line: str, number: int) -> Entry:
    tokens = _TOKEN.findall(line)
    if len(tokens) < 3:
        raise ValueError("not a line `principals [options] key-type key`")
    principals = tuple(item for item in tokens[0].strip('"').split(",") if item)
    options: dict[str, str] = {}
    rest = tokens[1:]
    if not rest[0].startswith(("ssh-", "ecdsa-", "sk-")):
        options, rest = _options(rest[0]), rest[1:]
    key = parse_public_key(" ".join(rest))
    after, before = (_time(options[name]) if name in options else None for name in ("valid-after", "valid-before"))
    namespaces = tuple(item for item in options.get("namespaces", "*").split(",") if item)
    return Entry(
        principals=principals, key=key, namespaces=namespaces, valid_after=after, valid_before=before, line=number
    )


def _options(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if match is None:
            raise ValueError(f"unreadable options {text[position:][:40]!r}")
        name, value = match[1], match[2]
        if name == "cert-authority":
            raise ValueError("certificates are not supported; list the keys themselves")
        if name not in ("namespaces", "valid-after", "valid-before") or value is None:
            raise ValueError(f"unknown option {name!r}; known: namespaces, valid-after, valid-before")
        if name in found:
            raise ValueError(f"option {name} is given twice")
        found[name] = value
        position = match.end()
    return found


def _time(text: str) -> datetime:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:30]!r} is not a time as 20270131Z or 202701311530Z (with Z: a time zone that differs from machine to machine decides nothing)")  # fmt: skip
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
