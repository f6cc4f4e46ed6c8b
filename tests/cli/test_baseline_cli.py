"""promptops baseline and promptops explain: what is recorded, what of it is used, and why cases broke."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from conftest import PROMPT, Outcome, Sandbox
from promptops.evaluation.against import MAX_AGE, Session, find_baseline, record_baseline
from promptops.evaluation.execute import Options
from promptops.evaluation.plan import Selection, make_plan
from promptops.project.project import open_project
from promptops.project.store import open_store

Command = Callable[..., Outcome]
RULES = f"prompts/{PROMPT}/rules.yaml"
DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def uses_baseline(call: Command) -> bool:
    found = call("eval", PROMPT, "--against", "HEAD", "--json")
    assert found.code in (0, 1), found.err
    return bool(found.json["comparisons"][0]["cached_baseline"])


def break_short_feedback(sandbox: Sandbox) -> None:
    """The rules forget all words: everything is neutral."""
    text = sandbox.read(RULES)
    sandbox.write(RULES, text[: text.index("    - {value: negative")] + "    - {value: neutral}\n")


def test_record_draws_every_case_five_times(sandbox: Sandbox, call: Command):
    """The run is named, and so is the next command."""
    sandbox.commit_all()

    found = call("baseline", "record", PROMPT)

    first, following = found.out.splitlines()
    assert (0, True) == (found.code, first.startswith("RECORDED  "))
    assert first.endswith(f": 110 draws of {PROMPT} on local")
    assert f"next: promptops eval {PROMPT} --against HEAD" == following


def test_recorded_baseline_is_used(sandbox: Sandbox, call: Command):
    """Recorded at the base, it spares the base's draws; the note about a missing one is gone."""
    sandbox.commit_all()
    before = uses_baseline(call)
    call("baseline", "record", PROMPT, "--at", "HEAD", "--draws", "3")

    found = call("eval", PROMPT, "--against", "HEAD")

    assert (False, True, "") == (before, uses_baseline(call), found.err)


def new_wording(sandbox: Sandbox) -> None:
    sandbox.replace(f"prompts/{PROMPT}/prompt.md", "Mixed feedback", "Feedback that is mixed")


def new_case(sandbox: Sandbox) -> None:
    rows = sandbox.rows()
    sandbox.write_rows([*rows, rows[0] | {"id": "delivery-99"}])


def new_check(sandbox: Sandbox) -> None:
    sandbox.replace(
        f"golden/{PROMPT}.yaml", "{check: json_schema}", "{check: json_schema}\n  - {check: length, max: 900}"
    )


@pytest.mark.parametrize("change", [new_wording, new_case, new_check, break_short_feedback])
def test_baseline_of_other_content_is_not_used(sandbox: Sandbox, call: Command, change: Callable[[Sandbox], None]):
    """Prompt, golden cases, checks, rules: when what would be asked or scored differs from the recording, it does not count."""
    sandbox.commit_all()
    call("baseline", "record", PROMPT)
    change(sandbox)
    sandbox.commit_all()

    assert not uses_baseline(call)


def test_baseline_of_another_selection_or_model_is_not_used(sandbox: Sandbox, call: Command):
    """The recording is of all cases by one model."""
    sandbox.commit_all()
    call("baseline", "record", PROMPT, "--model", "local:echo")

    found = call("eval", PROMPT, "--against", "HEAD", "--json")
    call("baseline", "record", PROMPT)
    some = call("eval", PROMPT, "--against", "HEAD", "--category", "delivery", "--json")

    assert [False, False] == [run.json["comparisons"][0]["cached_baseline"] for run in (found, some)]


@pytest.mark.parametrize(("age", "used"), [(MAX_AGE - DAY, True), (MAX_AGE + DAY, False)])
def test_baseline_expires(sandbox: Sandbox, age: timedelta, used: bool):
    """Older than 30 days it is not used: providers change under a name."""
    sandbox.commit_all()
    project = open_project(sandbox.root)
    store = open_store(sandbox.root)
    session = Session(project=project, store=store, options=Options(), clock=lambda: NOW, on_progress=lambda _: None)
    recorded = record_baseline(session, PROMPT, model="", at="HEAD", draws=2)

    session.clock = lambda: NOW + age
    found = find_baseline(session, make_plan(project, PROMPT, model="", selection=Selection()))
    store.close()

    assert (recorded.id if used else None) == (found.id if found else None)


