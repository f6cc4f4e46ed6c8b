"""Prices and budgets are whole nano-dollars from the file to the meter, and a model that costs nothing needs no money."""

import json
from pathlib import Path
from typing import Any

import pytest

from promptops.core.errors import DataError, RefusedError
from promptops.project.project import open_project
from promptops.release.export import bundle_files
from promptops.runtime.bundle import Trust, parse_bundle
from runtime.bundles import CONFIG, GOOD, NAME, Scripted, make_project, make_served, ok, open_runtime
from runtime.test_bundle_faults import listed


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return bundle_files([make_served(make_project(tmp_path_factory.mktemp("p") / "project"))], channel="prod", development=True)  # fmt: skip


@pytest.mark.parametrize(
    "price", ["0.15", "-1", "nan", "inf", '"-1"', '"nan"', '"inf"', '"1e-3"', '" 1"', '"1,5"', "true"]
)
def test_T14_a_price_in_the_configuration_is_decimal_text(tmp_path: Path, price: str) -> None:
    """A float, a negative amount and what is no number are refused with the place."""
    (tmp_path / "promptops.toml").write_text(CONFIG.replace('"1"', price, 1))

    with pytest.raises(DataError, match=r"promptops\.toml:\d+: .*(input_usd_per_mtok|'small')"):
        open_project(tmp_path)


@pytest.mark.parametrize("price", [0.5, -1, float("nan"), float("inf"), "1", True, None])
@pytest.mark.parametrize("name", ["input_nanousd_per_mtok", "output_nanousd_per_mtok"])
def test_T14_a_price_in_a_bundle_is_a_whole_number(files: dict[str, bytes], name: str, price: Any) -> None:
    """Whoever makes a bundle by hand cannot bring in a price that adds up to less than nothing, or to no number."""
    models = json.loads(files["models.json"])
    models["small"][name] = price

    with pytest.raises(RefusedError):
        parse_bundle(listed(files, **{"models.json": json.dumps(models).encode()}), Trust(unsigned=True), where="b")


@pytest.mark.parametrize("usd", ["-1", "nan", "1e3", "inf", ""])
def test_T14_a_budget_is_an_amount_that_can_be_spent(tmp_path: Path, usd: str) -> None:
    """The same for what may be spent; no limit at all is not written as an empty amount."""
    root = make_project(tmp_path / "p", {"budgets": [{"name": "day", "window_s": 60, "usd": usd}]})

    with pytest.raises(DataError):
        make_served(root)


def test_T14_a_fraction_of_a_nano_dollar_is_a_whole_one(files: dict[str, bytes], tmp_path: Path) -> None:
    """0.0000000001 dollars a million tokens is rounded up to one nano-dollar, never down to free."""
    root = make_project(tmp_path / "p", edit=lambda root: (root / "promptops.toml").write_text(CONFIG.replace('"1"', '"0.0000000001"', 1)) and None)  # fmt: skip
    price = parse_bundle(bundle_files([make_served(root)], channel="prod", development=True), Trust(unsigned=True), where="b").models["small"].price  # fmt: skip

    assert (1, 1) == (price.input_nanousd_per_mtok, price.cost_nanousd(input_tokens=1, output_tokens=0))


def free_small(root: Path) -> None:
    """The small model costs nothing."""
    (root / "promptops.toml").write_text(CONFIG.replace('"1"', '"0"'))


SPENT = {"name": "day", "window_s": 86_400, "per": ["tenant"], "usd": "0.02"}


def served_over_budget(tmp_path: Path, rule: dict[str, Any], **settings: Any) -> tuple[Any, Scripted, Scripted]:
    """The reply to a request when the budget of its tenant has no room for the large model; the large and the small model."""
    small = Scripted(lambda _: ok(cost_nanousd=0))
    large = Scripted(lambda _: ok(cost_nanousd=15_000_000))
    documents = {"budgets": [rule], "fallback": [{"step": "text", "text": GOOD}], "cache": {"ttl_s": 0}, **settings}
    runtime = open_runtime(tmp_path, documents, small=small, large=large, edit=free_small)
    first = runtime.complete(NAME, {"feedback": "one"})
    assert ("model", "") == (first.source, first.degraded)
    reply = runtime.complete(NAME, {"feedback": "two"})
    runtime.close()
    return reply, large, small


def test_T14_a_model_that_costs_nothing_answers_over_budget_when_it_is_the_small_one(tmp_path: Path) -> None:
    """`small` names it: nobody is left without an answer because money is spent, and the reply says which model it was."""
    reply, large, small = served_over_budget(tmp_path, SPENT, small="small", large="large")

    assert ("model", "small", 0, 1, 1) == (reply.source, reply.model, reply.cost_nanousd, large.calls, small.calls)
    assert reply.degraded.startswith("the small model answered")


def test_T14_without_a_free_model_in_the_settings_over_budget_is_the_fallback(tmp_path: Path) -> None:
    """A free model that is configured for nothing is not asked."""
    reply, large, small = served_over_budget(tmp_path, SPENT, small="large", large="large")

    assert ("text", 1, 0) == (reply.source, large.calls, small.calls)
    assert reply.degraded.startswith("budget: day is spent")


def test_T14_a_free_model_still_keeps_to_a_limit_of_requests(tmp_path: Path) -> None:
    """Free is about money: a rule of requests holds for every model."""
    reply, large, small = served_over_budget(tmp_path, {**SPENT, "requests": 1}, small="small", large="large")

    assert ("text", 1, 0) == (reply.source, large.calls, small.calls)
