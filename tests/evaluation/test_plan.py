"""What an evaluation would ask: the chosen cases, their count, and the price, before anything is asked."""

from datetime import UTC, datetime
from typing import Any

import pytest

from conftest import PROMPT, Sandbox
from promptops.core.errors import DataError
from promptops.evaluation.plan import Estimate, Plan, Selection, estimate, make_plan
from promptops.project.project import open_project


def plan_of(sandbox: Sandbox, *, model: str = "", candidate: str = "", at: str = "", **selection: Any) -> Plan:
    return make_plan(
        open_project(sandbox.root), PROMPT, model=model, candidate=candidate, at=at, selection=Selection(**selection)
    )


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ({}, [*(f"delivery-{n:02}" for n in range(1, 11)), *(f"product-{n:02}" for n in range(1, 13))]),
        ({"categories": ("delivery",), "limit": 2}, ["delivery-01", "delivery-02"]),
        ({"categories": ("product", "delivery", "product"), "limit": 1}, ["delivery-01"]),
        ({"tags": ("length=long",), "categories": ("delivery",)}, [f"delivery-{n:02}" for n in (4, 5, 8, 10)]),
        ({"tags": ("length",), "limit": 3}, ["delivery-01", "delivery-02", "delivery-03"]),
        ({"tags": ("length=long", "length"), "limit": 1}, ["delivery-04"]),
        ({"limit": 1000}, [*(f"delivery-{n:02}" for n in range(1, 11)), *(f"product-{n:02}" for n in range(1, 13))]),
    ],
)  # fmt: skip
def test_selection_takes_cases_in_file_order(sandbox: Sandbox, selection: dict[str, Any], chosen: list[str]):
    """Any of the categories, all of the tags, then the first `limit` of them; what is planned is what is asked."""
    plan = plan_of(sandbox, **selection)

    assert (chosen, len(chosen)) == ([case.id for case in plan.cases()], plan.planned)


def test_repeat_plans_each_case_that_often(sandbox: Sandbox):
    """Two cases drawn three times are six calls; the limit counts cases."""
    plan = plan_of(sandbox, limit=2, repeat=3)

    assert (6, 2) == (plan.planned, len(list(plan.cases())))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"categories": ("delivry",)}, r"no case has the category 'delivry'; did you mean 'delivery'\?"),
        ({"tags": ("length=huge",)}, "no case is selected, the filters match none"),
        ({"tags": ("colour",)}, "no case is selected, the filters match none"),
    ],
)
def test_E24_selection_that_matches_nothing_is_refused(sandbox: Sandbox, selection: dict[str, Any], message: str):
    """Zero cases are never a pass: exit 2 says which filter matched none."""
    with pytest.raises(DataError, match=message):
        plan_of(sandbox, **selection)


def test_E24_empty_golden_file_is_refused(sandbox: Sandbox):
    """A suite without a case cannot be evaluated."""
    sandbox.write(f"golden/{PROMPT}.jsonl", "")

    with pytest.raises(DataError, match=f"golden/{PROMPT}.jsonl: no cases"):
        plan_of(sandbox)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("smal", "did you mean 'small'"),
        ("local:ruls", "did you mean 'rules'"),
        ("local:classifier", "does not configure local:classifier; add a section `classifier:`"),
    ],
)
def test_unknown_model_is_refused_with_a_suggestion(sandbox: Sandbox, model: str, message: str):
    """A typing error costs nothing: the plan is not made."""
    with pytest.raises(DataError, match=message):
        plan_of(sandbox, model=model)


def test_template_that_fails_on_the_first_case_is_refused(sandbox: Sandbox):
    """Values can break a template that parses; that shows before anything is paid."""
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "{{ feedback }}", "{{ feedback }}{{ feedback + 1 }}")

    with pytest.raises(DataError, match=f"prompts/{PROMPT}/prompt.md"):
        plan_of(sandbox)


def test_estimate_is_made_of_characters_and_the_output_limit(sandbox: Sandbox):
    """Per call a quarter of each message's characters, rounded up, and 50 output tokens at most, at the stated prices."""
    plan = plan_of(sandbox, model="small", limit=3, repeat=2)
    prompt = plan.evaluable.prompt
    tokens = sum(-(-len(message.content) // 4) for case in plan.cases() for message in prompt.render(case.inputs))

    expected = Estimate(
        calls=6, input_tokens=2 * tokens, output_tokens=6 * 50, sampled=3,
        # 0.15 and 0.60 dollars a million tokens are 150 and 600 nano-dollars a token
        cost_nanousd=2 * tokens * 150 + 6 * 50 * 600,
    )  # fmt: skip
    assert expected == estimate(plan)


def test_estimate_scales_a_sample_to_all_calls(sandbox: Sandbox):
    """Of 22 cases the first 2 are measured: all are taken to be as long as those on average."""
    rows = sandbox.rows()
    sandbox.write_rows([{**row, "inputs": {"feedback": "word"}} for row in rows])
    plan = plan_of(sandbox, model="small")
    whole, sampled = estimate(plan), estimate(plan, sample=2)

    assert (22, 2) == (whole.sampled, sampled.sampled)
    assert (whole.calls, whole.input_tokens, whole.cost_nanousd) == (
        sampled.calls, sampled.input_tokens, sampled.cost_nanousd,
    )  # fmt: skip


def test_local_model_costs_nothing(sandbox: Sandbox):
    """An estimate for a local model has calls and tokens, and no cost."""
    found = estimate(plan_of(sandbox))

    assert (22, 0) == (found.calls, found.cost_nanousd)


def test_E20_header_changes_with_what_decides_the_answers_alone(sandbox: Sandbox):
    """Prompt, golden rows and rules move the subject; a comment of the configuration and row order do not."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def subject() -> str:
        return plan_of(sandbox).header(now).subject

    first = subject()
    sandbox.write("promptops.toml", sandbox.read("promptops.toml") + "\n# a comment\n")
    sandbox.write_rows(sandbox.rows()[::-1])
    same = subject()
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "Mixed feedback", "mixed feedback")
    other_prompt = subject()
    sandbox.replace(f"prompts/{PROMPT}/rules.yaml", "perfect", "superb")
    other_rules = subject()
    sandbox.write_rows(sandbox.rows()[1:])
    other_rows = subject()

    assert first == same
    assert 4 == len({first, other_prompt, other_rules, other_rows})


def test_plan_at_a_commit_is_what_the_files_were_then(sandbox: Sandbox):
    """With `at` the working files do not matter, and the run is clean."""
    then = sandbox.commit_all()
    sandbox.write_rows(sandbox.rows()[5:])

    now, past = plan_of(sandbox), plan_of(sandbox, at="HEAD")

    assert ((17, then, True), (22, then, False)) == (
        (now.planned, now.commit, now.dirty), (past.planned, past.commit, past.dirty),
    )  # fmt: skip
