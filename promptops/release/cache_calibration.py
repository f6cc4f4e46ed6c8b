"""Learns when a cached answer may be served: a matcher on one part of the labels, a threshold with a bound on the other."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from promptops.core.digest import digest
from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import Json
from promptops.gate.risk import clean_needed, lower_rate, rate_p_value, upper_rate
from promptops.project.golden import read_cases
from promptops.project.jsonlines import take_rows
from promptops.project.project import Evaluable
from promptops.project.prompts import FOLDER
from promptops.release.routing import write_document
from promptops.runtime.embedding import Embedder, features
from promptops.runtime.index import Entry, LexicalIndex, Near
from promptops.runtime.matcher import MAX_BYTES, NEIGHBOURS, Matcher, describe, parse_matcher

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_LEARN_SHARE = 0.3
_PAIR_LEARN_SHARE = 0.5
_UNKNOWN_SHARE = 0.3
_OUTSIDE_SHARE = 0.2
_BATCH = 512
_MAX_FEATURES = 60_000
_MAX_ROWS = 200_000
_STEPS = 49
_ALPHA = 0.05
_CATEGORY_HITS = 10
MIN_LABELS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A question and a name for its answer: equal names mean that one answer serves both.

    `scope` holds all that must be equal besides (other inputs); only questions of one scope meet.
    """

    id: str
    text: str
    answer: str
    category: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two questions, and whether the answer to `a` is right for `b`."""

    id: str
    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A matcher, and what was measured on the labels that chose only its threshold.

    `out_of_scope`: share of questions that are served although no entry has their answer (its entries were left out).
    """

    matcher: Matcher
    kind: Literal["texts", "pairs"]
    labels: int
    learn: int
    lookups: int
    hits: int
    wrong: int
    upper: float
    max_error: float
    needed: int
    out_of_scope: float
    out_of_scope_lookups: int
    summary: str

    @property
    def hit_rate(self) -> float:
        return self.hits / self.lookups if self.lookups else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One question against the entries: what the matcher saw, and whether its choice was right. No features: a miss whatever the threshold."""

    features: tuple[float, ...]
    right: bool
    category: str = ""


def calibrate_texts(rows: Sequence[Labelled], *, max_error: float, text_inputs: Sequence[str] = (), seed: int = 0) -> Calibration:  # fmt: skip
    """Calibrate on questions with named answers. Every question is looked up among all others of its scope, without itself.

    Three tenths teach the weights, the rest only chooses the threshold. Raises DataError for fewer than 20 rows.
    """
    if len(rows) < MIN_LABELS:
        raise DataError(f"{len(rows)} labelled questions", why=f"below {MIN_LABELS} nothing can be learned",
                        hint="add golden cases, or a file with --pairs")  # fmt: skip
    learn = {row.id for row in rows if _share_of(row.id, seed) < _LEARN_SHARE}
    embedder = learn_embedder(
        [row.text for row in rows if row.id in learn], [row.answer for row in rows if row.id in learn]
    )
    known = Labels(embedder, rows)
    teaching, rest = [row for row in rows if row.id in learn], [row for row in rows if row.id not in learn]
    taught, fresh = known.lookups(teaching), known.lookups(rest)
    unknown = known.lookups(
        [row for row in teaching if _share_of("u" + row.id, seed) < _UNKNOWN_SHARE], hide_answer=True
    )
    outside = known.lookups([row for row in rest if _share_of("o" + row.id, seed) < _OUTSIDE_SHARE], hide_answer=True)
    base = Matcher(embedder=embedder, text_inputs=tuple(text_inputs), max_error=max_error)
    return _finish(base, "texts", len(rows), taught=taught, unknown=unknown, fresh=fresh, outside=outside)


def calibrate_pairs(pairs: Sequence[Pair], *, max_error: float, text_inputs: Sequence[str] = (), seed: int = 0) -> Calibration:  # fmt: skip
    """Calibrate on pairs: each is a lookup of `b` in a cache that holds `a` alone. Half teaches, half chooses the threshold."""
    if len(pairs) < MIN_LABELS:
        raise DataError(f"{len(pairs)} labelled pairs", why=f"below {MIN_LABELS} nothing can be learned", hint="label more pairs")  # fmt: skip
    learn = {pair.id for pair in pairs if _share_of(pair.id, seed) < _PAIR_LEARN_SHARE}
    texts = [text for pair in pairs if pair.id in learn for text in (pair.a, pair.b)]
    embedder = learn_embedder(texts, [])
    taught, fresh = (
        [pair_lookup(embedder, pair) for pair in pairs if (pair.id in learn) is side] for side in (True, False)
    )
    return _finish(Matcher(embedder=embedder, text_inputs=tuple(text_inputs), max_error=max_error), "pairs", len(pairs), taught=taught, unknown=[], fresh=fresh, outside=[])  # fmt: skip


def pair_lookup(embedder: Embedder, pair: Pair) -> Lookup:
    """The lookup of `b` in a cache that holds `a` alone."""
    index = LexicalIndex(embedder)
    index.add(Entry(pair.id, pair.a, "a", math.inf))
    found, _, _ = describe(pair.b, index.search(embedder.embed(pair.b), NEIGHBOURS))
    return Lookup(features=found, right=pair.same)


def _share_of(row_id: str, seed: int) -> float:
    """A number in 0..1 that the name of a row and the seed decide."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{row_id}".encode("utf-8", "surrogatepass")).digest()[:6]) / 2**48


