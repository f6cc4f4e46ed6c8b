"""What a prompt costs: a month's bill by stage with every assumption, and 1,000 requests with what is proven of router and cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from promptops.core.bill import Assumption, Bill, Role, Swing, bill_for, month_bill, swings
from promptops.core.errors import DataError, did_you_mean
from promptops.core.jsontext import Json
from promptops.core.money import Price
from promptops.core.serving import Settings
from promptops.core.text import estimate_tokens
from promptops.evaluation.call_cost import LENGTH, CallCost, call_cost, serving_of
from promptops.evaluation.clients import input_names
from promptops.evaluation.traffic import Traffic, read_traffic
from promptops.gate.stats import normal_quantile, wilson_interval
from promptops.models.base import ModelRequest
from promptops.models.local import input_text
from promptops.project.golden import read_cases
from promptops.project.project import Evaluable, Project
from promptops.project.store import Run, Store
from promptops.release.cache_calibration import load_matcher, matcher_path
from promptops.release.routing import load_router, router_path
from promptops.runtime.matcher import Matcher
from promptops.runtime.router import Router

REQUESTS = 1_000
_JUDGED = 0.01
_MOST_VERDICTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingRow:
    """A step: calls and cost of 1,000 requests, `saved` (0..1) against the first row, and where the figures come from."""

    what: str
    large_calls: float
    small_calls: float
    nanousd: int
    saved: float
    measured: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """Two volumes side by side at the same rates, what they rest on, and what each of that moves in the bill of the larger."""

    per_day: int
    pilot_per_day: int
    general: Bill
    pilot: Bill
    assumptions: tuple[Assumption, ...]
    swings: tuple[Swing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """The rows, the month, and what the reader should know; `priced` is false where every call is free."""

    model: str
    priced: bool
    rows: tuple[SpendingRow, ...]
    month: Month
    notes: tuple[str, ...]
    following: str


def spending(
    store: Store, project: Project, name: str, *, per_day: int = REQUESTS, pilot_per_day: int = 0, given: Mapping[str, float] | None = None,
    traffic: Path | None = None,
) -> Spending:  # fmt: skip
    """The bill of requests that are like the golden cases but for what is assumed; `given` takes the place of assumptions by key.

    `pilot_per_day` 0 is a tenth. With a log of `traffic`, the length of requests and how many repeat another are measured. Raises DataError without a complete run of the prompt, and for a key or value that cannot be.
    """
    evaluable = project.load(name)
    settings = serving_of(evaluable.suite)
    router = load_router(project.root, name) if router_path(project.root, name).exists() else None
    matcher = load_matcher(project.root, name) if matcher_path(project.root, name).exists() else None
    runs = [run for run in store.runs(name) if run.state == "complete" and run.header.model != "routed"]
    named = (router.large if router else "") or settings.large or evaluable.prompt.model
    large = _newest(runs, named) if named else _likeliest(runs, project.config.default_model)
    if large is None:
        model = f" on {named}" if named else ""
        raise DataError(f"no complete run of {name}{model}", why="costs are measured, not guessed",
                        hint=f"promptops eval {name}" + (f" --model {named}" if named else ""))  # fmt: skip
    small = _newest(runs, router.small) if router else None
    notes: list[str] = []
    main = call_cost(store, large, project.config, evaluable.suite)
    calls: dict[Role, CallCost] = {"large": main}
    routed, cached = _proven_share(router, small, notes), _proven_hits(matcher, settings, notes)
    if routed and small:
        calls["small"] = call_cost(store, small, project.config, evaluable.suite, role="small")
    shadowed = _shadow(settings, runs, notes)
    if shadowed:
        calls["shadow"] = call_cost(store, shadowed[1], project.config, evaluable.suite, role="shadow")
    prices = {role: found.price for role, found in calls.items()}
    notes += [note for found in calls.values() for note in found.notes]
    plain = [item for found in calls.values() for item in found.assumptions]
    beside = [*_exact(settings), *_hedges(settings), *([shadowed[0]] if shadowed else []), *_judge(store, runs, notes)]
    length = LENGTH
    if traffic:
        sent = read_traffic(traffic, evaluable.prompt, max_case_bytes=project.config.max_case_bytes)
        length, beside = _length(sent, evaluable, main.assumptions[0].value), [_repeats(item, sent) for item in beside]
    assumptions = _with_given([*plain, length, *cached, *routed, *beside], given or {})
    pilot_per_day = pilot_per_day or max(1, per_day // 10)
    month = Month(
        per_day=per_day, pilot_per_day=pilot_per_day, general=month_bill(assumptions, prices, per_day=per_day), pilot=month_bill(assumptions, prices, per_day=pilot_per_day),
        assumptions=tuple(assumptions), swings=swings(assumptions, prices, per_day=per_day),
    )  # fmt: skip
    notes.append(
        "model calls only: neither servers nor people; requests are taken to be like the golden cases but for what is assumed"
    )
    following = (
        f"promptops route show {name}" if router else f"promptops route train {name} --small MODEL --large MODEL"
    )
    return Spending(model=large.header.model, priced=month.general.nanousd > 0, month=month, notes=tuple(notes), following=following,
                    rows=tuple(_rows(plain, prices, routed, cached, main=main, router=router, matcher=matcher)))  # fmt: skip


def _newest(runs: Sequence[Run], model: str) -> Run | None:
    return next((run for run in runs if run.header.model == model), None)


def _likeliest(runs: Sequence[Run], default: str) -> Run | None:
    """Where no model is named for the prompt: the newest run of the default, else of a model that is paid for, else of any."""
    paid = next((run for run in runs if run.header.model_identity.get("provider") != "local"), None)
    return _newest(runs, default) or paid or next(iter(runs), None)


def _with_given(assumptions: Sequence[Assumption], given: Mapping[str, float]) -> list[Assumption]:
    known = {item.key: item for item in assumptions}
    for key, value in given.items():
        if key not in known:
            raise DataError(
                f"no assumption {key[:60]!r}",
                hint=did_you_mean(key, known),
            )
        item = known[key]
        if value < 0 or (item.unit == "share" and value > 1):
            raise DataError(
                f"{key}={value:g} cannot be", why="a share is 0 to 1" if item.unit == "share" else "it is not negative"
            )
        known[key] = replace(item, value=value, low=value, high=value, source="given", where="--assume")
    return list(known.values())


# What 1,000 requests cost with what is proven


def _rows(
    plain: Sequence[Assumption], prices: Mapping[Role, Price], routed: Sequence[Assumption], cached: Sequence[Assumption],
    *, main: CallCost, router: Router | None, matcher: Matcher | None,
) -> list[SpendingRow]:  # fmt: skip
    count = main.assumptions[0].where
    both = "product of the two: hits and routes taken as independent"
    ways: list[tuple[str, Sequence[Assumption], str]] = [("as it is", (), count)]
    ways += [("with the router", routed, _measured(router))] if routed else []
    ways += [("with the semantic cache", cached, _measured(matcher))] if cached else []
    ways += [("with both", [*routed, *cached], both)] if routed and cached else []
    rows: list[SpendingRow] = []
    for what, more, measured in ways:
        bill = bill_for([*plain, *more], prices, requests=REQUESTS)
        share, hits = (
            {item.key: item.value for item in more}.get(key, 0.0) for key in ("small_share", "semantic_hits")
        )
        large, small = (1 - hits) * (1 - share) * REQUESTS, (1 - hits) * share * REQUESTS
        base = rows[0].nanousd if rows else bill.nanousd
        saved = 1 - bill.nanousd / base if base else 1 - large / REQUESTS
        rows.append(SpendingRow(what=what, large_calls=large, small_calls=small, nanousd=bill.nanousd, saved=saved, measured=measured))  # fmt: skip
    return rows


def _proven_share(router: Router | None, small: Run | None, notes: list[str]) -> list[Assumption]:
    if router is None:
        notes.append("no router: `promptops route train` says whether a smaller model would do")
        return []
    if router.threshold is None:
        notes.append(f"router: {router.evidence.get('summary', 'off')}")
        return []
    if small is None:
        notes.append(
            f"no complete run of the small model {router.small}: its cost is not known, so the router saves nothing here"
        )
        return []
    share, cases = _rate(router.evidence.get("share_small")), _rate(router.evidence.get("threshold_cases"), most=1e9)
    return (
        [_proven("small_share", "requests that the router sends to the small model", share, cases, _measured(router))]
        if share
        else []
    )


def _proven_hits(matcher: Matcher | None, settings: Settings, notes: list[str]) -> list[Assumption]:
    if matcher is None:
        notes.append("no calibrated cache: `promptops cache calibrate` says whether one may be used")
        return []
    if matcher.threshold is None:
        notes.append(f"semantic cache: {matcher.evidence.get('summary', 'off')}")
        return []
    if not settings.cache.semantic or settings.cache.ttl_s == 0:
        notes.append("semantic cache: calibrated, but switched off in `runtime.cache`")
        return []
    hits, lookups = (_rate(matcher.evidence.get(key), most=1e9) for key in ("hits", "lookups"))
    if not hits or hits > lookups:
        return []
    return [
        _proven("semantic_hits", "requests answered from the semantic cache", hits / lookups, lookups, _measured(matcher)),
        Assumption(key="audited_hits", what="hits that are answered again to check them", value=matcher.audit_share, low=matcher.audit_share, high=matcher.audit_share,
                   source="configured", where="audit_share of cache.json"),
    ]  # fmt: skip


def _proven(key: str, what: str, share: float, count: float, where: str) -> Assumption:
    interval = wilson_interval(share * count, count) if count else None
    return Assumption(key=key, what=what, value=share, low=interval.low if interval else share, high=interval.high if interval else share,
                      source="measured", where=where)  # fmt: skip


def _rate(value: Json, *, most: float = 1.0) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= most else 0.0


def _measured(found: Router | Matcher | None) -> str:
    evidence = found.evidence if found is not None else {}
    count = evidence.get("threshold_cases", evidence.get("lookups", "?"))
    return f"{count} cases that chose only the threshold"


# What is configured, or can only be assumed


def _exact(settings: Settings) -> list[Assumption]:
    what = "requests answered from the exact cache"
    if settings.cache.ttl_s == 0:
        return [
            Assumption(
                key="exact_hits",
                what=what,
                value=0.0,
                low=0.0,
                high=0.0,
                source="configured",
                where="runtime.cache.ttl_s is 0",
            )
        ]
    return [Assumption(key="exact_hits", what=what, value=0.0, low=0.0, high=0.3, source="assumed", where="how often users repeat themselves within runtime.cache.ttl_s is not known")]  # fmt: skip


def _length(sent: Traffic, evaluable: Evaluable, tokens: float) -> Assumption:
    """Against golden cases, by estimated tokens of what users write; the rest of a prompt has the length it has."""
    names = input_names(evaluable.prompt)
    golden = [estimate_tokens(input_text(ModelRequest(messages=(), inputs=case.inputs), names))
              for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)]  # fmt: skip
    weights = [request.weight for request in sent.requests]
    sizes = [estimate_tokens(request.text) for request in sent.requests]
    whole = sum(weights)
    mean = sum(weight * size for weight, size in zip(weights, sizes, strict=True)) / whole
    spread = sum(weight * (size - mean) ** 2 for weight, size in zip(weights, sizes, strict=True)) / whole
    half = normal_quantile(0.975) * (spread * sum(weight**2 for weight in weights)) ** 0.5 / whole
    usual = sum(golden) / len(golden)
    value, low, high = (
        max(0.0, 1 + (found - usual) / tokens) if tokens else 1.0 for found in (mean, mean - half, mean + half)
    )
    return replace(LENGTH, value=value, low=low, high=high, source="measured",
                   where=f"{sent.rows} requests of {sent.path}: {mean:.0f} tokens against {usual:.0f}, by estimate")  # fmt: skip


def _repeats(item: Assumption, sent: Traffic) -> Assumption:
    """How many exact hits there can be at the most; a log without times does not tell how many come in time."""
    if item.key != "exact_hits" or item.source != "assumed":
        return item
    most = 1 - len(sent.requests) / sent.rows
    return replace(item, high=most, where=f"{100 * most:.0f}% of the requests of {sent.path} repeat another; how many do so within runtime.cache.ttl_s it does not tell")  # fmt: skip


def _hedges(settings: Settings) -> list[Assumption]:
    share = settings.hedge.share
    return [Assumption(key="hedges", what="second calls beside slow ones", value=share, low=0.0, high=share, source="configured", where="runtime.hedge.share, at most")] if share else []  # fmt: skip


def _shadow(settings: Settings, runs: Sequence[Run], notes: list[str]) -> tuple[Assumption, Run] | None:
    if not settings.shadow.percent:
        return None
    run = _newest(runs, settings.shadow.model)
    if run is None:
        notes.append(
            f"no complete run of the shadow model {settings.shadow.model}: what it costs is not known and not in the bill"
        )
        return None
    share = settings.shadow.percent / 100
    return Assumption(key="shadowed", what="answers that the shadow model repeats", value=share, low=share, high=share, source="configured", where="runtime.shadow.percent"), run  # fmt: skip


def _judge(store: Store, runs: Sequence[Run], notes: list[str]) -> list[Assumption]:
    """What judging an answer costs, from the newest run with a judge; how many are judged in service is a plan, not a fact."""
    run = next((run for run in runs if run.header.judge), None)
    if run is None:
        return []
    costs: dict[tuple[str, int], int] = {}
    for count, (case, draw, verdict) in enumerate(store.verdicts(run.id)):
        if count == _MOST_VERDICTS:
            break
        answer = store.find_answer(verdict.answer_key)
        costs[case, draw] = costs.get((case, draw), 0) + (answer.cost_nanousd if answer else 0)
    if not costs:
        notes.append(f"run {run.id} has a judge and no verdict: what judging costs is not known and not in the bill")
        return []
    mean = sum(costs.values()) / len(costs)
    return [
        Assumption(key="judged", what="answers in service that a judge scores", value=_JUDGED, low=0.0, high=5 * _JUDGED, source="assumed", where="the share that you sample"),
        Assumption(key="judge_cost", what="cost of judging an answer", value=mean, low=mean, high=mean, source="measured", where=f"{len(costs)} answers of run {run.id}", unit="nano-dollars"),
    ]  # fmt: skip
