"""Is the cached answer the answer to this question too? `cache.json`: a probability in plain numbers, a threshold with a bound."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from promptops.core.errors import Problem, RefusedError
from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.runtime.embedding import HASH_BITS, Embedder
from promptops.runtime.facts import Facts, facts_of, pair_features, vetoes
from promptops.runtime.index import Entry, Near
from promptops.runtime.router import is_number

FORMAT: Final = "promptops.cache/1"
NEIGHBOURS: Final = 30
FEATURES: Final = (
    "best", "other", "margin", "vote", "lead", "first_five", "share", "three", "best_vote", "first", "sharp_vote", "spread", "mean_five", "log_best",
    "matched", "few_unmatched", "many_unmatched", "swapped_word", "length",
)  # fmt: skip
"""What the probability is made of, in the order of the weights."""

MAX_BYTES: Final = 32 * 2**20
MAX_WEIGHTS: Final = 300_000
_TRIED = 4
_SHOWN_FAULTS = 50
_KEYS = frozenset({"format", "threshold", "intercept", "weights", "embedder", "text_inputs", "categories_off", "max_error", "confidence", "audit_share", "evidence"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Serve `entry`, or not; `reason` is why not, `probability` that the answer is right by the matcher (not the bound)."""

    entry: Entry | None
    reason: str
    probability: float = 0.0
    similarity: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """A calibrated matcher. `threshold` (on the score) None means off: nothing was proven, nothing is served.

    `text_inputs` are the inputs that are compared by meaning; all others must be equal and belong to the partition.
    """

    embedder: Embedder
    weights: tuple[float, ...] = (0.0,) * len(FEATURES)
    intercept: float = 0.0
    threshold: float | None = None
    text_inputs: tuple[str, ...] = ()
    categories_off: frozenset[str] = frozenset()
    max_error: float = 0.02
    confidence: float = 0.95
    audit_share: float = 0.05
    evidence: Mapping[str, Json] = field(default_factory=dict)

    def decide(self, text: str, near: Sequence[Near], category: str = "") -> Decision:
        """Whether one of the neighbours' answers may be served, at the error bound of the calibration."""
        if self.threshold is None:
            return Decision(entry=None, reason="off: not calibrated")
        if category in self.categories_off:
            return Decision(entry=None, reason="off for this category")
        score, entry, reason = self.score(text, near)
        if entry is None:
            return Decision(entry=None, reason=reason)
        if not math.isfinite(score):
            return Decision(entry=None, reason="score is not a number")
        found = {"probability": _probability(score), "similarity": near[0].similarity}
        if score < self.threshold:
            return Decision(entry=None, reason="not sure enough", **found)
        return Decision(entry=entry, reason="same answer", **found)

    def score(self, text: str, near: Sequence[Near]) -> tuple[float, Entry | None, str]:
        """(log odds that the answer is right, the entry it is of, why there is none)."""
        features, entry, reason = describe(text, near)
        if entry is None:
            return -math.inf, None, reason
        return self.intercept + math.fsum(weight * value for weight, value in zip(self.weights, features, strict=True)), entry, ""  # fmt: skip

    def as_json(self) -> dict[str, Json]:
        """The document `parse_matcher` reads."""
        return {
            "format": FORMAT, "threshold": self.threshold, "intercept": self.intercept,
            "weights": dict(zip(FEATURES, self.weights, strict=True)), "text_inputs": list(self.text_inputs),
            "categories_off": sorted(self.categories_off), "max_error": self.max_error, "confidence": self.confidence, "audit_share": self.audit_share,
            "embedder": {"name": "lexical", "hash_bits": HASH_BITS, "unseen": self.embedder.unseen,
                         "weights": {str(key): value for key, value in sorted(self.embedder.weights.items())}},
            "evidence": dict(self.evidence),
        }  # fmt: skip


def describe(text: str, near: Sequence[Near]) -> tuple[tuple[float, ...], Entry | None, str]:
    """What the neighbours say about the likeliest answer, and its nearest entry that nothing vetoes."""
    if not near or near[0].similarity <= 0:
        return (), None, "nothing similar"
    votes: dict[str, float] = {}
    sharp: dict[str, float] = {}
    for item in near:
        answer, cube = item.entry.answer, max(item.similarity, 0.0) ** 3
        votes[answer] = votes.get(answer, 0.0) + cube
        sharp[answer] = sharp.get(answer, 0.0) + cube * cube * max(item.similarity, 0.0) ** 2
    answer = max(votes, key=votes.__getitem__)
    facts = facts_of(text)
    chosen, other, reason = _unvetoed(facts, answer, near)
    if chosen is None or other is None:
        return (), None, reason
    total = math.fsum(votes.values()) or 1.0
    shares = sorted((value / total for value in votes.values()), reverse=True)
    of_answer = [item.similarity for item in near if item.entry.answer == answer]
    best = chosen.similarity
    rival = max((item.similarity for item in near if item.entry.answer != answer), default=0.0)
    vote = shares[0]
    return (
        best, rival, best - rival, vote, vote - (shares[1] if len(shares) > 1 else 0.0),
        sum(item.entry.answer == answer for item in near[:5]) / min(5, len(near)), len(of_answer) / len(near), sum(of_answer[:3]) / 3, best * vote,
        float(near[0].entry.answer == answer), sharp[answer] / (math.fsum(sharp.values()) or 1.0), -math.fsum(share * math.log(share + 1e-12) for share in shares),
        sum(item.similarity for item in near[:5]) / 5, math.log(best + 0.01), *pair_features(facts, other),
    ), chosen.entry, ""  # fmt: skip