class Labels:
    """All labelled questions as a cache would hold them; the neighbours of many at once, as `LexicalIndex` finds them one by one."""

    def __init__(self, embedder: Embedder, rows: Sequence[Labelled]) -> None:
        self._embedder = embedder
        self._columns: dict[int, int] = {}
        self._entries: dict[str, list[Entry]] = {}
        for row in rows:
            self._entries.setdefault(row.scope, []).append(Entry(row.id, row.text, row.answer, math.inf))
        self._places = {scope: {entry.key: place for place, entry in enumerate(entries)} for scope, entries in self._entries.items()}  # fmt: skip
        self._matrices = {scope: self._matrix([entry.text for entry in entries], grow=True) for scope, entries in self._entries.items()}  # fmt: skip

    def _matrix(self, texts: Sequence[str], *, grow: bool) -> Any:
        """Embeddings as rows; features that no entry has are left out."""
        from scipy.sparse import csr_matrix

        places, values, ends = [], [], [0]
        for text in texts:
            for feature, value in self._embedder.embed(text).items():
                column = self._columns.setdefault(feature, len(self._columns)) if grow else self._columns.get(feature)
                if column is not None:
                    places.append(column)
                    values.append(value)
            ends.append(len(places))
        return csr_matrix((values, places, ends), shape=(len(texts), max(len(self._columns), 1)))

    def near(self, rows: Sequence[Labelled], *, hide_answer: bool = False) -> list[list[Near]]:
        """The nearest other questions of each row's scope; with `hide_answer` only those that have another answer."""
        found: list[list[Near]] = [[] for _ in rows]
        by_scope: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            by_scope.setdefault(row.scope, []).append(place)
        for scope, places in by_scope.items():
            if scope in self._entries:
                for start in range(0, len(places), _BATCH):
                    batch = places[start : start + _BATCH]
                    nearest = self._nearest(scope, [rows[place] for place in batch], hide_answer=hide_answer)
                    for place, near in zip(batch, nearest, strict=True):
                        found[place] = near
        return found

    def _nearest(self, scope: str, rows: Sequence[Labelled], *, hide_answer: bool) -> list[list[Near]]:
        import numpy as np

        entries, matrix = self._entries[scope], self._matrices[scope]
        matrix.resize(matrix.shape[0], len(self._columns))
        places = self._places[scope]
        if all(row.id in places for row in rows):
            asked = matrix[[places[row.id] for row in rows]]
        else:
            asked = self._matrix([row.text for row in rows], grow=False)
        scores = (asked @ matrix.T).toarray()
        keys, answers = np.array([entry.key for entry in entries]), np.array([entry.answer for entry in entries])
        for line, row in zip(scores, rows, strict=True):
            line[keys == row.id] = 0.0
            if hide_answer:
                line[answers == row.answer] = 0.0
        count = min(NEIGHBOURS, len(entries))
        top = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        return [
            [
                Near(entries[place], float(line[place]))
                for place in chosen[np.argsort(-line[chosen], kind="stable")]
                if line[place] > 0
            ]
            for line, chosen in zip(scores, top, strict=True)
        ]

    def lookups(self, rows: Sequence[Labelled], *, hide_answer: bool = False) -> list[Lookup]:
        """Each row among the others; with `hide_answer` every hit is wrong."""
        return [lookup_of(row, near) for row, near in zip(rows, self.near(rows, hide_answer=hide_answer), strict=True)]


