"""promptops diff: what changed between two contents of a prompt, in words, schemas, settings, price and measured quality."""

import json

import pytest

from promptops.report.words import marked_lines, word_diff
from tests.release.tagged import release_version, say_event

NAME = "feedback-sentiment"
PROMPT = f"prompts/{NAME}/prompt.md"
INPUT = f"prompts/{NAME}/input.schema.json"
OUTPUT = f"prompts/{NAME}/output.schema.json"


def _change_schema(sandbox, path, change):
    document = json.loads(sandbox.read(path))
    change(document)
    sandbox.write(path, json.dumps(document))


def test_unchanged_prompt_has_no_change(sandbox, call):
    """The work tree of a fresh commit differs in nothing and needs no more than a patch version."""
    sandbox.commit_all()

    outcome = call("diff", NAME, "--json")

    found = outcome.json
    assert (0, False, "patch", [], []) == (
        outcome.code,
        found["changed"],
        found["bump"],
        found["messages"],
        found["schemas"],
    )


def test_words_of_a_partial_are_compared_inlined(sandbox, call):
    """A change in a partial is a change of the message a model reads."""
    sandbox.write("prompts/_partials/tone.md", "Be short and kind.\n")
    sandbox.replace(PROMPT, "output: {", "partials: [_partials/tone.md]\noutput: {")
    sandbox.replace(PROMPT, "\nuser:", '\n{% include "_partials/tone.md" %}\n\nuser:')
    sandbox.commit_all()
    sandbox.write("prompts/_partials/tone.md", "Be short and polite.\n")

    outcome = call("diff", NAME)

    assert 0 == outcome.code
    assert "Be short and [-kind-]{+polite+}." in outcome.out
    assert "1 message; needs a minor version" in outcome.out


def test_schema_changes_are_classified_by_side(sandbox, call):
    """A new required input and a removed answer property break somebody; a new optional answer property does not."""
    sandbox.commit_all()

    def add_input(document):
        document["properties"]["channel"] = {"type": "string"}
        document["required"].append("channel")

    def change_output(document):
        document["properties"]["confidence"] = {"type": "number"}
        document["properties"]["sentiment"]["enum"].append("mixed")

    _change_schema(sandbox, INPUT, add_input)
    _change_schema(sandbox, OUTPUT, change_output)
    sandbox.replace(PROMPT, "{{ feedback }}", "{{ channel }}: {{ feedback }}")

    found = call("diff", NAME, "--json").json

    assert "major" == found["bump"]
    assert [
        ("input", "/channel", "added, required", True),
        ("output", "/sentiment", 'values added: "mixed"', True),
        ("output", "/confidence", "added, optional", False),
    ] == [tuple(item[key] for key in ("side", "where", "what", "breaking")) for item in found["schemas"]]


def test_settings_and_price_are_shown(sandbox, call):
    """Parameters on both sides, and what a request would cost with the model of the prompt."""
    sandbox.replace(PROMPT, "params:", "model: small\nparams:")
    sandbox.commit_all()
    sandbox.replace(PROMPT, "max_output_tokens: 50", "max_output_tokens: 100")
    sandbox.replace(PROMPT, "\nuser:", "\nAnswer in one line.\n\nuser:")

    outcome = call("diff", NAME)

    assert "params.max_output_tokens" in outcome.out
    assert "for 1,000 requests with answers of 50 and 100 tokens" in outcome.out


def test_quality_comes_from_stored_runs_of_both_contents(sandbox, call):
    """Runs are found by content, not by name or time; categories and slices each have a count and an interval."""
    sandbox.commit_all()
    assert 0 == call("eval", NAME).code
    sandbox.replace(PROMPT, "Mixed feedback is", "Feedback of both kinds is")
    assert 0 == call("eval", NAME).code

    found = call("diff", NAME, "HEAD..", "--json").json["quality"]

    names = {row["name"]: row["cases"] for row in found["rows"]}
    assert {"delivery": 10, "product": 12, "length=long": 9, "length=short": 13, "total": 22} == names
    assert all(row["interval"][0] <= row["after"] - row["before"] <= row["interval"][1] for row in found["rows"])


def test_missing_run_is_said_not_invented(sandbox, call):
    """Without a run of one side there is no quality, and the reason is told."""
    sandbox.commit_all()
    call("eval", NAME)
    sandbox.replace(PROMPT, "Mixed feedback is", "Feedback of both kinds is")

    outcome = call("diff", NAME)

    assert "quality: not compared, no complete run of the right side is stored" in outcome.out


