"""The card of readiness in a real browser: readable on a phone and at a desk, and text of a project stays text."""

import html
import json
from collections.abc import Iterator
from typing import Any

import pytest
from evaluations import Call

from browser import accessibility, chromium, requests_of
from conftest import PROMPT, Sandbox

WAIVER = "promptops: 1\nwaivers:\n  - {item: slo, by: ana, why: %s, until: '2020-01-01'}\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def card(sandbox: Sandbox, call: Call, text: str) -> str:
    """A card with a purpose and an expired waiver that say `text`."""
    quoted = json.dumps(text)
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "description: Says whether customer feedback is positive, negative or neutral.",
                    f"description: {quoted}")  # fmt: skip
    sandbox.write(f"prompts/{PROMPT}/readiness.yaml", WAIVER % quoted)
    sandbox.commit_all()
    found = call("readiness", PROMPT, "--model", "small", "-o", "card.html", "-o", "card.md")
    assert 1 == found.code, found.err
    return found.out


def test_H1_H2_L1_text_of_a_project_runs_nothing_and_stays_in_its_place(
    sandbox: Sandbox, call: Call, browser: Any
) -> None:
    """Scripts, images, terminal sequences and markup of Markdown in purpose and waivers are shown as text; nothing is loaded."""
    hostile = "<script>window.pwned=1</script><img src=http://127.0.0.1:9/x onerror=window.pwned=1> \x1b[31m {{ 7*7 }} | a | [x](javascript:alert(1))"
    shown = card(sandbox, call, hostile)
    requests_of(browser)
    browser.get(sandbox.path("card.html").as_uri())
    page = sandbox.read("card.html")

    assert (None, []) == (browser.execute_script("return window.pwned"), requests_of(browser))
    assert (0, 0) == tuple(len(browser.find_elements("css selector", tag)) for tag in ("script", "img"))
    assert "default-src 'none'" in html.unescape(page)
    assert (False, False, False) == ("\x1b" in page, "<script>window" in page, "\x1b" in shown)
    rows = [line for line in sandbox.read("card.md").splitlines() if line.startswith("|")]
    assert {5} == {line.replace("\\|", "").count("|") for line in rows}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_card_has_no_accessibility_violation(
    scheme: str, width: int, sandbox: Sandbox, call: Call, browser: Any
) -> None:
    """axe finds nothing in light and dark, on a phone and at a desk; nothing is wider than the screen."""
    card(sandbox, call, "Says how customers feel, in a word that is rather long: Donaudampfschifffahrtsgesellschaft")

    assert ([], 0) == accessibility(browser, sandbox.path("card.html"), scheme=scheme, width=width)
