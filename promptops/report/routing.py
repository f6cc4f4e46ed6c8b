"""A trained router and its evidence, on the terminal and as JSON."""

from collections.abc import Iterator
from math import isnan

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.jsontext import Json
from promptops.release.router_training import Estimate, RuleReport, Training
from promptops.release.routing import RoutedEvaluation
from promptops.report.show import show
from promptops.report.tables import count, headline, next_line, percent, table
from promptops.runtime.router import Router

_NOTES = {
    "random": "any share at random", "length": "by length", "category": "mean of the category", "text": "words, length, category, language",
    "chosen": "choosing among these inside each fold", "oracle": "knows both answers",
}  # fmt: skip


def render_training(training: Training, name: str) -> RenderableType:
    """The answer in words, then the evidence, then what to run next."""
    router = training.router
    off = router.threshold is None
    parts: list[RenderableType] = [headline("OFF" if off else "TRAINED", "yellow" if off else "green", f"{name}: {training.summary}")]  # fmt: skip
    parts.append(
        show(f"{router.small} is right in {percent(training.small_rate)}, {router.large} in {percent(training.large_rate)} of {count(training.cases, 'case')}; "
             f"{training.learn_cases} taught the rule, {training.threshold_cases} chose the threshold")
    )  # fmt: skip
    if router.rule == "small":
        parts.append(
            Text(
                "the large model is no better where the rule learns: there is no advantage to keep, and no order to learn"
            )
        )
    else:
        parts.extend(_rules("rules, on folds they did not learn from", training.rules))
        if training.unseen:
            parts.extend(_rules("rules, on categories they did not learn from", training.unseen))
        parts.append(Text(f"rule: `{router.rule}`, the simplest that no richer one beats"))
    parts.append(_categories(training))
    parts.append(next_line(f"promptops eval {name} --policy routed --against large"))
    return Group(*parts)


def _rules(title: str, rules: tuple[RuleReport, ...]) -> Iterator[RenderableType]:
    yield Text("")
    grid = table(title, "APGR>", "CPT(50%)>", "CPT(80%)>", "saved at 80%>", "beaten by", "reads?")
    for item in rules:
        grid.add_row(item.rule, _number(item.apgr), _share(item.cpt50), _share(item.cpt80), _share(item.saved80),
                     item.beaten_by or "-", _NOTES.get(item.rule, ""))  # fmt: skip
    yield grid


def _categories(training: Training) -> RenderableType:
    grid = table("category", "cases>", "small>", "large>", "routed>", "to small>", "gate")
    for item in sorted(training.categories, key=lambda row: row.routed_rate - row.large_rate):
        grid.add_row(show(item.category), str(item.cases), percent(item.small_rate), percent(item.large_rate),
                     percent(item.routed_rate), percent(item.share_small), item.verdict or "-")  # fmt: skip
    return grid


def _number(found: Estimate) -> str:
    return "-" if isnan(found.value) else f"{found.value:.3f} [{found.low:.2f}, {found.high:.2f}]"


def _share(found: Estimate) -> str:
    return "-" if isnan(found.value) else f"{found.value:.0%} [{found.low:.0%}, {found.high:.0%}]"


def render_router(router: Router, name: str) -> RenderableType:
    """What router.json says."""
    evidence = router.evidence
    state = "OFF" if router.threshold is None else "ON"
    parts: list[RenderableType] = [headline(state, "yellow" if state == "OFF" else "green", f"{name}: rule {router.rule}, {router.small or '?'} or {router.large or '?'}")]  # fmt: skip
    if isinstance(evidence.get("summary"), str):
        parts.append(show(str(evidence["summary"])))
    size = f"{len(router.terms)} words and pairs, {len(router.categories)} categories"
    limits = f"lengths {router.shortest} to {router.longest} characters"
    parts.append(show(f"{size}; {limits}; anything else goes to the large model"))
    parts.append(next_line(f"promptops eval {name} --policy routed --against large"))
    return Group(*parts)


def router_json(router: Router) -> dict[str, Json]:
    """router.json without its words."""
    document = router.as_json()
    text = document.pop("text")
    return {**document, "terms": len(text["terms"]), "min_known": text["min_known"]}


def render_saving(found: RoutedEvaluation) -> RenderableType:
    """What routing does to cost, beside the gate's verdict."""
    cost = ""
    if found.large_cost_nanousd:
        cost = f", cost {found.cost_nanousd / 1e9:.6f} instead of {found.large_cost_nanousd / 1e9:.6f} USD"
    return show(f"{found.small_calls} of {found.cases} cases go to {found.router.small}{cost}; judged on the half that the rule did not learn from")  # fmt: skip