def _unvetoed(facts: Facts, answer: str, near: Sequence[Near]) -> tuple[Near | None, Facts | None, str]:
    reason = "no neighbour of the likeliest answer"
    tried = 0
    for item in near:
        if item.entry.answer != answer:
            continue
        other = facts_of(item.entry.text)
        against = vetoes(facts, other)
        if not against:
            return item, other, ""
        reason = f"differs in {', '.join(against)}"
        tried += 1
        if tried == _TRIED:
            break
    return None, None, reason


def _probability(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, score))))


def parse_matcher(raw: bytes, *, where: str = "cache.json") -> Matcher:
    """A matcher from the bytes of its file. Raises RefusedError that lists every fault."""
    faults: list[str] = []
    matcher = None
    if len(raw) > MAX_BYTES:
        faults.append(f"a matcher of {len(raw)} bytes; {MAX_BYTES} is the most")
    else:
        try:
            document = parse_json(raw)
        except (JsonError, ValueError, RecursionError) as error:
            faults.append(f"not JSON: {error}")
        else:
            matcher = _checked(document, faults) if isinstance(document, dict) else None
            if matcher is None and not faults:
                faults.append("not a JSON object")
    if faults or matcher is None:
        hint = "calibrate again with `promptops cache calibrate`"
        raise RefusedError(problems=[Problem(what=fault, where=where, hint=hint) for fault in faults[:_SHOWN_FAULTS]])
    return matcher


def _checked(document: dict[str, Json], faults: list[str]) -> Matcher:
    if document.get("format") != FORMAT:
        faults.append(f"format is {str(document.get('format'))[:40]!r}, not {FORMAT!r}")
    faults.extend(f"unknown key {key[:40]!r}" for key in sorted(document.keys() - _KEYS))
    faults.extend(f"no {key!r}" for key in sorted(_KEYS - document.keys()))
    weights, embedder, evidence = (_object(document, name, faults) for name in ("weights", "embedder", "evidence"))
    if set(weights) != set(FEATURES):
        faults.append("weights are not those of the known features")
    if "weights" not in embedder:
        faults.append("no 'embedder.weights'")
    features = _object(embedder, "weights", faults)
    if embedder.get("name") != "lexical" or embedder.get("hash_bits") != HASH_BITS:
        faults.append("embedder is not the built-in one")
    if len(features) > MAX_WEIGHTS:
        faults.append(f"embedder.weights: {len(features)} entries; {MAX_WEIGHTS} is the most")
        features = {}
    table: dict[int, float] = {}
    for key, value in features.items():
        if key.isascii() and key.isdigit() and len(key) <= 9 and is_number(value) and value >= 0:
            table[int(key)] = float(value)
        else:
            faults.append(f"embedder.weights[{key[:40]!r}] is not a weight")
    threshold = document.get("threshold")
    return Matcher(
        embedder=Embedder(weights=table, unseen=_rate(embedder, "unseen", faults, most=1e6)),
        weights=tuple(_number(weights, name, faults) for name in FEATURES), intercept=_number(document, "intercept", faults),
        threshold=None if threshold is None else _number(document, "threshold", faults), text_inputs=_names(document, "text_inputs", faults),
        categories_off=frozenset(_names(document, "categories_off", faults)), max_error=_rate(document, "max_error", faults),
        confidence=_rate(document, "confidence", faults), audit_share=_rate(document, "audit_share", faults), evidence=evidence,
    )  # fmt: skip


def _object(part: Mapping[str, Json], name: str, faults: list[str]) -> dict[str, Json]:
    value = part.get(name, {})
    if isinstance(value, dict):
        return value
    faults.append(f"{name} is not an object")
    return {}


def _number(part: Mapping[str, Json], name: str, faults: list[str]) -> float:
    value = part.get(name)
    if is_number(value):
        return float(value)
    faults.append(f"{name} is not a finite number")
    return 0.0


def _rate(part: Mapping[str, Json], name: str, faults: list[str], *, most: float = 1.0) -> float:
    value = part.get(name)
    if is_number(value) and 0 <= value <= most:
        return float(value)
    faults.append(f"{name} is not a number from 0 to {most:g}")
    return 0.0


def _names(part: Mapping[str, Json], name: str, faults: list[str]) -> tuple[str, ...]:
    value = part.get(name)
    if isinstance(value, list) and len(value) <= 10_000 and all(isinstance(item, str) for item in value):
        return tuple(value)
    faults.append(f"{name} is not a list of names")
    return ()
