"""A prompt over its versions: one point a content, and no comparison of different questions without saying so."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluations import Call

from browser import chromium, requests_of
from conftest import PROMPT, Sandbox


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def three_contents(sandbox: Sandbox, call: Call) -> list[str]:
    """Two versions of the rules, then fewer golden cases; each evaluated twice."""
    sandbox.write(".gitignore", ".promptops/\n*.html\n")
    commits = [sandbox.commit_all("One")]
    call("eval")
    call("eval")
    sandbox.replace(f"prompts/{PROMPT}/rules.yaml", "late|", "")
    commits.append(sandbox.commit_all("Two"))
    call("eval")
    sandbox.write(
        f"golden/{PROMPT}.jsonl", "".join(sandbox.read(f"golden/{PROMPT}.jsonl").splitlines(keepends=True)[1:])
    )
    commits.append(sandbox.commit_all("Three"))
    call("eval")
    call("eval", "--category", "delivery")
    call("eval", "--model", "local:echo")
    return commits


def test_a_point_is_a_content_evaluated_in_full_on_one_model(sandbox: Sandbox, call: Call):
    """Repeated runs, other models and partial selections are no points; where the cases changed is said."""
    commits = three_contents(sandbox, call)

    newest = call("report", "--history", PROMPT, "--json").json
    local = call("report", "--history", PROMPT, "--model", "local", "--json").json

    assert ("local:echo", [commits[2][:7]]) == (newest["model"], [point["label"] for point in newest["points"]])
    assert [commit[:7] for commit in commits] == [point["label"] for point in local["points"]]
    assert [local["points"][2]["run"]] == local["golden_changed"]


def test_the_page_shows_every_content_and_runs_nothing(sandbox: Sandbox, call: Call, browser, tmp_path: Path):
    """A chart for the total, each category and slice, cost and latency; no script, no request."""
    sandbox.write(".gitignore", ".promptops/\n*.html\n")
    first = sandbox.commit_all("One")
    call("eval")
    sandbox.replace(f"prompts/{PROMPT}/rules.yaml", "late|", "")
    second = sandbox.commit_all("Two")
    call("eval")

    outcome = call("report", "--history", PROMPT, "-o", str(tmp_path / "h.html"))
    requests_of(browser)
    browser.get((tmp_path / "h.html").as_uri())

    titles = [node.text for node in browser.find_elements("css selector", "figcaption")]
    labels = [node.text for node in browser.find_elements("css selector", "tbody th")]
    assert (0, [second[:7], first[:7]], []) == (outcome.code, labels, requests_of(browser))
    assert [
        "total",
        "delivery",
        "product",
        "length=long",
        "length=short",
        "cost of an answer",
        "latency: p50, and p99 above it",
    ] == titles
    assert (0, 14) == (
        len(browser.find_elements("css selector", "script")),
        len(browser.find_elements("css selector", "circle")) - 2,
    )
    assert re.search(r"default-src 'none'; style-src 'sha256-", browser.page_source.replace("&#x27;", "'"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing",), 2, "no prompt 'nothing'; known: feedback-sentiment"),
        ((PROMPT,), 2, f"no complete run of {PROMPT}; make one with `promptops eval {PROMPT}`"),
        ((PROMPT, "-o", "h.pdf"), 2, "a history is a page"),
    ],
)
def test_what_has_no_history_says_so(arguments, code, said, call: Call):
    outcome = call("report", "--history", *arguments)

    assert (code, True) == (outcome.code, said in outcome.err)
