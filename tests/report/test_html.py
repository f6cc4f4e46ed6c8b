"""The HTML report in a real browser: it works from disk, runs nothing of a model's, and asks nobody for anything."""

import html
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluations import HOSTILE, Call, a_case, a_side, evaluation_of, hostile_rows, with_cases

from browser import accessibility, chromium, requests_of
from conftest import PROMPT, Sandbox
from promptops.report.html import page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def opened(browser: Any, folder: Path, text: str) -> Any:
    file = folder / "report page.html"
    file.write_text(text, "utf-8")
    requests_of(browser)
    browser.get(file.as_uri())
    return browser


def alerts(browser: Any) -> bool:
    from selenium.common.exceptions import NoAlertPresentException

    try:
        browser.switch_to.alert.dismiss()
    except NoAlertPresentException:
        return False
    return True


def text_of(browser: Any, selector: str) -> list[str]:
    return [node.text for node in browser.find_elements("css selector", selector)]


def test_H1_text_of_models_runs_nothing_and_asks_for_nothing(sandbox: Sandbox, call: Call, browser, tmp_path: Path):
    """Scripts, handlers, links, templates and a closed script element are shown as the text they are."""
    sandbox.write_rows([dict(row) for row in hostile_rows(sandbox)])
    call("eval", "--model", "local:echo", "-o", "report.html")

    opened(browser, tmp_path, sandbox.read("report.html"))
    browser.find_element("css selector", "#state option[value=all]").click()
    browser.find_element("css selector", ".case").click()

    assert (False, None, []) == (alerts(browser), browser.execute_script("return window.pwned"), requests_of(browser))
    assert (2, 0, 0) == tuple(
        len(browser.find_elements("css selector", tag)) for tag in ("script", "img", "a[href^=javascript]")
    )
    assert [] == browser.find_elements("css selector", "[onerror], [onload], [onclick], [style]")
    assert any("{{7*7}}{% raw %}" in text and "alert(1)" in text for text in text_of(browser, ".detail .text"))


def test_H2_the_policy_allows_this_page_and_nothing_else(sandbox: Sandbox, call: Call, browser, tmp_path: Path):
    """Scripts and styles are named by digest; the browser refuses a script put in later."""
    call("eval")
    text = page([evaluation_of(sandbox)])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    shown = html.unescape(policy[1])
    opened(browser, tmp_path, text.replace("</body>", "<script>window.pwned=1</script></body>"))

    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]+'; script-src 'sha256-[\w+/=]+'; base-uri 'none'; form-action 'none'",
        shown,
    )
    assert (None, True) == (browser.execute_script("return window.pwned"), "cases" in text_of(browser, "#count")[0])
    assert [] == re.findall(r'(?:src|href)="(?!#)', text)


def test_H4_names_are_text_wherever_they_stand(sandbox: Sandbox, call: Call, browser, tmp_path: Path):
    """Category, tag, case and check names are shown, not parsed."""
    call("eval")
    case = a_case(HOSTILE, category="<i>bill</i>", tags={"lang": "<b>x</b>"}, side=a_side(passed=False, reason=HOSTILE))
    opened(browser, tmp_path, page([with_cases(evaluation_of(sandbox), case)]))

    assert (["U+202E", "U+200B"], False) == (text_of(browser, ".detail h3 .mark"), alerts(browser))
    assert ["all", "<i>bill</i>"] == text_of(browser, "#category option")
    assert 0 == len(browser.find_elements("css selector", "main i, .detail b, .detail svg"))


def test_H6_characters_that_hide_or_reorder_are_shown_by_their_code(
    sandbox: Sandbox, call: Call, browser, tmp_path: Path
):
    """Bidi overrides and zero-width characters are marks in a text that is isolated and has its own direction."""
    call("eval")
    opened(
        browser,
        tmp_path,
        page([with_cases(evaluation_of(sandbox), a_case("c", passed=False, answer="a\u202eb\u200bc\u2066d"))]),
    )

    answer = browser.find_elements("css selector", ".detail .text")[-1]
    assert ("auto", "isolate") == (answer.get_attribute("dir"), answer.value_of_css_property("unicode-bidi"))
    assert ["U+202E", "U+200B", "U+2066"] == [mark.text for mark in answer.find_elements("css selector", ".mark")]


