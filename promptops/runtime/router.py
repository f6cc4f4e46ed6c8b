"""Small model or large model: `router.json` scored in plain Python, and large whenever anything is odd."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, TypeGuard
from zlib import crc32

from promptops.core.errors import Problem, RefusedError
from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.runtime.language import guess_language

FORMAT: Final = "promptops.router/1"
RULES: Final = ("large", "small", "length", "category", "text")
"""From simplest to richest; `large` and `small` send everything one way."""

HASH_BITS: Final = 20
MAX_CHARS: Final = 16_384
"""Only so much of a text is read for words; its whole length counts for `length`."""

MAX_BYTES: Final = 32 * 2**20
MAX_TERMS: Final = 2**18
MAX_CATEGORIES: Final = 10_000
_LARGEST = 1e6
_SHOWN_FAULTS = 50
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_MASK = 2**HASH_BITS - 1

Target = Literal["small", "large"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a request goes, and why; `score` is the quality the large model is expected to add, None when not computed."""

    target: Target
    reason: str
    score: float | None = None


def routing_text(inputs: Mapping[str, Json]) -> str:
    """What the router reads of a request: its texts and numbers, by name of the input."""
    import json

    parts = (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        for _, value in sorted(inputs.items())
    )
    return "\n".join(parts)


def hashed_terms(text: str) -> list[int]:
    """Words and pairs of neighbouring words of the first 16,384 characters, as numbers below 2**20, in order."""
    singles = [
        crc32(word.encode("utf-8", "surrogatepass")) & _MASK for word in _TOKEN.findall(text[:MAX_CHARS].lower())
    ]
    pairs = [(first * 31 + second * 17 + 7) & _MASK for first, second in pairwise(singles)]
    return singles + pairs


