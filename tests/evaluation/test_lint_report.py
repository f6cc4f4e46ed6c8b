"""Lint says everything that is wrong with the files, and asks nobody."""

import shutil
from collections.abc import Callable

import pytest

from conftest import PROMPT, REPOSITORY, Sandbox
from promptops.core.errors import Problem
from promptops.evaluation.lint import FEW_CASES, LintReport, lint_project
from promptops.project.project import open_project

_PROMPT, _RULES, _SUITE, _CASES = (
    f"prompts/{PROMPT}/prompt.md", f"prompts/{PROMPT}/rules.yaml", f"golden/{PROMPT}.yaml", f"golden/{PROMPT}.jsonl"
)  # fmt: skip


def lint(sandbox: Sandbox) -> LintReport:
    project = open_project(sandbox.root)
    return lint_project(project, project.names())


def test_starter_project_is_clean(sandbox: Sandbox):
    """Nothing to say about what `init` writes."""
    assert LintReport(problems=(), warnings=(), prompts=1, cases=22) == lint(sandbox)


def test_shipped_prompts_are_clean():
    """The repository's own prompts, candidates and golden rows have no problem and no warning."""
    project = open_project(REPOSITORY)

    found = lint_project(project, project.names())

    assert ((), ()) == (found.problems, found.warnings)


def test_problems_of_all_prompts_are_listed_together(sandbox: Sandbox):
    """One broken prompt does not hide another, nor the sound ones."""
    for name in ("second", "third"):
        shutil.copytree(sandbox.path(f"prompts/{PROMPT}"), sandbox.path(f"prompts/{name}"))
        sandbox.replace(f"prompts/{name}/prompt.md", f"name: {PROMPT}", f"name: {name}")
        sandbox.write(f"golden/{name}.yaml", sandbox.read(_SUITE).replace(f"prompt: {PROMPT}", f"prompt: {name}"))
    sandbox.replace("prompts/second/prompt.md", "{{ feedback }}", "{{ feedbak }}")
    sandbox.replace("golden/third.yaml", "json_schema", "json_shema")

    found = lint(sandbox)

    assert (1, 22, {"prompts/second/prompt.md", "golden/third.yaml"}) == (
        found.prompts, found.cases, {problem.where.partition(":")[0] for problem in found.problems},
    )  # fmt: skip


def test_E23_every_bad_golden_line_is_listed(sandbox: Sandbox):
    """Each bad line has its own problem with its number."""
    lines = sandbox.read(_CASES).splitlines()
    lines[2], lines[4], lines[6] = "{", lines[4].replace("delivery-05", "delivery-01"), '{"id": "x"}'
    sandbox.write(_CASES, "\n".join(lines) + "\n")

    assert {f"{_CASES}:{number}" for number in (3, 5, 7)} == {problem.where for problem in lint(sandbox).problems}


def test_candidates_are_checked_and_counted(sandbox: Sandbox):
    """A candidate is a prompt of its own; what it shares with the prompt is said once."""
    for name in ("good", "bad"):
        sandbox.write(f"prompts/{PROMPT}/candidates/{name}/prompt.md", sandbox.read(_PROMPT))
    sandbox.replace(f"prompts/{PROMPT}/candidates/bad/prompt.md", "{{ feedback }}", "{{ nobody }}")

    one_is_bad = lint(sandbox)
    sandbox.replace(_SUITE, "json_schema", "json_shema")
    suite_is_bad = lint(sandbox)

    assert (2, 22) == (one_is_bad.prompts, one_is_bad.cases)
    assert any("nobody" in problem.what for problem in one_is_bad.problems)
    assert 1 == sum(problem.where.startswith(_SUITE) for problem in suite_is_bad.problems)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        pytest.param(lambda box: box.replace(_PROMPT, "params:", "model: smal\nparams:"), _PROMPT, id="unknown model"),
        pytest.param(lambda box: box.replace(_PROMPT, "params:", "model: local:search\nparams:"), _RULES, id="local model without its section"),
        pytest.param(lambda box: box.replace(_RULES, r"\b(love", r"\b((love"), _RULES, id="broken pattern"),
        pytest.param(lambda box: box.write("rubrics/tone.yaml", "promptops: 1\n"), "rubrics/tone.yaml", id="unused rubric"),
        pytest.param(lambda box: box.replace(_PROMPT, "{{ feedback }}", "{{ feedback + 1 }}"), _PROMPT, id="template fails on values"),
    ],
)  # fmt: skip
def test_problem_names_the_file(sandbox: Sandbox, change: Callable[[Sandbox], object], where: str):
    """Whatever would stop an evaluation stops lint, at the file to be changed."""
    change(sandbox)

    assert [where] == list({problem.where.partition(":")[0] for problem in lint(sandbox).problems})


def test_few_cases_and_undated_models_are_warnings(sandbox: Sandbox):
    """They do not stop an evaluation, they say how far to trust it."""
    sandbox.write_rows(sandbox.rows()[1:])
    sandbox.replace("promptops.toml", "gpt-4o-mini-2024-07-18", "gpt-4o-mini")

    found = lint(sandbox)

    assert ((), 21) == (found.problems, found.cases)
    assert ["model 'small' has no date in 'gpt-4o-mini'", "category 'delivery' has 9 cases"] == [
        warning.what for warning in found.warnings
    ]


@pytest.mark.parametrize(("kept", "warned"), [(FEW_CASES, False), (FEW_CASES - 1, True)])
def test_few_cases_are_fewer_than_ten(sandbox: Sandbox, kept: int, warned: bool):
    """Ten are enough to stay silent, nine are not."""
    rows = sandbox.rows()
    sandbox.write_rows([*rows[10 - kept : 10], *rows[10:]])

    assert warned == any("delivery" in warning.what for warning in lint(sandbox).warnings)


def test_problem_is_said_once(sandbox: Sandbox):
    """What prompt and candidate share is one problem, not two."""
    sandbox.write(f"prompts/{PROMPT}/candidates/terse/prompt.md", sandbox.read(_PROMPT))
    sandbox.write_rows([*sandbox.rows(), sandbox.rows()[0]])

    assert (Problem(what="duplicate id 'delivery-01'", where=f"{_CASES}:23", why="line 1 has it too", hint="give each case its own id"),) == (
        lint(sandbox).problems
    )  # fmt: skip
