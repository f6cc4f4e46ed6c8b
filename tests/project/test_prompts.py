"""Loading a prompt: what it resolves to, and every problem of its files, each with its line."""

import json
from pathlib import Path

import pytest

from promptops.core.errors import DataError, RefusedError
from promptops.core.prompt import Prompt
from promptops.project.prompts import load_prompt, prompt_names
from promptops.project.tree import WorkTree

INPUTS = {"type": "object", "additionalProperties": False, "required": ["ticket"],
          "properties": {"ticket": {"type": "string"}, "tone": {"type": "string"}}}  # fmt: skip
HEADER = """promptops: 1
name: label
input: {schema: input.schema.json, untrusted: [ticket]}
"""
BODY = """system:
Be {{ tone }}.

user:
{{ ticket }}
"""


class Folder:
    """A project with one prompt, `label`, whose files a test changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("input.schema.json", json.dumps(INPUTS))

    def write(self, name: str, text: str | bytes) -> None:
        path = self.root / "prompts" / "label" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def load(self, header: str = HEADER, body: str = BODY) -> Prompt:
        self.write("prompt.md", f"---\n{header}---\n{body}")
        return load_prompt(WorkTree(self.root), "label")

    def problems(self, header: str = HEADER, body: str = BODY) -> list[str]:
        with pytest.raises(DataError) as caught:
            self.load(header, body)
        return [str(problem).removeprefix("prompts/label/") for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_prompt_is_resolved(folder: Folder):
    """Everything its frontmatter names is read; nothing is left to look up."""
    folder.write("../_partials/tone.md", "Kindly.\n")
    folder.write("examples.jsonl", '{"inputs": {"ticket": "a"}, "output": "b"}\n\n')
    header = (
        HEADER
        + "description: d\nowners: ['@x']\npartials: [_partials/tone.md]\nexamples: examples.jsonl\nparams: {temperature: 0}\n"
    )

    prompt = folder.load(header, 'system:\n{{ tone }} {% include "_partials/tone.md" %}\n\nuser:\n{{ ticket }}\n')

    assert (["label"], "d", ("@x",), {"temperature": 0}, ("ticket",), "text") == (
        prompt_names(WorkTree(folder.root)), prompt.description, prompt.owners, prompt.params, prompt.untrusted, prompt.output_format,
    )  # fmt: skip
    assert [("system", "x Kindly."), ("user", "a"), ("assistant", "b"), ("user", "t")] == [
        (message.role, message.content) for message in prompt.render({"tone": "x", "ticket": "t"})
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("promptops: 1\n", "promptops: 1\ndescription: other\nowners: [me]\n# a comment\n"),
        lambda text: text.replace("---\n", "---  \n"),
        lambda text: text + "\n\n",
    ],
    ids=["crlf", "bom", "notes", "blanks after the fence", "blank lines"],
)
def test_the_digest_is_that_of_the_content(folder: Folder, change):
    """Line ends, byte order mark, description, owners and comments are outside of it; one character is not."""
    before = folder.load().digest({})
    folder.write("prompt.md", change(f"---\n{HEADER}---\n{BODY}"))
    same = load_prompt(WorkTree(folder.root), "label").digest({})
    changed = folder.load(body=BODY.replace("Be", "Bee")).digest({})

    assert (True, False) == (before == same, before == changed)


def test_a_rule_in_the_text_does_not_end_the_frontmatter(folder: Folder):
    """Only the second line `---` does; one in the body is text."""
    assert (
        "a\n---\nt"
        == folder.load(body=BODY.replace("{{ ticket }}", "a\n---\n{{ ticket }}"))
        .render({"ticket": "t", "tone": "x"})[1]
        .content
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("system:\nx", "prompt.md:1: no frontmatter"),
        ("\n---\n---\n", "prompt.md:1: no frontmatter"),
        ("---\npromptops: 1\n", "prompt.md:1: no frontmatter"),
        ("---\n---\nuser:\nx", 'prompt.md:1: the file is not of type "object"'),
        ("---\na: 1\nb: [\n---\nuser:\nx", "prompt.md:4: YAML syntax error"),
        ("---\npromptops: 1\nname: label\nname: label\n---\nuser:\nx", "prompt.md:4: duplicate key 'name' is not allowed"),
        ("---\n" + HEADER + "modle: x\n---\nuser:\nx", "prompt.md:5: unknown key 'modle'; did you mean 'model'?"),
        ("---\n" + HEADER.replace("promptops: 1", "promptops: 2") + "---\nuser:\nx", "prompt.md:2: `promptops` '2' 1 was expected"),
        ("---\n" + HEADER + "---\nuser:\n\x00", "prompt.md:7: NUL character"),
    ],
)  # fmt: skip
def test_a_broken_frontmatter_has_its_line(folder: Folder, text: str, expected: str):
    """Lines are counted in the file, not in the frontmatter."""
    folder.write("prompt.md", text)
    with pytest.raises(DataError) as caught:
        load_prompt(WorkTree(folder.root), "label")

    assert str(caught.value).startswith("prompts/label/" + expected)


def test_every_problem_of_a_prompt_is_listed_at_once_in_order(folder: Folder):
    """The frontmatter, the text, the partials, the examples and the rules: one round of editing."""
    folder.write("examples.jsonl", '{"inputs": {"ticket": 1}, "output": ""}\n{"inputs": {}}\nno json\n')
    folder.write("rules.yaml", "promptops: 1\ndefault: rules\n")
    folder.write("../_partials/a.md", "{% set x = 1 %}")
    header = (
        HEADER.replace("label", "lable")
        + "partials: [_partials/a.md, _partials/none.md]\nexamples: examples.jsonl\noutput: {schema: out.json}\n"
    )
    body = 'system:\nask https://x.example with ${KEY}\n{% include "_partials/a.md" %}\n{{ tone | upcase }}\n\nuser:\n{{ ticket | nope }}\n'

    assert [
        "examples.jsonl:1", "examples.jsonl:2", "examples.jsonl:3", "out.json", "prompt.md:3", "prompt.md:10", "prompt.md:10",
        "prompt.md:12", "prompt.md:15", "rules.yaml:2", "prompts/_partials/a.md:1", "prompts/_partials/none.md",
    ] == [problem.partition(": ")[0] for problem in sorted(folder.problems(header, body), key=lambda item: item.startswith("prompts/_"))]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("see https://x.example", "'https://' in a prompt"),
        ("see HTTP://x.example", "'HTTP://' in a prompt"),
        ("key ${OPENAI_API_KEY}", "'${' in a prompt"),
        ("env('HOME')", "'env(' in a prompt"),
        ("sk-abcdefghijklmnopqrstuvwx", "a secret in a prompt"),
        ("ghp_abcdefghijklmnopqrstuvwx", "a secret in a prompt"),
    ],
)
@pytest.mark.parametrize("place", ["body", "partial"])
def test_endpoints_variables_and_keys_are_refused(folder: Folder, line: str, expected: str, place: str):
    """They live in the configuration; in a prompt they would be sent to a provider, partials included."""
    folder.write("../_partials/a.md", f"first\n{line}\n" if place == "partial" else "first")
    header = HEADER + "partials: [_partials/a.md]\n"
    body = BODY + (f"{line}\n" if place == "body" else '{% include "_partials/a.md" %}\n')
    where = "prompt.md:12" if place == "body" else "prompts/_partials/a.md:2"

    (problem,) = folder.problems(header, body)

    assert problem.startswith(f"{where}: {expected}")
    assert "abcdefghijklmnopqrstuvwx" not in problem


@pytest.mark.parametrize(
    "character",
    ["\u200b", "\u202e", "\u2066", "\u00ad", "\ufeff", "\u2060", "\u2028", "\u3164", "\U000e0041", "\U000e0101", "\x1b", "\x0c", "\x9b"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["body", "partial"])
def test_R17_hidden_unicode_is_listed_with_its_line(folder: Folder, character: str, place: str):
    """What a reviewer cannot see must not reach a model: zero-width, bidi, tags, variation bytes, control codes."""
    line = f"a{character}b{character}c\u200dd 👩‍💻 ❤️ می‌خواهم\n"
    folder.write("../_partials/a.md", f"\n{line}" if place == "partial" else "")
    header = HEADER + "partials: [_partials/a.md]\n"
    where = "prompt.md:12" if place == "body" else "prompts/_partials/a.md:2"

    found = folder.problems(header, BODY + (line if place == "body" else ""))

    assert [f"{where}: hidden character U+{ord(character):04X}; remove it"] == found


def test_lines_are_those_an_editor_shows(folder: Folder):
    """A form feed or line separator does not start a line."""
    found = folder.problems(body="user:\n{{ ticket }}{{ tone }} \x0c\u2028\nsee https://x.example\n")

    assert ["prompt.md:7", "prompt.md:7", "prompt.md:8"] == [problem.partition(": ")[0] for problem in found]


def test_a_fault_behind_a_partial_is_at_its_own_line(folder: Folder):
    """The partial's lines are not counted in the prompt's."""
    folder.write("../_partials/a.md", "1\n2\n3\n4\n")
    body = 'user:\n{% include "_partials/a.md" %}\n{{ ticket }} {{ tone | nope }}\n'

    (problem,) = folder.problems(HEADER + "partials: [_partials/a.md]\n", body)

    assert problem.startswith("prompt.md:9: unknown filter 'nope'")


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        (HEADER, BODY.replace("tone", "tonne"), ["prompt.md:4: input 'tone' is never used", "prompt.md:7: unknown variable 'tonne'"]),
        (HEADER, "user:\n{{ ticket }}\n", ["prompt.md:4: input 'tone' is never used"]),
        (HEADER, "system:\n{{ ticket }}\nuser:\n{{ tone }}\n", ["prompt.md:7: untrusted input 'ticket' in a system message"]),
        (HEADER.replace("[ticket]", "[tikket]"), BODY, ["prompt.md:4: untrusted input 'tikket' is not an input"]),
        (HEADER.replace("name: label", "name: other"), BODY, ["prompt.md:3: name 'other' differs from the folder 'label'"]),
        (HEADER + "output: {schema: input.schema.json}\n", BODY, ["prompt.md:5: a schema needs `format: json`"]),
        (HEADER + "output: {format: json, schema: none.json}\n", BODY, ["none.json: file not found, named by prompts/label/prompt.md:5"]),
        (HEADER, "hello\n" + BODY, ["prompt.md:6: text before the first message"]),
        (HEADER, "user:\n{{ ticket }}\nassistant:\n{{ tone }}\n", ["prompt.md:9: the last message is assistant"]),
        (HEADER, 'user:\n{{ ticket }}{{ tone }}\n{% include "x.md" %}\n', ["prompt.md:8: partial 'x.md' is not declared"]),
    ],
)  # fmt: skip
def test_what_the_text_and_the_schema_say_must_agree(folder: Folder, header: str, body: str, expected: list[str]):
    """Unknown, unused and misplaced inputs are found before any call."""
    assert expected == [
        problem.partition(";")[0].partition(", the ")[0].partition(", a ")[0]
        for problem in folder.problems(header, body)
    ]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("{", "input.schema.json: not JSON"),
        ("[]", "input.schema.json: a schema must be a JSON object"),
        ('{"type": "object", "propertys": {}}', "input.schema.json: unknown keyword 'propertys'"),
        ('{"$ref": "https://x.example/s.json"}', "input.schema.json: $ref 'https://x.example/s.json' leaves the file"),
    ],
)
def test_a_broken_input_schema_is_a_problem_of_its_file(folder: Folder, schema: str, expected: str):
    """Not JSON, not a schema, a typo, a reference to elsewhere."""
    folder.write("input.schema.json", schema)

    assert folder.problems()[0].startswith(expected)


@pytest.mark.parametrize("name", ["../../../outside.json", "link.json"])
def test_L11_a_schema_outside_of_the_project_is_refused(folder: Folder, name: str):
    """Neither by its path nor through a link."""
    (folder.root.parent / "outside.json").write_text("{}", "utf-8")
    (folder.root / "prompts" / "label" / "link.json").symlink_to(folder.root.parent / "outside.json")

    with pytest.raises(RefusedError):
        folder.load(HEADER.replace("input.schema.json", name))


@pytest.mark.parametrize("name", ["lable", "label/..", "../label", "Label", ""])
def test_a_prompt_that_is_not_there(folder: Folder, name: str):
    """A name is a slug; a near miss gets a suggestion."""
    folder.load()
    with pytest.raises(DataError) as caught:
        load_prompt(WorkTree(folder.root), name)

    expected = "no prompt 'lable', prompts/lable/prompt.md does not exist; did you mean 'label'?"
    assert (
        expected if name == "lable" else f"{name!r} is not a prompt name; use lower-case words joined by hyphens"
    ) == str(caught.value)