def lookup_of(row: Labelled, near: Sequence[Near]) -> Lookup:
    """What the matcher sees of these neighbours, and whether its choice is right."""
    found, entry, _ = describe(row.text, near)
    return Lookup(features=found, right=entry is not None and entry.answer == row.answer, category=row.category)


def learn_embedder(texts: Sequence[str], answers: Sequence[str]) -> Embedder:
    """Weights of features: rarity (idf), times the square root of how much a feature says about the answer where answers are named.

    The latter is the Kullback-Leibler divergence of the answers of texts that have the feature from those of all, over its maximum.
    """
    import numpy as np

    seen: dict[int, list[int]] = {}
    for place, text in enumerate(texts):
        words, letters = features(text)
        for feature in {*words, *letters}:
            seen.setdefault(feature, []).append(place)
    total = len(texts)
    names = {name: number for number, name in enumerate(dict.fromkeys(answers))}
    informed = len(names) >= 3
    labels = np.array([names[name] for name in answers], dtype=np.intp) if informed else np.zeros(0, dtype=np.intp)
    prior = np.bincount(labels, minlength=len(names)) / max(len(labels), 1)

    def weight(places: Sequence[int]) -> float:
        idf = math.log((1 + total) / (1 + len(places))) + 1.0
        if not informed:
            return idf
        counts = np.bincount(labels[list(places)], minlength=len(names))
        share = (counts + 2 * prior) / (len(places) + 2)
        says = float((share * np.log(share / prior)).sum()) / math.log(len(names))
        return idf * math.sqrt(min(max(says, 0.02), 1.0))

    once = [places for places in seen.values() if len(places) == 1][:500]
    unseen = math.fsum(map(weight, once)) / len(once) if once else 1.0
    kept = sorted(
        (feature for feature, places in seen.items() if len(places) > 1),
        key=lambda feature: (-len(seen[feature]), feature),
    )
    return Embedder(weights={feature: round(weight(seen[feature]), 6) for feature in kept[:_MAX_FEATURES]}, unseen=round(unseen, 6))  # fmt: skip


def _finish(
    base: Matcher, kind: Literal["texts", "pairs"], labels: int, *, taught: Sequence[Lookup], unknown: Sequence[Lookup], fresh: Sequence[Lookup],
    outside: Sequence[Lookup],
) -> Calibration:  # fmt: skip
    matcher = learn_weights(base, [*taught, *unknown])
    needed = clean_needed(base.max_error, alpha=_ALPHA)
    threshold: float | None = None
    if matcher is not None:
        matcher = replace(matcher, categories_off=_bad_categories(matcher, taught))
        threshold = choose_threshold(matcher, taught, fresh)
    final = replace(matcher or base, threshold=threshold)
    hits, wrong = count_hits(final, fresh)
    stray, _ = count_hits(final, outside)
    calibration = Calibration(
        matcher=final, kind=kind, labels=labels, learn=len(taught), lookups=len(fresh), hits=hits, wrong=wrong, upper=upper_rate(wrong, hits) if hits else 1.0,
        max_error=base.max_error, needed=needed, out_of_scope=stray / len(outside) if outside else math.nan, out_of_scope_lookups=len(outside), summary="",
    )  # fmt: skip
    calibration = replace(calibration, summary=_in_words(calibration, fresh, can_learn=matcher is not None))
    return replace(calibration, matcher=replace(final, evidence=_evidence(calibration)))


def learn_weights(base: Matcher, lookups: Sequence[Lookup]) -> Matcher | None:
    """Logistic regression on what the lookups saw; None when all of them are right, or all wrong."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    seen = [item for item in lookups if item.features]
    right = np.array([item.right for item in seen])
    if len(seen) < MIN_LABELS // 2 or right.all() or not right.any():
        return None
    values = np.array([item.features for item in seen])
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale < 1e-9] = 1.0
    model = LogisticRegression(C=1.0, max_iter=2000).fit((values - mean) / scale, right)
    weights = model.coef_.ravel() / scale
    return replace(base, weights=tuple(map(float, weights)), intercept=float(model.intercept_[0] - (weights * mean).sum()))  # fmt: skip


def scores_of(matcher: Matcher, lookups: Sequence[Lookup]) -> "Floats":
    """Log odds of each lookup; minus infinity where it is a miss at any threshold."""
    import numpy as np

    weights = np.array(matcher.weights)
    return np.array(
        [
            matcher.intercept + float(np.dot(weights, item.features)) if item.features and item.category not in matcher.categories_off else -math.inf
            for item in lookups
        ]
    )  # fmt: skip


def count_hits(matcher: Matcher, lookups: Sequence[Lookup]) -> tuple[int, int]:
    """(hits, wrong hits) at the matcher's threshold."""
    if matcher.threshold is None or not lookups:
        return 0, 0
    served = scores_of(matcher, lookups) >= matcher.threshold
    return int(served.sum()), sum(1 for item, hit in zip(lookups, served, strict=True) if hit and not item.right)


