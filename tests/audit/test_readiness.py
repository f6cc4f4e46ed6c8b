"""promptops readiness: a well-equipped prompt is ready, and each missing piece of evidence flips exactly its item."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.traffic import notice, reply
from conftest import Outcome, Sandbox
from faults.server import Call, Fault, FaultServer, answer
from judge.judges import RUBRIC, judge
from judge.test_calibrate import label_answers
from promptops.audit.checklist import CHECKLIST, Asked
from promptops.evaluation.judge import subject_of
from promptops.release.evidence import TEST_RESULT, envelope, put_evidence, statement
from promptops.release.export import shipped_at
from release.shop import NAME, Clone, Shop, git, open_shop

SUITE, PROMPT, PROMISES = f"golden/{NAME}.yaml", f"prompts/{NAME}/prompt.md", f"prompts/{NAME}/readiness.yaml"
GOLDEN, LABELS = f"golden/{NAME}.jsonl", f"golden/{NAME}.labels.jsonl"
NOW = datetime.now(UTC)
SERVED = """slices: [length]
review: {every_days: 30, sample: 5}
rubric: sentiment
judge: {model: judge}
runtime:
  deadline_s: 3
  budgets: [{name: tenant-day, window_s: 86400, usd: "1.00"}]
  fallback: [{step: queue}, {step: text, text: "We will answer soon."}]
"""
POLICY = "personal_data: {inputs: names and e-mail addresses, purpose: to answer customers, contact: privacy@example.com, retention_days: 30}\n"
SAID = "promptops: 1\nslo: {p99_s: 3}\n" + POLICY


@pytest.fixture(scope="module")
def provider() -> Iterator[FaultServer]:
    """One server for the model and its judge."""
    known: dict[str, str] = {}
    server = FaultServer(lambda call: _said(known, call))
    server.known = known  # type: ignore[attr-defined]
    with server:
        yield server


def _said(known: dict[str, str], call: Call) -> Fault:
    if call.body["model"] == "judge-2026-01-01":
        return judge(lambda shown, _: (found := re.search(r'"sentiment": ?"(\w+)"', shown["answer"])) is not None
                     and found[1] == known[shown["input feedback"]])(call)  # fmt: skip
    asked = call.prompt.partition("<feedback>\n")[2].partition("\n</feedback>")[0]
    return answer(json.dumps({"sentiment": known[asked]}))


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory, provider: FaultServer) -> Clone:
    """Somebody's clone in which nothing is missing, by the commands a user would run; the tests change copies of it."""
    shop = open_shop(tmp_path_factory.mktemp("ready") / "shop")
    ana = Clone(shop.clone("ana").root, "ana", shop.folder / "keys", clock=lambda: NOW)
    write(ana, GOLDEN, lambda text: text + "".join(_cases()))
    write(ana, SUITE, lambda text: text.replace("slices: [length]\n", SERVED).replace("gate:", "  injection:\ngate:"))
    write(ana, PROMPT, lambda text: text.replace("params:", "model: small\nparams:"))
    write(ana, PROMISES, lambda _: SAID)
    write(ana, "rubrics/sentiment.yaml", lambda _: RUBRIC)
    write(
        ana,
        "promptops.toml",
        lambda text: (
            text.replace("https://api.openai.com/v1", provider.url).replace('api_key_env = "OPENAI_API_KEY"\n', "")
            + (
                f'[models.judge]\nprovider = "openai"\nmodel = "judge-2026-01-01"\nbase_url = "{provider.url}"\ninput_usd_per_mtok = "1"\noutput_usd_per_mtok = "2"\n'
            )
        ),
    )
    rows = [json.loads(line) for line in (ana.root / GOLDEN).read_text().splitlines()]
    provider.known.update({row["inputs"]["feedback"]: row["expected"]["sentiment"] for row in rows})  # type: ignore[attr-defined]
    label_answers(Sandbox(ana.root), rounds=1)
    write(
        ana,
        LABELS,
        lambda text: text.replace("2026-01-31T12:00:00+00:00", (NOW - timedelta(days=1)).isoformat(timespec="seconds")),
    )
    (ana.root.parent / "log.jsonl").write_text("".join(json.dumps({"inputs": row["inputs"]}) + "\n" for row in rows))
    done(ana, "judge", "calibrate", NAME)
    done(ana, "judge", "attack", NAME)
    done(ana, "golden", "coverage", NAME, "--traffic", str(ana.root.parent / "log.jsonl"))
    commit(ana)
    done(ana, "alternatives", NAME)
    ship(ana)
    write(
        ana, PROMPT, lambda text: text.replace("You label customer feedback.", "You label the feedback of customers.")
    )
    commit(ana)
    ship(ana, "--against", f"prompt/{NAME}/v1.0.0")
    return ana


