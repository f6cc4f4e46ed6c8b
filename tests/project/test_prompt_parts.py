"""What a prompt brings along: few-shot examples, a knowledge base, rules of the local models."""

import pytest

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError
from promptops.project.prompts import load_prompt
from promptops.project.tree import WorkTree

FOLDER = f"prompts/{PROMPT}"
HEADER_END = "output: {format: json, schema: output.schema.json}\n"
KNOWLEDGE = "knowledge: {path: docs, query: feedback, into: documents}\n"


def problems_of(sandbox: Sandbox) -> list[str]:
    with pytest.raises(DataError) as caught:
        load_prompt(WorkTree(sandbox.root), PROMPT)
    return [str(problem).removeprefix(FOLDER + "/") for problem in caught.value.problems]


def with_header(sandbox: Sandbox, more: str) -> None:
    sandbox.replace(f"{FOLDER}/prompt.md", HEADER_END, HEADER_END + more)


def with_knowledge(sandbox: Sandbox, spec: str = KNOWLEDGE, **files: str) -> None:
    with_header(sandbox, spec)
    sandbox.replace(f"{FOLDER}/input.schema.json", '"properties": {', '"properties": {"documents": {"type": "array"}, ')
    sandbox.replace(f"{FOLDER}/prompt.md", "{{ feedback }}", "{{ feedback }}{{ documents }}")
    for name, text in files.items():
        sandbox.write(f"{FOLDER}/docs/{name}.md", text)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{", "examples.jsonl:2: not JSON, unexpected end of data at column 2"),
        ("[]", "examples.jsonl:2: an example must be {inputs: {...}, output: ...}"),
        ('{"inputs": {"feedback": "x"}}', "examples.jsonl:2: an example must be {inputs: {...}, output: ...}"),
        ('{"inputs": {"feedback": "x"}, "output": 1, "id": 1}', "examples.jsonl:2: an example must be {inputs: {...}, output: ...}"),
        ('{"inputs": {"feedback": 1}, "output": 1}', 'examples.jsonl:2: example inputs/feedback: value is not of type "string"'),
        ('{"inputs": {}, "output": 1}', 'examples.jsonl:2: example inputs: "feedback" is a required property'),
    ],
)  # fmt: skip
def test_a_broken_example_has_its_line(sandbox: Sandbox, row: str, expected: str):
    """An example with a missing or mistyped input would teach the model a hole."""
    with_header(sandbox, "examples: examples.jsonl\n")
    good = '{"inputs": {"feedback": "line\u2028separator"}, "output": {"sentiment": "neutral"}}'
    sandbox.write(f"{FOLDER}/examples.jsonl", f"{good}\n{row}\n{good}\n")

    assert [expected] == problems_of(sandbox)


def test_passages_are_read_from_every_file_in_order(sandbox: Sandbox):
    """Level-2 headings with an id; the file is the passage's source."""
    with_knowledge(sandbox, b="## Two {#two}\nB.\n", a="# Title\n\n## One {#one}\nA.\n\nMore.\n")

    knowledge = load_prompt(WorkTree(sandbox.root), PROMPT).knowledge

    assert knowledge is not None
    assert [("one", "One", "A.\n\nMore.", "a.md"), ("two", "Two", "B.", "b.md")] == [
        (item.id, item.title, item.text, item.source) for item in knowledge.passages
    ]


@pytest.mark.parametrize(
    ("spec", "files", "expected"),
    [
        (KNOWLEDGE, {}, ["prompt.md:9: no passages found"]),
        (KNOWLEDGE, {"a": "## One\nA."}, ["docs/a.md:1: passage without an id", "prompt.md:9: no passages found"]),
        (KNOWLEDGE, {"a": "## A {#x}\n", "b": "## B {#x}\n"}, ["prompt.md:9: passage id 'x' is used twice"]),
        (KNOWLEDGE, {"a": "## A {#x}\n\x00", "b": "## B\n"}, ["docs/a.md:2: NUL character", "docs/b.md:1: passage without an id", "prompt.md:9: no passages found"]),
        (KNOWLEDGE.replace("feedback", "feedbak"), {"a": "## A {#x}\n"}, ["prompt.md:9: 'feedbak' is not an input"]),
        (KNOWLEDGE.replace("documents", "docs"), {"a": "## A {#x}\n"}, ["prompt.md:9: 'docs' is not an input"]),
        (KNOWLEDGE.replace("}", ", scope: {input: lang, files: {de: none.md}}}"), {"a": "## A {#x}\n"},
         ["prompt.md:9: 'lang' is not an input", "prompt.md:9: no file 'none.md' in prompts/feedback-sentiment/docs"]),
    ],
)  # fmt: skip
def test_a_knowledge_base_must_fit_the_prompt(sandbox: Sandbox, spec: str, files: dict[str, str], expected: list[str]):
    """Passages exist and can be cited by one id each; the inputs it names are declared."""
    with_knowledge(sandbox, spec, **files)

    assert expected == [problem.partition(";")[0].partition(", ")[0] for problem in problems_of(sandbox)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("promptops: 1\ndefault: classifier\n", "rules.yaml:2: `default: classifier` without a section 'classifier'; add `classifier:`"),
        ("promptops: 1\ndefault: rule\n", "rules.yaml:2: `default` 'rule' is not known; did you mean 'rules'?"),
        ("promptops: 1\ndefault: echo\nrules:\n  a:\n    - {value: 1}\n    - {value: 1, whenn: x}\n", "rules.yaml:6: unknown key 'whenn'; did you mean 'when'?"),
        ("promptops: 1\ndefault: echo\nrules:\n  a:\n    - {extract: abc}\n", "rules.yaml:5: pattern 'abc' has no group; put ( ) around the part to extract"),
        ("promptops: 1\ndefault: echo\nrules:\n  a:\n    - {value: 1, when: '(?<x)'}\n", "rules.yaml:5: "),
        ("promptops: 1\ndefault: echo\nextractive:\n  drop:\n    - ok\n    - '('\n", "rules.yaml:6: "),
        ("promptops: 1\ndefault: echo\nrules:\n  a:\n    - {when: x}\n", "rules.yaml:5: `rules.a.0` needs exactly one of value, extract, extract_all, detect"),
        ("default: no\n", "rules.yaml:1: ambiguous value no is not allowed"),
    ],
)  # fmt: skip
def test_rules_are_checked_when_the_prompt_is_loaded(sandbox: Sandbox, rules: str, expected: str):
    """A pattern that Python refuses, or a default without its section, is found before a run."""
    sandbox.write(f"{FOLDER}/rules.yaml", rules)

    (problem,) = problems_of(sandbox)

    assert problem.startswith(expected)


def test_a_prompt_without_rules_has_none(sandbox: Sandbox):
    """The file is optional."""
    sandbox.path(f"{FOLDER}/rules.yaml").unlink()

    assert {} == load_prompt(WorkTree(sandbox.root), PROMPT).rules
