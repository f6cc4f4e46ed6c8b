"""promptops eval --against: a change judged against a commit, in real repositories, as a user runs it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PROMPT, Outcome, Sandbox

sys.path.append(str(Path(__file__).parents[1] / "gate"))
from noisy_server import MARK, NoisyServer, always, change_prompt, use_server, write_cases

Command = Callable[..., Outcome]
RULES = f"prompts/{PROMPT}/rules.yaml"
SUITE = f"golden/{PROMPT}.yaml"


def against(call: Command, *arguments: str) -> tuple[int, dict[str, Any]]:
    found = call("eval", PROMPT, "--against", "HEAD", "--json", *arguments)
    document = found.json
    return found.code, document["comparisons"][0] if "comparisons" in document else document


def verdicts(comparison: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in comparison["rows"]}


@pytest.fixture
def noisy(sandbox: Sandbox) -> Iterator[NoisyServer]:
    """A committed project whose model is right 95 times of 100, except for what the test changes."""
    with NoisyServer(write_cases(sandbox), always(0.95)) as server:
        use_server(sandbox, server)
        sandbox.commit_all()
        yield server


def breaks_delivery(system: str, text: str) -> float:
    return 0.0 if MARK in system and text.startswith("delivery") else 0.95


def test_unchanged_prompt_passes(sandbox: Sandbox, call: Command):
    """Local rules give the same answers: nothing is drawn again, exit 0."""
    sandbox.commit_all()

    code, found = against(call)

    assert (0, "PASS", [], {"1": 44}) == (code, found["verdict"], found["regressed"], found["calls"])
    assert {"PASS", "INCONCLUSIVE"} >= set(verdicts(found).values())


def test_candidate_that_breaks_every_answer_is_blocked(sandbox: Sandbox, call: Command):
    """Rules that say neutral to everything: exit 1, the answer in the first line, the broken cases, what to run next."""
    sandbox.commit_all()
    text = sandbox.read(RULES)
    sandbox.write(RULES, text[: text.index("    - {value: negative")] + "    - {value: neutral}\n")

    found = call("eval", PROMPT, "--against", "HEAD")

    lines = found.out.splitlines()
    assert (1, True) == (found.code, lines[0].startswith(f"FAIL  {PROMPT} on local against {PROMPT} on local: "))
    assert [True, True] == [
        f"{name} regressed" in lines[0] or f"{name}," in lines[0] for name in ("delivery", "product")
    ]
    assert next(line for line in lines if line.startswith("next:")).startswith("next: promptops explain ")
    assert "If nothing had changed, chance alone would do this in fewer than 0.1 of 100 comparisons" in found.out


def test_category_that_noise_cannot_explain_is_blocked(sandbox: Sandbox, call: Command, noisy: NoisyServer):
    """The change breaks delivery for good; product is as noisy as ever and is not blocked."""
    noisy.chance = breaks_delivery
    change_prompt(sandbox)

    code, found = against(call)

    rows = verdicts(found)
    assert (1, ["delivery"], "REGRESSED") == (
        code,
        [name for name in found["regressed"] if "=" not in name],
        rows["delivery"],
    )
    assert rows["product"] in ("PASS", "INCONCLUSIVE")


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_is_not_blocked(sandbox: Sandbox, call: Command, noisy: NoisyServer, seed: int):
    """A sentence that changes nothing, and a model that errs at random on both sides."""
    noisy.seed, noisy.chance = seed, always(0.8)
    change_prompt(sandbox)

    code, found = against(call)

    assert (0, "PASS", []) == (code, found["verdict"], found["regressed"])


def test_C5_both_sides_are_asked_anew_where_it_looks_worse(sandbox: Sandbox, call: Command, noisy: NoisyServer):
    """Five draws a side of each delivery case in the end; no stored answer is counted as a new draw."""
    noisy.chance = breaks_delivery
    change_prompt(sandbox)

    _, found = against(call)

    asked = {(MARK in system, text): count for (system, text), count in noisy.asked.items()}
    assert {5} == {count for (_, text), count in asked.items() if text.startswith("delivery")}
    assert (noisy.calls, [5, 5]) == (
        sum(found["calls"].values()), next(row["draws"] for row in found["rows"] if row["name"] == "delivery"),
    )  # fmt: skip


def test_C5_stored_answers_of_the_candidate_do_not_decide(sandbox: Sandbox, call: Command, noisy: NoisyServer):
    """Evaluated on a bad day of the provider, compared on a good one: the stored answers look worse, five new ones do not."""
    change_prompt(sandbox)
    noisy.chance = always(0.0)
    call("eval", PROMPT)
    noisy.chance = always(1.0)
    noisy.asked.clear()

    code, found = against(call)

    asked = {MARK in system: count for (system, _), count in noisy.asked.items()}
    assert (0, [], {True: 3, False: 3}) == (code, found["regressed"], asked)


def test_recorded_baseline_screens_and_is_not_asked_again(sandbox: Sandbox, call: Command, noisy: NoisyServer):
    """With a recorded baseline an unchanged category costs one candidate draw a case."""
    noisy.chance = always(1.0)
    assert 0 == call("baseline", "record", PROMPT).code
    recorded = noisy.calls
    change_prompt(sandbox)

    code, found = against(call)

    assert (0, True, 24 * 5, 24, {"1": 24}) == (
        code,
        found["cached_baseline"],
        recorded,
        noisy.calls - recorded,
        found["calls"],
    )


def test_C5_drift_of_the_provider_is_noticed_and_is_no_regression(sandbox: Sandbox, call: Command, noisy: NoisyServer):
    """The recorded baseline was right; today base and candidate are wrong alike: record again, exit 0."""
    noisy.chance = always(1.0)
    assert 0 == call("baseline", "record", PROMPT).code
    noisy.chance = lambda _, text: 0.0 if text.startswith("delivery") else 1.0
    change_prompt(sandbox)

    found = call("eval", PROMPT, "--against", "HEAD")

    assert (0, True) == (found.code, found.out.startswith("PASS"))
    assert "delivery: the baseline answers differently today than when it was recorded" in found.out


@pytest.mark.parametrize("when", ["at first", "when drawn again"])
def test_C2_C6_side_that_cannot_be_evaluated_is_not_a_verdict(
    sandbox: Sandbox, call: Command, noisy: NoisyServer, when: str
):
    """An outage ends in exit 3 and says so, whichever run it hits."""
    assert when == "at first" or call("baseline", "record", PROMPT).code == 0
    change_prompt(sandbox)

    def chance(system: str, text: str) -> float:
        if when == "at first" or (MARK in system and noisy.asked[system, text] > 1):
            noisy.refuse = 500
        return breaks_delivery(system, text)

    noisy.chance = chance

    found = call("eval", PROMPT, "--against", "HEAD")

    assert (3, "", True) == (found.code, found.out, "this is not a regression" in found.err)


@pytest.mark.parametrize("most", [10, 30, 60], ids=["base", "candidate", "drawn again"])
def test_E21_a_cap_holds_over_all_runs_of_a_comparison(sandbox: Sandbox, call: Command, noisy: NoisyServer, most: int):
    """24 cases a side and new draws share one cap; where it is used up there is no verdict, and the reason is said."""
    noisy.chance = breaks_delivery
    change_prompt(sandbox)

    found = call("eval", PROMPT, "--against", "HEAD", "--max-calls", str(most))

    asked = sum(noisy.asked.values())
    # The side that meets the cap ends the other one, whose last calls of a round are then not made.
    assert (3, "", True) == (found.code, found.out, asked == most if most < 2 * 24 else 2 * 24 < asked <= most)
    assert "the budget is used up" in found.err


def test_C6_outage_in_the_json_document(sandbox: Sandbox, call: Command, noisy: NoisyServer):
    """A job that reads JSON sees exit 3 and the reason, and no verdict."""
    noisy.refuse = 500

    code, found = against(call)

    assert (3, ["error"], 3) == (code, list(found), found["error"]["exit_code"])
    assert "this is not a regression" in found["error"]["problems"][0]["why"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupted_comparison_ends_with_130(sandbox: Sandbox, noisy: NoisyServer):
    """Ctrl-C is neither an outage nor a verdict."""
    noisy.hold.clear()
    process = subprocess.Popen(
        [sys.executable, "-m", "promptops", "eval", PROMPT, "--against", "HEAD"], cwd=sandbox.root,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert noisy.asked_once.wait(30)
    process.send_signal(signal.SIGINT)
    noisy.hold.set()
    out, err = process.communicate(timeout=30)

    assert (130, "", False) == (process.returncode, out, "Traceback" in err)


def test_new_prompt_has_no_baseline(sandbox: Sandbox, call: Command):
    """Exit 3 and what to run instead; never "no regression"."""
    sandbox.write("README.md", "nothing yet\n")
    sandbox.git("init", "-q", "-b", "main")
    sandbox.git("add", "README.md")
    sandbox.git("commit", "-q", "-m", "First")

    found = call("eval", PROMPT, "--against", "HEAD")

    expected = f"error: no prompt {PROMPT} at HEAD, a new prompt has no baseline; `promptops eval {PROMPT}` evaluates it alone\n"
    assert (3, "", expected) == (found.code, found.out, found.err)


def shallow(sandbox: Sandbox) -> str:
    """A clone of depth 1, as CI makes, and a commit it lacks."""
    first = sandbox.commit_all("First")
    sandbox.write("note.txt", "more\n")
    sandbox.commit_all("Second")
    clone = sandbox.root.with_name("clone")
    sandbox.git("clone", "-q", "--depth", "1", f"file://{sandbox.root}", str(clone))
    return first


def test_C1_shallow_clone_names_fetch_depth(sandbox: Sandbox):
    """The base commit is not there: exit 3 and the setting that fetches it."""
    first = shallow(sandbox)

    found = sandbox.run("eval", PROMPT, "--against", first, cwd=sandbox.root.with_name("clone"))

    assert (3, "", True) == (found.code, found.out, "`fetch-depth: 0`" in found.err)


def test_C1_missing_branch_names_fetch_depth(sandbox: Sandbox, call: Command):
    """`origin/main` where nobody fetched it."""
    sandbox.commit_all()

    found = call("eval", PROMPT, "--against", "origin/main")

    assert (3, "", True) == (found.code, found.out, "`fetch-depth: 0`" in found.err)


@pytest.mark.parametrize("state", ["no repository", "no commit"])
def test_C1_without_a_commit_there_is_no_verdict(sandbox: Sandbox, state: str):
    """Outside git, and in a repository without commits: exit 3."""
    if state == "no commit":
        sandbox.git("init", "-q")

    found = sandbox.run("eval", PROMPT, "--against", "HEAD", env={"GIT_CEILING_DIRECTORIES": str(sandbox.root.parent)})

    assert (3, "") == (found.code, found.out)


def test_C1_detached_head_is_judged_like_any_other(sandbox: Sandbox, call: Command):
    """CI checks commits out, not branches."""
    first = sandbox.commit_all("First")
    sandbox.write("note.txt", "more\n")
    sandbox.commit_all("Second")
    sandbox.git("checkout", "-q", "--detach", "HEAD")

    assert 0 == call("eval", PROMPT, "--against", first).code


@pytest.mark.parametrize("ref", ["-x", "a..b", "HEAD\nmain", "--output=x"])
def test_C1_text_that_is_no_ref_is_refused(sandbox: Sandbox, call: Command, ref: str):
    """Exit 2 before git sees it."""
    sandbox.commit_all()

    found = call("eval", PROMPT, f"--against={ref}")

    assert (2, "", False) == (found.code, found.out, sandbox.path("x").exists())


def test_work_tree_is_not_touched(sandbox: Sandbox, call: Command):
    """The base is read from git objects: no file, no index and no branch changes."""
    sandbox.commit_all()
    sandbox.replace(RULES, "late|", "")

    def seen() -> tuple[str, str, dict[str, int]]:
        files = [
            path
            for path in sandbox.root.rglob("*")
            if path.is_file() and ".promptops" not in path.parts and ".git" not in path.parts
        ]
        times = {
            str(path): path.stat().st_mtime_ns
            for path in [*files, sandbox.path(".git/HEAD"), sandbox.path(".git/index")]
        }
        return sandbox.git("--no-optional-locks", "status", "--porcelain"), sandbox.git("rev-parse", "HEAD"), times

    before = seen()
    code, _ = against(call)

    assert (0, before) == (code, seen())


def test_candidate_folder_is_judged_against_the_prompt(sandbox: Sandbox, call: Command):
    """--candidate takes the other wording, --against the base."""
    sandbox.commit_all()
    sandbox.write(f"prompts/{PROMPT}/candidates/more/prompt.md", sandbox.read(f"prompts/{PROMPT}/prompt.md"))

    code, found = against(call, "--candidate", "more")

    assert (0, PROMPT, 44) == (code, found["prompt"], found["calls"]["1"])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--repeat", "3"], "--against makes its own draws"),
        (["--at", "HEAD"], "--against makes its own draws"),
        (["--record", "folder"], "--against makes its own draws"),
        (["--dry-run"], "--dry-run does not know how often --against will draw"),
        (["--max-cost", "much"], "--max-cost: "),
    ],
)
def test_options_that_cannot_be_kept_are_refused(sandbox: Sandbox, call: Command, arguments: list[str], hint: str):
    """Exit 2 before anything is asked."""
    sandbox.commit_all()

    found = call("eval", PROMPT, "--against", "HEAD", *arguments)

    assert (2, "", True) == (found.code, found.out, found.err.startswith(f"error: {hint}"))


def test_new_prompt_among_others_is_named_and_left_out(sandbox: Sandbox, call: Command):
    """A pull request that adds a prompt is still judged for the ones it changes."""
    import shutil

    sandbox.commit_all()
    shutil.copytree(sandbox.path(f"prompts/{PROMPT}"), sandbox.path("prompts/added"))
    sandbox.replace("prompts/added/prompt.md", f"name: {PROMPT}", "name: added")
    shutil.copy(sandbox.path(f"golden/{PROMPT}.jsonl"), sandbox.path("golden/added.jsonl"))
    sandbox.write("golden/added.yaml", sandbox.read(f"golden/{PROMPT}.yaml").replace(PROMPT, "added"))

    found = call("eval", "--against", "HEAD", "--model", "local", "--json")

    assert (0, ["added"], [PROMPT]) == (
        found.code, found.json["new_prompts"], [item["prompt"] for item in found.json["comparisons"]],
    )  # fmt: skip


def test_baseline_that_another_model_answered_is_not_used(sandbox: Sandbox, call: Command, noisy: NoisyServer):
    """The provider moved the name to another model since: what was recorded says nothing about today."""
    call("baseline", "record", PROMPT, "--at", "HEAD", "--draws", "2")
    change_prompt(sandbox)
    noisy.model = "noisy-2"

    code, found = against(call)

    assert (0, False) == (code, found["cached_baseline"])
