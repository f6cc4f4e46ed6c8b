"""The server of the review page: what it refuses, what it keeps, and what it sends."""

import json
import re
import signal
import threading
from collections.abc import Iterator

import pytest
from reviewed import batch_of, with_rubric
from served import Served, served

from conftest import PROMPT, Sandbox
from promptops.project.labels import read_labels
from promptops.project.tree import WorkTree

VERDICTS = {"right": True, "certain": 4}


@pytest.fixture
def page(sandbox: Sandbox) -> Iterator[Served]:
    with_rubric(sandbox)
    batch_of(sandbox, {f"a-{index}": f"Answer {index}" for index in range(3)})
    with served(sandbox) as found:
        yield found


def test_H7_only_the_page_itself_is_answered(page: Served):
    """Another host (DNS rebinding), another site, a missing Sec-Fetch-Site, another origin, a wrong or no token: 403, for reading too."""
    wrong: list[dict[str, str]] = [
        {"Host": f"evil.example:{page.port}"}, {"Host": "127.0.0.1"}, {"Host": f"127.0.0.1:{page.port}.evil.example"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": ""},
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": ""}, {"Content-Type": "text/plain"},
        {"X-Promptops-Token": ""}, {"X-Promptops-Token": page.token[:-1] + ("A" if page.token[-1] != "A" else "B")}, {"X-Promptops-Token": "é"},
    ]  # fmt: skip

    found = [page.ask("POST", "/api/state", {**page.own, **headers}, {})[0] for headers in wrong]

    assert [403] * len(wrong) == found
    assert 200 == page.ask("POST", "/api/state", page.own, {})[0]


def test_H7_the_address_opens_by_hand_and_not_from_another_site(page: Served):
    """Typed or clicked in the terminal is fine; a link or a frame of another page is not; the page itself holds no data and no token."""
    status, headers, body = page.ask("GET", "/", {"Host": f"127.0.0.1:{page.port}", "Sec-Fetch-Site": "none"})
    others = [
        page.ask("GET", "/", {"Host": f"127.0.0.1:{page.port}", "Sec-Fetch-Site": site})[0]
        for site in ("cross-site", "same-site")
    ]

    assert (200, [403, 403]) == (status, others)
    assert b"Answer 1" not in body
    assert page.token.encode() not in body
    assert [] == [name for name in headers if name.startswith("access-control-")]


def test_H2_nothing_runs_or_loads_but_what_is_in_the_page(page: Served):
    """default-src 'none', script and style by hash, no handler in the markup, no address in it."""
    _, headers, body = page.ask("GET", "/", {"Host": f"127.0.0.1:{page.port}", "Sec-Fetch-Site": "none"})
    policy, text = headers["content-security-policy"], body.decode()

    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy
    assert [] == re.findall(r"\son[a-z]+\s*=\s*[\"']|(?:src|href)=[\"'](?!#)|https?://|innerHTML|eval\(", text)
    assert ("nosniff", "no-store", "no-referrer") == (
        headers["x-content-type-options"],
        headers["cache-control"],
        headers["referrer-policy"],
    )


def test_H8_no_path_leads_anywhere_else(page: Served):
    """Paths are compared as they come, nothing is decoded or resolved."""
    paths = (
        "/../pyproject.toml",
        "/%2e%2e/x",
        "//",
        "/?x=1",
        "/index.html",
        "/api/state/..",
        "/api/%73tate",
        "/api",
        "/api/state?x",
        "/\\x",
        "/%2f",
    )
    found = {page.ask(method, path, page.own, {})[0] for method in ("GET", "POST") for path in paths}

    assert {404} == found


def test_wrong_methods_and_bodies_are_refused(page: Served):
    """GET on a call, POST on the page, no JSON, a list, a body over 128 KiB, a label off the scale: 4xx, nothing kept."""
    item = page.post("state")["item"]["id"]
    label = {"item": item, "verdicts": VERDICTS, "passed": True, "note": ""}
    found = [
        page.ask("GET", "/api/state", page.own)[0], page.ask("POST", "/", page.own)[0],
        *(page.ask("POST", "/api/label", page.own, body)[0] for body in (
            b"{", [], b" " * 200_000, {**label, "verdicts": {"right": True}}, {**label, "verdicts": {"right": 1, "certain": 4}},
            {**label, "verdicts": {**VERDICTS, "x": True}}, {**label, "passed": "yes"}, {**label, "item": "other"}, {**label, "note": "x" * 5000},
        )),
    ]  # fmt: skip

    assert [405, 405, 400, 400, 413, *[400] * 6] == found
    assert 0 == page.post("state")["done"]


def test_a_label_is_on_disk_before_the_page_hears_of_it(sandbox: Sandbox, page: Served):
    """Killed right after the answer: the label is there, and the next session goes on behind it."""
    item = page.post("state")["item"]
    page.post("label", {"item": item["id"], "verdicts": VERDICTS, "passed": False, "note": " close call "})
    page.process.kill()
    page.process.wait(60)

    (label,) = read_labels(WorkTree(sandbox.root), PROMPT)
    with served(sandbox) as again:
        place = again.post("state")

    assert (item["case"], "ana", False, VERDICTS, "close call", 1.0) == (
        label.case_id,
        label.by,
        label.passed,
        dict(label.verdicts),
        label.note,
        label.inclusion,
    )
    assert (1, "a-1") == (place["done"], place["item"]["case"])


def test_undo_takes_the_last_label_back_also_after_a_restart(sandbox: Sandbox, page: Served):
    """One after the other, with what had been said; an older label that was replaced comes back."""
    for _ in range(2):
        page.post("label", {"item": page.post("state")["item"]["id"], "verdicts": VERDICTS, "passed": True})
    back = page.post("undo")
    assert ("a-1", VERDICTS, True, 1) == (
        back["item"]["case"],
        back["item"]["verdicts"],
        back["item"]["passed"],
        back["done"],
    )
    page.process.send_signal(signal.SIGINT)
    page.process.wait(60)

    with served(sandbox) as again:
        back = again.post("undo")
        assert ("a-0", VERDICTS, 0, False) == (
            back["item"]["case"],
            back["item"]["verdicts"],
            back["done"],
            back["undoable"],
        )
    assert [] == read_labels(WorkTree(sandbox.root), PROMPT)


def test_a_skipped_answer_comes_again_at_the_end(page: Served):
    """And is counted until it is labelled."""
    first = page.post("state")["item"]["id"]
    seen = [page.post("skip", {"item": first})["item"]["case"]]
    for _ in range(2):
        place = page.post("label", {"item": page.post("state")["item"]["id"], "verdicts": VERDICTS, "passed": True})
        seen.append(place["item"]["case"])

    assert (["a-1", "a-2", "a-0"], 1) == (seen, place["skipped"])


def test_the_page_does_not_say_what_an_answer_is_from(page: Served):
    """Blind: no run, model, version, chance or reason to look reaches the reviewer."""
    text = json.dumps(page.post("state"))

    assert [] == [
        word
        for word in ("20260102-030405-abcdef", "local", "inclusion", "weights", "reasons", "run")
        if f'"{word}' in text
    ]


def test_finishing_ends_the_command_with_what_the_labels_say(page: Served):
    """The page's Finish: exit 0, and the report on stdout."""
    page.post("label", {"item": page.post("state")["item"]["id"], "verdicts": VERDICTS, "passed": True})
    page.post("finish")
    out, _ = page.process.communicate(timeout=60)

    assert (0, 2, 1.0) == (
        page.process.returncode,
        json.loads(out)["open"],
        json.loads(out)["runs"][0]["pass_rate"]["rate"],
    )


def test_two_reviewers_at_once_lose_nothing(sandbox: Sandbox):
    """Two servers, twenty labels each, as fast as they can: forty labels, and both agree on what they agree on."""
    with_rubric(sandbox)
    batch_of(sandbox, {f"a-{index:02}": f"Answer {index}" for index in range(20)}, to=("ana", "ben"))
    with served(sandbox, "ana") as ana, served(sandbox, "ben") as ben:

        def work(page: Served) -> None:
            place = page.post("state")
            while place["item"]:
                place = page.post("label", {"item": place["item"]["id"], "verdicts": VERDICTS, "passed": True})

        threads = [threading.Thread(target=work, args=(page,)) for page in (ana, ben)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)

    labels = read_labels(WorkTree(sandbox.root), PROMPT)
    assert {"ana": 20, "ben": 20} == {who: sum(label.by == who for label in labels) for who in ("ana", "ben")}
