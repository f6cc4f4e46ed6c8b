"""promptops readiness: a well-equipped prompt is ready, and each missing piece of evidence flips exactly its item."""

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.traffic import line, reply
from conftest import Outcome
from promptops.audit.checklist import CHECKLIST
from promptops.evaluation.judge import subject_of
from promptops.project.labels import Label, labels_text
from promptops.release.evidence import TEST_RESULT, envelope, put_evidence, statement
from promptops.release.export import shipped_at
from release.shop import NAME, Clone, Shop, git, open_shop

SUITE, PROMPT, PROMISES = f"golden/{NAME}.yaml", f"prompts/{NAME}/prompt.md", f"prompts/{NAME}/readiness.yaml"
NOW = datetime.now(UTC)
SERVED = """slices: [length]
review: {every_days: 30, sample: 5}
runtime:
  deadline_s: 3
  budgets: [{name: tenant-day, window_s: 86400, usd: "1.00"}]
  fallback: [{step: rules}, {step: text, text: "We will answer soon."}]
"""


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Somebody's clone in which nothing is missing; the tests change copies of it."""
    shop = open_shop(tmp_path_factory.mktemp("ready") / "shop")
    ana = Clone(shop.clone("ana").root, "ana", shop.folder / "keys", clock=lambda: NOW)
    write(ana, f"golden/{NAME}.jsonl", lambda text: text + "".join(_cases()))
    write(ana, SUITE, lambda text: text.replace("slices: [length]\n", SERVED).replace("gate:", "  injection:\ngate:"))
    write(ana, PROMPT, lambda text: text.replace("params:", "model: small\nparams:"))
    write(ana, PROMISES, lambda _: "promptops: 1\nslo: {p99_s: 3}\n")
    write(ana, f"golden/{NAME}.labels.jsonl", lambda _: labels_text(_labels()).decode())
    commit(ana)
    done = ana.call("eval", NAME, "--model", "local")
    assert done.code == 0, done.err
    prove(ana)
    for number in ("v1.0.0", "v1.1.0"):
        ana.version(number)
        ana.promote(number)
        write(ana, "notes.txt", lambda text: text + ".")
        commit(ana)
    return ana


@pytest.fixture
def ana(equipped: Clone, tmp_path: Path) -> Clone:
    folder = tmp_path / "shop"
    subprocess.run(["cp", "-r", str(equipped.root.parent), str(folder)], check=True)
    git(folder / "ana", "remote", "set-url", "origin", f"file://{Shop(folder).remote}")
    (folder / "events.jsonl").write_bytes(line(reply("2026-01-01T00:00:00.000Z", prompt=NAME)))
    return Clone(folder / "ana", "ana", folder / "keys", clock=lambda: NOW)


def write(clone: Clone, path: str, change: Callable[[str], str]) -> None:
    file = clone.root / path
    file.write_text(change(file.read_text() if file.exists() else ""))


def commit(clone: Clone) -> None:
    clone.git("add", "-A")
    clone.git("commit", "-q", "-m", "Change")
    clone.git("push", "-q", "origin", "HEAD:main")


def prove(clone: Clone) -> None:
    """A signed statement that the gate passed on what is committed now."""
    desk = clone.desk
    shipped = shipped_at(desk.project, NAME, at="HEAD", version="dev-0")
    subject = subject_of(shipped.config, shipped.evaluable, shipped.identity)
    detail = {"actor": "ana@example.com", "at": NOW.isoformat()}
    said = statement(prompt=NAME, subject=subject, kind=TEST_RESULT, predicate={"result": "PASSED", "promptops": detail})  # fmt: skip
    put_evidence(desk.git, subject, envelope(said, desk.signer()))


def look(clone: Clone, *more: str) -> Outcome:
    return clone.call("readiness", NAME, "--events", str(clone.root.parent / "events.jsonl"), "--json", *more)


def states(done: Outcome) -> dict[str, str]:
    return {item["id"]: item["state"] for item in done.json["items"]}


CHANGES: dict[str, Callable[[Clone], None]] = {
    "cases": lambda ana: write(ana, f"golden/{NAME}.jsonl", lambda text: "".join(text.splitlines(keepends=True)[:-60])),
    "coverage": lambda ana: write(ana, SUITE, lambda text: text.replace("slices: [length]\n", "")),
    "review": lambda ana: (ana.root / f"golden/{NAME}.labels.jsonl").unlink(),
    "schema": lambda ana: (write(ana, PROMPT, lambda text: text.replace("{format: json, schema: output.schema.json}", "{format: json}")),
                           write(ana, SUITE, lambda text: text.replace("  - {check: json_schema}\n", ""))),
    "cost": lambda ana: write(ana, SUITE, lambda text: text.replace(', usd: "1.00"', ", requests: 9")),
    "fallback": lambda ana: write(ana, SUITE, lambda text: text.replace('[{step: rules}, {step: text, text: "We will answer soon."}]', "[{step: stale}]")),
    "model": lambda ana: write(ana, "promptops.toml", lambda text: text.replace("gpt-4o-mini-2024-07-18", "gpt-4o-mini")),
    "injection": lambda ana: (write(ana, f"golden/{NAME}.jsonl", lambda text: text.replace('"injection"', '"product"')),
                              write(ana, SUITE, lambda text: text.replace("  injection:\n", ""))),
    "slo": lambda ana: write(ana, PROMISES, lambda text: text.replace("p99_s: 3", "p99_s: 2")),
}  # fmt: skip


