"""The total by traffic in every report: beside the plain total, with its interval, and without a word in the verdict."""

from collections.abc import Callable

import pytest

from conftest import PROMPT, Outcome, Sandbox

Call = Callable[..., Outcome]
LINE = (
    "by traffic: delivery 90%, product 10% (the suite's weights); it decides nothing, each category is judged by itself"
)


@pytest.fixture
def weighted(sandbox: Sandbox) -> Sandbox:
    sandbox.replace(
        f"golden/{PROMPT}.yaml", "  delivery:\n  product:\n", "  delivery: {weight: 9}\n  product: {weight: 1}\n"
    )
    return sandbox


def written(sandbox: Sandbox, call: Call, *command: str) -> dict[str, str]:
    """What a command prints and writes, by format."""
    files = {kind: f"report.{kind}" for kind in ("md", "html")}
    outputs = [word for file in files.values() for word in ("-o", file)]
    text = call(*command, *outputs).out
    return {"terminal": text, **{kind: sandbox.read(file) for kind, file in files.items()}}


def test_a_run_shows_its_total_by_traffic(weighted: Sandbox, call: Call):
    """By hand: 7 of 10 and 9 of 12 pass; 0.9 * 0.7 + 0.1 * 0.75 = 0.705, and the plain total of 16/22 stays."""
    found = written(weighted, call, "eval")
    found["show"] = call("runs", "show").out

    for text in found.values():
        assert ("total, by traffic" in text, LINE.partition("(")[0] in text.replace("&#x27;", "'")) == (True, True)
    assert ("16/22 cases pass (73%" in found["terminal"], "  70%  " in found["terminal"].partition("by traffic")[2][:60]) == (True, True)  # fmt: skip
    document = call("runs", "show", "--json").json["weighted"]
    assert (pytest.approx(0.705), 1.0, {"delivery": 0.9, "product": 0.1}) == (document["rate"], document["share"], document["weights"])  # fmt: skip
    assert document["interval"][0] < 0.705 < document["interval"][1]


def test_a_comparison_shows_its_total_by_traffic(weighted: Sandbox, call: Call):
    """Before and after, with the interval of the difference; the verdict is that of the categories."""
    runs = [
        call("eval", "--json", "--model", model).json["runs"][0]["run"] for model in ("local:constant", "local:rules")
    ]
    found = written(weighted, call, "compare", *runs)

    for text in found.values():
        assert ("total, by traffic" in text, LINE.partition("(")[0] in text) == (True, True)
    document = call("compare", *runs, "--json").json
    weighted_ = document["weighted"]
    assert (pytest.approx(0.9 * 2 / 10 + 0.1 * 2 / 12), pytest.approx(0.705)) == (weighted_["baseline"], weighted_["candidate"])  # fmt: skip
    assert weighted_["interval"][0] < weighted_["difference"] < weighted_["interval"][1]


def test_the_total_by_traffic_of_some_categories_says_how_much_they_stand_for(weighted: Sandbox, call: Call):
    """With `--category` the rest of the traffic is not in it."""
    assert "these cases stand for 10% of it" in call("eval", "--category", "product").out


def test_without_weights_nothing_is_said(sandbox: Sandbox, call: Call):
    """No total by traffic is made up; JSON has the key with no value."""
    found = call("eval")

    assert ("by traffic" in found.out, call("runs", "show", "--json").json["weighted"]) == (False, None)


def test_new_weights_keep_the_subject_and_the_answers(weighted: Sandbox, call: Call):
    """A run keeps the weights it was made with; another month's traffic makes no other subject."""
    old = call("eval", "--json").json["runs"][0]
    weighted.replace(f"golden/{PROMPT}.yaml", "{weight: 9}", "{weight: 1}")
    new = call("eval", "--json").json["runs"][0]

    assert (old["subject"], 0.9, 0.5) == (new["subject"], old["weighted"]["weights"]["delivery"], new["weighted"]["weights"]["delivery"])  # fmt: skip
    assert old == call("runs", "show", old["run"], "--json").json
