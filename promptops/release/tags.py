"""Annotated tags that carry a JSON record: read in one pass, written as git objects, signed as git signs with SSH keys."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.project.git import Git

_SIGNATURE = b"-----BEGIN SSH SIGNATURE-----\n"
_HEAD = re.compile(
    rb"object (?P<target>[0-9a-f]{40,64})\ntype (?P<kind>[a-z]+)\ntag (?P<tag>[^\n]*)\n"
    rb"(?:tagger (?P<name>[^<>\n]*) <(?P<email>[^<>\n]*)> (?P<at>[0-9]{1,12}) (?P<zone>[+-][0-9]{4})\n)?\n"
)
Sign = Callable[[bytes], str]
"""From the bytes of a tag to an armored SSH signature in the namespace `git`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """An annotated tag: what it points to, who made it, its title and record, and what was signed (`signature` '' if not).

    `fault` says why the record cannot be read.
    """

    oid: str
    ref: str
    target: str
    tagger: str
    title: str
    body: Mapping[str, Json]
    payload: bytes
    signature: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Tagger:
    """Whom git names as the maker of a tag."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


def parse_tag(ref: str, oid: str, kind: str, content: bytes) -> Tag:
    """The tag an object holds; what does not fit the form is a fault of the tag, not an error."""

    def faulty(why: str) -> Tag:
        return Tag(oid=oid, ref=ref, target="", tagger="", title="", body={}, payload=content, signature="", fault=why)

    if kind != "tag":
        return faulty("it is not an annotated tag")
    payload, mark, rest = content.partition(_SIGNATURE)
    head = _HEAD.match(payload)
    if head is None:
        return faulty("it is not a well-formed tag")
    if head["tag"].decode("utf-8", "replace") != ref.removeprefix("refs/tags/"):
        return faulty(f"it was made under another name, {head['tag'][:90].decode('utf-8', 'replace')}")
    title, _, record = payload[head.end() :].partition(b"\n\n")
    try:
        body = parse_json(record)
    except JsonError as error:
        return faulty(f"its record is not JSON: {error}")
    if not isinstance(body, dict):
        return faulty("its record is not a JSON object")
    email = (head["email"] or b"").decode("utf-8", "replace")
    return Tag(oid=oid, ref=ref, target=head["target"].decode(), tagger=email, title=title.decode("utf-8", "replace"), body=body,
               payload=payload, signature=(mark + rest).decode("ascii", "replace"))  # fmt: skip


def tag_content(*, target: str, tag: str, tagger: Tagger, at: datetime, title: str, body: Mapping[str, Json]) -> bytes:
    """The bytes of an unsigned tag object of a commit."""
    who = re.sub(r"[<>\n\0]", "", tagger.name).strip() or "unknown"
    head = f"object {target}\ntype commit\ntag {tag}\ntagger {who} <{tagger.email}> {int(at.timestamp())} +0000\n\n{title}\n\n"
    return head.encode() + canonical_json(body) + b"\n"


def read_tags(git: Git, prefixes: Sequence[str]) -> list[Tag]:
    """Every tag under the prefixes, by name; two processes however many there are. Raises EvaluationError without git."""
    listed = git.refs(prefixes)
    contents = git.objects(dict.fromkeys(listed.values()))
    return [parse_tag(ref, oid, *contents[oid]) for ref, oid in sorted(listed.items())]


def write_tag(git: Git, ref: str, content: bytes, sign: Sign | None) -> Tag:
    """Store a tag object, signed when a key is there. No ref is made."""
    whole = content + (sign(content).encode() if sign else b"")
    return parse_tag(ref, git.write_object("tag", whole), "tag", whole)


def tagger_of(git: Git, environment: Mapping[str, str]) -> Tagger:
    """Who acts, as git would name them. Raises DataError when git does not know."""
    name = environment.get("GIT_COMMITTER_NAME") or git.config("user.name")
    email = environment.get("GIT_COMMITTER_EMAIL") or git.config("user.email")
    if not email or re.search(r"[<>\s]", email):
        raise DataError("git does not know who you are", hint="git config user.email you@example.com")
    return Tagger(name or email.partition("@")[0], email)


def utc(at: datetime) -> str:
    """A time as records hold it: UTC, whole seconds."""
    return at.astimezone(UTC).isoformat(timespec="seconds")
