"""Learns when the small model is good enough: the simplest rule that is not beaten, and a threshold with a bound."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.core.suite import GatePolicy
from promptops.gate import CaseDraws, decide
from promptops.gate.risk import cases_needed, fixed_sequence, loss_p_value
from promptops.runtime.language import guess_language
from promptops.runtime.router import Router, hashed_terms, log_length

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Indexes = npt.NDArray[np.intp]

LEARNED: Final = ("length", "category", "text")
"""From simplest to richest."""

ALPHA: Final = 8.0
"""Ridge penalty of the rule `text`, and its scales below: chosen on one half of public routing data, see docs/router-cache.md."""

_LENGTH_SCALE, _CATEGORY_SCALE, _LANGUAGE_SCALE = 0.3, 0.3, 0.1
_CATEGORY_PRIOR = 10.0
_MAX_TERMS = 50_000
_RESAMPLES = 500
_FOLDS = 5
_THRESHOLD_SHARE = 0.5
_STEPS = 20
MIN_CASES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request that both models answered; `small` and `large` are scores in 0..1."""

    id: str
    text: str
    category: str
    small: float
    large: float
    group: str = ""

    @property
    def unit(self) -> str:
        """What is split and resampled as one."""
        return self.group or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval; NaN where the data cannot say."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReport:
    """How well a rule orders requests, on folds it did not learn from.

    `apgr`: mean share of the large model's advantage that is kept, over all shares of large calls. `cpt50`, `cpt80`: share
    of large calls that keeps 50 and 80 % of it. `saved80`: cost saved at that point.
    """

    rule: str
    apgr: Estimate
    cpt50: Estimate
    cpt80: Estimate
    saved80: Estimate
    beaten_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryReport:
    """What the routed policy does to one category of the threshold split."""

    category: str
    cases: int
    small_rate: float
    large_rate: float
    routed_rate: float
    share_small: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The router, and the evidence for it. `unseen` are the rules on categories they did not learn from."""

    router: Router
    rules: tuple[RuleReport, ...]
    unseen: tuple[RuleReport, ...]
    categories: tuple[CategoryReport, ...]
    cases: int
    learn_cases: int
    threshold_cases: int
    small_rate: float
    large_rate: float
    max_loss: float
    share_small: Estimate
    loss: Estimate
    saved: Estimate
    cases_needed: int
    summary: str


@dataclass(frozen=True, slots=True)
class Table:
    """Outcomes as arrays."""

    texts: tuple[str, ...]
    terms: tuple[tuple[int, ...], ...]
    categories: tuple[str, ...]
    languages: tuple[str, ...]
    units: "Indexes"
    length: "Floats"
    gain: "Floats"

    def __len__(self) -> int:
        return len(self.texts)


def make_table(outcomes: Sequence[Outcome]) -> Table:
    import numpy as np

    known: dict[str, int] = {}
    units = [known.setdefault(item.unit, len(known)) for item in outcomes]
    return Table(
        tuple(item.text for item in outcomes), tuple(tuple(hashed_terms(item.text)) for item in outcomes),
        tuple(item.category for item in outcomes), tuple(guess_language(item.text) for item in outcomes),
        np.array(units, dtype=np.intp), np.array([log_length(item.text) for item in outcomes]),
        np.array([item.large - item.small for item in outcomes], dtype=np.float64),
    )  # fmt: skip


def is_for_threshold(unit: str) -> bool:
    """Whether a case (or group) is in the split that only chooses the threshold: half of them, by the hash of the name."""
    return hashlib.sha256(f"threshold\0{unit}".encode()).digest()[0] < 256 * _THRESHOLD_SHARE


def train_router(
    outcomes: Sequence[Outcome], *, small: str, large: str, small_cost: float = 0.0, large_cost: float = 0.0, max_loss: float = 0.01,
    policy: GatePolicy | None = None, seed: int = 0,
) -> Training:  # fmt: skip
    """Choose a rule on one half of the cases and its threshold on the other.

    Costs are means a call in any one unit; both 0 means that calls of the large model are counted instead. Raises DataError
    for too few cases.
    """
    import numpy as np

    if len(outcomes) < MIN_CASES:
        raise DataError(f"{len(outcomes)} outcomes of both models", why=f"below {MIN_CASES} nothing can be told apart",
                        hint="add golden cases, or rows with --outcomes FILE")  # fmt: skip
    ratio = small_cost / large_cost if large_cost > 0 else 0.0
    learn = [item for item in outcomes if not is_for_threshold(item.unit)]
    hold = [item for item in outcomes if is_for_threshold(item.unit)]
    if len(learn) < _FOLDS * 2 or len(hold) < _FOLDS:
        raise DataError("too few groups of cases to split them in two", hint="add golden cases of other documents")
    table = make_table(learn)
    everything = np.arange(len(table))
    rules: tuple[RuleReport, ...] = ()
    unseen: tuple[RuleReport, ...] = ()
    if table.gain.sum() <= 0:
        rule = "small"
    else:
        rules = compare_rules(table, seed=seed, cost_ratio=ratio)
        if len(set(table.categories)) >= 3:
            unseen = compare_rules(table, seed=seed, cost_ratio=ratio, by_category=True)
        rule = simplest_unbeaten(rules)
    router = replace(fit(table, everything, rule), small=small, large=large)
    found = _choose_threshold(router, table, hold, max_loss=max_loss, policy=policy or GatePolicy(), seed=seed)
    saved = Estimate(
        **{
            end: share * (1 - ratio)
            for end, share in zip(
                ("value", "low", "high"), (found.share.value, found.share.low, found.share.high), strict=True
            )
        }
    )
    training = Training(
        router=found.router, rules=rules, unseen=unseen, categories=found.categories, cases=len(outcomes), learn_cases=len(learn),
        threshold_cases=len(hold), small_rate=_mean(item.small for item in outcomes), large_rate=_mean(item.large for item in outcomes),
        max_loss=max_loss, share_small=found.share, loss=found.loss, saved=saved, cases_needed=cases_needed(max_loss), summary="",
    )  # fmt: skip
    training = replace(training, summary=_in_words(training, found, priced=large_cost > 0))
    return replace(training, router=replace(training.router, evidence=_evidence(training)))


def compare_rules(
    table: Table, *, seed: int, cost_ratio: float = 0.0, by_category: bool = False, nested: bool = True
) -> tuple[RuleReport, ...]:
    """Every rule beside random and oracle, by out-of-fold scores; folds keep groups (or whole categories) together.

    The row `chosen` is what choosing the simplest unbeaten rule inside each fold gives: nested cross-validation.
    """
    import numpy as np

    folds = make_folds(table, seed=seed, by_category=by_category)
    learned = tuple(rule for rule in LEARNED if not (by_category and rule == "category"))
    scores = out_of_fold(table, folds, learned, seed=seed)
    if nested:
        scores["chosen"] = _nested(table, folds, seed=seed, by_category=by_category)
    rng = np.random.default_rng(seed)
    scores["random"] = rng.random(len(table))
    scores["oracle"] = table.gain + rng.random(len(table)) * 1e-6
    weights = _resamples(table, seed)
    curves = {rule: _measures(score, table.gain, weights, cost_ratio) for rule, score in scores.items()}
    beaten = {rule: _beaten_by(rule, learned, curves) for rule in learned}
    order = ("random", *learned, *(("chosen",) if nested else ()), "oracle")
    return tuple(
        RuleReport(rule=rule, beaten_by=beaten.get(rule, ""),
                   **{name: _estimate(curves[rule][place]) for place, name in enumerate(("apgr", "cpt50", "cpt80", "saved80"))})
        for rule in order
    )  # fmt: skip


def simplest_unbeaten(rules: Sequence[RuleReport]) -> str:
    return next(item.rule for item in rules if item.rule in LEARNED and not item.beaten_by)


def make_folds(table: Table, *, seed: int, by_category: bool = False) -> "Indexes":
    """Fold of each row, 0..4; rows of one group (or category) share it."""
    import numpy as np

    if by_category:
        names = sorted(set(table.categories))
        keys = np.array([names.index(category) for category in table.categories], dtype=np.intp)
    else:
        keys = table.units
    count = int(keys.max()) + 1
    assigned = np.random.default_rng(seed).permutation(count) % min(_FOLDS, count)
    return np.asarray(assigned[keys], dtype=np.intp)


def out_of_fold(table: Table, folds: "Indexes", rules: Sequence[str], *, seed: int) -> dict[str, "Floats"]:
    """Scores of rows by a rule that was fitted without their fold, as ranks within the fold (0..1), ties in random order."""
    import numpy as np

    rng = np.random.default_rng(seed)
    found = {rule: np.zeros(len(table)) for rule in rules}
    for fold in range(int(folds.max()) + 1):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        for rule in rules:
            raw = predict(fit(table, inside, rule), table, outside)
            order = np.lexsort((rng.random(len(raw)), raw))
            ranks = np.empty(len(raw))
            ranks[order] = (np.arange(len(raw)) + 0.5) / len(raw)
            found[rule][outside] = ranks
    return found


def fit(table: Table, rows: "Indexes", rule: str) -> Router:
    """The rule learned from some rows, without a threshold."""
    import numpy as np

    lengths = table.length[rows]
    mean, scale = float(lengths.mean()), float(lengths.std()) or 1.0
    chars = [len(table.texts[row]) for row in rows]
    bounds: dict[str, Any] = {"shortest": min(chars), "longest": max(chars), "length_mean": mean, "length_scale": scale}
    gain = table.gain[rows]
    if rule == "small":
        return Router(rule=rule, threshold=None, **bounds)
    if rule == "length":
        standard = (lengths - mean) / scale
        slope = float((standard * (gain - gain.mean())).mean())
        return Router(rule=rule, threshold=None, intercept=float(gain.mean()), length_weight=slope, **bounds)
    if rule == "category":
        sums: dict[str, list[float]] = {}
        for row in rows:
            sums.setdefault(table.categories[row], []).append(float(table.gain[row]))
        overall = float(gain.mean())
        weights = {name: (sum(values) - overall * len(values)) / (len(values) + _CATEGORY_PRIOR) for name, values in sums.items()}  # fmt: skip
        return Router(rule=rule, threshold=None, intercept=overall, categories=weights, **bounds)
    pipeline = text_pipeline(min_df=2 if len(np.unique(rows)) >= 20 else 1)
    pipeline.fit([_Row(table, int(row)) for row in rows], gain)
    return _exported(pipeline, bounds)


@dataclass(frozen=True, slots=True)
class _Row:
    """One request as scikit-learn's transformers get it."""

    table: Table
    row: int

    @property
    def terms(self) -> tuple[int, ...]:
        return self.table.terms[self.row]

    @property
    def category(self) -> str:
        return self.table.categories[self.row]

    @property
    def language(self) -> str:
        return self.table.languages[self.row]

    @property
    def length(self) -> float:
        return float(self.table.length[self.row])


