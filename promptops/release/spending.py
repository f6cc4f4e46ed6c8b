"""What a thousand requests of a prompt cost: as it is, with its router, with its cache; from stored runs and proven rates only."""

from collections.abc import Sequence
from dataclasses import dataclass

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.project.project import Project
from promptops.project.store import Run, Store
from promptops.release.cache_calibration import load_matcher, matcher_path
from promptops.release.routing import load_router, router_path
from promptops.runtime.matcher import Matcher
from promptops.runtime.router import Router

REQUESTS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingRow:
    """A step: calls and cost of 1,000 requests, `saved` (0..1) against the first row, and where the figures come from."""

    what: str
    large_calls: float
    small_calls: float
    nanousd: float
    saved: float
    measured: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """The rows, and what the reader should know; `priced` is false where every call is free."""

    model: str
    priced: bool
    rows: tuple[SpendingRow, ...]
    notes: tuple[str, ...]
    following: str


def spending(store: Store, project: Project, name: str) -> Spending:
    """Cost of 1,000 requests that are like the golden cases. Raises DataError without a complete run of the prompt."""
    evaluable = project.load(name)
    router = load_router(project.root, name) if router_path(project.root, name).exists() else None
    matcher = load_matcher(project.root, name) if matcher_path(project.root, name).exists() else None
    runs = [run for run in store.runs(name) if run.state == "complete" and run.header.model != "routed"]
    large = _newest(runs, router.large if router else "", evaluable.prompt.model)
    if large is None:
        raise DataError(
            f"no complete run of {name}", why="costs are measured, not guessed", hint=f"promptops eval {name}"
        )
    small = _newest(runs, router.small) if router else None
    cost = _mean_cost(store, large)
    small_cost = _mean_cost(store, small) if small else cost
    rows = [_row("as it is", 1.0, 0.0, (cost, small_cost), f"{_draws(store, large)} answers of run {large.id}", cost)]
    notes: list[str] = []
    share = _proven_share(router, small, notes)
    if share:
        rows.append(_row("with the router", 1 - share, share, (cost, small_cost), _measured(router), cost))
    hits = _proven_hits(matcher, notes)
    if hits:
        rows.append(_row("with the semantic cache", 1 - hits, 0.0, (cost, small_cost), _measured(matcher), cost))
    if share and hits:
        rows.append(_row("with both", (1 - hits) * (1 - share), (1 - hits) * share, (cost, small_cost), "product of the two: hits and routes taken as independent", cost))  # fmt: skip
    notes.append(
        "requests are taken to be like the golden cases and labels; the share of repeated questions in your traffic decides what a cache is worth"
    )
    following = (
        f"promptops route show {name}" if router else f"promptops route train {name} --small MODEL --large MODEL"
    )
    return Spending(
        model=large.header.model, priced=cost > 0, rows=tuple(rows), notes=tuple(notes), following=following
    )


def _newest(runs: Sequence[Run], *models: str) -> Run | None:
    """The newest run of the first of these models that has one; of any model when none is named."""
    for model in models:
        found = next((run for run in runs if model and run.header.model == model), None)
        if found is not None:
            return found
    return next(iter(runs), None) if not models[0] else None


def _mean_cost(store: Store, run: Run) -> float:
    costs = [item.cost_nanousd for item in store.results(run.id)]
    return sum(costs) / len(costs) if costs else 0.0


def _draws(store: Store, run: Run) -> int:
    return store.count_results(run.id)[0]


def _row(what: str, large: float, small: float, costs: tuple[float, float], measured: str, base: float) -> SpendingRow:  # noqa: PLR0917
    price = large * costs[0] + small * costs[1]
    saved = 1 - price / base if base > 0 else 1 - large
    return SpendingRow(what=what, large_calls=large * REQUESTS, small_calls=small * REQUESTS, nanousd=price * REQUESTS, saved=saved, measured=measured)  # fmt: skip


def _proven_share(router: Router | None, small: Run | None, notes: list[str]) -> float:
    if router is None:
        notes.append("no router: `promptops route train` says whether a smaller model would do")
        return 0.0
    if router.threshold is None:
        notes.append(f"router: {router.evidence.get('summary', 'off')}")
        return 0.0
    if small is None:
        notes.append(
            f"no complete run of the small model {router.small}: its cost is not known, so the router saves nothing here"
        )
        return 0.0
    return _rate(router.evidence.get("share_small"))


def _proven_hits(matcher: Matcher | None, notes: list[str]) -> float:
    if matcher is None:
        notes.append("no calibrated cache: `promptops cache calibrate` says whether one may be used")
        return 0.0
    if matcher.threshold is None:
        notes.append(f"semantic cache: {matcher.evidence.get('summary', 'off')}")
        return 0.0
    hits, lookups = (_rate(matcher.evidence.get(key), most=1e9) for key in ("hits", "lookups"))
    return hits / lookups if lookups else 0.0


def _rate(value: Json, *, most: float = 1.0) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= most else 0.0


def _measured(found: Router | Matcher | None) -> str:
    evidence = found.evidence if found is not None else {}
    count = evidence.get("threshold_cases", evidence.get("lookups", "?"))
    return f"{count} cases that chose only the threshold"
