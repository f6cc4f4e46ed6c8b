"""The few-shot messages of a prompt: rendered from its own template, the same in every request."""

import pytest

from promptops.core.errors import DataError
from promptops.core.prompt import Example, Message, MessageTemplate, Prompt
from promptops.core.schema import compile_schema
from promptops.core.template import compile_template

SCHEMA = compile_schema({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})


def _prompt(*examples: Example, user: str = "Say {{ text }}") -> Prompt:
    messages = (("system", "Be brief."), ("user", user))
    return Prompt(
        name="p", input_schema=SCHEMA, examples=examples,
        messages=tuple(MessageTemplate(role=role, template=compile_template(source, "p.md")) for role, source in messages),
    )  # fmt: skip


def test_examples_stand_before_the_question_in_every_request():
    """Each request shows the same examples, in order, between the instructions and its own question."""
    prompt = _prompt(Example(inputs={"text": "a"}, output="A"), Example(inputs={"text": "b"}, output={"upper": "B"}))
    shots = [("user", "Say a"), ("assistant", "A"), ("user", "Say b"), ("assistant", '{"upper":"B"}')]
    expected = [tuple(Message(role=role, content=content) for role, content in (("system", "Be brief."), *shots, ("user", f"Say {text}"))) for text in "xy"]  # fmt: skip

    assert expected == [prompt.render({"text": text}) for text in "xy"]


def test_prompts_do_not_share_their_examples():
    """Two prompts that differ in nothing but their examples show each its own."""
    first, second = (_prompt(Example(inputs={"text": text}, output="ok")) for text in "ab")

    shown = [prompt.render({"text": "x"})[1].content for prompt in (first, second, first)]

    assert ["Say a", "Say b", "Say a"] == shown


def test_example_that_cannot_be_rendered_fails_every_request():
    """A failure is not remembered as `no examples`."""
    prompt = _prompt(Example(inputs={"text": "a"}, output="A"), user="{% if text == 'a' %}{{ missing }}{% endif %}{{ text }}")  # fmt: skip

    for _ in range(2):
        with pytest.raises(DataError):
            prompt.render({"text": "x"})