def _terms_of(row: _Row) -> tuple[int, ...]:
    return row.terms


def _lengths(rows: Sequence[_Row]) -> "Floats":
    import numpy as np

    return np.array([[row.length] for row in rows])


def _named(rows: Sequence[_Row]) -> list[dict[str, float]]:
    return [{"category=" + row.category: _CATEGORY_SCALE, "language=" + row.language: _LANGUAGE_SCALE} for row in rows]


def _scaled(values: "Floats") -> "Floats":
    return values * _LENGTH_SCALE


def text_pipeline(*, min_df: int = 2) -> Any:
    """scikit-learn's pipeline behind the rule `text`; `Router` gives the same scores without it."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import FeatureUnion, Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    words = TfidfVectorizer(analyzer=_terms_of, min_df=min_df, sublinear_tf=True, max_features=_MAX_TERMS)
    length = Pipeline([("take", FunctionTransformer(_lengths)), ("scale", StandardScaler()), ("weigh", FunctionTransformer(_scaled))])  # fmt: skip
    named = Pipeline([("take", FunctionTransformer(_named)), ("encode", DictVectorizer())])
    union = FeatureUnion([("words", words), ("length", length), ("named", named)])
    return Pipeline([("features", union), ("ridge", Ridge(alpha=ALPHA, solver="lsqr", tol=1e-6))])


def _exported(pipeline: Any, bounds: Mapping[str, Any]) -> Router:
    union, ridge = pipeline.named_steps["features"], pipeline.named_steps["ridge"]
    parts = dict(union.transformer_list)
    words, scaler, encoder = parts["words"], parts["length"].named_steps["scale"], parts["named"].named_steps["encode"]
    weights = [float(weight) for weight in ridge.coef_.ravel()]
    count = len(words.vocabulary_)
    named = dict(zip(encoder.get_feature_names_out(), weights[count + 1 :], strict=True))
    return Router(
        rule="text", threshold=None, intercept=float(ridge.intercept_), shortest=bounds["shortest"], longest=bounds["longest"],
        length_mean=float(scaler.mean_[0]), length_scale=float(scaler.scale_[0]), length_weight=weights[count] * _LENGTH_SCALE,
        categories={name.removeprefix("category="): weight * _CATEGORY_SCALE for name, weight in named.items() if name.startswith("category=")},
        languages={name.removeprefix("language="): weight * _LANGUAGE_SCALE for name, weight in named.items() if name.startswith("language=")},
        terms={int(term): (float(words.idf_[column]), weights[column]) for term, column in words.vocabulary_.items()},
    )  # fmt: skip


def predict(router: Router, table: Table, rows: "Indexes") -> "Floats":
    """Scores of some rows, by the code that runs in a service."""
    import numpy as np

    return np.array([router.score(table.texts[row], table.categories[row]) for row in rows])


def _nested(table: Table, folds: "Indexes", *, seed: int, by_category: bool) -> "Floats":
    import numpy as np

    chosen = np.zeros(len(table))
    for fold in range(int(folds.max()) + 1):
        inside = np.flatnonzero(folds != fold)
        inner = _subtable(table, inside)
        rule = simplest_unbeaten(compare_rules(inner, seed=seed + 1, by_category=by_category, nested=False))
        only = np.where(folds == fold, 0, 1)
        raw = out_of_fold(table, only, (rule,), seed=seed)[rule]
        outside = folds == fold
        chosen[outside] = raw[outside]
    return chosen


def _subtable(table: Table, rows: "Indexes") -> Table:
    import numpy as np

    def take(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[row] for row in rows)

    _, units = np.unique(table.units[rows], return_inverse=True)
    return Table(take(table.texts), take(table.terms), take(table.categories), take(table.languages), units,
                 table.length[rows], table.gain[rows])  # fmt: skip


def _resamples(table: Table, seed: int) -> "Floats":
    """Weights of the rows in each bootstrap resample of the groups; the first row is the sample itself."""
    import numpy as np

    rng = np.random.default_rng(seed)
    count = int(table.units.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float64)
    return np.vstack([np.ones(len(table)), weights[:, table.units]])


def _measures(score: "Floats", gain: "Floats", weights: "Floats", cost_ratio: float) -> "Floats":
    """(apgr, cpt50, cpt80, saved80) by resample; NaN where the large model has no advantage in it."""
    import numpy as np

    order = np.argsort(-score, kind="stable")
    found = np.full((4, len(weights)), np.nan)
    for place, weight in enumerate(weights):
        ordered = weight[order]
        share = np.concatenate(([0.0], np.cumsum(ordered))) / ordered.sum()
        kept = np.concatenate(([0.0], np.cumsum(ordered * gain[order])))
        if kept[-1] <= 0:
            continue
        kept /= kept[-1]
        cpt = [float(share[np.argmax(kept >= level - 1e-12)]) for level in (0.5, 0.8)]
        found[:, place] = (np.trapezoid(kept, share), *cpt, (1 - cpt[1]) * (1 - cost_ratio))
    return found


def _estimate(values: "Floats") -> Estimate:
    import numpy as np

    drawn = values[1:][~np.isnan(values[1:])]
    if not len(drawn):
        return Estimate(value=float("nan"), low=float("nan"), high=float("nan"))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value=float(values[0]), low=float(low), high=float(high))


def _beaten_by(rule: str, learned: Sequence[str], curves: Mapping[str, "Floats"]) -> str:
    """The richer rule with a larger APGR in 95 % of the resamples; '' when there is none."""
    import numpy as np

    for other in reversed(learned[learned.index(rule) + 1 :]):
        difference = curves[other][0][1:] - curves[rule][0][1:]
        known = difference[~np.isnan(difference)]
        if len(known) > _RESAMPLES // 2 and float(np.quantile(known, 0.05)) > 0:
            return other
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    router: Router
    share: Estimate
    loss: Estimate
    categories: tuple[CategoryReport, ...]
    refused: str = ""


def _choose_threshold(
    router: Router, table: Table, hold: Sequence[Outcome], *, max_loss: float, policy: GatePolicy, seed: int
) -> _Choice:
    """The largest share of small calls that is proven safe on `hold`, walking from few to many."""
    import numpy as np

    thresholds = _candidates(router, table)
    routed = [_routes(replace(router, threshold=threshold), hold) for threshold in thresholds]
    p_values = [_loss_p(hold, small, max_loss) for small in routed]
    place = fixed_sequence(p_values)
    refused = ""
    while place is not None:
        reports, regressed = _by_category(hold, routed[place], policy, seed)
        if not regressed:
            break
        refused = regressed
        place = place - 1 if place else None
    threshold = None if place is None else thresholds[place]
    small = np.zeros(len(hold), dtype=bool) if place is None else routed[place]
    if place is None:
        reports, _ = _by_category(hold, small, policy, seed)
    share, loss = _share_and_loss(hold, small, seed)
    known = _least_known(router, table)
    return _Choice(router=replace(router, threshold=threshold, min_known=known), share=share, loss=loss, categories=reports, refused=refused)  # fmt: skip


def _candidates(router: Router, table: Table) -> list[float]:
    """Thresholds from cautious to bold, set by the learning half alone."""
    import numpy as np

    if router.rule == "small":
        return [0.0]
    scores = predict(router, table, np.arange(len(table)))
    return [float(value) for value in np.quantile(scores, np.arange(1, _STEPS + 1) / _STEPS)]


def _least_known(router: Router, table: Table) -> float:
    """A text with fewer known words than half the first percentile of the learning half is unlike it."""
    import numpy as np

    if not router.terms:
        return 0.0
    shares = [router.score_known(text, category)[1] for text, category in zip(table.texts, table.categories, strict=True)]  # fmt: skip
    return float(np.quantile(shares, 0.01)) / 2


def _routes(router: Router, hold: Sequence[Outcome]) -> "npt.NDArray[np.bool_]":
    import numpy as np

    return np.array([router.route(item.text, item.category).target == "small" for item in hold], dtype=bool)


def _loss_p(hold: Sequence[Outcome], small: "npt.NDArray[np.bool_]", max_loss: float) -> float:
    """One loss a group, each case counting the same; groups are independent."""
    import numpy as np

    sums: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for item, is_small in zip(hold, small, strict=True):
        sums[item.unit] = sums.get(item.unit, 0.0) + (item.large - item.small if is_small else 0.0)
        sizes[item.unit] = sizes.get(item.unit, 0) + 1
    average = len(hold) / len(sums)
    losses = np.array(list(sums.values())) / average
    return loss_p_value(losses, max_loss, bound=max(sizes.values()) / average)


def _by_category(
    hold: Sequence[Outcome], small: "npt.NDArray[np.bool_]", policy: GatePolicy, seed: int
) -> tuple[tuple[CategoryReport, ...], str]:
    """Each category with the gate's verdict on routed against large-only, and the first that regressed ('')."""
    base = [CaseDraws(case_id=item.id, category=item.category, draws=(item.large,), group=item.group or None) for item in hold]  # fmt: skip
    cand = [
        CaseDraws(case_id=item.id, category=item.category, draws=(item.small if is_small else item.large,), group=item.group or None)
        for item, is_small in zip(hold, small, strict=True)
    ]  # fmt: skip
    comparison = decide(base, cand, policy=policy, seed=seed)
    rows = {verdict.category: verdict for verdict in comparison.verdicts}
    members: dict[str, list[int]] = {}
    for place, item in enumerate(hold):
        members.setdefault(item.category, []).append(place)
    reports = tuple(
        CategoryReport(category=name, cases=len(places), small_rate=_mean(hold[place].small for place in places),
                       large_rate=_mean(hold[place].large for place in places),
                       routed_rate=_mean(hold[place].small if small[place] else hold[place].large for place in places),
                       share_small=_mean(float(small[place]) for place in places),
                       verdict=str(rows[name].verdict) if name in rows else "")
        for name, places in sorted(members.items())
    )  # fmt: skip
    return reports, comparison.blocking[0].category if comparison.blocking else ""