def test_candidate_version_and_channel_are_sides(sandbox, call):
    """`@candidate`, `v1.0.0` and a channel name stand for their contents; the default left side is the newest version."""
    commit = sandbox.commit_all()
    release_version(sandbox, NAME, "v1.0.0", commit)
    say_event(sandbox, NAME, "prod", to="v1.0.0")
    sandbox.write(
        f"prompts/{NAME}/candidates/terse/prompt.md", sandbox.read(PROMPT).replace("Mixed feedback", "Mixed text")
    )
    sandbox.replace(PROMPT, "Mixed feedback", "Mixed words")

    default = call("diff", NAME, "--json").json
    found = call("diff", NAME, "prod..@terse", "--json").json

    assert ("version", "v1.0.0", commit, "work tree") == (
        default["before"]["kind"], default["before"]["label"], default["before"]["commit"], default["after"]["kind"],
    )  # fmt: skip
    assert ("prod (v1.0.0)", f"{NAME}@terse") == (found["before"]["label"], found["after"]["label"])


@pytest.mark.parametrize(
    ("sides", "code", "said"),
    [
        ("v9.9.9..", 2, "has no version v9.9.9; nothing is released yet"),
        ("main...HEAD", 2, "three dots"),
        ("--output=x..", 2, "no such option"),
        ("nowhere..", 3, "no commit 'nowhere'"),
        ("..@none", 2, "has no candidate 'none'"),
    ],
)
def test_side_that_is_none_is_refused(sandbox, call, sides, code, said):
    """A name that stands for nothing says so and what is known."""
    sandbox.commit_all()

    outcome = call("diff", NAME, sides)

    assert code == outcome.code
    assert said in outcome.err.lower()


def test_control_characters_of_a_prompt_do_not_reach_the_terminal(sandbox, call):
    """Names and texts from files are escaped, and never read as markup."""
    sandbox.commit_all("Say \x1b[31mred")
    sandbox.replace(PROMPT, "Mixed feedback", "[bold]Mixed[/x] feedback")

    outcomes = [call("diff", NAME), call("log", NAME), call("blame", NAME)]

    assert [0, 0, 0] == [outcome.code for outcome in outcomes]
    assert not any("\x1b" in outcome.out for outcome in outcomes)
    assert "{+[bold]+}Mixed{+[/x]+} feedback" in outcomes[0].out


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("one two three\n", "one 2 three\n", ["one [-two-]{+2+} three"]),
        ("same\n" * 5 + "end", "same\n" * 5 + "fin", ["...", "same", "[-end-]{+fin+}"]),
        ("a b c d e f", "u v w x y z", ["[-a b c d e f-]{+u v w x y z+}"]),
        ("短い行を無視する", "短い行を絶対に無視しない", ["短い行を[-無視する-]{+絶対に無視しない+}"]),
        ("", "new", ["{+new+}"]),
        ("x\n", "x\n\ny\n", ["x", "{+⏎+}", "{+y+}"]),
    ],
)
def test_word_diff_shows_what_went_and_came(before, after, lines):
    """Marks show without colour; a line is kept whole when next to nothing of it stayed."""
    assert lines == [line.plain for line in marked_lines(word_diff(before, after))]


def test_word_diff_holds_both_texts():
    """Whatever the marks, the left text is what is same or gone, the right text what is same or came."""
    before, after = (
        "Answer in one line.\n\nBe kind, 短く。\n",
        "Answer within one short line.\nBe kind, もっと短く。\nEnd",
    )
    pieces = word_diff(before, after)

    assert before == "".join(piece.text for piece in pieces if piece.kind != "came")
    assert after == "".join(piece.text for piece in pieces if piece.kind != "gone")


def test_quality_of_versions_comes_from_their_evidence(tmp_path):
    """Where no runs are stored, the counts two versions were released with are compared, with an interval and the state of signatures."""
    from release.shop import open_shop

    shop = open_shop(tmp_path / "shop")
    ana = shop.clone("ana")
    for command in (("eval", NAME), ("approve", NAME), ("release", NAME)):
        assert 0 == ana.call(*command).code
    ana.edit(f"prompts/{NAME}/rules.yaml", "late|", "late|soaked|missing|waiting|")
    for command in (("eval", NAME), ("approve", NAME), ("release", NAME)):
        done = ana.call(*command)
        assert 0 == done.code, done.err
    ben = shop.clone("ben")
    assert 0 == ben.call("sync").code

    found = ben.call("diff", NAME, "v1.0.0..v1.1.0", "--json").json

    quality = found["quality"]
    assert ("evidence", "") == (quality["source"], quality["note"])
    rows = {row["name"]: (row["cases"], round(row["before"], 3), round(row["after"], 3)) for row in quality["rows"]}
    assert {
        "delivery": (10, 0.7, 0.9),
        "product": (12, 0.75, 0.75),
        "total": (22, 0.727, 0.818),
    }.items() <= rows.items()
    assert all(row["interval"][0] < row["after"] - row["before"] < row["interval"][1] for row in quality["rows"])
