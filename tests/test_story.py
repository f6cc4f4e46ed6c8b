"""The story a new user walks through, with the real command."""

from pathlib import Path

from conftest import PROMPT, REPOSITORY, Sandbox


def test_a_new_project_lints_and_evaluates_at_once(sandbox: Sandbox):
    """`init` leaves a project that needs no editing and no key."""
    linted = sandbox.run("lint")
    evaluated = sandbox.run("eval", "--json")

    assert (0, 0) == (linted.code, evaluated.code), linted.err + evaluated.err
    (run,) = evaluated.json["runs"]
    assert (PROMPT, 22, 1.0, "complete") == (run["prompt"], run["planned"], run["coverage"], run["state"])
    assert {"delivery": 10, "product": 12} == {row["name"]: row["n"] for row in run["categories"]}


def test_a_change_that_breaks_one_category_is_blocked_although_the_total_rose(sandbox: Sandbox):
    """The reason to choose promptops: the total rises, one category falls, exit 1 names it."""
    rows = sandbox.rows()
    many = [
        {**row, "id": f"{row['id']}-{copy}", "inputs": {"feedback": f"{row['inputs']['feedback']} ({copy})"}}
        for row in rows
        for copy in range(6)
    ]
    sandbox.write_rows(many)
    rules = sandbox.read(f"prompts/{PROMPT}/rules.yaml")
    changed = rules.replace(
        "  sentiment:\n",
        "  sentiment:\n    - {value: neutral, when: 'parcel in a row|courier'}\n"
        "    - {value: positive, when: 'Not bad|uses it daily'}\n    - {value: negative, when: battery}\n",
    )
    sandbox.write(f"prompts/{PROMPT}/candidates/terse/rules.yaml", changed)
    baseline = sandbox.run("eval", "--json").json["runs"][0]
    candidate = sandbox.run("eval", PROMPT, "--candidate", "terse", "--json").json["runs"][0]

    compared = sandbox.run("compare", baseline["run"], candidate["run"], "--json")

    verdicts = {row["name"]: row["verdict"] for row in compared.json["rows"]}
    assert (1, "REGRESSED", "IMPROVED") == (compared.code, verdicts["delivery"], verdicts["product"])
    assert compared.json["total"]["difference"] > 0


def test_the_shipped_candidate_is_blocked_for_japanese_alone(sandbox: Sandbox, tmp_path: Path):
    """`make demo` shows what the shipped data really do."""
    import shutil

    copy = tmp_path / "shipped"
    for folder in ("prompts", "golden", "rubrics"):
        shutil.copytree(REPOSITORY / folder, copy / folder)
    shutil.copy(REPOSITORY / "pyproject.toml", copy / "pyproject.toml")
    shipped = Sandbox(copy)
    baseline = shipped.run("eval", "support-summary", "--json").json["runs"][0]["run"]
    candidate = shipped.run("eval", "support-summary", "--candidate", "skip-small-talk", "--json").json["runs"][0][
        "run"
    ]

    compared = shipped.run("compare", baseline, candidate, "--json")

    assert (1, ["lang=ja"]) == (compared.code, compared.json["regressed"])
    assert compared.json["total"]["difference"] > 0
