"""promptfoo configurations of different shape become projects that lint and evaluate; what cannot come along is named with its place."""

import json

import pytest

from promptops.project.interop.assertions import from_cell

LABELS = """\
description: Label tickets
prompts:
  - "Answer with one word: billing, delivery or other.\\n\\nTicket: {{ ticket }}"
providers:
  - openai:chat:gpt-4o-mini-2024-07-18
defaultTest:
  vars: {tone: neutral}
  assert:
    - {type: latency, threshold: 2000}
    - {type: not-contains, value: As an AI}
tests:
  - description: Charged twice
    vars: {ticket: "I was charged twice for {{ item }}.", item: a lamp, wanted: billing}
    assert:
      - {type: equals, value: "{{ wanted }}"}
      - {type: icontains-any, value: "bill, invoice"}
      - {type: contains-all, value: [bill, ing]}
      - {type: not-icontains, value: DELIVERY}
      - {type: starts-with, value: bill}
      - {type: regex, value: "^bill"}
      - {type: not-regex, value: "[0-9]"}
      - {type: levenshtein, value: billing, threshold: 2}
      - {type: cost, threshold: 0.002}
  - vars: {ticket: [Where is my parcel?, The parcel is lost.]}
    assert: [{type: contains, value: delivery}]
    metadata: {category: Delivery, lang: en}
"""

CHAT = """\
# a shape with files, anchors and templates of assertions
prompts:
  - file://prompts/terse.json
  - {id: file://prompts/long.txt, label: Long one}
providers:
  - id: openai:gpt-4o-2024-08-06
    config: &config {temperature: 0, max_tokens: 50}
  - {id: ollama:chat:llama3, config: *config}
assertionTemplates:
  short: {type: word-count, value: {min: 1, max: 200}}
  number: &number {type: is-json, value: {type: object, required: [n], properties: {n: {type: integer}}}}
defaultTest: {assert: [{$ref: "#/assertionTemplates/short"}]}
tests:
  - file://default.yaml
  - file://tests/*.yaml
"""

TABLE = """\
description: From a table
prompts: file://prompt.txt
providers: [echo]
tests: rows.csv
"""
ROWS = """\
question,__expected,__expected2,__description,__metadata:lang
Capital of France?,contains: Paris,not-contains: Lyon,france,en
"Say {""a"": 1}",is-json,contains-json,json,en
Hauptstadt von Italien?,"icontains-any: Rom, Italien",levenshtein(30): Rom,italy,de
No assertion here,,,none,de
"""


def _write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


SHAPES = {
    "labels": {"promptfooconfig.yaml": LABELS},
    "chat": {
        "promptfooconfig.yaml": CHAT,
        "prompts/terse.json": json.dumps([{"role": "system", "content": "Be terse."}, {"role": "user", "content": "{{ topic }} in {{ lang }}"}]),
        "prompts/long.txt": "Write about {{ topic | upper }}.\n{% if lang %}Use {{ lang }}.{% endif %}\n",
        "default.yaml": "- {vars: {topic: sand, lang: en}, assert: [{type: contains, value: sand}]}\n",
        "tests/a.yaml": "- vars: {topic: file://../topics/sea.txt, lang: en}\n- vars: {topic: sky, lang: de}\n  assert:\n    - {type: contains-any, value: [Himmel, sky]}\n",
        "topics/sea.txt": "the sea",
        "tests/b.yaml": "vars: {topic: wind, lang: en}\nassert:\n  - type: assert-set\n    assert:\n      - {type: icontains, value: WIND}\n      - {type: not-equals, value: nothing}\n",
    },
    "table": {"promptfooconfig.yaml": TABLE, "prompt.txt": "Answer shortly.\n\n{{ question }}", "rows.csv": ROWS},
}  # fmt: skip


