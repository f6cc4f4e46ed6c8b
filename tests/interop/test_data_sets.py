"""Rows of evaluation data sets: read as golden cases, written from them, and the same after a round trip."""

import json

import pytest

from conftest import Sandbox

NAME = "feedback-sentiment"
ROWS = {
    "openai-evals": [
        {"input": [{"role": "system", "content": "Name the capital."}, {"role": "user", "content": "France"}], "ideal": "Paris"},
        {"input": [{"role": "system", "content": "Name the capital."}, {"role": "user", "content": "Netherlands"}], "ideal": ["Amsterdam", "The Hague"]},
    ],
    "inspect": [
        {"input": "2+2?", "target": "4", "id": 7, "metadata": {"level": "easy"}},
        {"input": [{"role": "user", "content": "3+3?"}], "target": ["6", "six"], "choices": ["5", "6"]},
    ],
    "langsmith": [
        {"id": "a1", "inputs": {"question": "Capital of France?"}, "outputs": {"answer": "Paris"}, "metadata": {"dataset_split": ["test"]}},
        {"id": "a2", "inputs": {"question": "Capital of Italy?"}, "outputs": {"answer": "Rome"}, "metadata": {}},
    ],
    "langfuse": [
        {"id": "i1", "input": {"question": "Capital of France?"}, "expectedOutput": {"answer": "Paris"}, "metadata": {"lang": "en"}, "status": "ACTIVE"},
        {"id": "i2", "input": {"question": "Capital of Italy?"}, "expectedOutput": {"answer": "Rome"}, "metadata": None, "status": "ACTIVE"},
    ],
}  # fmt: skip