def test_a_prompt_with_all_its_evidence_is_ready(ana: Clone, tmp_path: Path) -> None:
    """Every item passes, each says by what; the card is written in three forms and has every item."""
    cards = [tmp_path / f"card{suffix}" for suffix in (".html", ".md", ".json")]
    done = look(ana, *(word for card in cards for word in ("-o", str(card))))

    assert _all_but() == states(done), done.out
    assert (0, True, True) == (done.code, done.json["ready"], all(item["evidence"] for item in done.json["items"]))
    for card in cards:
        assert [] == [item.title for item in CHECKLIST if item.title not in card.read_text()]


@pytest.mark.parametrize("item", CHANGES)
def test_each_missing_piece_fails_exactly_its_item(ana: Clone, item: str) -> None:
    """The gate passed again on the changed content, so that nothing but the piece is missing."""
    CHANGES[item](ana)
    commit(ana)
    prove(ana)
    if item in ("cases", "injection"):
        assert 0 == ana.call("eval", NAME, "--model", "local").code
    done = look(ana)

    assert (1, _all_but(item)) == (done.code, states(done)), done.out


def test_evidence_outside_of_the_files_is_asked_for_too(ana: Clone) -> None:
    """Evidence of the gate, stored runs, events and releases: each gone in turn, on top of the others."""
    gone = ["monitoring"]
    (ana.root.parent / "events.jsonl").write_text("")
    assert _all_but(*gone) == states(look(ana))

    for ref in ana.desk.git.refs(["refs/promptops/evidence/"]):
        ana.git("update-ref", "-d", ref)
    gone.append("gate")
    assert _all_but(*gone) == states(look(ana))

    (ana.root / ".promptops" / "store.sqlite3").unlink()
    gone.append("alternative")
    assert _all_but(*gone) == states(look(ana))

    gone.append("rollback")
    assert _all_but(*gone) == states(look(ana, "--channel", "staging"))

    for ref in ana.tags():
        ana.git("update-ref", "-d", ref)
    gone.append("audit-trail")
    assert _all_but(*gone) == states(look(ana, "--channel", "staging"))


def test_a_waiver_counts_until_its_day_is_over(ana: Clone) -> None:
    """Waived items do not fail the command; the day after they do, and the reader is told whose waiver ran out."""
    waiver = "waivers:\n  - {{item: slo, by: ana@example.com, why: the deadline is agreed in May, until: '{}'}}\n"
    found = []
    for day in (NOW.date() + timedelta(days=1), NOW.date() - timedelta(days=2)):
        write(ana, PROMISES, lambda _, day=day: "promptops: 1\n" + waiver.format(day))
        commit(ana)
        done = look(ana)
        found.append((done.code, states(done)["slo"]))

    assert [(0, "WAIVED"), (1, "FAIL")] == found
    assert "waiver ran out: by ana@example.com" in ana.call("readiness", NAME).out.replace("\n", " ")


def test_a_waiver_that_is_not_committed_does_not_count(ana: Clone) -> None:
    """Readiness looks at a commit: whoever waives something leaves a trace."""
    write(ana, PROMISES, lambda _: "promptops: 1\n")
    commit(ana)
    write(ana, PROMISES, lambda _: "promptops: 1\nslo: {p99_s: 3}\n")

    assert _all_but("slo") == states(look(ana))


@pytest.mark.parametrize(("text", "word"), [
    ("promptops: 1\nwaivers:\n  - {item: sloo, by: a, why: long enough, until: '2026-01-01'}\n", "no item 'sloo'"),
    ("promptops: 1\nwaivers:\n  - {item: slo, by: a, why: long enough, until: '2026-02-30'}\n", "is no day"),
    ("promptops: 1\nwaiver: []\n", "unknown key 'waiver'"),
    ("promptops: 1\nwaivers:\n  - {item: slo, why: long enough, until: '2026-01-01'}\n", "'by'"),
])  # fmt: skip
def test_a_readiness_file_that_is_wrong_is_refused_with_its_line(ana: Clone, text: str, word: str) -> None:
    """Bad input: exit 2, with file and what is wrong."""
    write(ana, PROMISES, lambda _: text)
    commit(ana)
    done = ana.call("readiness", NAME)

    assert (2, True, True) == (done.code, PROMISES in done.err, word in done.err), done.err


def _cases() -> list[str]:
    kinds = ("delivery", "product", "injection")
    return [
        json.dumps({"id": f"more-{number}", "category": kinds[number % 3], "inputs": {"feedback": f"I love parcel number {number}, it is great"},
                    "expected": {"sentiment": "positive"}, "tags": {"length": "short"}}) + "\n"
        for number in range(90)
    ]  # fmt: skip


def _labels() -> list[Label]:
    return [
        Label(case_id=f"more-{number}", category="delivery", case_digest="0" * 32, answer=f"{number}", rubric="tone", rubric_digest="sha256:" + "0" * 64,
              by="bob@example.com", at=(NOW - timedelta(days=1)).isoformat(timespec="seconds"), passed=True)
        for number in range(5)
    ]  # fmt: skip


def _all_but(*failing: str) -> dict[str, str]:
    return {item.id: "FAIL" if item.id in failing else "PASS" for item in CHECKLIST}