@pytest.fixture
def foreign(tmp_path):
    """A folder beside the project with files of another tool."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("shape", SHAPES)
def test_configuration_lints_and_evaluates_at_once(foreign, call, tmp_path, shape):
    """No assertion that promptops has a check for is lost, whatever the shape of the configuration."""
    files = (
        SHAPES[shape]
        if shape != "chat"
        else SHAPES[shape] | {"tests/a.yaml": SHAPES[shape]["tests/a.yaml"].replace("../topics", "topics")}
    )
    _write(foreign, files)
    into = str(tmp_path / "made")

    outcome = call(
        "import", "promptfoo", str(foreign / "promptfooconfig.yaml"), "--name", shape, "--into", into, "--json"
    )

    assert 0 == outcome.code, outcome.out + outcome.err
    lost = [part for part in outcome.json["parts"] if part["status"] == "lost"]
    assert [] == lost
    assert {"labels": 3, "chat": 4, "table": 4}[shape] == outcome.json["cases"]
    from conftest import Sandbox

    made = Sandbox(tmp_path / "made")
    assert 0 == made.run("lint").code
    assert 0 == made.run("eval").code


def test_each_assertion_scores_as_it_does_there(foreign, call, tmp_path, monkeypatch):
    """Every assertion of a test passes or fails on the same answers: here the echoed prompt holds what it asks for, or not."""
    config = {
        "prompts": ["{{ text }}"],
        "tests": [
            {"vars": {"text": "Paris is nice"}, "assert": [
                {"type": "contains", "value": "Paris"}, {"type": "not-contains", "value": "paris"}, {"type": "icontains", "value": "PARIS"},
                {"type": "contains-any", "value": ["Rome", "nice"]}, {"type": "contains-all", "value": ["Paris", "nice"]},
                {"type": "not-contains-all", "value": ["Paris", "Rome"]}, {"type": "starts-with", "value": "Par"},
                {"type": "not-starts-with", "value": "par"}, {"type": "regex", "value": "is n"}, {"type": "not-regex", "value": "^nice"},
                {"type": "equals", "value": "Paris is nice"}, {"type": "not-equals", "value": "Paris"}, {"type": "not-is-json"},
                {"type": "levenshtein", "value": "Paris is mice", "threshold": 1}, {"type": "word-count", "value": 3},
                {"type": "rouge-n", "value": "nice Paris is", "threshold": 0.9}, {"type": "latency", "threshold": 5000},
                {"type": "cost", "threshold": 0}]},
            {"vars": {"text": "Rome"}, "assert": [
                {"type": "contains", "value": "rome"}, {"type": "icontains-all", "value": ["ROME", "Paris"]}, {"type": "starts-with", "value": "om"},
                {"type": "not-equals", "value": "Rome"}, {"type": "is-json"}, {"type": "not-levenshtein", "value": "Rom", "threshold": 2},
                {"type": "not-contains-any", "value": ["Rome", "x"]}]},
            {"vars": {"text": '{"n": [1, 2]}'}, "assert": [
                {"type": "equals", "value": {"n": [1, 2]}}, {"type": "is-json", "value": {"type": "object", "required": ["n"], "properties": {"n": {"type": "array"}}}},
                {"type": "contains-json"}]},
        ],
    }  # fmt: skip
    _write(foreign, {"c.json": json.dumps(config)})
    into = tmp_path / "made"
    outcome = call("import", "promptfoo", str(foreign / "c.json"), "--name", "facts", "--into", str(into), "--json")
    assert [] == [part for part in outcome.json["parts"] if part["status"] == "lost"]
    monkeypatch.chdir(into)

    call("eval", "facts")
    verdicts = {}
    for number in (1, 2, 3):
        found = call("view", "latest", "--case", f"test-{number}", "--json").json
        verdicts[number] = {score["passed"] for score in found["scores"]}

    assert {1: {True}, 2: {False}, 3: {True}} == verdicts


@pytest.mark.parametrize(
    ("assertion", "why"),
    [
        ({"type": "javascript", "value": "output.length"}, "runs code"),
        ({"type": "python", "value": "file://check.py"}, "runs code"),
        ({"type": "llm-rubric", "value": "is polite"}, "a model judges it"),
        ({"type": "similar", "value": "x", "threshold": 0.8}, "needs another model"),
        ({"type": "regex", "value": "(?=x)y"}, "look-around"),
        ({"type": "is-xml"}, "no such check"),
        ({"type": "made-up"}, "no such check"),
        ({"type": "contains", "value": "{{ env.KEY }}"}, "environment"),
        ({"type": "contains", "value": "{{ a | upper }}"}, "template expression"),
        ({"type": "contains", "value": "file://../../secret.txt"}, "leaves the folder"),
        ({"type": "equals", "value": "x", "transform": "output.y"}, "transformation by code"),
        ({"type": "equals", "value": "x", "weight": 0}, "weight is 0"),
        ({"type": "assert-set", "threshold": 0.5, "assert": [{"type": "is-json"}]}, "part of the set"),
        ({"type": "latency"}, "no threshold"),
        ("contains", "no type"),
    ],
)
def test_assertion_without_counterpart_is_listed_with_its_place(foreign, call, tmp_path, assertion, why):
    """File, line and reason of everything that did not come along."""
    config = (
        "prompts: ['{{ q }}']\ntests:\n  - vars: {q: x}\n    assert:\n      - {type: is-json}\n      - "
        + json.dumps(assertion)
    )
    _write(foreign, {"c.yaml": config})

    found = call(
        "import", "promptfoo", str(foreign / "c.yaml"), "--name", "a", "--into", str(tmp_path / "made"), "--json"
    ).json

    lost = [part for part in found["parts"] if part["status"] == "lost"]
    assert [("c.yaml:6", True)] == [(part["where"], why in part["why"]) for part in lost], lost


def test_variants_become_candidates_of_one_prompt(foreign, call, tmp_path):
    """Prompts that are tried on the same tests are the prompt and its candidates; inputs one of them lacks do no harm."""
    _write(
        foreign,
        {"c.yaml": "prompts: ['Short: {{ q }}', 'Long {{ q }} for {{ who }}']\ntests: [{vars: {q: x, who: y}}]\n"},
    )

    outcome = call(
        "import", "promptfoo", str(foreign / "c.yaml"), "--name", "two", "--into", str(tmp_path / "made"), "--json"
    )

    assert (0, ["prompt-2"]) == (outcome.code, outcome.json["candidates"])
    assert "Long {{ q }} for {{ who }}" in (tmp_path / "made/prompts/two/candidates/prompt-2/prompt.md").read_text()


def test_label_of_a_prompt_names_its_candidate(foreign, call, tmp_path):
    """What a person called a prompt there is what the candidate is called here."""
    _write(
        foreign,
        {
            "c.yaml": "prompts: ['{{ q }}', {id: file://b.txt, label: With more words}]\ntests: [{vars: {q: x}}]\n",
            "b.txt": "More: {{ q }}",
        },
    )

    outcome = call(
        "import", "promptfoo", str(foreign / "c.yaml"), "--name", "a", "--into", str(tmp_path / "made"), "--json"
    )

    assert ["with-more-words"] == outcome.json["candidates"]


def test_row_with_too_many_cells_is_no_table(foreign, call, tmp_path):
    """A comma outside quotes shifts every cell after it: the table is refused with the line, not read wrongly."""
    _write(
        foreign,
        {
            "c.yaml": "prompts: ['{{ q }}']\ntests: [{vars: {q: x}}, file://t.csv]\n",
            "t.csv": "q,__expected\na,contains: b,c\n",
        },
    )

    found = call(
        "import", "promptfoo", str(foreign / "c.yaml"), "--name", "a", "--into", str(tmp_path / "made"), "--json"
    ).json

    assert [("c.yaml:2", True)] == [
        (part["where"], "line 2 has 3 cells" in part["why"]) for part in found["parts"] if part["status"] == "lost"
    ]


def test_role_line_in_a_prompt_stays_text(foreign, call, tmp_path, monkeypatch):
    """A line `user:` in a plain prompt does not start a message."""
    _write(
        foreign,
        {
            "c.json": json.dumps(
                {"prompts": ["A chat:\nuser:\nhello\nsystem:\n{{ q }}"], "tests": [{"vars": {"q": "x"}}]}
            )
        },
    )
    call("import", "promptfoo", str(foreign / "c.json"), "--name", "a", "--into", str(tmp_path / "made"))
    monkeypatch.chdir(tmp_path / "made")

    found = call("show", "a", "--json").json

    assert ["user"] == [message["role"] for message in found["messages"]]


def test_links_become_inputs(foreign, call, tmp_path):
    """A prompt holds no link here: it is an input with a constant value, and the report says so."""
    _write(
        foreign, {"c.yaml": "prompts: ['See https://example.com/a and ${HOME}: {{ q }}']\ntests: [{vars: {q: x}}]\n"}
    )

    outcome = call(
        "import", "promptfoo", str(foreign / "c.yaml"), "--name", "a", "--into", str(tmp_path / "made"), "--json"
    )

    row = json.loads((tmp_path / "made/golden/a.jsonl").read_text())
    assert (0, {"q": "x", "link_1": "https://example.com/a", "link_2": "${HOME}"}) == (outcome.code, row["inputs"])


def test_L11_L12_nothing_of_a_hostile_configuration_is_run_read_or_copied(foreign, call, tmp_path):
    """Code is not run, files outside the folder are not read, keys and environment variables are not copied."""
    (tmp_path / "secret.txt").write_text("TOP SECRET")
    (foreign / "link.txt").symlink_to(tmp_path / "secret.txt")
    marker = tmp_path / "ran"
    key = "sk-" + "a" * 30
    _write(foreign, {
        "evil.js": f"require('fs').writeFileSync('{marker}', 'x')", "evil.py": f"open('{marker}', 'w')",
        "c.yaml": f"""\