def log_length(text: str) -> float:
    return math.log1p(len(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A trained rule. `threshold` None means: no share of small calls was shown to be safe, all go to the large model.

    `terms` maps a hashed term to (idf, weight). `longest` and `shortest` bound the lengths seen in training; `min_known` is
    the least share of known words. What lies outside is unlike the evidence, and goes to the large model.
    """

    rule: str
    threshold: float | None
    small: str = ""
    large: str = ""
    intercept: float = 0.0
    length_mean: float = 0.0
    length_scale: float = 1.0
    length_weight: float = 0.0
    categories: Mapping[str, float] = field(default_factory=dict)
    languages: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    shortest: int = 0
    longest: int = MAX_CHARS
    min_known: float = 0.0
    evidence: Mapping[str, Json] = field(default_factory=dict)

    def route(self, text: str, category: str = "") -> Route:
        """Never raises: what cannot be scored goes to the large model."""
        try:
            return self._route(text, category)
        except Exception as error:  # noqa: BLE001 - a router that fails must not fail the request
            return Route(target="large", reason=f"router failed: {type(error).__name__}")

    def _route(self, text: str, category: str) -> Route:
        if self.rule == "large" or self.threshold is None:
            return Route(target="large", reason="no small share is proven")
        if not text.strip():
            return Route(target="large", reason="empty text")
        if not self.shortest <= len(text) <= self.longest:
            return Route(target="large", reason="length not seen in training")
        if self.rule == "category" and category not in self.categories:
            return Route(target="large", reason="category not seen in training")
        score, known = self.score_known(text, category)
        if not math.isfinite(score):
            return Route(target="large", reason="score is not a number")
        if known < self.min_known:
            return Route(target="large", reason="words not seen in training", score=score)
        if score <= self.threshold:
            return Route(target="small", reason=f"rule {self.rule}", score=score)
        return Route(target="large", reason=f"rule {self.rule}", score=score)

    def score(self, text: str, category: str = "") -> float:
        """Expected quality that the large model adds, for this text."""
        return self.score_known(text, category)[0]

    def score_known(self, text: str, category: str = "") -> tuple[float, float]:
        """(score, share of the text's words that training knew)."""
        score = self.intercept
        if self.length_weight:
            score += self.length_weight * ((log_length(text) - self.length_mean) / self.length_scale)
        score += self.categories.get(category, 0.0)
        if self.languages:
            score += self.languages.get(guess_language(text), 0.0)
        if not self.terms:
            return score, 1.0
        product, known = self._text_score(hashed_terms(text))
        return score + product, known

    def _text_score(self, found: list[int]) -> tuple[float, float]:
        """Weights times the tf-idf vector (1 + log tf, unit length), as scikit-learn's TfidfVectorizer has it."""
        if not found:
            return 0.0, 0.0
        get, log = self.terms.get, math.log
        product = square = 0.0
        known = 0
        for term, count in Counter(found).items():
            entry = get(term)
            if entry is None:
                continue
            known += count
            value = entry[0] if count == 1 else entry[0] * (1.0 + log(count))
            square += value * value
            product += value * entry[1]
        return (product / math.sqrt(square) if square else 0.0), known / len(found)

    def as_json(self) -> dict[str, Json]:
        """The document `parse_router` reads."""
        return {
            "format": FORMAT, "rule": self.rule, "threshold": self.threshold, "small": self.small, "large": self.large,
            "intercept": self.intercept,
            "length": {"mean": self.length_mean, "scale": self.length_scale, "weight": self.length_weight,
                       "shortest": self.shortest, "longest": self.longest},
            "categories": dict(sorted(self.categories.items())), "languages": dict(sorted(self.languages.items())),
            "text": {"hash_bits": HASH_BITS, "max_chars": MAX_CHARS, "min_known": self.min_known,
                     "terms": {str(term): list(pair) for term, pair in sorted(self.terms.items())}},
            "evidence": dict(self.evidence),
        }  # fmt: skip


def parse_router(raw: bytes, *, where: str = "router.json") -> Router:
    """A router from the bytes of its file. Raises RefusedError that lists every fault: the file is data, never code."""
    faults: list[str] = []
    document = _document(raw, faults)
    if document is not None:
        router = _checked(document, faults)
        if not faults:
            return router
    problems = [
        Problem(what=fault, where=where, hint="train it again with `promptops route train`") for fault in faults
    ]
    raise RefusedError(problems=problems[:_SHOWN_FAULTS])


def _document(raw: bytes, faults: list[str]) -> dict[str, Json] | None:
    if len(raw) > MAX_BYTES:
        faults.append(f"a router of {len(raw)} bytes; {MAX_BYTES} is the most")
        return None
    if raw.lstrip()[:1] != b"{":
        faults.append("not a JSON object (pickles and other programs are never read)")
        return None
    try:
        document = parse_json(raw)
    except (JsonError, ValueError, RecursionError) as error:
        faults.append(f"not JSON: {error}")
        return None
    if not isinstance(document, dict):
        faults.append("not a JSON object")
        return None
    return document


_KEYS = frozenset({"format", "rule", "threshold", "small", "large", "intercept", "length", "categories", "languages", "text", "evidence"})  # fmt: skip


def _checked(document: dict[str, Json], faults: list[str]) -> Router:
    if document.get("format") != FORMAT:
        faults.append(f"format is {str(document.get('format'))[:40]!r}, not {FORMAT!r}")
    faults.extend(f"unknown key {key[:40]!r}" for key in sorted(document.keys() - _KEYS))
    faults.extend(f"no {key!r}" for key in sorted(_KEYS - document.keys()))
    length, text = _part(document, "length", faults), _part(document, "text", faults)
    for name, wanted in (("hash_bits", HASH_BITS), ("max_chars", MAX_CHARS)):
        if text.get(name) != wanted:
            faults.append(f"text.{name} is not {wanted}")
    rule = document.get("rule")
    if rule not in RULES:
        faults.append(f"unknown rule {str(rule)[:40]!r}")
    threshold = document.get("threshold")
    scale = _number(length, "length.scale", "scale", faults)
    if scale <= 0:
        faults.append("length.scale is not positive")
    shortest, longest = (_whole(length, f"length.{name}", name, faults) for name in ("shortest", "longest"))
    min_known = _number(text, "text.min_known", "min_known", faults)
    if not 0 <= min_known <= 1:
        faults.append("text.min_known is not in 0..1")
    return Router(
        rule=str(rule),
        threshold=None if threshold is None else _number(document, "threshold", "threshold", faults),
        small=_name(document, "small", faults), large=_name(document, "large", faults),
        intercept=_number(document, "intercept", "intercept", faults),
        length_mean=_number(length, "length.mean", "mean", faults), length_scale=scale or 1.0,
        length_weight=_number(length, "length.weight", "weight", faults), shortest=shortest, longest=longest,
        categories=_weights(document, "categories", faults), languages=_weights(document, "languages", faults),
        terms=dict(_terms(text, faults)), min_known=min_known, evidence=_part(document, "evidence", faults),
    )  # fmt: skip


def _part(document: Mapping[str, Json], name: str, faults: list[str]) -> dict[str, Json]:
    part = document.get(name, {})
    if isinstance(part, dict):
        return part
    faults.append(f"{name} is not an object")
    return {}


def is_number(value: Any) -> TypeGuard[float]:
    """A finite, modest number; true and false are none."""
    return type(value) in {int, float} and -_LARGEST <= value <= _LARGEST


def _number(part: Mapping[str, Json], label: str, key: str, faults: list[str]) -> float:
    value = part.get(key)
    if is_number(value):
        return float(value)
    faults.append(f"{label} is not a finite number within {_LARGEST:g}")
    return 0.0


def _whole(part: Mapping[str, Json], label: str, key: str, faults: list[str]) -> int:
    value = part.get(key)
    if type(value) is int and 0 <= value <= 2**40:
        return value
    faults.append(f"{label} is not a whole number of characters")
    return 0


def _name(document: Mapping[str, Json], key: str, faults: list[str]) -> str:
    value = document.get(key)
    if isinstance(value, str) and len(value) <= 200 and value.isprintable():
        return value
    faults.append(f"{key} is not the name of a model")
    return ""


def _weights(document: Mapping[str, Json], name: str, faults: list[str]) -> dict[str, float]:
    part = _part(document, name, faults)
    if len(part) > MAX_CATEGORIES:
        faults.append(f"{name}: {len(part)} entries; {MAX_CATEGORIES} is the most")
        return {}
    for key, value in part.items():
        if not is_number(value):
            faults.append(f"{name}[{key[:40]!r}] is not a finite number within {_LARGEST:g}")
    return {key: float(value) for key, value in part.items() if is_number(value)}


def _terms(text: Mapping[str, Json], faults: list[str]) -> Iterator[tuple[int, tuple[float, float]]]:
    if "terms" not in text:
        faults.append("no 'text.terms'")
    terms = _part(text, "terms", faults)
    if len(terms) > MAX_TERMS:
        faults.append(f"text.terms: {len(terms)} entries; {MAX_TERMS} is the most")
        return
    for key, pair in terms.items():
        if not (key.isascii() and key.isdigit() and len(key) <= 7 and int(key) <= _MASK):
            faults.append(f"text.terms: {key[:40]!r} is not a hashed term")
        elif not (isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair)) and pair[0] > 0):
            faults.append(f"text.terms[{key}] is not [idf, weight]")
        else:
            yield int(key), (float(pair[0]), float(pair[1]))
