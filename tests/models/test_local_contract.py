"""What holds for every local model, and for the client that wraps it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from promptops.core.knowledge import Passage
from promptops.core.prompt import Message
from promptops.core.suite import Case
from promptops.models.base import Answer, ModelRequest
from promptops.models.local import LOCAL_MODELS, LocalClient, LocalModel
from promptops.models.local.classifier import Classifier
from promptops.models.local.echo import Echo
from promptops.models.local.extractive import Extractive
from promptops.models.local.nearest import Constant, Nearest
from promptops.models.local.rules import Rules
from promptops.models.local.search import Search

_TEXT = "Der Kessel – 25 °C – ist kaputt. Wo ist „mein“ Geld? 電気ケトル"
_REQUEST = ModelRequest(
    messages=(
        Message(role="system", content="Label it."), Message(role="user", content="an example"),
        Message(role="assistant", content="a label"), Message(role="user", content=_TEXT),
    ),
    inputs={"text": _TEXT}, passages=(Passage(id="p", title="Kessel", text="Der Kessel hat Garantie."),),
)  # fmt: skip
_RULES = {"text": [{"value": "ü"}], "label": [{"value": "x"}]}


def a_classifier(kind: Any = "classifier") -> LocalModel:
    cases = labelled_cases()
    return Classifier({"fields": ["text"]}, ("text",), Rules(_RULES, ("text",)), cases, kind=kind)


def labelled_cases() -> list[Case]:
    return [
        Case(id=name, category="any", inputs={"text": text}, expected={"text": "ü", "label": "x"})
        for name, text in (("a", _TEXT), ("b", "another"))
    ]


def a_search(found: Any) -> LocalModel:
    return Search({"found": found, "missing": "none"}, ("text",))


_JSON: dict[str, Callable[[], LocalModel]] = {
    "rules": lambda: Rules(_RULES, ("text",)),
    "classifier": a_classifier,
    "boosted": lambda: a_classifier("boosted"),
    "nearest": lambda: Nearest(("text", "label", "unstated"), ("text",), labelled_cases()),
    "constant": lambda: Constant(("text", "label", "unstated"), ("text",), labelled_cases()),
    "search": lambda: a_search({"id": "{{ passage.id }}", "title": "{{ passage.title }}"}),
}
_MODELS: dict[str, Callable[[], LocalModel]] = {name: made for name, made in _JSON.items() if name != "constant"} | {
    "extractive": lambda: Extractive({}, ("text",)),
    "search": lambda: a_search("{{ passage.title }}"),
    "echo": Echo,
    "nearest": lambda: Nearest((), ("text",), labelled_cases()),
}
_TEXT_ANSWERS = {
    "rules": "ü",
    "classifier": "ü",
    "boosted": "ü",
    "nearest": "ü",
    "extractive": _TEXT,
    "search": "Kessel",
    "echo": _TEXT,
}
_JSON_ANSWERS = {
    "rules": {"text": "ü", "label": "x"},
    **{name: {"text": "ü", "label": "x"} for name in ("classifier", "boosted", "nearest", "constant")},
    "search": {"id": "p", "title": "Kessel"},
}


def ask(name: str, model: LocalModel, request: ModelRequest) -> Answer:
    """The answer without its latency, the only part that is measured."""

    async def once() -> Answer:
        client = LocalClient(name=name, model=model)
        try:
            return await client.answer(request)
        finally:
            await client.close()

    answer = asyncio.run(once())
    assert answer.latency_s >= 0
    return replace(answer, latency_s=0.0)


def test_every_local_model_is_in_the_suite():
    """A new model is not forgotten here."""
    assert set(LOCAL_MODELS) == {*_MODELS, *_JSON}


@pytest.mark.parametrize("name", _MODELS)
def test_text_prompt_is_answered_with_text(name: str):
    """The answer is the plain text, free of charge, under the name of the model."""
    request = replace(_REQUEST, output_format="text")

    assert Answer(outcome="ok", text=_TEXT_ANSWERS[name], model=f"local:{name}") == ask(name, _MODELS[name](), request)


@pytest.mark.parametrize("name", _JSON)
def test_json_prompt_is_answered_with_json(name: str):
    """Models that answer with values answer a JSON prompt with one JSON document."""
    answer = ask(name, _JSON[name](), replace(_REQUEST, output_format="json"))

    assert _JSON_ANSWERS[name] == json.loads(answer.text)


@pytest.mark.parametrize("name", _MODELS)
def test_same_request_gets_the_same_answer(name: str):
    """Asked twice, by another instance, in another draw: the answer is the same bytes."""
    first, second = _MODELS[name](), _MODELS[name]()

    assert ask(name, first, _REQUEST) == ask(name, first, _REQUEST) == ask(name, second, replace(_REQUEST, draw=3))


@pytest.mark.parametrize("name", [name for name in _MODELS if name != "echo"])
def test_answer_does_not_depend_on_the_messages(name: str):
    """Local models read the inputs, so a reworded prompt does not change what they say."""
    assert ask(name, _MODELS[name](), _REQUEST) == ask(name, _MODELS[name](), replace(_REQUEST, messages=()))


@pytest.mark.parametrize("name", _MODELS)
def test_asking_leaves_the_inputs_alone(name: str):
    """A model does not write into what it is given."""
    inputs: dict[str, Any] = {"text": _TEXT}

    ask(name, _MODELS[name](), replace(_REQUEST, inputs=inputs))

    assert {"text": _TEXT} == inputs


@pytest.mark.parametrize("name", _MODELS)
def test_local_model_is_never_paid(name: str):
    """Nothing leaves this machine, so no intent is recorded."""
    assert LocalClient(name=name, model=_MODELS[name]()).paid is False
