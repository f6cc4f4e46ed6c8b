"""Content addresses: sha256 over canonical JSON, written `sha256:<64 hex>`."""

import hashlib

from promptops.core.jsontext import Json, canonical_json

SHORT = 12


def digest(value: Json) -> str:
    """The content address of a JSON value; raises JsonError when it has no JSON form."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def short(address: str) -> str:
    """The first 12 hex digits, for people."""
    return address.removeprefix("sha256:")[:SHORT]
