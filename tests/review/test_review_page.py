"""The review page in a real browser: twenty answers by keyboard, a reload in between, two people, hostile text, phone and dark."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reviewed import batch_of, with_rubric
from served import Served, served

from browser import chromium, requests_of
from conftest import PROMPT, Sandbox
from promptops.project.labels import Label, read_labels
from promptops.project.tree import WorkTree

HOSTILE = (
    "</script><script>window.pwned=1;alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(2)>{{7*7}}"
    '<a href="javascript:alert(3)">x</a><svg onload=alert(4)><style>*{display:none}</style><iframe src="http://127.0.0.1:9/y"></iframe>'
)
HIDING = "inv\u202egnp.exe\u202c p\u200bay p\u0430ypal \ufeff\u2066x\u2069"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(width=1280, height=800) as found:
        yield found


def labels(sandbox: Sandbox) -> list[Label]:
    return read_labels(WorkTree(sandbox.root), PROMPT)


def opened(browser: Any, page: Served) -> None:
    requests_of(browser)
    browser.get(page.link)
    wait(browser, "document.querySelector('#work:not([hidden]), #done:not([hidden])') !== null")


def wait(browser: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60, poll_frequency=0.02).until(lambda driver: driver.execute_script(f"return {condition}"))


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser, duration=0).send_keys(*keys).perform()


def label(browser: Any, keys: str, done: int) -> None:
    """Answer by keyboard, wait for what the rubric says, save, and wait until that many are labelled."""
    press(browser, keys)
    wait(browser, "!document.getElementById('save').disabled")
    press(browser, "\ue007")
    wait(browser, f"document.getElementById('progress').getAttribute('aria-valuenow') === '{done}'")


def text_of(browser: Any, selector: str) -> list[str]:
    return [node.text for node in browser.find_elements("css selector", selector)]


def test_twenty_answers_by_keyboard_with_a_reload_in_between(sandbox: Sandbox, browser):
    """Nothing is lost: not a label, not a half-given verdict, not a note; undo and skip work; then it says that all is done."""
    with_rubric(sandbox)
    batch_of(sandbox, {f"a-{index:02}": f"Answer {index}" for index in range(20)})
    with served(sandbox) as page:
        opened(browser, page)
        for number in range(1, 9):
            label(browser, "n2" if number % 4 == 0 else "y4", number)
        press(browser, "y")
        press(browser, "c")
        press(browser, "a note, y n 1 2 s u")
        press(browser, "\ue00c")
        browser.refresh()
        wait(browser, "document.getElementById('progress').getAttribute('aria-valuenow') === '8'")
        assert "a note, y n 1 2 s u" == browser.find_element("id", "note").get_attribute("value")
        assert ["true"] == [
            node.get_attribute("aria-checked") for node in browser.find_elements("css selector", "[aria-checked=true]")
        ]
        label(browser, "3", 9)
        assert ["Answer 9"] == text_of(browser, "#answer")
        press(browser, "u")
        wait(browser, "document.getElementById('answer').textContent === 'Answer 8'")
        assert 8 == len(labels(sandbox))
        label(browser, "", 9)
        press(browser, "s")
        wait(browser, "document.getElementById('answer').textContent === 'Answer 10'")
        for number in range(10, 21):
            label(browser, "y5", number)
        wait(browser, "!document.getElementById('done').hidden")
        assert ["All labelled"] == text_of(browser, "#done-title")
        press(browser, "\ue007")
        assert 0 == page.process.wait(60)

    kept = {item.case_id: item for item in labels(sandbox)}
    assert [f"a-{index:02}" for index in range(20)] == sorted(kept)
    assert ["a-03", "a-07"] == sorted(case for case, item in kept.items() if not item.passed)
    assert ("a note, y n 1 2 s u", {"right": True, "certain": 3}) == (kept["a-08"].note, dict(kept["a-08"].verdicts))


def test_a_reviewer_can_overrule_the_rubric_by_keyboard(sandbox: Sandbox, browser):
    """The whole follows from the criteria until the reviewer says otherwise."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "Answer"})
    with served(sandbox) as page:
        opened(browser, page)
        press(browser, "n5")
        wait(browser, "!document.getElementById('save').disabled")
        assert ["Fail"] == text_of(browser, "#whole [aria-checked=true]")
        label(browser, "y", 1)

    assert [(True, {"right": False, "certain": 5})] == [(item.passed, dict(item.verdicts)) for item in labels(sandbox)]


def test_two_people_in_two_tabs_at_once(sandbox: Sandbox, browser):
    """Each with a page of their own, key by key in turn: both sets are whole."""
    with_rubric(sandbox)
    batch_of(sandbox, {f"a-{index}": f"Answer {index}" for index in range(5)}, to=("ana", "ben"))
    with served(sandbox, "ana") as ana, served(sandbox, "ben") as ben:
        opened(browser, ana)
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")
        second = browser.current_window_handle
        opened(browser, ben)
        for number in range(1, 6):
            browser.switch_to.window(first)
            label(browser, "y4", number)
            browser.switch_to.window(second)
            label(browser, "n1", number)
        browser.close()
        browser.switch_to.window(first)

    assert [("ana", True)] * 5 + [("ben", False)] * 5 == sorted((item.by, item.passed) for item in labels(sandbox))


