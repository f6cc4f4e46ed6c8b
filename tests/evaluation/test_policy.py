"""C4: what a change loosens of its own gate is found, blocks, and is accepted by name only."""

from collections.abc import Callable

import pytest

from conftest import PROMPT, Outcome, Sandbox

Command = Callable[..., Outcome]
SUITE = f"golden/{PROMPT}.yaml"
GATE = """gate:
  min_pass: {delivery: 0.4}
  alpha: 0.05
  tolerance: 0.1
  draws: 5
  estimand: cases
  block_on_broken: true
  by: [category, length]
  min_cases: 2
  max_p50_ratio: 50
  max_p99_ratio: 50
  max_cost_ratio: 2
review: {every_days: 90, sample: 40, required: true}
"""
SUITE_TEXT = f"""promptops: 1
prompt: {PROMPT}
cases: {PROMPT}.jsonl
slices: [length]
checks:
  - {{check: json_schema}}
  - {{check: equals, path: /sentiment}}
  - {{check: length, max: 500}}
categories:
  delivery: {{schema: strict.schema.json, tolerance: 0.05}}
  product:
{GATE}"""
SCHEMA = '{"type": "object", "required": ["sentiment"], "properties": {"sentiment": {"type": "string"}}}'


@pytest.fixture
def base(sandbox: Sandbox) -> Sandbox:
    """A committed suite that uses everything that can be loosened."""
    sandbox.write(SUITE, SUITE_TEXT)
    sandbox.write(f"prompts/{PROMPT}/strict.schema.json", SCHEMA)
    sandbox.commit_all()
    return sandbox


def changes(call: Command, *arguments: str) -> tuple[int, list[str]]:
    found = call("eval", PROMPT, "--against", "HEAD", "--json", *arguments)
    assert found.code in (0, 1), found.out + found.err
    return found.code, [change["name"] for change in found.json["comparisons"][0]["policy_changes"]]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("alpha: 0.05", "alpha: 0.01", "gate.alpha"),
        ("  tolerance: 0.1\n", "  tolerance: 0.3\n", "gate.tolerance"),
        ("draws: 5", "draws: 3", "gate.draws"),
        ("estimand: cases", "estimand: population", "gate.estimand"),
        ("block_on_broken: true", "block_on_broken: false", "gate.block_on_broken"),
        ("by: [category, length]", "by: [category]", "gate.by"),
        ("min_cases: 2", "min_cases: 1", "gate.min_cases"),
        ("max_p50_ratio: 50", "max_p50_ratio: 60", "gate.max_p50_ratio"),
        ("  max_p99_ratio: 50\n", "", "gate.max_p99_ratio"),
        ("max_cost_ratio: 2", "max_cost_ratio: 3", "gate.max_cost_ratio"),
        ("{delivery: 0.4}", "{delivery: 0.3}", "gate.min_pass.delivery"),
        ("tolerance: 0.05}", "tolerance: 0.2}", "tolerance.delivery"),
        ("  - {check: length, max: 500}\n", "", "check.length"),
        ("max: 500", "max: 900", "check.length"),
        ("schema: strict.schema.json, ", "", "schema.delivery"),
        ("max_cost_ratio: 2", "max_cost_ratio: 2\n  unanswered: {refused: error}", "gate.unanswered"),
        ("every_days: 90", "every_days: 120", "review"),
        ("sample: 40", "sample: 20", "review"),
        (", required: true", "", "review"),
        ("review: {every_days: 90, sample: 40, required: true}\n", "", "review"),
    ],
)
def test_C4_each_loosening_is_named_and_blocks_until_accepted(
    base: Sandbox, call: Command, old: str, new: str, name: str
):
    """Exit 1 although no category regressed; with --accept-policy-change NAME exit 0."""
    base.replace(SUITE, old, new)

    assert (1, [name]) == changes(call)
    assert (0, [name]) == changes(call, "--accept-policy-change", name)
    assert 1 == changes(call, "--accept-policy-change", "something.else")[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("alpha: 0.05", "alpha: 0.1"),
        ("  tolerance: 0.1\n", "  tolerance: 0.05\n"),
        ("draws: 5", "draws: 7"),
        ("{delivery: 0.4}", "{delivery: 0.45, product: 0.1}"),
        ("tolerance: 0.05}", "tolerance: 0.01}"),
        ("min_cases: 2", "min_cases: 3"),
        ("every_days: 90, sample: 40", "every_days: 30, sample: 50"),
        ("max_cost_ratio: 2", "max_cost_ratio: 1.5"),
        (
            "  - {check: length, max: 500}\n",
            "  - {check: length, max: 500}\n  - {check: contains, values: [sentiment]}\n",
        ),
    ],
)
def test_C4_stricter_gate_is_no_finding(base: Sandbox, call: Command, old: str, new: str):
    """Asking more is nobody's to accept."""
    base.replace(SUITE, old, new)

    assert [] == changes(call)[1]