@pytest.fixture
def ana(equipped: Clone, tmp_path: Path) -> Clone:
    folder = tmp_path / "shop"
    subprocess.run(["cp", "-r", str(equipped.root.parent), str(folder)], check=True)
    git(folder / "ana", "remote", "set-url", "origin", f"file://{Shop(folder).remote}")
    tell(found := Clone(folder / "ana", "ana", folder / "keys", clock=lambda: NOW), *_events())
    return found


def _events() -> list[dict[str, Any]]:
    at = (NOW - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return [reply(at, prompt=NAME), notice(at, "feedback_good", "r0 thumbs")]


def tell(clone: Clone, *events: dict[str, Any]) -> None:
    """The events file, as services write it."""
    text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
    (clone.root.parent / "events.jsonl").write_text(text)


def done(clone: Clone, *words: str) -> None:
    found = clone.call(*words)
    assert 0 == found.code, found.err + found.out


def ship(clone: Clone, *against: str) -> None:
    """Evaluate, approve, release and promote what is committed."""
    done(clone, "eval", NAME, *against)
    done(clone, "approve", NAME)
    done(clone, "release", NAME)
    version = "v1.1.0" if against else "v1.0.0"
    done(clone, "promote", f"{NAME}@{version}", "--to", "prod")


def write(clone: Clone, path: str, change: Callable[[str], str]) -> None:
    file = clone.root / path
    file.parent.mkdir(exist_ok=True)
    before = file.read_text() if file.exists() else ""
    file.write_text(after := change(before))
    assert before != after, f"nothing changed in {path}"


def replace(path: str, old: str, new: str) -> Callable[[Clone], None]:
    return lambda clone: write(clone, path, lambda text: text.replace(old, new))


def commit(clone: Clone) -> None:
    clone.git("add", "-A")
    clone.git("commit", "-q", "--allow-empty", "-m", "Change")
    clone.git("push", "-q", "origin", "HEAD:main")


def prove(clone: Clone, **injection: Any) -> None:
    """A signed statement that the gate passed on what is committed now, as `approve` makes it of a run."""
    desk = clone.desk
    shipped = shipped_at(desk.project, NAME, at="HEAD", version="dev-0")
    subject = subject_of(shipped.config, shipped.evaluable, shipped.identity)
    rows = [{"name": "injection", "passed": 30, "scored": 30, "unscored": 0} | injection]
    detail = {"actor": "ana@example.com", "at": NOW.isoformat(), "categories": rows}
    said = statement(prompt=NAME, subject=subject, kind=TEST_RESULT, predicate={"result": "PASSED", "promptops": detail})  # fmt: skip
    put_evidence(desk.git, subject, envelope(said, desk.signer()))


def look(clone: Clone, *more: str) -> Outcome:
    return clone.call("readiness", NAME, "--events", str(clone.root.parent / "events.jsonl"), "--json", *more)


def states(found: Outcome) -> dict[str, str]:
    return {item["id"]: item["state"] for item in found.json["items"]}


def record(kind: str, **changes: Any) -> Callable[[Clone], None]:
    """A record that says something else."""
    return lambda clone: write(
        clone,
        f"golden/{NAME}.{kind}.jsonl",
        lambda text: json.dumps(json.loads(text.splitlines()[-1]) | changes) + "\n",
    )


def measured_again(change: Callable[[Clone], None]) -> Callable[[Clone], None]:
    """Other cases, with what is measured on cases measured again: rules in place of a model cost nothing."""

    def changed(clone: Clone) -> None:
        change(clone)
        done(clone, "golden", "coverage", NAME, "--traffic", str(clone.root.parent / "log.jsonl"))
        commit(clone)
        done(clone, "eval", NAME, "--model", "local", "--judge", "none")

    return changed


def unpriced(clone: Clone) -> None:
    write(
        clone,
        "promptops.toml",
        lambda text: text.replace('output_usd_per_mtok = "0.60"', 'output_usd_per_mtok = "0"', 1),
    )


def text_without_a_form(clone: Clone) -> None:
    """The schema is off; what remains online says only how long an answer is."""
    write(clone, PROMPT, lambda text: text.replace("{format: json, schema: output.schema.json}", "{format: text}"))
    write(clone, SUITE, lambda text: text.replace("  - {check: json_schema}\n  - {check: equals, path: /sentiment}\n",
                                                  "  - {check: length, unit: chars, min: 1, max: 400, online: true}\n"))  # fmt: skip


CHANGES: dict[str, tuple[str, Callable[[Clone], None]]] = {
    "few cases": ("cases", measured_again(lambda ana: write(ana, GOLDEN, lambda text: "".join(text.splitlines(keepends=True)[:-13])))),
    "no slices": ("coverage", replace(SUITE, "slices: [length]\n", "")),
    "coverage not measured": ("traffic", lambda ana: (ana.root / f"golden/{NAME}.coverage.jsonl").unlink()),
    "coverage of other cases": ("traffic", record("coverage", golden_digest="sha256:" + "0" * 64)),
    "coverage is old": ("traffic", record("coverage", at="2020-01-01T00:00:00+00:00")),
    "coverage of few requests": ("traffic", record("coverage", requests=99)),
    "coverage below its floor": ("traffic", record("coverage", covered=0.79)),
    "floor above the coverage": ("traffic", lambda ana: (record("coverage", covered=0.9)(ana), write(ana, PROMISES, lambda text: text + "traffic: {covered: 0.95}\n"))),
    "judge not calibrated": ("judge", lambda ana: (ana.root / f"golden/{NAME}.calibrations.jsonl").unlink()),
    "judge is weak": ("judge", record("calibrations", j_interval=[0.2, 0.6])),
    "judge not attacked": ("judge-attack", lambda ana: (ana.root / f"golden/{NAME}.attacks.jsonl").unlink()),
    "judge gives in": ("judge-attack", record("attacks", rose=["order-en"])),
    "other attacks": ("judge-attack", record("attacks", suite="sha256:" + "0" * 64)),
    "attacks on another judge": ("judge-attack", record("attacks", judge_digest="sha256:" + "0" * 64)),
    "attacks on two answers": ("judge-attack", record("attacks", targets=2)),
    "attacks without verdicts": ("judge-attack", record("attacks", read=3)),
    "no labels": ("review", lambda ana: (ana.root / LABELS).unlink()),
    "no review policy": ("review", replace(SUITE, "review: {every_days: 30, sample: 5}\n", "")),
    "no form": ("schema", lambda ana: (replace(PROMPT, "{format: json, schema: output.schema.json}", "{format: json}")(ana),
                                       replace(SUITE, "  - {check: json_schema}\n", "")(ana))),
    "guard lets all through": ("malformed", text_without_a_form),
    "no limit in money": ("cost", replace(SUITE, ', usd: "1.00"', ", requests: 9")),
    "no budget": ("cost", replace(SUITE, '  budgets: [{name: tenant-day, window_s: 86400, usd: "1.00"}]\n', "")),
    "budget of one tenant": ("cost", replace(SUITE, 'usd: "1.00"', 'usd: "1.00", only: {tenant: acme}')),
    "no price": ("cost", unpriced),
    "ladder without an end": ("fallback", replace(SUITE, '[{step: queue}, {step: text, text: "We will answer soon."}]', "[{step: stale}]")),
    "undated model": ("model", replace("promptops.toml", "gpt-4o-mini-2024-07-18", "gpt-4o-mini")),
    "no injections": ("injection", measured_again(lambda ana: (replace(GOLDEN, '"injection"', '"product"')(ana), replace(SUITE, "  injection:\n", "")(ana)))),
    "no p99": ("slo", replace(PROMISES, "slo: {p99_s: 3}\n", "")),
    "p99 below the deadline": ("slo", replace(PROMISES, "p99_s: 3", "p99_s: 2")),
    "no policy": ("personal-data", replace(PROMISES, POLICY, "")),
    "cache beyond the policy": ("personal-data", replace(SUITE, "  deadline_s: 3\n", "  deadline_s: 3\n  cache: {stale_s: 5184000}\n")),
}  # fmt: skip
TOLD: dict[str, tuple[str, Callable[[Clone], None]]] = {
    "no events": ("monitoring", tell),
    "events of another prompt": ("monitoring", lambda ana: tell(ana, *({**event, "prompt": "other"} for event in _events()[:1]))),
    "no judgements": ("monitoring", lambda ana: tell(ana, _events()[0])),
    "events stopped": ("monitoring", lambda ana: tell(ana, *({**event, "at": (NOW - timedelta(days=9)).strftime("%Y-%m-%dT%H:00:00.000Z")} for event in _events()))),
    "slow answers": ("slo", lambda ana: tell(ana, {**_events()[0], "latency_ms": 9000.0}, _events()[1])),
    "texts in events": ("personal-data", lambda ana: tell(ana, {**_events()[0], "inputs": {"feedback": "hello"}, "text": "hi"}, _events()[1])),
    "old events": ("personal-data", lambda ana: tell(ana, {**_events()[0], "at": "2020-01-01T00:00:00.000Z"}, *_events())),
}  # fmt: skip


def test_a_prompt_with_all_its_evidence_is_ready(ana: Clone, tmp_path: Path) -> None:
    """Every item passes, each says by what; the card is written in three forms and has every item."""
    cards = [tmp_path / f"card{suffix}" for suffix in (".html", ".md", ".json")]
    found = look(ana, *(word for card in cards for word in ("-o", str(card))))

    assert _all_but() == states(found), found.out
    assert (0, True, True) == (found.code, found.json["ready"], all(item["evidence"] for item in found.json["items"]))
    for card in cards:
        assert [] == [item.title for item in CHECKLIST if item.title not in card.read_text()]


@pytest.mark.parametrize(("item", "change"), CHANGES.values(), ids=list(CHANGES))
def test_each_missing_piece_fails_exactly_its_item(ana: Clone, item: str, change: Callable[[Clone], None]) -> None:
    """The gate passed again on the changed content, so that nothing but the piece is missing."""
    change(ana)
    commit(ana)
    prove(ana)
    found = look(ana)

    assert (1, _all_but(item)) == (found.code, states(found)), found.out


@pytest.mark.parametrize(("item", "change"), TOLD.values(), ids=list(TOLD))
def test_what_services_tell_is_evidence_too(ana: Clone, item: str, change: Callable[[Clone], None]) -> None:
    """Events that are not there, or say that a promise is not kept, fail the item they are about."""
    change(ana)
    found = look(ana)

    assert (1, _all_but(item)) == (found.code, states(found)), found.out


def test_every_item_is_flipped_by_some_piece() -> None:
    """The checklist has no item that cannot fail."""
    elsewhere = {"gate", "alternative", "rollback", "audit-trail", "kill-switch"}  # the tests below

    assert {item.id for item in CHECKLIST} == {item for item, _ in (*CHANGES.values(), *TOLD.values())} | elsewhere


def test_the_gate_needs_its_evidence(ana: Clone) -> None:
    """Without the statement the gate fails alone: how injections went is also in the stored run."""
    for ref in ana.desk.git.refs(["refs/promptops/evidence/"]):
        ana.git("update-ref", "-d", ref)

    assert _all_but("gate") == states(look(ana))


def test_the_alternative_needs_its_runs(ana: Clone) -> None:
    """Without the store the runs of local models are gone; how injections went is also in the signed statement."""
    (ana.root / ".promptops" / "store.sqlite3").unlink()

    assert _all_but("alternative") == states(look(ana))


@pytest.mark.parametrize("row", [{"passed": 26}, {"passed": 20, "scored": 20, "unscored": 10}, {"name": "delivery"}])
def test_injections_must_be_withstood(ana: Clone, row: dict[str, Any]) -> None:
    """26 of 30 are below nine in ten; an unanswered one is not withstood; a statement without the rows says nothing."""
    write(ana, PROMPT, lambda text: text.replace("You label", "You now label"))
    commit(ana)
    prove(ana, **row)

    assert _all_but("injection") == states(look(ana))


def test_a_rollback_needs_somewhere_to_go(ana: Clone) -> None:
    """Another channel has nothing; after a rollback the first version has nothing before it."""
    assert _all_but("rollback") == states(look(ana, "--channel", "staging"))

    done(ana, "rollback", NAME, "--channel", "prod", "--reason", "a test of it")

    assert _all_but("rollback") == states(look(ana))


def test_a_live_version_without_its_tag_breaks_the_trail(ana: Clone) -> None:
    """The channel points to a version that is not there any more."""
    ana.git("tag", "-d", f"prompt/{NAME}/v1.1.0")

    assert _all_but("audit-trail") == states(look(ana))


@pytest.mark.parametrize(("content", "why"), [
    (None, "No such file"), ('{"flags": {"promptops.kill": {"state": "ENA', "not JSON"), (json.dumps({"flags": {f"promptops.kill.{NAME}": {
        "state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": {"==": [{"var": "tenant"}, "acme"]}}}}), "targeting rule of its own"),
])  # fmt: skip
def test_T30_a_kill_that_could_not_be_written_fails_the_switch(
    ana: Clone, tmp_path: Path, content: str | None, why: str
) -> None:
    """Flags that services could not read, or in which nobody could switch this prompt off, fail exactly this item."""
    flags = tmp_path / "flags.json"
    if content is not None:
        flags.write_text(content)
    found = look(ana, "--flags", str(flags))

    assert _all_but("kill-switch") == states(found), found.out
    assert why in next(item["evidence"] for item in found.json["items"] if item["id"] == "kill-switch")


def test_the_flags_of_services_are_tried_on_a_copy(ana: Clone, tmp_path: Path) -> None:
    """A kill that is on stays on, and the file keeps its bytes."""
    flags = tmp_path / "flags.json"
    done(ana, "kill", NAME, "--flags", str(flags))
    before = flags.read_bytes()

    assert _all_but() == states(look(ana, "--flags", str(flags)))
    assert before == flags.read_bytes()


def test_policy_of_masked_texts(ana: Clone) -> None:
    """Texts may be in events when the policy says so, with personal data masked."""
    write(ana, PROMISES, lambda text: text.replace("retention_days: 30}", "retention_days: 30, events: masked}"))
    commit(ana)
    found = []
    for text in ("mail <email> soon", "mail jane@example.com soon"):
        tell(ana, {**_events()[0], "inputs": {"feedback": text}, "text": "hi"}, _events()[1])
        found.append(states(look(ana)))

    assert [_all_but(), _all_but("personal-data")] == found


def test_what_is_to_be_done_can_be_pasted(ana: Clone) -> None:
    """Options that were given are in the commands, and every command is one that there is, with options that it has."""
    for ref in [*ana.tags(), *ana.desk.git.refs(["refs/promptops/evidence/"])]:
        ana.git("update-ref", "-d", ref)
    asked = ana.call("readiness", NAME, "--channel", "staging", "--model", "small", "--at", "main", "--json").json
    runs = {item["id"]: item["run"] for item in asked["items"] if item["state"] == "FAIL"}
    text = ana.call("readiness", NAME, "--channel", "staging", "--model", "small", "--at", "main").out

    assert [f"promptops eval {NAME} --at main --model small", f"promptops approve {NAME} --at main"] == runs["gate"]
    assert (
        f"promptops readiness {NAME} --channel staging --model small --at main --events events.jsonl"
        in runs["monitoring"]
    )
    assert f"next: promptops readiness {NAME} --channel staging --model small --at main -o card.html" in text
    asked_for = Asked(name=NAME, channel="prod")
    for command in (line for item in CHECKLIST for line in asked_for.filled(item.todo).run):
        first, *words = shlex.split(command)
        if first == "promptops":
            *_, found = (ana.call(*words, "--help") for _ in (0,))
            options = [word for word in words if word.startswith("--")]
            assert (0, []) == (found.code, [option for option in options if option not in found.out]), command


def test_a_rollback_is_prepared_by_the_commands_that_are_shown(ana: Clone) -> None:
    """On a channel without anything the released version is promoted; then it says how a second one is made."""
    todo = []
    for _ in range(2):
        found = look(ana, "--channel", "staging").json
        todo.append(next(item["run"] for item in found["items"] if item["id"] == "rollback"))
        if len(todo) == 1:
            done(ana, *shlex.split(todo[0][0])[1:])

    assert [f"promptops promote {NAME}@v1.1.0 --to staging"] == todo[0]
    assert [
        f"promptops eval {NAME} --against prompt/{NAME}/v1.1.0",
        f"promptops approve {NAME}",
        f"promptops release {NAME} --at HEAD",
    ] == todo[1]


def test_L9_a_prompt_that_is_not_there_is_one_document_of_json(ana: Clone) -> None:
    """Exit 2, stdout is JSON and nothing else; an unknown form of card is refused before anything is looked at."""
    missing = ana.call("readiness", "feedback-sentimental", "--json")
    card = ana.call("readiness", NAME, "-o", "card.pdf")

    assert (2, 2, 2) == (missing.code, missing.json["error"]["exit_code"], card.code)
    assert NAME in missing.out
    assert ".html, .md, .json" in card.err


@pytest.mark.parametrize("model", ["local", "small"])
def test_a_fresh_project_fails_for_true_reasons(tmp_path: Path, model: str) -> None:
    """The starter project, with a model that runs in the service and with one of a provider: nothing crashes, and each failure says what to do."""
    ana = open_shop(tmp_path / "shop").clone("ana")
    found = ana.call("readiness", NAME, "--model", model, "--json")
    failing = {item["id"] for item in found.json["items"] if item["state"] == "FAIL"}
    of_both = {
        "cases",
        "traffic",
        "gate",
        "review",
        "cost",
        "rollback",
        "audit-trail",
        "injection",
        "slo",
        "monitoring",
        "personal-data",
    }

    assert (1, of_both | ({"fallback", "alternative"} if model == "small" else set())) == (found.code, failing)
    assert all(item["run"] for item in found.json["items"] if item["state"] == "FAIL")


def test_a_waiver_counts_until_its_day_is_over(ana: Clone) -> None:
    """Waived items do not fail the command; the day after they do, and the reader is told whose waiver ran out."""
    waiver = "waivers:\n  - {{item: slo, by: ana@example.com, why: the deadline is agreed in May, until: '{}'}}\n"
    found = []
    for day in (NOW.date() + timedelta(days=1), NOW.date() - timedelta(days=2)):
        write(ana, PROMISES, lambda _, day=day: "promptops: 1\n" + POLICY + waiver.format(day))
        commit(ana)
        seen = look(ana)
        found.append((seen.code, states(seen)["slo"]))

    assert [(0, "WAIVED"), (1, "FAIL")] == found
    assert "waiver ran out: by ana@example.com" in ana.call("readiness", NAME).out.replace("\n", " ")


def test_a_waiver_that_is_not_committed_does_not_count(ana: Clone) -> None:
    """Readiness looks at a commit: whoever waives something leaves a trace."""
    write(ana, PROMISES, lambda _: "promptops: 1\n" + POLICY)
    commit(ana)
    write(ana, PROMISES, lambda _: SAID)

    assert _all_but("slo") == states(look(ana))


@pytest.mark.parametrize(("text", "word"), [
    ("promptops: 1\nwaivers:\n  - {item: sloo, by: a, why: long enough, until: '2026-01-01'}\n", "no item 'sloo'"),
    ("promptops: 1\nwaivers:\n  - {item: slo, by: a, why: long enough, until: '2026-02-30'}\n", "is no day"),
    ("promptops: 1\nwaivers:\n  - {item: slo, by: a, why: long enough, until: '2026-02-20'}\n" * 1
     + "  - {item: slo, by: b, why: long enough, until: '2026-02-20'}\n", "waived twice"),
    ("promptops: 1\nwaiver: []\n", "unknown key 'waiver'"),
    ("promptops: 1\nwaivers:\n  - {item: slo, why: long enough, until: '2026-01-01'}\n", "'by'"),
    ("promptops: 1\nwaivers:\n  - {item: slo, by: a, why: long eno", ""),
    ("promptops: 1\npersonal_data: {inputs: names, purpose: answers, contact: a@example.com}\n", "retention_days"),
    ("promptops: 1\ntraffic: {covered: 80}\n", "covered"),
])  # fmt: skip
def test_a_readiness_file_that_is_wrong_is_refused_with_its_line(ana: Clone, text: str, word: str) -> None:
    """Bad input, torn files too: exit 2, with file and what is wrong."""
    write(ana, PROMISES, lambda _: text)
    commit(ana)
    found = ana.call("readiness", NAME)

    assert (2, True, True) == (found.code, PROMISES in found.err, word in found.err), found.err


@pytest.mark.parametrize("kind", ["coverage", "attacks", "calibrations"])
def test_a_torn_record_is_refused_with_its_line(ana: Clone, kind: str) -> None:
    """A half-written record is no evidence, and no missing one either: exit 2, with what writes it anew."""
    write(ana, f"golden/{NAME}.{kind}.jsonl", lambda text: text[:-40])
    commit(ana)
    found = ana.call("readiness", NAME)

    assert (2, True, True) == (
        found.code,
        f"golden/{NAME}.{kind}.jsonl:1" in found.err,
        "write it anew" in found.err,
    ), found.err


def _cases() -> list[str]:
    kinds = ("delivery", "product", "injection")
    return [
        json.dumps({"id": f"more-{number}", "category": kinds[number % 3], "inputs": {"feedback": f"I love parcel number {number}, it is great"},
                    "expected": {"sentiment": "positive"}, "tags": {"length": "short"}}) + "\n"
        for number in range(90)
    ]  # fmt: skip


def _all_but(*failing: str) -> dict[str, str]:
    return {item.id: "FAIL" if item.id in failing else "PASS" for item in CHECKLIST}
