"""What the next commit would hold, and the gate inside a test suite."""

import pytest

from conftest import PROMPT, Sandbox
from promptops.core.errors import EvaluationError
from promptops.testing import assert_no_regression

KEY = "sk-" + "proj-4f9XbQ2mV7tLw0ZcR8yE"
ROW = '{{"id": "delivery-99", "category": "delivery", "inputs": {{"feedback": "{text}"}}, "expected": {{"sentiment": "neutral"}}}}\n'


def add_row(sandbox: Sandbox, text: str) -> None:
    sandbox.write(f"golden/{PROMPT}.jsonl", sandbox.read(f"golden/{PROMPT}.jsonl") + ROW.format(text=text))


def test_lint_staged_reads_the_index_and_not_the_folder(sandbox: Sandbox):
    """A row that is staged wrong is found although the file was mended since, and the other way round."""
    sandbox.commit_all()
    good = sandbox.read(f"golden/{PROMPT}.jsonl")
    sandbox.write(f"golden/{PROMPT}.jsonl", good + "{}\n")
    sandbox.git("add", "-A")
    sandbox.write(f"golden/{PROMPT}.jsonl", good)

    staged, folder = sandbox.run("lint", "--staged"), sandbox.run("lint")
    sandbox.git("add", "-A")
    sandbox.write(f"golden/{PROMPT}.jsonl", good + "{}\n")

    assert (2, 0, 0) == (staged.code, folder.code, sandbox.run("lint", "--staged").code)
    assert f"golden/{PROMPT}.jsonl:23" in staged.err


def test_a_key_in_a_golden_case_is_refused_and_not_repeated(sandbox: Sandbox):
    """Golden cases go into git and to providers; the message names the line and not the key."""
    add_row(sandbox, f"my key is {KEY}, please help")

    outcome = sandbox.run("lint")

    assert (2, False) == (outcome.code, KEY in outcome.out + outcome.err)
    assert f"golden/{PROMPT}.jsonl:23: a golden case holds what looks like a key" in outcome.err


def test_lint_staged_needs_a_repository(sandbox: Sandbox):
    assert 3 == sandbox.run("lint", "--staged").code


def test_assert_no_regression_fails_with_the_sentence_of_the_verdict(sandbox: Sandbox):
    """A category that fell is a failed test that says which and by how much."""
    sandbox.commit_all()
    assert_no_regression(PROMPT, against="HEAD", root=sandbox.root)
    for word in ("positive", "negative"):
        sandbox.write(
            f"prompts/{PROMPT}/rules.yaml",
            sandbox.read(f"prompts/{PROMPT}/rules.yaml").replace(f"value: {word}", "value: neutral"),
        )

    with pytest.raises(AssertionError, match=r"product: 9/12 -> \d/12 cases pass; .* blocked\."):
        assert_no_regression(PROMPT, against="HEAD", root=sandbox.root)


def test_assert_no_regression_names_a_weaker_gate(sandbox: Sandbox):
    """Fewer golden cases are no way to pass."""
    sandbox.commit_all()
    sandbox.write(
        f"golden/{PROMPT}.jsonl", "".join(sandbox.read(f"golden/{PROMPT}.jsonl").splitlines(keepends=True)[1:])
    )

    with pytest.raises(AssertionError, match="the change weakens its own gate: 1 golden cases are gone"):
        assert_no_regression(PROMPT, against="HEAD", root=sandbox.root)


def test_what_cannot_be_evaluated_is_an_error_and_no_failure(sandbox: Sandbox):
    """pytest reports an error of the test: nothing was found to be worse."""
    sandbox.commit_all()

    with pytest.raises(EvaluationError):
        assert_no_regression(PROMPT, against="no-such-branch", root=sandbox.root)