def test_C4_deleted_cases_are_named(base: Sandbox, call: Command):
    """The first five ids, and how many in all."""
    rows = base.rows()
    base.write_rows(rows[2:])

    found = call("eval", PROMPT, "--against", "HEAD")

    gone = ", ".join(sorted(row["id"] for row in rows[:2]))
    assert (1, True) == (found.code, found.out.startswith(f"FAIL  {PROMPT}: the change weakens its own gate (cases)\n"))
    assert f"policy: 2 golden cases are gone: {gone} (blocks; accept it with --accept-policy-change cases)" in found.err


def test_C3_C4_category_that_is_gone_is_named(base: Sandbox, call: Command):
    """A whole category deleted needs two acceptances: of the category, and of the cases."""
    base.write_rows([row for row in base.rows() if row["category"] != "product"])
    base.write(SUITE, SUITE_TEXT.replace("  product:\n", ""))

    both = ("--accept-policy-change", "category.product", "--accept-policy-change", "cases")

    assert (1, ["category.product", "cases"]) == changes(call)
    assert (1, 0) == (changes(call, *both[:2])[0], changes(call, *both)[0])


def test_C4_renamed_case_counts_as_gone(base: Sandbox, call: Command):
    """An id is what a case is known by."""
    rows = base.rows()
    base.write_rows([rows[0] | {"id": "delivery-new"}, *rows[1:]])

    assert (1, ["cases"]) == changes(call)


def test_C4_golden_file_under_another_name_is_read_from_its_place_in_the_base(base: Sandbox, call: Command):
    """Moving the rows to another file hides no deletion, and is none."""
    rows = base.rows()
    base.path(f"golden/{PROMPT}.jsonl").rename(base.path("golden/moved.jsonl"))
    base.replace(SUITE, f"cases: {PROMPT}.jsonl", "cases: moved.jsonl")
    moved = changes(call)
    base.write("golden/moved.jsonl", base.read("golden/moved.jsonl").split("\n", 1)[1])

    assert ([], ["cases"], 22) == (moved[1], changes(call)[1], len(rows))


def test_C4_gate_of_the_base_judges(base: Sandbox, call: Command):
    """alpha 1e-9 in the change does not save it: the base's 0.05 blocks, and the loosening is listed."""
    base.replace(SUITE, "alpha: 0.05", "alpha: 0.000000001")
    rules = base.read(f"prompts/{PROMPT}/rules.yaml")
    base.write(
        f"prompts/{PROMPT}/rules.yaml", rules[: rules.index("    - {value: negative")] + "    - {value: neutral}\n"
    )

    found = call("eval", PROMPT, "--against", "HEAD", "--accept-policy-change", "gate.alpha", "--json").json[
        "comparisons"
    ][0]

    assert (0.05, "FAIL", True) == (found["alpha"], found["verdict"], found["blocked"])


def test_C4_all_loosenings_are_listed_at_once(base: Sandbox, call: Command):
    """One run names everything that needs a label."""
    for old, new in (("alpha: 0.05", "alpha: 0.01"), ("draws: 5", "draws: 2"), ("max: 500", "max: 900")):
        base.replace(SUITE, old, new)
    base.write_rows(base.rows()[1:])

    assert (1, ["gate.alpha", "gate.draws", "check.length", "cases"]) == changes(call)