def _share_and_loss(hold: Sequence[Outcome], small: "npt.NDArray[np.bool_]", seed: int) -> tuple[Estimate, Estimate]:
    import numpy as np

    table_units = {unit: place for place, unit in enumerate(dict.fromkeys(item.unit for item in hold))}
    units = np.array([table_units[item.unit] for item in hold])
    losses = np.array([item.large - item.small for item in hold]) * small
    count = len(table_units)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float64)[:, units]
    weights = np.vstack([np.ones(len(hold)), weights])
    total = weights.sum(axis=1)
    return _estimate(weights @ small.astype(np.float64) / total), _estimate(weights @ losses / total)


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")


def _in_words(training: Training, found: _Choice, *, priced: bool) -> str:
    router = training.router
    if router.threshold is None:
        if found.refused:
            why = f"every share that keeps the loss within {training.max_loss:.1%} makes category {found.refused!r} regress"
        elif training.threshold_cases < training.cases_needed:
            why = (f"a loss of at most {training.max_loss:.1%} cannot be shown with {training.threshold_cases} cases: it takes at least "
                   f"{training.cases_needed} in the threshold half (about {2 * training.cases_needed} in all), even when nothing is lost")  # fmt: skip
        else:
            why = f"no share of small calls was shown to lose at most {training.max_loss:.1%}"
        return f"everything goes to the large model, because {why}."
    what = "of the cost" if priced else "of the calls to the large model"
    return (
        f"the rule `{router.rule}` sends {training.share_small.value:.0%} of requests to {router.small} and saves {training.saved.value:.0%} {what} "
        f"[{training.saved.low:.0%}, {training.saved.high:.0%}]. With 95 % confidence the loss is at most {training.max_loss:.1%} "
        f"({_measured(training.loss.value)} on {training.threshold_cases} cases that chose nothing else), and no category regressed."
    )


def _measured(loss: float) -> str:
    return f"measured: {abs(loss):.1%} {'lost' if loss > 0 else 'won'}"


def _evidence(training: Training) -> dict[str, Json]:
    return {
        "cases": training.cases, "learn_cases": training.learn_cases, "threshold_cases": training.threshold_cases,
        "max_loss": training.max_loss, "confidence": 0.95, "share_small": training.share_small.value,
        "loss": training.loss.value, "saved": training.saved.value, "summary": training.summary,
        "apgr": {item.rule: round(item.apgr.value, 6) for item in training.rules if item.apgr.value == item.apgr.value},
        "split": "half of the cases by the hash of group or id",
    }  # fmt: skip


def training_json(training: Training) -> dict[str, Json]:
    """The whole report, for --json."""
    from dataclasses import asdict

    found = asdict(replace(training, router=replace(training.router, terms={})))
    router = found.pop("router")
    return {**found, "rule": router["rule"], "threshold": router["threshold"], "small": router["small"], "large": router["large"],
            "terms": len(training.router.terms)}  # fmt: skip
