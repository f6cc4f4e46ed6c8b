"""Whether what people ask is what the golden cases ask: languages, lengths, categories, and the words themselves."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from promptops.audit.sources import open_source
from promptops.core.errors import DataError
from promptops.gate.stats import holm
from promptops.project.golden import first_cases
from promptops.project.project import Project
from promptops.runtime.embedding import Embedder
from promptops.runtime.language import guess_language

MOST = 1000
_LEAST = 50
_WIDTH = 4096
_ROUNDS = 1999
_ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One input: of a golden case or of a request. `text` is None where events have no content."""

    id: str
    category: str
    language: str
    chars: int
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One two-sample test: `what` it compares, its adjusted p, and the difference in words."""

    what: str
    p: float
    p_adjusted: float
    said: str

    @property
    def differs(self) -> bool:
        return self.p_adjusted < _ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDrift:
    """Golden inputs beside a random sample of requests. `far` are requests least like any golden case, least like first."""

    prompt: str
    golden: int
    requests: int
    sampled: int
    tests: tuple[Compared, ...]
    far: tuple[tuple[Asked, float], ...]

    @property
    def differs(self) -> bool:
        return any(test.differs for test in self.tests)


def compare_inputs(project: Project, prompt: str, events: str, *, seed: int = 0) -> InputDrift:
    """Compare at most 1,000 golden inputs with at most 1,000 requests, by permutation tests corrected by Holm.

    Shares by the chi-square statistic, lengths by the difference of mean logarithms, words by the maximum mean discrepancy of the built-in embedder
    (Gretton et al. 2012, J. Mach. Learn. Res. 13:723-773). Raises DataError with fewer than 50 of either.
    """
    rng = random.Random(seed)  # noqa: S311 - a sample, no secret
    evaluable = project.load(prompt)
    cases = [_golden(case.id, case.category, case.inputs) for case in first_cases(evaluable.tree, evaluable.suite)]
    golden = rng.sample(cases, MOST) if len(cases) > MOST else cases
    requests, seen = _sample(events, prompt, rng)
    if len(golden) < _LEAST or len(requests) < _LEAST:
        raise DataError(f"{len(golden)} golden cases and {len(requests)} requests of {prompt} are too few to compare", hint=f"{_LEAST} of each are needed")  # fmt: skip
    return _compare(prompt, golden, requests, seen, np.random.default_rng(seed))


def _golden(case: str, category: str, inputs: Mapping[str, Any]) -> Asked:
    text = "\n".join(value for value in inputs.values() if isinstance(value, str))
    return Asked(id=case, category=category, language=guess_language(text), chars=len(text), text=text)


def _sample(address: str, prompt: str, rng: random.Random) -> tuple[list[Asked], int]:
    """A uniform sample of the requests of a prompt, in one pass (Vitter's algorithm R)."""
    kept: list[Asked] = []
    seen, mark = 0, orjson.dumps(prompt)
    lines = open_source(address)
    try:
        for line in lines:
            if mark in line and (asked := _request(line, prompt)):
                seen += 1
                place = len(kept) if seen <= MOST else rng.randrange(seen)
                if place == len(kept):
                    kept.append(asked)
                elif place < MOST:
                    kept[place] = asked
    finally:
        lines.close()
    return kept, seen


def _request(line: bytes, prompt: str) -> Asked | None:
    try:
        event = orjson.loads(line)
        if event["kind"] != "reply" or event["prompt"] != prompt:
            return None
        inputs = event.get("inputs")
        text = None if inputs is None else "\n".join(value for value in inputs.values() if isinstance(value, str))
        return Asked(id=str(event["id"]), category=str(event["category"]), language=str(event["language"]), chars=int(event["input_chars"]), text=text)  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _compare(prompt: str, golden: Sequence[Asked], requests: Sequence[Asked], seen: int, rng: np.random.Generator) -> InputDrift:  # fmt: skip
    sides = np.array([1] * len(golden) + [0] * len(requests))
    # 1 / n of its own side for each row of a permutation, minus for requests
    order = np.array([rng.permutation(sides) for _ in range(_ROUNDS)])
    rows = np.vstack([sides, order])
    found: list[tuple[str, float, str]] = []
    for what in ("language", "category"):
        values = [getattr(item, what) for item in (*golden, *requests)]
        if any(values[len(golden) :]):
            found.append((f"{what} shares", _shares(values, rows), _moved(golden, requests, what)))
    lengths = np.log1p([item.chars for item in (*golden, *requests)])
    found.append(("length", _p(np.abs(_difference(rows) @ lengths)), _lengths(golden, requests)))
    texts = [item for item in requests if item.text]
    far: tuple[tuple[Asked, float], ...] = ()
    if len(texts) >= _LEAST:
        one, other = _embedded(golden), _embedded(texts)
        kernel = np.vstack([one, other]) @ np.vstack([one, other]).T
        own = np.array([1] * len(golden) + [0] * len(texts))
        weights = _difference(np.vstack([own, np.array([rng.permutation(own) for _ in range(_ROUNDS)])])).astype(
            np.float32
        )
        statistic = ((weights @ kernel) * weights).sum(axis=1)
        nearest = (other @ one.T).max(axis=1)
        found.append(
            ("words", _p(statistic), f"the median request is {np.median(nearest):.2f} like its nearest golden case")
        )
        far = tuple(
            (texts[int(place)], round(float(nearest[place]), 3)) for place in np.argsort(nearest, kind="stable")[:10]
        )
    adjusted = holm([p for _, p, _ in found])
    tests = tuple(Compared(what=what, p=p, p_adjusted=fixed, said=said) for (what, p, said), fixed in zip(found, adjusted, strict=True))  # fmt: skip
    return InputDrift(prompt=prompt, golden=len(golden), requests=seen, sampled=len(requests), tests=tests, far=far)


def _difference(rows: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Weights that make the mean of the golden side less that of the other."""
    many = rows[0].sum()
    weights: np.ndarray[Any, Any] = rows / many - (1 - rows) / (rows.shape[1] - many)
    return weights


def _p(statistics: "np.ndarray[Any, Any]") -> float:
    """The first is the one observed; it counts itself, so that p is never 0."""
    return float((statistics >= statistics[0] * (1 - 1e-9)).mean())


def _shares(values: Sequence[str], rows: "np.ndarray[Any, Any]") -> float:
    names = sorted(set(values))
    columns = np.array([[value == name for name in names] for value in values], float)
    counts = rows @ columns
    expected = columns.sum(axis=0) * rows[0].sum() / len(values)
    return _p((((counts - expected) ** 2) / expected).sum(axis=1))


def _moved(golden: Sequence[Asked], requests: Sequence[Asked], what: str) -> str:
    """The three values whose shares differ most."""
    before, now = (Counter(getattr(item, what) for item in side) for side in (golden, requests))
    shares = {name: (before[name] / len(golden), now[name] / len(requests)) for name in before | now}
    most = sorted(shares.items(), key=lambda item: -abs(item[1][1] - item[1][0]))[:3]
    return ", ".join(f"{name or '(none)'} {100 * old:.0f}% -> {100 * new:.0f}%" for name, (old, new) in most)


def _lengths(golden: Iterable[Asked], requests: Iterable[Asked]) -> str:
    before, now = (float(np.median([item.chars for item in side])) for side in (golden, requests))
    return f"median {before:.0f} -> {now:.0f} characters"


def _embedded(items: Sequence[Asked]) -> "np.ndarray[Any, Any]":
    """Vectors of the built-in embedder, folded into 4,096 places."""
    embedder, found = Embedder(), np.zeros((len(items), _WIDTH), np.float32)
    for row, item in enumerate(items):
        for key, value in embedder.embed(item.text or "").items():
            found[row, key % _WIDTH] += value
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    np.divide(found, norms, out=found, where=norms > 0)
    return found