def test_expired_baseline_is_listed_as_such(sandbox: Sandbox, call: Command):
    """The list says why a recording is not used; the newest comes first."""
    sandbox.commit_all()
    store = open_store(sandbox.root)
    session = Session(project=open_project(sandbox.root), store=store, options=Options(),
                      clock=lambda: datetime(2020, 1, 1, tzinfo=UTC), on_progress=lambda _: None)  # fmt: skip
    record_baseline(session, PROMPT, model="", at="", draws=2)
    store.close()
    call("baseline", "record", PROMPT)

    rows = call("baseline", "list", "--json").json["baselines"]
    shown = call("baseline", "list").out

    assert [False, True] == [row["expired"] for row in rows]
    assert [True, True] == [word in shown for word in ("expired", "complete")]


def test_list_names_only_baselines_of_a_prompt(sandbox: Sandbox, call: Command):
    """Ordinary runs are not baselines; another prompt's are not asked for."""
    sandbox.commit_all()
    call("eval", PROMPT)
    nothing = call("baseline", "list").out
    call("baseline", "record", PROMPT)

    assert "no baselines; next: promptops baseline record NAME\n" == nothing
    assert [1, 0] == [
        len(call("baseline", "list", "--prompt", name, "--json").json["baselines"]) for name in (PROMPT, "other")
    ]


def test_C1_baseline_of_a_missing_ref_names_fetch_depth(sandbox: Sandbox, call: Command):
    """Exit 3, as for the comparison itself."""
    sandbox.commit_all()

    found = call("baseline", "record", PROMPT, "--at", "origin/main")

    assert (3, "", True) == (found.code, found.out, "`fetch-depth: 0`" in found.err)


@pytest.fixture
def compared(sandbox: Sandbox, call: Command) -> dict[str, str]:
    """A blocked comparison: ids of its runs."""
    sandbox.commit_all()
    break_short_feedback(sandbox)
    found = call("eval", PROMPT, "--against", "HEAD", "--json")
    assert found.code == 1
    comparison = found.json["comparisons"][0]
    return {"base": comparison["baseline"], "run": comparison["candidate"]}


def test_explain_shows_input_expectation_and_both_answers(call: Command, compared: dict[str, str]):
    """Each broken case with what differs in brackets, which show without colour."""
    found = call("explain", compared["run"], "delivery", "--base", compared["base"], "--limit", "1")

    lines = found.out.splitlines()
    assert (0, True) == (found.code, "broke in delivery" in lines[0])
    assert (True, True) == (lines[2].startswith("BROKE  delivery-"), "  1/1 -> 0/1 draws pass, " in lines[2])
    assert [
        'before: [{"sentiment":"positive"}]', 'after:  [{"sentiment":"neutral"}]',
        "why: equals/sentiment: neutral is not positive",
    ] == [line.rstrip() for line in lines if line.startswith(("before: ", "after:  ", "why: "))]  # fmt: skip
    assert ["feedback", "expected sentiment"] == [line.split(":")[0] for line in lines[3:5]]
    assert lines[-1].startswith(f"next: promptops explain {compared['run']} delivery --limit ")


def test_explain_as_json_counts_all_and_holds_the_limit(call: Command, compared: dict[str, str]):
    """`broken` is how many broke, `cases` at most --limit of them, worst first."""
    arguments = ("explain", "latest", "length=short", "--base", compared["base"], "--json")

    found, cut = call(*arguments).json, call(*arguments, "--limit", "1").json

    assert (compared["run"], compared["base"]) == (found["candidate"], found["baseline"])
    assert {"1/1 -> 0/1"} == {case["passed"] for case in found["cases"]}
    assert (found["broken"], 1, found["cases"][:1]) == (cut["broken"], len(cut["cases"]), cut["cases"])


def test_explain_finds_the_other_run_itself(call: Command, compared: dict[str, str]):
    """Without --base: the newest other run of the prompt; with a ref: the run of what the prompt was there."""
    alone = call("explain", compared["run"], "delivery", "--json").json

    assert compared["base"] == alone["baseline"]


def test_explain_suggests_a_category(call: Command, compared: dict[str, str]):
    """Exit 2 with the closest name."""
    found = call("explain", compared["run"], "delivry", "--base", compared["base"])

    expected = f"error: run {compared['run']} has no category 'delivry'; did you mean 'delivery'?\n"
    assert (2, "", expected) == (found.code, found.out, found.err)
