"""The HTML report of 10,000 cases: its size, what it takes to write, and what a browser takes to open it."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.corpus import NAME, make_project
from benchmarks.measure import Figure, cost_of

CASES = 10_000


def pages(folder: Path) -> Iterator[Figure]:
    """Needs chromium and chromium-driver for the last row; the blank page is the reference."""
    project = make_project(folder / "project", CASES)
    command = [sys.executable, "-m", "promptops"]
    cost_of([*command, "eval", NAME], project)
    written = cost_of([*command, "report", "latest", "-o", "report.html"], project)
    listed = cost_of([*command, "runs", "show", "latest"], project)
    report = project / "report.html"
    yield Figure(
        what=f"size of a page of {CASES:,} cases",
        unit="MB",
        value=report.stat().st_size / 1e6,
        reference=0.0,
        target=25,
    )
    yield Figure(
        what="writing it; reference: printing the run",
        unit="CPU-s",
        value=written.cpu_s,
        reference=listed.cpu_s,
        target=10,
    )
    blank = project / "blank.html"
    blank.write_text("<!doctype html><title>blank</title>", "utf-8")
    yield Figure(
        what="opening it in a browser; reference: a blank page",
        unit="s",
        value=_opening_s(report),
        reference=_opening_s(blank),
        target=3,
    )


def _opening_s(page: Path) -> float:
    """From the address to the load event and the first list of cases, the best of three."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        browser = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
        try:
            times = []
            for _ in range(3):
                started = time.perf_counter()
                browser.get(page.as_uri())
                browser.execute_script("return document.querySelectorAll('.case').length")
                times.append(time.perf_counter() - started)
        finally:
            browser.quit()
    return min(times)
