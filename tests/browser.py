"""A real headless Chromium for pages: Debian's chromium and chromium-driver, driven by selenium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
          "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars")  # fmt: skip


@contextmanager
def chromium(*, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """A browser that logs every request. Skips where none is installed, except in CI, where that is a failure."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        if os.environ.get("CI"):
            raise AssertionError("chromium and chromium-driver are missing")
        pytest.skip("chromium and chromium-driver are not installed")
    options = ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = Chrome(options=options, service=ChromeService(driver))
    browser.set_page_load_timeout(120)
    browser.set_script_timeout(120)
    try:
        yield browser
    finally:
        browser.quit()


def requests_of(browser: Any) -> list[str]:
    """Addresses the page asked for since the last look, other than files and data."""
    import json

    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("file:", "data:", "about:"))]


def accessibility(browser: Any, page: Path, *, scheme: str, width: int) -> tuple[list[Any], int]:
    """What axe finds in a page on a screen of that width and colour scheme, and by how many pixels the page is wider than the screen.

    The file is rewritten, so that its content policy lets axe run.
    """
    from axe_core_python.selenium import Axe

    text = page.read_text("utf-8")
    own = "script-src " if "script-src " in text else "style-src "
    allowed = "script-src 'unsafe-inline' 'unsafe-eval' "
    page.write_text(text.replace(own, allowed if own == "script-src " else f"{allowed}; {own}"), "utf-8")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    colours = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", colours)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(page.as_uri())
        found = Axe().run(browser)["violations"]
        wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        overflow = browser.execute_script(wider)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return [(item["id"], [node["html"][:120] for node in item["nodes"]][:3]) for item in found], overflow
