"""Prompty and dotprompt files: read into projects that lint and evaluate, written and read back without a difference in what both can say."""

import json

import pytest

from conftest import Sandbox
from promptops.core.errors import DataError
from promptops.project.interop.dotprompt import schema_of
from promptops.project.interop.frontmatter import mustache_to_jinja

NAME = "feedback-sentiment"
V1 = """\
---
name: Order helper
description: Answers about orders
authors: [someone]
model:
  api: chat
  configuration:
    type: azure_openai
    azure_endpoint: ${env:AZURE_ENDPOINT}
    azure_deployment: gpt-4o
  parameters: {max_tokens: 128, temperature: 0.2, logit_bias: {}}
inputs:
  first_name: {type: string}
  items: {type: array}
  unused: {type: string}
sample: {first_name: Ada, items: [lamp, chair]}
template: jinja2
---
system:
You help {{first_name}}.

user:
{% for item in items %}- {{ item }}
{% endfor %}What is late?
"""
V2 = """\
---
name: greeting
displayName: Greeting
model:
  id: gpt-4o-mini
  provider: openai
  connection: {kind: key, apiKey: "${env:OPENAI_API_KEY}"}
  options: {temperature: 0.5, maxOutputTokens: 200, topK: 5}
inputs:
  - {name: name, kind: string, default: World}
  - {name: loud, kind: boolean, default: false}
outputs:
  - {name: text, kind: string}
template: {format: {kind: mustache}, parser: {kind: prompty}}
tools: [{name: search, kind: function}]
---
system:
You are friendly.

user:
Say hello to {{name}}{{#if loud}}, loudly{{/if}}.
"""
DOT = """\
---
model: openai/gpt-4o-mini
config: {temperature: 0.3, maxOutputTokens: 90, topK: 3}
input:
  schema:
    theme?: string, what the menu is about
    guests(array): string
  default: {theme: pirate, guests: [Ada, Ben]}
output:
  format: json
  schema:
    dishes(array, the courses):
      title: string
      price: number
    style(enum): [formal, casual]
tools: [search]
---
{{role "system"}}
{{>rules}}
{{role "user"}}
Invent a menu{{#if theme}} about {{theme}}{{else}} of your choice{{/if}} for {{#each guests}}{{this}} {{/each}}.
"""


def _import(call, tmp_path, form, file, text, **others):
    folder = tmp_path / "foreign"
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(text)
    for name, content in others.items():
        (folder / name).write_text(content)
    made = tmp_path / "made"
    outcome = call("import", form, str(folder / file), "--into", str(made), "--json")
    return outcome, Sandbox(made)


def _losses(outcome):
    return {
        (part["what"], part["where"].rpartition(":")[2]) for part in outcome.json["parts"] if part["status"] == "lost"
    }


def test_prompty_v1_becomes_a_project(call, tmp_path):
    """Messages, parameters, inputs with their sample; endpoints, unknown parameters and unused inputs are reported with their line."""
    outcome, made = _import(call, tmp_path, "prompty", "orders.prompty", V1)

    assert 0 == outcome.code, outcome.err
    assert {
        ("`authors`", "4"),
        ("parameter logit_bias", "11"),
        ("model.configuration", "7"),
        ("input unused", "15"),
    } == _losses(outcome)
    row = json.loads(made.read("golden/order-helper.jsonl"))
    assert {"first_name": "Ada", "items": ["lamp", "chair"]} == row["inputs"]
    assert "AZURE" not in "".join(path.read_text() for path in made.root.rglob("*") if path.is_file())
    assert (0, 0) == (made.run("lint").code, made.run("eval").code)


def test_prompty_v2_becomes_a_project(call, tmp_path):
    """The newer frontmatter: options, lists of inputs and outputs, mustache; keys and tools do not come along."""
    outcome, made = _import(call, tmp_path, "prompty", "greeting.prompty", V2)

    assert 0 == outcome.code, outcome.err
    assert {("`displayName`", "3"), ("model.connection", "7"), ("parameter topK", "8"), ("`tools`", "15")} == _losses(
        outcome
    )
    shown = made.run("show", "greeting", "--json").json
    assert "Say hello to {{ name }}{% if loud %}, loudly{% endif %}." == shown["messages"][-1]["template"]
    assert {"temperature": 0.5, "max_output_tokens": 200} == shown["params"]
    assert (0, "json") == (made.run("lint").code, shown["output_format"])