def _bad_categories(matcher: Matcher, taught: Sequence[Lookup]) -> frozenset[str]:
    """Categories that were wrong too often where the rest is not: off, decided by the learning part alone."""
    names = {item.category for item in taught} - {""}
    if len(names) < 2:
        return frozenset()
    scores = scores_of(matcher, taught)
    served = scores >= 2.0  # about 88 % sure
    bad = set()
    for name in names:
        places = [place for place, item in enumerate(taught) if item.category == name and served[place]]
        wrong = sum(not taught[place].right for place in places)
        if len(places) >= _CATEGORY_HITS and lower_rate(wrong, len(places)) > 3 * matcher.max_error:
            bad.add(name)
    return frozenset(bad)


def choose_threshold(matcher: Matcher, taught: Sequence[Lookup], fresh: Sequence[Lookup]) -> float | None:
    """The boldest threshold that passes the fixed sequence; where it begins is decided by the learning part.

    It begins where the test on `fresh` is likeliest to succeed if errors are twice as frequent there as in `taught`, and walks to bolder
    thresholds until one is not proven: P(wrong | hit) <= max_error, exact binomial at 5 %.
    """
    import numpy as np

    scores, wrong = scores_of(matcher, taught), np.array([not item.right for item in taught])
    known = scores[np.isfinite(scores)]
    if not len(known) or not fresh:
        return None
    thresholds = [float(value) for value in np.quantile(known, 1 - np.arange(1, _STEPS + 1) / (_STEPS + 1))]
    growth = len(fresh) / len(taught)
    chances = [_chance(int((scores >= cut).sum()), int((wrong & (scores >= cut)).sum()), growth, matcher.max_error) for cut in thresholds]  # fmt: skip
    begin = int(np.argmax(chances))
    fresh_scores, fresh_wrong = scores_of(matcher, fresh), np.array([not item.right for item in fresh])
    chosen = None
    for cut in thresholds[begin:]:
        served = fresh_scores >= cut
        if rate_p_value(int((fresh_wrong & served).sum()), int(served.sum()), matcher.max_error) > _ALPHA:
            break
        chosen = cut
    return chosen


def _chance(hits: int, wrong: int, growth: float, max_error: float) -> float:
    """How likely the exact test succeeds on `growth` times as many hits with errors twice as frequent as here, and two more.

    The weights were fitted to the lookups counted here, so their errors are too few.
    """
    from scipy.special import bdtr
    from scipy.stats import binom

    total = round(hits * growth)
    most = int(binom.ppf(_ALPHA, total, max_error)) if total else -1
    while most >= 0 and bdtr(most, total, max_error) > _ALPHA:
        most -= 1
    return float(bdtr(most, total, min(1.0, (2 * wrong + 2) / (hits + 2)))) if most >= 0 else 0.0


def _in_words(found: Calibration, fresh: Sequence[Lookup], *, can_learn: bool) -> str:
    limit = f"{found.max_error:.1%}"
    noun = "pairs" if found.kind == "pairs" else "questions"
    if found.matcher.threshold is not None:
        saved = f"it answers {found.hit_rate:.0%} of {found.lookups} {noun} that chose only the threshold"
        stray = "" if math.isnan(found.out_of_scope) else f" Of questions whose answer is not there, {found.out_of_scope:.1%} of {found.out_of_scope_lookups} are served one."  # fmt: skip
        return f"{saved}; {found.wrong} of {found.hits} hits were wrong, and with 95 % confidence at most {limit} are.{stray}"
    positives = sum(item.right for item in fresh)
    if not can_learn:
        return (f"nothing is served, because among the {noun} that teach, either none or all found a right answer in the cache: "
                f"there is nothing to tell apart. Label at least {found.needed} lookups that should hit, and as many that should not.")  # fmt: skip
    if positives < found.needed:
        return (f"nothing is served, because {positives} {noun} with a right answer in the cache cannot show that at most {limit} of hits are wrong: "
                f"it takes {found.needed} hits without a single error, so about {math.ceil(found.needed * len(fresh) / max(positives, 1) / 0.5)} labels or more.")  # fmt: skip
    return (f"nothing is served, because no threshold was shown to keep wrong hits at or below {limit} on {found.lookups} {noun}. "
            f"It takes {found.needed} hits without an error, or more with a few; allow more with --max-error, or add labels.")  # fmt: skip


