"""What a call of a model costs, from the answers of a stored run: tokens, retries, answers that break their form or are rejected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from promptops.core.bill import ROLES, Assumption, Bill, Role, month_bill
from promptops.core.errors import DataError
from promptops.core.money import Price, format_usd
from promptops.core.serving import Settings, parse_settings
from promptops.core.suite import Suite
from promptops.gate.stats import mean_interval, wilson_interval
from promptops.project.config import Config, resolve_model
from promptops.project.store import JUDGE_KEYS, Result, Run, Store, StoredAnswer

LENGTH = Assumption(key="length", what="length of real requests against golden cases", value=1.0, low=0.75, high=1.5, source="assumed",
                    where="golden cases are not a sample of your traffic; give --assume length=X when you know", unit="times")  # fmt: skip
_FORM = ("json_schema", "is_json")
_ASSUMED_RETRIES = 0.01
_BATCH, _MOST = 500, 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCost:
    """The figures of one model as assumptions, its price today, and what the reader should know of them."""

    run: Run
    price: Price
    assumptions: tuple[Assumption, ...]
    notes: tuple[str, ...] = ()


def serving_of(suite: Suite) -> Settings:
    """How a prompt is served, with every default."""
    return parse_settings(suite.runtime)


def call_cost(store: Store, run: Run, config: Config, suite: Suite, *, role: Role = "large") -> CallCost:
    """Means over the answers of a run. Raises DataError for a run without answers."""
    prefix = ROLES[role]
    named = "" if role == "large" else f" of the {role} model"
    results = list(islice(store.results(run.id), _MOST))
    answers = _answers(store, results)
    if not answers:
        raise DataError(f"run {run.id} holds no answer", why="costs are measured, not guessed", hint=f"promptops eval {run.header.prompt}")  # fmt: skip
    where = f"{len(answers)} answers of run {run.id}"
    found = [
        _mean(
            f"{prefix}input_tokens", f"input tokens a call{named}", [answer.input_tokens for answer in answers], where
        ),
        _mean(
            f"{prefix}output_tokens",
            f"output tokens a call{named}",
            [answer.output_tokens for answer in answers],
            where,
        ),
    ]
    price, notes = _price(run, config)
    if (odd := sum(not answer.usage_trusted for answer in answers)) > 0:
        notes.append(f"{odd} of {where} came without usage that can be true; their tokens are estimates")
    billed = _billed(run, answers, prefix, named, where)
    found += [billed] if billed else []
    if role == "large":
        found += [_repairs(suite, results, where), _retries(store, run, suite)]
    if role == "small":
        found.append(
            _share(
                "small_rejected",
                "small answers that the guardrails reject",
                [_rejected(suite, item) for item in results],
                where,
            )
        )
    return CallCost(run=run, price=price, assumptions=tuple(found), notes=tuple(notes))


def model_month(found: CallCost, *, per_day: int) -> Bill:
    """The bill of a month when every request is answered by this model alone, with its retries and repairs."""
    return month_bill(found.assumptions, {"large": found.price}, per_day=per_day)


def _answers(store: Store, results: Sequence[Result]) -> list[StoredAnswer]:
    """One for each result: a case that was drawn twice costs twice."""
    found: list[StoredAnswer] = []
    for start in range(0, len(results), _BATCH):
        part = results[start : start + _BATCH]
        known = store.find_answers([item.answer_key for item in part])
        found += [known[item.answer_key] for item in part if item.answer_key in known]
    return found


def _mean(key: str, what: str, values: Sequence[int], where: str) -> Assumption:
    mean = sum(values) / len(values)
    interval = mean_interval(values)
    low, high = (mean, mean) if len(values) < 2 else (max(0.0, interval.low), interval.high)
    return Assumption(key=key, what=what, value=mean, low=low, high=high, source="measured", where=where, unit="tokens")


def _share(key: str, what: str, hits: Sequence[bool], where: str) -> Assumption:
    interval = wilson_interval(sum(hits), len(hits))
    low = interval.low if any(hits) else 0.0
    return Assumption(key=key, what=what, value=sum(hits) / len(hits), low=low, high=interval.high, source="measured", where=f"{sum(hits)} of {where}")  # fmt: skip


def _price(run: Run, config: Config) -> tuple[Price, list[str]]:
    """That of the configuration; of the run where the model is not there any more."""
    then = _price_of(run.header.price)
    try:
        today = resolve_model(config, run.header.model).price
    except DataError:
        return then, [f"{run.header.model} is not configured any more; the price is that of run {run.id}"]
    price = f"{format_usd(today.input_nanousd_per_mtok)} a million tokens of input, {format_usd(today.output_nanousd_per_mtok)} of output"
    notes = [f"price of {run.header.model}: {price} (configured)"]
    if run.header.price and today != then:
        notes.append(f"the price of {run.header.model} changed since run {run.id}; today's counts")
    return today, [] if today == then and today.free else notes


def _price_of(document: Mapping[str, object]) -> Price:
    known = {name: value for name, value in document.items() if name in Price.__dataclass_fields__}
    return Price(**known)  # type: ignore[arg-type]


def _billed(run: Run, answers: Sequence[StoredAnswer], prefix: str, named: str, where: str) -> Assumption | None:
    """Less than the list price when the provider counted cached input."""
    price = _price_of(run.header.price)
    listed = sum(
        price.cost_nanousd(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens) for answer in answers
    )
    paid = sum(answer.cost_nanousd for answer in answers)
    if not listed or not 0 < paid < 0.999 * listed:
        return None
    return Assumption(key=f"{prefix}billed", what=f"share of the list price that was billed{named}", value=paid / listed, low=paid / listed, high=1.0,
                      source="measured", where=f"{where}: cached input")  # fmt: skip


def _repairs(suite: Suite, results: Sequence[Result], where: str) -> Assumption:
    what = "answers that break their form and are asked for again"
    if not serving_of(suite).guardrails.repair:
        return Assumption(key="repairs", what=what, value=0.0, low=0.0, high=0.0, source="configured", where="runtime.guardrails.repair is off")  # fmt: skip
    forms = _names(suite, _FORM)
    if not forms:
        return Assumption(key="repairs", what=what, value=0.0, low=0.0, high=0.0, source="configured", where="no check of the suite is about the form")  # fmt: skip
    return _share("repairs", what, [_fails(item, forms) for item in results], where)


def _rejected(suite: Suite, result: Result) -> bool:
    return result.outcome != "ok" or _fails(result, _names(suite, _FORM) | suite.online)


def _names(suite: Suite, kinds: Sequence[str]) -> frozenset[str]:
    every = (*suite.checks, *(check for checks in suite.by_category.values() for check in checks))
    return frozenset(check.name for check in every if check.kind in kinds)


def _fails(result: Result, names: frozenset[str]) -> bool:
    return any(name in names and passed is False for name, passed, _, _ in result.scores)


def _retries(store: Store, run: Run, suite: Suite) -> Assumption:
    """Attempts beyond the first, each taken as paid in full: an answer that came too late was still made."""
    what = "calls that are made again after a failure"
    most = serving_of(suite).retry.share if serving_of(suite).retry.most else 0.0
    keys = [key for key, _, _, _ in store.attempts(run.id) if not key.startswith(JUDGE_KEYS)]
    if most == 0:
        return Assumption(
            key="retries",
            what=what,
            value=0.0,
            low=0.0,
            high=0.0,
            source="configured",
            where="runtime.retry allows none",
        )
    if not keys:
        value = min(_ASSUMED_RETRIES, most) if not _price_of(run.header.price).free else 0.0
        return Assumption(key="retries", what=what, value=value, low=0.0, high=most if value else 0.0, source="assumed",
                          where=f"run {run.id} made no call of its own; at most runtime.retry.share")  # fmt: skip
    again, first = len(keys) - len(set(keys)), len(set(keys))
    interval = wilson_interval(min(again, first), first)
    value = min(again / first, most)
    return Assumption(key="retries", what=what, value=value, low=min(interval.low if again else 0.0, value), high=max(value, min(interval.high, most)), source="measured",
                      where=f"{again} of {first} calls of run {run.id}, at most runtime.retry.share")  # fmt: skip