def test_H3_ten_thousand_cases_and_a_long_answer_fit(sandbox: Sandbox, call: Call, browser, tmp_path: Path):
    """The page stays under 25 MB, says where it cut, and lists cases a page at a time."""
    call("eval")
    cases = [
        a_case(f"case-{number:05}", passed=number % 3 != 0, answer="word " * 600, line=number)
        for number in range(10_000)
    ]
    text = page([with_cases(evaluation_of(sandbox), *cases, a_case("huge", passed=False, answer="x" * 1_000_000))])
    opened(browser, tmp_path, text)

    listed = len(browser.find_elements("css selector", ".case"))
    browser.find_element("css selector", ".more").click()
    assert len(text.encode()) <= 25_000_000
    assert (200, 400) == (listed, len(browser.find_elements("css selector", ".case")))
    assert "3335 of 10001 cases" == text_of(browser, "#count")[0]
    assert "Texts are cut at" in text_of(browser, ".hint")[0]


def test_a_reader_finds_a_case_by_keyboard_alone(sandbox: Sandbox, call: Call, browser, tmp_path: Path):
    """j and k walk, / searches, Escape returns to the list, the detail follows."""
    from selenium.webdriver import ActionChains, Keys

    call("eval")
    opened(browser, tmp_path, page([evaluation_of(sandbox)]))
    names = text_of(browser, ".case b")

    ActionChains(browser).send_keys("jjk").perform()
    walked = text_of(browser, ".detail h3")
    ActionChains(browser).send_keys("/").send_keys(names[3]).send_keys(Keys.ENTER).send_keys(Keys.ESCAPE).perform()

    assert ([names[1]], [names[3]], [names[3]]) == (walked, text_of(browser, ".detail h3"), text_of(browser, ".case b"))
    assert "list" == browser.switch_to.active_element.get_attribute("id")


def test_answers_of_both_sides_are_compared_word_by_word(sandbox: Sandbox, call: Call, browser, tmp_path: Path):
    """What only one side says is marked on that side; Japanese is compared by character."""
    call("eval")
    cases = [a_case("en", passed=False, answer="the new lamp is red", before=a_side(answer="the old lamp is red"), change="broken"),
             a_case("ja", passed=False, answer="赤い新しい灯", before=a_side(answer="赤い古い灯"), change="broken")]  # fmt: skip
    opened(browser, tmp_path, page([with_cases(evaluation_of(sandbox), *cases)]))
    english = (text_of(browser, "del"), text_of(browser, "ins"))
    browser.find_elements("css selector", ".case")[1].click()

    assert ((["old"], ["new"]), (["古"], ["新し"])) == (english, (text_of(browser, "del"), text_of(browser, "ins")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_has_no_accessibility_violation(scheme: str, width: int, sandbox: Sandbox, call: Call, browser):
    """axe finds nothing in light and dark, on a phone and on a desk; nothing is wider than the screen."""
    sandbox.commit_all()
    sandbox.replace(f"prompts/{PROMPT}/rules.yaml", "late|", "")
    call("eval", PROMPT, "--against", "HEAD", "-o", "report.html")

    assert ([], 0) == accessibility(browser, sandbox.path("report.html"), scheme=scheme, width=width)


def test_H5_H10_no_key_path_user_or_environment_is_in_a_page(sandbox: Sandbox):
    """A page may be sent to anybody: it names no place of the machine that made it."""
    canary = "sk-canary-0123456789abcdef"
    sandbox.commit_all()
    outcome = sandbox.run("eval", "-o", "report.html", env={"OPENAI_API_KEY": canary, "USER": "canary-user"})

    text = sandbox.read("report.html")
    found = [
        secret
        for secret in (canary, "canary-user", str(sandbox.root), str(Path.home()), os.uname().nodename)
        if len(secret) > 5 and secret in text
    ]
    assert (0, []) == (outcome.code, found)


def test_H9_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    """A disk that ends in the middle of a page costs the new page, not the one that was there."""
    report = tmp_path / "report.html"
    report.write_text("old", "utf-8")
    code = (
        "import sys\nfrom pathlib import Path\nfrom promptops.cli.reports import write_whole\nfrom promptops.core.errors import EvaluationError\n"
        "try:\n    write_whole(Path(sys.argv[1]), 'x' * 100_000)\nexcept EvaluationError as error:\n    print(error)\n    sys.exit(error.exit_code)"
    )

    finished = subprocess.run([sys.executable, "-c", code, str(report)], capture_output=True, text=True, check=False, timeout=60,
                              preexec_fn=_small_files)  # fmt: skip

    assert (3, "old", ["report.html"]) == (
        finished.returncode,
        report.read_text("utf-8"),
        [path.name for path in tmp_path.iterdir()],
    )
    assert "what was there before is unchanged" in finished.stdout


def _small_files() -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