def _evidence(found: Calibration) -> dict[str, Json]:
    return {
        "kind": found.kind, "labels": found.labels, "learn": found.learn, "lookups": found.lookups, "hits": found.hits, "wrong": found.wrong,
        "upper_95": round(found.upper, 6), "needed": found.needed, "summary": found.summary,
        "out_of_scope": None if math.isnan(found.out_of_scope) else round(found.out_of_scope, 6),
    }  # fmt: skip


def golden_labels(evaluable: Evaluable) -> tuple[list[Labelled], tuple[str, ...]]:
    """Golden cases as labelled questions: cases with the same expected answer (and other inputs) share one; and the inputs compared by meaning."""
    prompt = evaluable.prompt
    names = tuple(name for name in (prompt.untrusted or sorted(prompt.input_names)))
    rows: list[Labelled] = []
    for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan):
        text = "\n".join(value for name in names if isinstance(value := case.inputs.get(name), str))
        if text.strip() and case.expected:
            fixed = {name: value for name, value in case.inputs.items() if name not in names}
            rows.append(Labelled(id=case.id, text=text, answer=digest(dict(case.expected)), category=case.category, scope=digest(fixed)))  # fmt: skip
    return rows, names


def read_labels(path: Path) -> tuple[list[Labelled], list[Pair]]:
    """Rows `{"text", "answer"}` or `{"a", "b", "same"}` of a JSONL file, one kind in a file; `id` and `category` are optional.

    Raises DataError with every line that is wrong (at most 1000).
    """
    texts: list[Labelled] = []
    pairs: list[Pair] = []
    hint = 'write {"text": "...", "answer": "..."} or {"a": "...", "b": "...", "same": true}'

    def take(row: Json, where: str) -> Iterator[Problem]:
        found = _label(row, where.rpartition(":")[2]) if isinstance(row, dict) else None
        if found is None:
            yield Problem(what="not a label", where=where, hint=hint)
        elif isinstance(found, Pair):
            pairs.append(found)
        else:
            texts.append(found)

    take_rows(path, take, what="not a label", most=_MAX_ROWS, hint=hint)
    if texts and pairs:
        raise DataError("texts and pairs in one file", where=str(path), hint="calibrate on one kind of label")
    return texts, pairs


def _label(row: Mapping[str, Any], number: str) -> Labelled | Pair | None:
    category = row.get("category", "")
    if not isinstance(category, str):
        return None
    if (
        isinstance(row.get("text"), str)
        and isinstance(row.get("answer"), str)
        and row["text"].strip()
        and row["answer"]
    ):
        return Labelled(id=f"row {number}", text=row["text"], answer=row["answer"], category=category)
    if all(isinstance(row.get(key), str) and row[key].strip() for key in ("a", "b")) and isinstance(
        row.get("same"), bool
    ):
        return Pair(id=f"row {number}", a=row["a"], b=row["b"], same=row["same"])
    return None


def matcher_path(root: Path, name: str) -> Path:
    return root / FOLDER / name / "cache.json"


def save_matcher(root: Path, name: str, matcher: Matcher) -> Path:
    """Write cache.json; same matcher, same bytes."""
    path = matcher_path(root, name)
    write_document(path, matcher.as_json())
    return path


def load_matcher(root: Path, name: str) -> Matcher:
    """The matcher of a prompt. Raises DataError when there is none, RefusedError when the file is not one."""
    where = f"{FOLDER}/{name}/cache.json"
    try:
        with matcher_path(root, name).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"prompt {name} has no calibrated cache", where=where, hint=f"promptops cache calibrate {name}") from None  # fmt: skip
    except OSError as error:
        raise DataError("cannot be read", where=where, why=error.strerror or str(error)) from error
    return parse_matcher(raw, where=where)
