"""Answers as harmless text: no image, no HTML, no link but to listed hosts."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptops.core.jsontext import Json

_ROUNDS = 8
_DESTINATION = re.compile(r"\]\(((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*)\)", re.DOTALL)
_DEFINITION = re.compile(r"\[[^\[\]\n]{1,999}\]:\s*(\S+)")
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^<>\s]*|[^<>\s@]+@[^<>\s]+)>")
_BLOCK = re.compile(r"<(script|style|iframe|object|svg|math|template)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_BARE = re.compile(r"(?:\b[A-Za-z][A-Za-z0-9+.-]{1,31}:/{1,2}|\bwww\.|(?<![\w:/])//(?=[\w.-]+\.))[^\s<>\"'`)\]}]*")
_SUSPECT = re.compile(r"[<!\[]|//|www\.|:/", re.IGNORECASE)
_URL = re.compile(
    r"https?://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::[0-9]{1,5})?(?:[/?#][^\s\\<>\"]*)?", re.ASCII | re.IGNORECASE
)
REMOVED = "[link removed]"


class MarkupError(ValueError):
    """The text does not come to rest: it is built to change its meaning when it is cleaned."""


def clean_text(text: str, hosts: Sequence[str]) -> str:
    """The text without images, HTML and links to hosts that are not listed. Raises MarkupError."""
    for _ in range(_ROUNDS):
        if not _SUSPECT.search(text):
            return text
        found = _clean_once(text, hosts)
        if found == text:
            return text
        text = found
    raise MarkupError("the markup of the answer cannot be cleaned")


def clean_value(value: "Json", hosts: Sequence[str]) -> "Json":
    """A JSON value with every text in it cleaned."""
    if isinstance(value, str):
        return clean_text(value, hosts)
    if isinstance(value, list):
        return [clean_value(item, hosts) for item in value]
    if isinstance(value, dict):
        return {key: clean_value(item, hosts) for key, item in value.items()}
    return value


def _clean_once(text: str, hosts: Sequence[str]) -> str:
    text = text.replace("![", "[")
    text = _BLOCK.sub("", text)
    text = _AUTOLINK.sub(lambda match: match[0] if _is_listed(match[1], hosts) else REMOVED, text)
    text = _TAG.sub(lambda match: match[0] if _AUTOLINK.fullmatch(match[0]) else "", text)
    text = re.sub(r"<(?=[A-Za-z/!?])(?![A-Za-z][A-Za-z0-9+.-]*:[^<>\s]*>)", "", text)
    text = _DESTINATION.sub(_keep_if_listed("]", hosts), text)
    text = _DEFINITION.sub(lambda match: match[0] if _is_listed(match[1], hosts) or not re.search("[/:]", match[1]) else REMOVED, text)  # fmt: skip
    return _BARE.sub(lambda match: match[0] if _is_listed(match[0].rstrip(".,;:!?*_~"), hosts) else REMOVED, text)


def _keep_if_listed(otherwise: str, hosts: Sequence[str]) -> Callable[["re.Match[str]"], str]:
    def keep(match: "re.Match[str]") -> str:
        inside = match[1].strip().split(maxsplit=1)
        return match[0] if inside and _is_listed(inside[0].strip("<>"), hosts) else otherwise

    return keep


def _is_listed(url: str, hosts: Sequence[str]) -> bool:
    """Whether a URL leads to a listed host, however a browser reads it: a peculiar one does not."""
    found = _URL.fullmatch(url)
    if found is None:
        return False
    host = found[1].lower()
    return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in hosts)
