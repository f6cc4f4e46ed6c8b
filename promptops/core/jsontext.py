"""Strict JSON in, canonical JSON out.

`parse_json` refuses what JSON parsers disagree about: duplicate keys, NaN, lone surrogates, integers
beyond 64 bits, deep nesting. `canonical_json` is the only serialisation that digests are taken of.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

Json = Any
"""A value that `parse_json` can return."""

MAX_DEPTH = 200
_SPACED_COLON = re.compile(rb'"\s+:')
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_EXACT_FLOAT = 2**53


class JsonError(ValueError):
    """The text is not strict JSON; the message says why, without repeating the text."""


def parse_json(raw: str | bytes) -> Json:
    """The value of a JSON document.

    Raises JsonError for anything but one strict JSON value.
    """
    import orjson

    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise JsonError(_reason(error)) from None
    keys = _count_keys(value, 1)
    if keys is not None and data.count(b":") == keys:  # one colon for each key that was kept: none was there twice
        return value
    if keys is None or _colons_after_quotes(data) != keys or _SPACED_COLON.search(data):
        return _parse_slowly(data)
    return value


def canonical_json(value: Json) -> bytes:
    """UTF-8 JSON with sorted keys and no blanks: equal values give equal bytes.

    Floats must be finite, as all that the loaders return are. Raises JsonError when the value has no portable
    JSON form (integers beyond 64 bits, foreign types).
    """
    import orjson

    options = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    try:
        return orjson.dumps(value, default=_plain, option=options)
    except (orjson.JSONEncodeError, TypeError) as error:
        raise JsonError(str(error)) from error


def at_pointer(value: Json, pointer: str) -> Json:
    """The part of `value` that an RFC 6901 JSON pointer names ('' is the whole). Raises KeyError when absent."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value[key]
        elif isinstance(value, list) and _INDEX.fullmatch(key) and int(key) < len(value):
            value = value[int(key)]
        else:
            raise KeyError(pointer)
    return value


def readable(value: Json) -> str:
    """A value as people read it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else canonical_json(value).decode()


def _colons_after_quotes(data: bytes) -> int:
    r"""How often `":` ends a key; `\":` is part of a text, such as JSON inside JSON, unless backslashes are escaped too."""
    count = data.count(b'":')
    return count if b"\\\\" in data else count - data.count(b'\\":')


def _plain(item: object) -> Json:
    if isinstance(item, Mapping):
        return dict(item)
    raise TypeError(f"{type(item).__name__} is not a JSON value")


def _reason(error: json.JSONDecodeError) -> str:
    return f"{error.msg} at column {error.colno}"


def _count_keys(value: Json, depth: int) -> int | None:
    """Number of object keys below `value`; None when a closer look is needed. Raises JsonError when nested too deep."""
    kind = type(value)
    if kind is float:
        return None if value >= _EXACT_FLOAT or value <= -_EXACT_FLOAT else 0
    if kind is dict:
        total, items = len(value), value.values()
    elif kind is list:
        total, items = 0, value
    else:
        return 0
    if depth > MAX_DEPTH:
        raise JsonError(f"nested deeper than {MAX_DEPTH} levels")
    exact = True
    for item in items:
        kind = type(item)
        if kind is str or kind is int or kind is bool:
            continue
        below = _count_keys(item, depth + 1)
        exact = exact and below is not None
        total += below or 0
    return total if exact else None


def _parse_slowly(data: bytes) -> Json:
    """Exact check for what orjson lets pass: duplicate keys and integers it would round to floats."""

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise JsonError(f"duplicate key {double!r}")
        return result

    def whole(text: str) -> int:
        number = int(text) if len(text) <= 20 else 2**64
        if not -(2**63) <= number < 2**64:
            raise JsonError("integer beyond 64 bits; write it as a string")
        return number

    value: Json = json.loads(data, object_pairs_hook=unique, parse_int=whole)
    return value
