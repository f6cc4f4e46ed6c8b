"""The step `classifier` of the fallback ladder: what golden cases taught answers when no model does."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from promptops.core.errors import DataError, RefusedError
from promptops.core.jsontext import canonical_json, parse_json
from promptops.runtime import Runtime
from promptops.runtime.bundle import MANIFEST, Trust, load_bundle, parse_bundle, read_files
from promptops.runtime.formats import bundle_format
from runtime.bundles import NAME, Scripted, failed, make_bundle

_TEACHES = "classifier: {fields: [sentiment], folds: 3}\n"
_PLACE = f"prompts/{NAME}/v1.0.0/classifier.json"


def teach(root: Path) -> None:
    rules = root / f"prompts/{NAME}/rules.yaml"
    rules.write_text(rules.read_text() + _TEACHES)


def bundle(folder: Path, *steps: Mapping[str, Any], edit: Callable[[Path], None] = teach) -> Path:
    return make_bundle(folder, {"cache": {"ttl_s": 0}, "fallback": list(steps)}, edit=edit)


def ask(place: Path, text: str = "I love this, it works great.") -> Any:
    down = Scripted(lambda _: failed("server_error"))
    runtime = Runtime.load(place, allow_unsigned=True, clients={"small": down, "large": down})
    try:
        return runtime.complete(NAME, {"feedback": text})
    finally:
        runtime.close()


def test_a_sure_classifier_answers_and_says_so(tmp_path: Path) -> None:
    """The answer has the form of the prompt, is marked, and names its source."""
    reply = ask(bundle(tmp_path, {"step": "classifier", "min_confidence": 0}))

    assert ("classifier", True, {"sentiment"}) == (reply.source, bool(reply.degraded), set(reply.value))


def test_below_the_floor_the_next_step_answers(tmp_path: Path) -> None:
    """No text reaches a floor of 1: the fixed text is served, and the step says how sure it was."""
    reply = ask(bundle(tmp_path, {"step": "classifier", "min_confidence": 1}, {"step": "text", "text": "later"}))

    assert ("text", "later") == (reply.source, reply.text)
    (unsure,) = [step for step in reply.steps if step.stage == "classifier"]
    assert ("unsure", True) == (unsure.decision, unsure.reason.endswith("below 1"))


def test_T22_it_comes_before_the_rules_and_after_search(tmp_path: Path) -> None:
    """The order of the ladder is fixed."""
    with pytest.raises(DataError, match="classifier, rules"):
        bundle(tmp_path, {"step": "rules"}, {"step": "classifier"})


def test_the_guardrails_judge_it_like_any_answer(tmp_path: Path) -> None:
    """An online check that rejects every answer sends the request on."""

    def strict(root: Path) -> None:
        teach(root)
        suite = root / f"golden/{NAME}.yaml"
        suite.write_text(
            suite.read_text().replace(
                "checks:\n", "checks:\n  - {check: regex, pattern: 'never-there', online: true}\n", 1
            )
        )

    reply = ask(
        bundle(tmp_path, {"step": "classifier", "min_confidence": 0}, {"step": "text", "text": "later"}, edit=strict)
    )

    assert ("text", True) == (reply.source, any(step.reason.startswith("classifier: ") for step in reply.steps))


def test_lint_names_what_the_step_needs(tmp_path: Path) -> None:
    """Without the section `classifier:` nobody knows what to predict."""
    with pytest.raises(DataError, match="section `classifier:`"):
        bundle(tmp_path, {"step": "classifier"}, edit=lambda _: None)


def test_the_file_keeps_to_its_published_schema(tmp_path: Path) -> None:
    """And the manifest has its digest."""
    files = read_files(bundle(tmp_path, {"step": "classifier"}))

    assert bundle_format("classifier").accepts(parse_json(files[_PLACE]))
    assert hashlib.sha256(files[_PLACE]).hexdigest() == parse_json(files[MANIFEST])["files"][_PLACE]["sha256"]


def _with(files: Mapping[str, bytes], content: bytes | None) -> dict[str, bytes]:
    """The files with another classifier, and a manifest that agrees."""
    manifest = parse_json(files[MANIFEST])
    found = {name: raw for name, raw in files.items() if name != _PLACE}
    del manifest["files"][_PLACE]
    if content is not None:
        found[_PLACE] = content
        manifest["files"][_PLACE] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return found | {MANIFEST: canonical_json(manifest)}


def _wide(document: Any) -> Any:
    return document | {"words": {"a": [1.0] * 9}}


_HOSTILE: dict[str, Callable[[Any], bytes | None]] = {
    "missing": lambda _: None,
    "pickle": lambda _: b"\x80\x04\x95\x0b\x00\x00\x00",
    "not an object": lambda _: b"[1]",
    "other columns": lambda document: canonical_json(_wide(document)),
    "an extra key": lambda document: canonical_json(document | {"code": "x"}),
    "a huge number": lambda document: canonical_json(document | {"words": {"a": [1.0, 1e300, 0.0, 0.0]}}),
    "a text for a number": lambda document: canonical_json(document | {"words": {"a": [1.0, "1", 0.0, 0.0]}}),
    "another format": lambda document: canonical_json(document | {"format": "promptops.classifier/9"}),
    "no classes": lambda document: canonical_json(document | {"fields": [{"name": "x", "classes": [], "intercepts": []}]}),
    "infinity": lambda document: canonical_json(document).replace(b'"hint_weight":0.5', b'"hint_weight":1e999'),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return read_files(bundle(tmp_path_factory.mktemp("good"), {"step": "classifier"}))


@pytest.mark.parametrize("name", _HOSTILE)
def test_R6_R7_a_hostile_classifier_is_refused(good: dict[str, bytes], name: str) -> None:
    """Exit 4, with the file named; nothing in it is ever executed."""
    content = _HOSTILE[name](parse_json(good[_PLACE]))

    with pytest.raises(RefusedError, match=r"classifier\.json"):
        parse_bundle(_with(good, content), Trust(unsigned=True), where="b")


def test_a_classifier_without_its_step_is_refused(tmp_path: Path, good: dict[str, bytes]) -> None:
    """A file that nothing uses belongs to no release."""
    place = make_bundle(tmp_path, {"fallback": [{"step": "stale"}]}, edit=teach)
    assert load_bundle(place, Trust(unsigned=True)).channels[NAME].live.classifier is None
    files = read_files(place)
    manifest = parse_json(files[MANIFEST])
    manifest["files"][_PLACE] = {"sha256": hashlib.sha256(good[_PLACE]).hexdigest(), "size": len(good[_PLACE])}

    with pytest.raises(RefusedError, match="belongs to no release"):
        parse_bundle(
            files | {_PLACE: good[_PLACE], MANIFEST: canonical_json(manifest)}, Trust(unsigned=True), where="b"
        )


def test_a_text_of_a_megabyte_costs_no_more_than_its_beginning(good: dict[str, bytes]) -> None:
    """Only the first 4,096 characters are read, so both guesses are the same."""
    classifier = parse_bundle(good, Trust(unsigned=True), where="b").channels[NAME].live.classifier
    assert classifier is not None
    text = "great work " * 100_000

    assert classifier.guess(text[:4096], {}) == classifier.guess(text, {})


def test_show_says_what_it_is_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Golden cases that reach the floor, and how many of those are right, out of fold."""
    from promptops.cli.main import main

    place = bundle(tmp_path, {"step": "classifier", "min_confidence": 0})
    assert 0 == main(["bundle", "show", str(place)])
    assert (
        f"classifier of {NAME} v1.0.0: sure enough (>= 0) of 22 of 22 golden cases"
        in capsys.readouterr().out.replace("\n", " ")
    )
    assert 0 == main(["bundle", "show", str(place), "--json"])
    assert 22 == json.loads(capsys.readouterr().out)["releases"][NAME]["classifier"]["answered"]
