"""The check `pydantic`: a user's model, offline as a check and online as a guardrail."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pytest

from conftest import Sandbox
from promptops.core.checks import CaseFacts, Completion, Pydantic, Unscored
from promptops.core.errors import DataError, RefusedError
from promptops.runtime import Runtime
from runtime.bundles import GOOD, INPUTS, NAME, Scripted, make_bundle, ok, open_runtime
from support.installed import install

FACTS = CaseFacts(category="c", inputs={})
_SOURCE = """
import threading
from typing import Literal
from pydantic import BaseModel, field_validator

class Label(BaseModel):
    sentiment: Literal["positive", "negative", "neutral", "mixed"]

class Happy(BaseModel):
    sentiment: Literal["positive"]

class Stuck(BaseModel):
    sentiment: str

    @field_validator("sentiment")
    @classmethod
    def waits(cls, value):
        threading.Event().wait(3)
        return value

class Broken(BaseModel):
    sentiment: str

    @field_validator("sentiment")
    @classmethod
    def breaks(cls, value):
        raise ZeroDivisionError

number = 3
"""
_GROUP = "promptops.guards"
_POINTS = {_GROUP: {"label": "Label", "happy": "Happy", "stuck": "Stuck", "broken": "Broken", "number": "number"}}


class Line(pydantic.BaseModel):
    article: str
    count: int

    @pydantic.model_validator(mode="after")
    def agrees(self) -> "Line":
        if self.count > 99:
            raise ValueError("more than there are")
        return self


def check(answer: Any, model: Any = Line, **options: Any) -> Any:
    made = Pydantic(name="line", entry_point="line", model=model, **options)
    return made.score(Completion.of(answer if isinstance(answer, str) else json.dumps(answer), "json"), FACTS)


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        ({"article": "a", "count": 2}, {}, (True, "fits line")),
        ({"article": "a", "count": "2"}, {}, (True, "fits line")),
        ({"article": "a", "count": "2"}, {"strict": True}, (False, "/count: Input should be a valid integer")),
        ({"article": "a", "count": 2.5}, {}, (False, "/count: Input should be a valid integer, got a number with a fractional part")),
        ({"article": "secret-17"}, {}, (False, "/count: Field required")),
        ({}, {}, (False, "/article: Field required (and 1 more)")),
        ({"article": "a", "count": 100}, {}, (False, "/: Value error, more than there are")),
        ({"lines": [{"article": "a", "count": 1}]}, {"path": "/lines/0"}, (True, "fits line")),
        ({"lines": []}, {"path": "/lines/0"}, (False, "the answer has no /lines/0")),
        ("{", {}, (False, "the answer is not JSON: unexpected end of data: line 1 column 2 (char 1)")),
    ],
)  # fmt: skip
def test_an_answer_is_judged_by_the_model(answer: Any, options: dict[str, Any], expected: tuple[bool, str]) -> None:
    """The first thing that does not fit, with its place; the value is not repeated."""
    found = check(answer, **options)

    assert expected[0] == found.passed
    assert found.reason.startswith(expected[1].partition(": unexpected")[0])
    assert "secret-17" not in found.reason


def test_an_annotated_type_is_a_model_too() -> None:
    """Whatever pydantic validates can be named."""
    small = Annotated[int, pydantic.Field(lt=10)]

    assert (True, False) == (check(3, small).passed, check(30, small).passed)


def test_a_validator_that_breaks_leaves_no_score() -> None:
    """It has neither passed nor failed."""

    def breaks(_: Any) -> Any:
        raise ZeroDivisionError

    assert Unscored(check="line", reason="line raised ZeroDivisionError") == check(
        3, Annotated[int, pydantic.AfterValidator(breaks)]
    )


def _suite(folder: Path, point: str, *, online: bool) -> None:
    suite = folder / f"golden/{NAME}.yaml"
    suite.write_text(
        suite.read_text().replace(
            "checks:\n", f"checks:\n  - {{check: pydantic, entry_point: {point}, online: {str(online).lower()}}}\n", 1
        )
    )


def test_the_same_model_scores_golden_cases_and_guards_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """Offline every case is scored by it; online a label it does not know is rejected. The bundle names it and holds no code."""
    site = install(tmp_path, monkeypatch, module="shop_guards_a", source=_SOURCE, points=_POINTS)
    _suite(sandbox.root, "label", online=True)
    sandbox.commit_all()
    done = sandbox.run("eval", NAME, "--json", env={"PYTHONPATH": str(site)})
    assert 0 == done.code, done.err
    place = make_bundle(tmp_path / "b", {"cache": {"ttl_s": 0}, "fallback": [{"step": "text", "text": "later"}]}, edit=lambda root: _suite(root, "happy", online=True))  # fmt: skip
    (document,) = json.loads((place / f"prompts/{NAME}/v1.0.0/guardrails.json").read_text())["checks"]

    assert {
        "name": "pydantic",
        "entry_point": "happy",
        "path": "",
        "strict": False,
        "distribution": "shop_guards_a 1.2",
    } == document["fields"]
    for answer, source in ((GOOD, "model"), (json.dumps({"sentiment": "negative"}), "text")):
        runtime = Runtime.load(
            place,
            allow_unsigned=True,
            clients={"small": Scripted(lambda _, text=answer: ok(text)), "large": Scripted()},
        )  # type: ignore[misc]
        assert source == runtime.complete(NAME, INPUTS).source
        runtime.close()


@pytest.mark.parametrize(("point", "why"), [("stuck", "took too long"), ("broken", "raised ZeroDivisionError")])
def test_T28_a_model_that_hangs_or_breaks_rejects_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, why: str
) -> None:
    """Fail closed, within the deadline of the guardrails; loading the bundle warms the model up, and waits for no answer."""
    install(tmp_path, monkeypatch, module=f"shop_guards_{point}", source=_SOURCE, points=_POINTS)
    runtime = open_runtime(tmp_path / "b", {"guardrails": {"deadline_s": 0.1}, "fallback": [{"step": "text", "text": "later"}]}, edit=lambda root: _suite(root, point, online=True))  # fmt: skip
    reply = runtime.complete(NAME, INPUTS)
    runtime.close()

    assert ("text", True) == (reply.source, why in reply.degraded), reply


@pytest.mark.parametrize(("point", "why"), [("none", "no entry point 'none' in the group promptops.guards"), ("number", "is nothing that pydantic can validate")])  # fmt: skip
def test_lint_says_what_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, why: str) -> None:
    """Before anything is asked."""
    install(tmp_path, monkeypatch, module="shop_guards_b", source=_SOURCE, points=_POINTS)
    with pytest.raises(DataError, match=why):
        make_bundle(tmp_path / "b", edit=lambda root: _suite(root, point, online=False))


def test_a_service_without_the_package_refuses_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving without the guardrail would be worse."""
    site = install(tmp_path, monkeypatch, module="shop_guards_c", source=_SOURCE, points=_POINTS)
    place = make_bundle(tmp_path / "b", edit=lambda root: _suite(root, "label", online=True))
    monkeypatch.setattr(sys, "path", [item for item in sys.path if item != str(site)])

    with pytest.raises(RefusedError, match="no entry point 'label'"):
        Runtime.load(place, allow_unsigned=True, clients={"small": Scripted(), "large": Scripted()})


def test_pydantic_is_loaded_only_where_it_is_used(tmp_path: Path) -> None:
    """Checks, guardrails and a runtime without such a check do without it."""
    place = make_bundle(tmp_path)
    code = (
        "import sys, promptops.core.checks, promptops.runtime.guardrails\n"
        "from promptops.runtime import Runtime\n"
        "class Client:\n    paid = False\n"
        f"Runtime.load({str(place)!r}, allow_unsigned=True, clients=dict.fromkeys(('small', 'large'), Client()))\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)

    assert "False" == done.stdout.strip()
