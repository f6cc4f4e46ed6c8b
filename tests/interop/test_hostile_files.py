"""Whatever a foreign file holds, an import ends in a project or in a refusal: no bug, no code run, nothing half written."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptops.core.errors import PromptopsError
from promptops.project.interop.draft import check_files, render_files
from promptops.project.interop.formats import read_foreign

_TEXTS = st.sampled_from([
    "", "x", "{{ q }}", "{{ env.HOME }}", "{% if q %}a{% endif %}", "{{#if q}}a{{/if}}", "{{", "%}", "user:", "system:\n", "---", "file://x", "file://../x",
    "https://example.com", "a: b", "- a", "equals", "contains", "is-json", "not-regex", "(", "[1]", '{"a": 1}', "é\u2028\x85", "\x7f", "\ufeff", "a/b~c", "1e999",
    "openai:gpt-4o", "prompts/*", "*.yaml", "exec:rm", "null", "sk-" + "a" * 30, "x" * 300,
])  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2000) | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3), max_leaves=6,
)  # fmt: skip
_KINDS = st.sampled_from(["equals", "contains", "icontains-any", "is-json", "regex", "levenshtein", "latency", "cost", "word-count", "rouge-n", "is-sql",
                          "starts-with", "assert-set", "javascript", "not-contains-all", "nonsense"])  # fmt: skip
_ASSERTIONS = st.fixed_dictionaries(
    {"type": _KINDS}, optional={"value": _VALUES, "threshold": _VALUES, "weight": _VALUES, "assert": _VALUES}
)
_TESTS = st.fixed_dictionaries({}, optional={"vars": st.dictionaries(_TEXTS, _VALUES, max_size=3) | _VALUES, "assert": st.lists(_ASSERTIONS | _VALUES, max_size=4) | _VALUES,
                                             "description": _VALUES, "metadata": _VALUES, "options": _VALUES, "threshold": _VALUES})  # fmt: skip
_CONFIGS = st.fixed_dictionaries(
    {
        "prompts": st.lists(_TEXTS | _VALUES, max_size=3).map(lambda found: ["{{ q }}", *found]) | _VALUES,
        "tests": st.lists(_TESTS | _VALUES, max_size=3) | _VALUES,
    },
    optional={
        "providers": _VALUES,
        "defaultTest": _TESTS | _VALUES,
        "scenarios": _VALUES,
        "description": _VALUES,
        "assertionTemplates": _VALUES,
    },
)
_HEADS = st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "model", "inputs", "sample", "outputs", "template", "config", "input", "output", "inputSchema", "description", "tools"), _VALUES))  # fmt: skip
_QUIET = settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _survives(form, path):
    """The import ends in files that lint, or in an error a person can act on."""
    try:
        draft = read_foreign(form, str(path), "fuzzed")
        for prompt in draft.prompts:
            names = {name for case in prompt.cases for name in case.inputs}
            for case in prompt.cases:
                case.inputs = {name: case.inputs.get(name, "") for name in sorted(names)}
        check_files(draft, render_files(draft, with_config=True))
    except PromptopsError as error:
        if not error.problems[0].what:
            raise


@_QUIET
@given(_CONFIGS)
def test_any_promptfoo_configuration_is_read_or_refused(tmp_path, config):
    """Wrong types, odd characters, templates and references in every place."""
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(config))

    _survives("promptfoo", path)


@_QUIET
@given(st.sampled_from(["openai-evals", "inspect", "langsmith", "langfuse"]), st.lists(st.dictionaries(
    st.sampled_from(["input", "ideal", "target", "inputs", "outputs", "expectedOutput", "id", "metadata", "choices", "status"]) | _TEXTS, _VALUES, max_size=6), max_size=4))  # fmt: skip
def test_any_rows_are_read_or_refused(tmp_path, form, rows):
    """Rows of every shape."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    _survives(form, path)


@_QUIET
@given(st.sampled_from(["prompty", "dotprompt"]), _HEADS, st.lists(_TEXTS, max_size=4))
def test_any_prompt_file_is_read_or_refused(tmp_path, form, head, body):
    """Frontmatter and bodies of every shape."""
    path = tmp_path / "p.prompt"
    path.write_text(f"---\n{json.dumps(head)}\n---\n" + "\n".join(body))

    _survives(form, path)


@_QUIET
@given(st.sampled_from(["promptfoo", "prompty", "dotprompt", "openai-evals", "langfuse"]), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path, form, content):
    """Not text, not YAML, not JSON."""
    path = tmp_path / "x.yaml"
    path.write_bytes(content)

    _survives(form, path)


@pytest.mark.parametrize("form", ["promptfoo", "openai-evals", "prompty"])
def test_huge_file_is_refused_before_it_is_read(tmp_path, call, form):
    """A file beyond the limit costs nothing: it is sparse here, and only its size is asked."""
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(10**10)

    outcome = call("import", form, str(path), "--name", "a")

    assert (2, True) == (outcome.code, "too large" in outcome.err)