prompts: ['{{{{ q }}}}', 'file://evil.js', 'file://evil.py:main', 'exec:touch {marker}', 'file://../secret.txt', 'file://link.txt', '{{{{ env.HOME }}}}', 'Use {key} {{{{ q }}}}']
providers:
  - {{id: openai:gpt-4o-2024-08-06, config: {{apiKey: {key}, apiBaseUrl: "https://user:pw@evil.example/v1"}}}}
  - file://evil.js
  - {{id: openai:gpt-4o-2024-08-06, config: {{apiKey: {key}, organization: org}}}}
extensions: ['file://evil.py:hook']
nunjucksFilters: {{x: ./evil.js}}
env: {{OPENAI_API_KEY: {key}}}
tests:
  - vars: {{q: fine}}
  - vars: {{q: file://../secret.txt}}
  - vars: {{q: file:///etc/passwd}}
  - vars: {{q: file://link.txt}}
  - vars: {{q: file://evil.py}}
  - vars: {{q: "{{{{ env.HOME }}}}"}}
  - vars: {{q: {key}}}
  - file://../../../etc/passwd
  - https://example.com/tests.csv
  - {{path: file://evil.py:make}}
""",
    })  # fmt: skip

    outcome = call(
        "import", "promptfoo", str(foreign / "c.yaml"), "--name", "a", "--into", str(tmp_path / "made"), "--json"
    )

    assert 0 == outcome.code, outcome.err
    everything = outcome.out + "".join(path.read_text() for path in (tmp_path / "made").rglob("*") if path.is_file())
    assert (False, 1) == (marker.exists(), outcome.json["cases"])
    assert not any(word in everything for word in ("TOP SECRET", key, "root:", "user:pw"))
    assert 20 == outcome.json["counts"]["lost"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompts: [", "c.yaml:2: YAML syntax error"),
        ("just text", "not a promptfoo configuration"),
        ("tests: [{vars: {a: b}}]", "no prompt can be imported"),
        ("prompts: ['{{ q }}']\ntests: []", "no test can be imported"),
        ("prompts: ['{% macro x() %}{% endmacro %}']", "tag 'macro' is not part of the template language"),
        (("a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
         "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]"), "aliases stand for too much"),
        (("prompts: ['{{ a }}{{ b }}']\ntests: [{vars: {a: [1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9],\n"
         "  b: [1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9]}}]"), "1296 combinations"),
    ],
)  # fmt: skip
def test_L10_configuration_that_cannot_be_read_is_refused_and_nothing_is_written(foreign, call, tmp_path, text, said):
    """Bad input ends in 2, says where, and leaves no file behind."""
    _write(foreign, {"c.yaml": text})

    outcome = call("import", "promptfoo", str(foreign / "c.yaml"), "--name", "a", "--into", str(tmp_path / "made"))

    assert (2, False) == (outcome.code, (tmp_path / "made").exists()), outcome.err
    assert said in outcome.err


def test_nothing_is_overwritten(foreign, call, sandbox):
    """A second import of the same name is refused, and the configuration of the project stays as it was."""
    _write(
        foreign, {"c.yaml": "prompts: ['{{ q }}']\nproviders: [openai:gpt-4o-2024-08-06]\ntests: [{vars: {q: x}}]\n"}
    )
    before = sandbox.read("promptops.toml")

    first = call("import", "promptfoo", str(foreign / "c.yaml"), "--name", "again")
    second = call("import", "promptfoo", str(foreign / "c.yaml"), "--name", "again")

    assert (0, 2, before) == (first.code, second.code, sandbox.read("promptops.toml"))
    assert "which is not touched" in first.out.replace("\n", " ") or "is not touched" in " ".join(first.out.split())
    assert "exists already" in second.err


def test_dry_run_writes_nothing(foreign, call, tmp_path):
    """The report alone."""
    _write(foreign, {"c.yaml": LABELS})

    outcome = call("import", "promptfoo", str(foreign / "c.yaml"), "--into", str(tmp_path / "made"), "--dry-run")

    assert (0, False) == (outcome.code, (tmp_path / "made").exists())
    assert outcome.out.startswith("WOULD IMPORT")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Paris", {"type": "equals", "value": "Paris"}),
        ("contains: Paris", {"type": "contains", "value": "Paris"}),
        ("not-icontains: x: y", {"type": "not-icontains", "value": "x: y"}),
        ("is-json", {"type": "is-json"}),
        ("levenshtein(3): abc", {"type": "levenshtein", "threshold": 3.0, "value": "abc"}),
        ("latency(500)", {"type": "latency", "threshold": 500.0}),
        ("javascript: output.length", {"type": "javascript", "value": "output.length"}),
        ("grade: is kind", {"type": "llm-rubric", "value": "is kind"}),
        ("Note: this is text", {"type": "equals", "value": "Note: this is text"}),
    ],
)
def test_cell_of_a_table_is_an_assertion(cell, expected):
    """What starts with the name of an assertion is one, anything else is the very text."""
    assert expected == from_cell(cell)