def _file(tmp_path, form, rows, *, as_list=False):
    path = tmp_path / (f"{form}.json" if as_list else f"{form}.jsonl")
    path.write_text(json.dumps(rows) if as_list else "".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("as_list", [False, True])
def test_rows_become_a_project_that_evaluates(call, tmp_path, form, as_list):
    """A case a row, and a stand-in for the prompt that the file does not hold."""
    outcome = call(
        "import",
        form,
        _file(tmp_path, form, ROWS[form], as_list=as_list),
        "--name",
        "capitals",
        "--into",
        str(tmp_path / "made"),
        "--json",
    )

    assert (0, 2) == (outcome.code, outcome.json["cases"]), outcome.out
    assert [] == [part for part in outcome.json["parts"] if part["status"] == "lost"]
    assert "prompt" in {part["what"] for part in outcome.json["parts"] if part["status"] == "changed"}
    made = Sandbox(tmp_path / "made")
    assert (0, 0) == (made.run("lint").code, made.run("eval").code)


@pytest.mark.parametrize("form", ["langsmith", "langfuse"])
def test_cases_come_back_unchanged(call, sandbox, tmp_path, form):
    """Inputs, expected values, category, tags and ids survive writing and reading."""
    file = tmp_path / "out.jsonl"
    assert 0 == call("convert", NAME, "--to", form, "-o", str(file)).code
    assert 0 == call("import", form, str(file), "--name", NAME, "--into", str(tmp_path / "made")).code

    after = [json.loads(line) for line in (tmp_path / "made/golden" / f"{NAME}.jsonl").read_text().splitlines()]

    kept = ("id", "category", "inputs", "expected", "tags")
    assert [{key: row[key] for key in kept} for row in sandbox.rows()] == [
        {key: row[key] for key in kept} for row in after
    ]


@pytest.mark.parametrize("form", ["openai-evals", "inspect"])
def test_rendered_messages_and_answers_come_back(call, sandbox, tmp_path, form):
    """These formats hold messages: the text a model was asked, and the expected answer, survive."""
    file = tmp_path / "out.jsonl"
    call("convert", NAME, "--to", form, "-o", str(file))
    call("import", form, str(file), "--name", NAME, "--into", str(tmp_path / "made"))

    after = [json.loads(line) for line in (tmp_path / "made/golden" / f"{NAME}.jsonl").read_text().splitlines()]

    asked = [f"<feedback>\n{row['inputs']['feedback']}\n</feedback>" for row in sandbox.rows()]
    assert asked == [row["inputs"]["input"] for row in after]
    assert [row["expected"]["sentiment"] for row in sandbox.rows()] == [row["expected"]["answer"] for row in after]


def test_cases_are_added_to_a_prompt_that_is_there(call, sandbox, tmp_path):
    """Rows that fit the inputs and categories are added under ids of their own; the others are listed with the reason."""
    rows = [
        {"id": "delivery-01", "inputs": {"feedback": "Parcel came early."}, "outputs": {"sentiment": "positive"}, "metadata": {"category": "delivery"}},
        {"id": "x", "inputs": {"feedback": "Nice."}, "outputs": {"sentiment": "positive"}, "metadata": {"category": "weather"}},
        {"id": "y", "inputs": {"text": "Nice."}, "outputs": {}, "metadata": {"category": "delivery"}},
    ]  # fmt: skip

    outcome = call("import", "langsmith", _file(tmp_path, "langsmith", rows), "--name", NAME, "--json")

    assert 0 == outcome.code, outcome.out
    added = sandbox.rows()[22:]
    assert [("delivery-01-2", {"feedback": "Parcel came early."})] == [(row["id"], row["inputs"]) for row in added]
    reasons = [part["why"] for part in outcome.json["parts"] if part["status"] == "lost"]
    assert 2 == len(reasons)
    assert 0 == call("lint").code


def test_row_that_is_no_text_is_lost_and_secrets_are_not_copied(call, tmp_path):
    """Pictures and tool calls have no place in golden rows; a row with a key in it is left out."""
    rows = [
        {"input": "fine", "ideal": "ok"},
        {"input": [{"role": "user", "content": [{"type": "image_url"}]}], "ideal": "x"},
        {"input": "use sk-" + "a" * 30, "ideal": "x"},
        {"ideal": "nothing asked"},
    ]

    outcome = call(
        "import", "openai-evals", _file(tmp_path, "e", rows), "--name", "a", "--into", str(tmp_path / "made"), "--json"
    )

    assert (0, 1, 3) == (outcome.code, outcome.json["cases"], outcome.json["counts"]["lost"])
    assert [f"e.jsonl:{line}" for line in (2, 3, 4)] == [
        part["where"] for part in outcome.json["parts"] if part["status"] == "lost"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{not json}\n", "e.jsonl:1: not JSON"), ("[1, 2]", "e.jsonl:1: not a JSON object"), ("", "no row can be imported"), ('{"a": 1}', "no row can be imported")],
)  # fmt: skip
def test_file_of_another_shape_is_refused(call, tmp_path, text, said):
    """The line of what is wrong, and nothing written."""
    (tmp_path / "e.jsonl").write_text(text)

    outcome = call("import", "openai-evals", str(tmp_path / "e.jsonl"), "--name", "a", "--into", str(tmp_path / "made"))

    assert (2, False) == (outcome.code, (tmp_path / "made").exists())
    assert said in outcome.err


def test_promptfoo_configuration_that_was_written_reads_back(call, sandbox, tmp_path, monkeypatch):
    """The cases, their inputs and what is expected of the answers survive as tests with assertions."""
    file = tmp_path / "promptfooconfig.yaml"
    written = call("convert", NAME, "--to", "promptfoo", "-o", str(file), "--json")
    back = call("import", "promptfoo", str(file), "--name", NAME, "--into", str(tmp_path / "made"), "--json")

    assert (0, 0, 0) == (written.code, back.code, back.json["counts"]["lost"])
    lost = {part["what"] for part in written.json["parts"] if part["status"] == "lost"}
    assert {"rules.yaml", "untrusted inputs"} == lost
    after = [json.loads(line) for line in (tmp_path / "made/golden" / f"{NAME}.jsonl").read_text().splitlines()]
    kept = ("id", "category", "inputs")
    assert [{key: row[key] for key in kept} for row in sandbox.rows()] == [
        {key: row[key] for key in kept} for row in after
    ]


def test_unknown_format_is_refused_with_the_known_ones(call):
    """A slip of the pen gets the nearest name."""
    imported, converted = call("import", "promptfo", "x"), call("convert", NAME, "--to", "prompty")

    assert (2, 2) == (imported.code, converted.code)
    assert "did you mean 'promptfoo'" in imported.err
    assert "did you mean 'prompty-v" in converted.err
