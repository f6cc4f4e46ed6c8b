"""A comparison as Markdown, and a schema that was loosened in the same change."""

import json

from conftest import PROMPT, Sandbox


def test_markdown_has_a_row_for_each_category_and_disarms_names(sandbox: Sandbox):
    """What goes into a pull request says the verdict first; names cannot mention, link or break the table."""
    rows = sandbox.rows()
    sandbox.write_rows([{**row, "tags": {"length": "@all|<b>"}} for row in rows])
    sandbox.commit_all()

    found = sandbox.run("eval", PROMPT, "--against", "HEAD", "--markdown")

    lines = found.out.splitlines()
    widths = {len(line.replace("\\|", "").split("|")) for line in lines if line.startswith("|")}
    assert (0, f"**PASS** {PROMPT} against {PROMPT}") == (found.code, lines[0])
    assert ({13}, False, False) == (widths, "@all" in found.out, "<b>" in found.out.replace("\\<b\\>", ""))


def test_C4_a_loosened_schema_is_noticed_by_what_it_lets_through(sandbox: Sandbox):
    """The answers of the change fit only because the schema was widened: it blocks until it is accepted by name."""
    sandbox.commit_all()
    path = f"prompts/{PROMPT}/output.schema.json"
    schema = json.loads(sandbox.read(path))
    schema["properties"]["sentiment"]["enum"].append("meh")
    sandbox.write(path, json.dumps(schema))
    sandbox.replace(
        f"prompts/{PROMPT}/rules.yaml",
        "    - {value: neutral}",
        "    - {value: meh, when: Tuesday}\n    - {value: neutral}",
    )

    refused = sandbox.run("eval", PROMPT, "--against", "HEAD", "--json")
    accepted = sandbox.run("eval", PROMPT, "--against", "HEAD", "--accept-policy-change", "schema.delivery", "--json")

    (change,) = refused.json["comparisons"][0]["policy_changes"]
    assert (1, "schema.delivery", 0) == (refused.code, change["name"], accepted.code)


def test_a_run_alone_is_markdown_too(sandbox: Sandbox):
    """Without a comparison there are rates instead of verdicts."""
    found = sandbox.run("eval", "--markdown")

    lines = found.out.splitlines()
    assert (0, f"**DONE** {PROMPT} on local: 16/22 cases pass (73%, 95% interval 52-87%)") == (
        found.code,
        lines[0].replace("\\", ""),
    )
    assert {10} == {len(line.split("|")) - 1 for line in lines if line.startswith("|")}