def test_dotprompt_becomes_a_project(call, tmp_path):
    """Picoschema, Handlebars, roles and a partial beside the file."""
    outcome, made = _import(call, tmp_path, "dotprompt", "menu.prompt", DOT, **{"_rules.prompt": "Be brief.\n"})

    assert 0 == outcome.code, outcome.err
    assert {("parameter topK", "3"), ("`tools`", "16")} == _losses(outcome)
    shown = made.run("show", "menu", "--json").json
    assert ["Be brief.", "Invent a menu{% if theme %} about {{ theme }}{% else %} of your choice{% endif %} for {% for item1 in guests %}{{ item1 }} {% endfor %}."] == [
        message["template"] for message in shown["messages"]
    ]  # fmt: skip
    output = json.loads(made.read("prompts/menu/output.schema.json"))
    assert {"enum": ["formal", "casual"]} == output["properties"]["style"]
    assert ["dishes", "style"] == output["required"]
    assert 0 == made.run("lint").code


@pytest.mark.parametrize("form", ["prompty-v1", "prompty-v2", "dotprompt"])
def test_written_file_reads_back(call, sandbox, tmp_path, form):
    """Messages, parameters, inputs and the sample are the same after a round trip; what the format cannot hold was reported."""
    file = tmp_path / ("x.prompt" if form == "dotprompt" else "x.prompty")

    written = call("convert", NAME, "--to", form, "-o", str(file), "--json")
    back = call("import", form.partition("-v")[0], str(file), "--into", str(tmp_path / "made"), "--json")

    assert (0, 0) == (written.code, back.code), back.out
    made = Sandbox(tmp_path / "made")
    before, after = call("show", NAME, "--json").json, made.run("show", NAME, "--json").json
    kept = ("messages", "params", "inputs", "untrusted")
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
    first = sandbox.rows()[0]["inputs"]
    assert first == json.loads(made.read(f"golden/{NAME}.jsonl").splitlines()[0])["inputs"]
    assert "rules.yaml" in {part["what"] for part in written.json["parts"] if part["status"] == "lost"}


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("prompty", "no frontmatter", "no frontmatter"),
        ("prompty", "---\nname: x\n---\nsystem:\nonly\n", "last message is not the user's"),
        ("prompty", "---\nname: x\n---\nuser:\n{{ 'x' * 9 }}\n", "`*` is not part"),
        ("prompty", "---\nname: x\n---\nuser:\nsee https://example.com\n", "holds a link"),
        ("prompty", "---\nname: x\ntemplate: liquid\n---\nuser:\nx\n", "template format 'liquid'"),
        ("dotprompt", "---\nmodel: a/b\n---\n{{media url=photo}}", "{{media url=photo}} has no counterpart"),
        ("dotprompt", "---\nmodel: a/b\n---\n{{>../../etc/passwd}}", "has no counterpart"),
        ("dotprompt", "---\nmodel: a/b\n---\n{{>gone}}", "partial 'gone' cannot be read"),
        ("dotprompt", "---\ninput: {schema: {a: strange}}\n---\n{{a}}", "type 'strange' is not known"),
        ("dotprompt", "---\nmodel: a/b\n---\n{{#if a}}x", "is not closed"),
    ],
)
def test_file_that_cannot_be_carried_over_is_refused(call, tmp_path, form, text, said):
    """A prompt is imported whole or not at all: nothing is written, the reason is told."""
    outcome, made = _import(call, tmp_path, form, "x.prompt", text)

    assert (2, False) == (outcome.code, made.root.exists())
    assert said in outcome.out


@pytest.mark.parametrize(
    ("pico", "schema"),
    [
        ("string, a name", {"type": "string", "description": "a name"}),
        ({"a?": "integer"}, {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}, "additionalProperties": False}),
        ({"a(enum, which)": ["x"], "(*)": "any"}, {"type": "object", "properties": {"a": {"enum": ["x"], "description": "which"}},
                                                   "additionalProperties": {}, "required": ["a"]}),
        ({"a(object)": {"b": "number"}}, {"type": "object", "properties": {"a": {
            "type": "object", "properties": {"b": {"type": "number"}}, "additionalProperties": False, "required": ["b"]}},
            "additionalProperties": False, "required": ["a"]}),
        ({"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
    ],
)  # fmt: skip
def test_picoschema_is_json_schema(pico, schema):
    """The short form stands for these schemas; JSON Schema stays as it is."""
    assert schema == schema_of(pico, "x:1")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("{{a}} {{{b}}}", "{{ a }} {{ b }}"),
        ("{{#unless a}}x{{/unless}}", "{% if not a %}x{% endif %}"),
        ("{{#each a}}{{#each this.b}}{{this}}{{/each}}{{/each}}", "{% for item1 in a %}{% for item2 in item1.b %}{{ item2 }}{% endfor %}{% endfor %}"),
        ("{{json a}}{{! note }}", "{{ a | json }}"),
    ],
)  # fmt: skip
def test_handlebars_are_written_in_our_language(text, made):
    """Values, conditions and loops have counterparts."""
    assert made == mustache_to_jinja(text, "x")


def test_handlebars_helper_is_refused():
    """A helper of somebody's own is code."""
    with pytest.raises(DataError, match="has no counterpart"):
        mustache_to_jinja("{{shout a}}", "x")