def test_H1_H4_hostile_text_runs_nothing_and_asks_nobody(sandbox: Sandbox, browser):
    """In an input, an answer, a reference, a question and a note: shown as the text it is; the only requests are the page's own."""
    with_rubric(sandbox)
    sandbox.replace(
        "rubrics/feedback.yaml",
        "Is the sentiment the customer's own?",
        "Is <b onclick=alert(5)>this</b> <img src=x onerror=alert(6)> right?",
    )
    batch_of(sandbox, {"a-1": HOSTILE, "a-2": "plain"}, expected=HOSTILE + " and more")
    with served(sandbox) as page:
        opened(browser, page)
        press(browser, "c")
        press(browser, HOSTILE)
        press(browser, "\ue00c")
        label(browser, "y4", 1)
        press(browser, "u")
        wait(browser, "document.getElementById('answer').textContent.includes('pwned')")
        asked = requests_of(browser)
        shown = (browser.find_element("id", "answer").text, browser.find_element("id", "note").get_attribute("value"))
        found = browser.execute_script(
            "return [window.pwned, document.scripts.length, document.querySelectorAll('img, svg, iframe, a[href^=javascript]').length]"
        )

    origin = f"http://127.0.0.1:{page.port}/"
    assert (HOSTILE, HOSTILE) == shown
    assert [None, 1, 0] == found
    assert [] == [url for url in asked if not (url.split("#")[0] == origin or url.startswith(f"{origin}api/"))]
    assert [] == [entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]


def test_H6_what_hides_or_poses_is_visible(sandbox: Sandbox, browser):
    """Bidi controls, zero-width and byte order marks have names, a Cyrillic letter in a Latin word is marked, each text is isolated."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": HIDING})
    with served(sandbox) as page:
        opened(browser, page)
        marks, twins = text_of(browser, "#answer .unseen"), text_of(browser, "#answer .twin")
        directions = browser.execute_script(
            "return [...document.querySelectorAll('.text')].map((n) => [n.dir, getComputedStyle(n).unicodeBidi])"
        )

    assert (["RLO", "PDF", "ZWSP", "BOM", "LRI", "PDI"], ["\u0430"]) == (marks, twins)
    assert [["auto", "isolate"]] * 2 == directions


def test_H7_a_page_of_another_site_can_neither_read_nor_write(sandbox: Sandbox, browser, tmp_path: Path):
    """Fetch, form, frame and script from another port of this machine: refused, and nothing is labelled."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "Answer"})
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with served(sandbox) as page, http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        own = f"http://127.0.0.1:{page.port}"
        item = page.post("state")["item"]["id"]
        (folder / "x.html").write_text(
            f"""<iframe name=frame></iframe><form id=f target=frame method=post enctype=text/plain action="{own}/api/label">
            <input name='{{"item":"{item}","verdicts":{{"right":true,"certain":4}},"passed":true,"note":"' value='"}}'></form><script>
            window.found = [];
            const body = JSON.stringify({{item: "{item}", verdicts: {{right: true, certain: 4}}, passed: true}});
            const calls = [
              fetch("{own}/api/state", {{method: "POST", body: "{{}}"}}), fetch("{own}/api/label", {{method: "POST", mode: "no-cors", body}}),
              fetch("{own}/api/label", {{method: "POST", body, headers: {{"Content-Type": "application/json", "X-Promptops-Token": "{page.token}"}}}}),
              fetch("{own}/"),
            ];
            f.submit();
            Promise.allSettled(calls).then((all) => {{ window.found = all.map((one) => one.status === "fulfilled" ? one.value.type : "blocked"); }});
            </script><iframe id=own src="{own}/"></iframe>"""
        )
        browser.get(f"http://127.0.0.1:{site.server_port}/x.html")
        wait(browser, "window.found.length === 4")
        found = browser.execute_script("return window.found")
        done = page.post("state")["done"]
        site.shutdown()

    assert (["blocked"] * 4, 0) == (found, done)
    assert [] == labels(sandbox)


def test_without_the_token_the_page_says_what_to_do(sandbox: Sandbox, browser):
    """The bare address in another tab: no data, one sentence."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "Answer"})
    with served(sandbox) as page:
        browser.get(f"http://127.0.0.1:{page.port}/")
        wait(browser, "!document.getElementById('problem').hidden")

        assert (["Open the link that the terminal shows: it carries the key to this page."], [""]) == (
            text_of(browser, "#problem"),
            text_of(browser, "#answer"),
        )


def test_a_page_whose_command_has_ended_says_so(sandbox: Sandbox, browser):
    """What was saved is kept, and what is on the page stays there."""
    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": "Answer", "a-2": "Other"})
    with served(sandbox) as page:
        opened(browser, page)
        press(browser, "y4")
        wait(browser, "!document.getElementById('save').disabled")
    press(browser, "\ue007")
    wait(browser, "!document.getElementById('problem').hidden")

    assert "not running any more" in text_of(browser, "#problem")[0]
    assert 2 + 1 == len(browser.find_elements("css selector", "[aria-checked=true]"))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_has_no_accessibility_violation(scheme: str, width: int, sandbox: Sandbox, browser):
    """axe finds nothing in light and dark, at a desk and on a phone, half answered and done; nothing is wider than the screen."""
    from axe_core_python.selenium import Axe

    with_rubric(sandbox)
    batch_of(sandbox, {"a-1": f"{HIDING} answer {'wide' * 80}"}, expected="another answer")
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        with served(sandbox) as page:
            opened(browser, page)
            press(browser, "n2")
            wait(browser, "!document.getElementById('save').disabled")
            found = Axe().run(browser)["violations"]
            overflow = browser.execute_script(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            label(browser, "", 1)
            found += Axe().run(browser)["violations"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})

    assert ([], 0) == ([(item["id"], [node["html"][:120] for node in item["nodes"]][:3]) for item in found], overflow)
