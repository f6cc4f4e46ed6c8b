"""promptops log and blame: how a prompt became what it is, reconstructed from git alone."""

from datetime import timedelta

from tests.release.tagged import AT, release_version, say_event

NAME = "feedback-sentiment"
PROMPT = f"prompts/{NAME}/prompt.md"


def test_log_without_releases_lists_commits_that_changed_the_prompt(sandbox, call):
    """Commits are listed with what of the prompt they changed; others are not."""
    sandbox.commit_all("Begin")
    sandbox.write("README.md", "unrelated\n")
    sandbox.commit_all("Write a readme")
    sandbox.replace(PROMPT, "Mixed feedback", "Mixed words")
    sandbox.commit_all("Reword")

    found = call("log", NAME, "--json").json

    assert [("Reword", ["messages"]), "Begin"] == [
        (found["commits"][0]["subject"], found["commits"][0]["parts"]), found["commits"][1]["subject"],
    ]  # fmt: skip
    assert ([], [], "", False) == (found["versions"], found["events"], found["since"], found["more"])


def test_log_orders_versions_by_number_and_events_by_sequence(sandbox, call):
    """A clock that runs backwards changes nothing: v1.1.0 is newer than v1.0.0 although it says that it is a year older."""
    first = sandbox.commit_all("Begin")
    release_version(sandbox, NAME, "v1.0.0", first, bump="major")
    one = say_event(sandbox, NAME, "prod", to="v1.0.0")
    sandbox.replace(PROMPT, "Mixed feedback", "Mixed words")
    second = sandbox.commit_all("Reword")
    release_version(sandbox, NAME, "v1.1.0", second, previous="v1.0.0", at=AT - timedelta(days=365))
    two = say_event(
        sandbox, NAME, "prod", seq=2, prev=one, came_from="v1.0.0", to="v1.1.0", at=AT - timedelta(days=365)
    )
    say_event(sandbox, NAME, "prod", seq=3, prev=two, came_from="v1.1.0", to="v1.0.0", action="rollback", bad="v1.1.0",
              reason="answers in German")  # fmt: skip

    outcome = call("log", NAME)
    found = call("log", NAME, "--json").json

    assert ["v1.1.0", "v1.0.0"] == [item["version"] for item in found["versions"]]
    assert [3, 2, 1] == [item["seq"] for item in found["events"]]
    assert [("prod", "v1.0.0", "")] == [(item["channel"], item["live"], item["fault"]) for item in found["channels"]]
    assert ("v1.1.0", []) == (found["since"], found["commits"])
    assert "prod: v1.0.0" in outcome.out.splitlines()[0]
    assert "v1.1.0 (bad)" in outcome.out
    assert "answers in German" in outcome.out


def test_log_shows_unreleased_commits_and_described_changes(sandbox, call):
    """What is not released yet: commits after the newest version, and changelog fragments that name the prompt."""
    first = sandbox.commit_all("Begin")
    release_version(sandbox, NAME, "v1.0.0", first, bump="major")
    sandbox.replace(PROMPT, "Mixed feedback", "Mixed words")
    sandbox.write(".changeset/brave-owls.md", f'---\n"{NAME}": minor\n---\n\nCalls mixed feedback mixed.\n')
    sandbox.write(".changeset/other.md", '---\n"another": patch\n---\n\nNot ours.\n')
    sandbox.commit_all("Reword")

    found = call("log", NAME, "--json").json

    assert ["Reword"] == [item["subject"] for item in found["commits"]]
    assert [(".changeset/brave-owls.md", "minor", "Calls mixed feedback mixed.")] == [
        (item["path"], item["bump"], item["text"]) for item in found["pending"]
    ]


def test_described_change_that_a_version_has_is_not_pending(sandbox, call):
    """Fragments stay in the tree after a release; the version that had them has described them."""
    sandbox.write(".changeset/owls.md", f'---\n"{NAME}": minor\n---\n\nOld news.\n')
    commit = sandbox.commit_all("Begin")
    release_version(sandbox, NAME, "v1.0.0", commit, bump="major")
    sandbox.write(".changeset/cats.md", f'---\n"{NAME}": patch\n---\n\nFresh news.\n')

    found = call("log", NAME, "--json").json

    assert ["Fresh news."] == [item["text"] for item in found["pending"]]


def test_log_of_a_broken_channel_says_so(sandbox, call):
    """A gap in the events is named instead of a version that may not be live."""
    commit = sandbox.commit_all("Begin")
    release_version(sandbox, NAME, "v1.0.0", commit, bump="major")
    say_event(sandbox, NAME, "prod", seq=2, prev="0" * 40, to="v1.0.0")

    outcome = call("log", NAME)

    assert 0 == outcome.code
    assert "prod: BROKEN, event 000001 is missing before 000002" in outcome.out
    assert 4 == call("diff", NAME, "prod..").code


def test_log_runs_no_program_of_the_repository(sandbox, call):
    """Signature programs, text conversions and external diffs of the configuration are not run."""
    sandbox.commit_all("Begin")
    marker = sandbox.path("ran")
    script = sandbox.write("evil.sh", f"#!/bin/sh\ntouch {marker}\ncat\n")
    script.chmod(0o755)
    sandbox.write(".gitattributes", "*.md diff=evil filter=evil\n")
    for key, value in (("log.showSignature", "true"), ("gpg.program", str(script)), ("diff.evil.textconv", str(script)),
                       ("diff.external", str(script)), ("filter.evil.clean", str(script)), ("filter.evil.smudge", str(script))):  # fmt: skip
        sandbox.git("config", key, value)
    sandbox.replace(PROMPT, "Mixed feedback", "Mixed words")

    codes = [
        call("log", NAME).code,
        call("blame", NAME).code,
        call("blame", NAME, "--at", "HEAD").code,
        call("diff", NAME).code,
    ]

    assert ([0, 0, 0, 0], False) == (codes, marker.exists())


def test_log_limit_says_what_is_left_out(sandbox, call):
    """A cut list says so."""
    for number in range(3):
        sandbox.write(f"prompts/{NAME}/candidates/c{number}/prompt.md", sandbox.read(PROMPT))
        sandbox.commit_all(f"Try {number}")

    found = call("log", NAME, "--limit", "2", "--json").json

    assert (["Try 2", "Try 1"], True) == ([item["subject"] for item in found["commits"]], found["more"])


def test_log_of_unknown_prompt_is_refused(sandbox, call):
    """A prompt that never was is bad input, not an empty history."""
    sandbox.commit_all()

    assert (2, 3) == (call("log", "nothing-here").code, _outside_a_repository(sandbox, call))


def _outside_a_repository(sandbox, call):
    sandbox.path(".git").rename(sandbox.path("not-git"))
    return call("log", NAME).code


def test_blame_names_file_line_and_commit_of_partials(sandbox, call):
    """A line of a partial is the partial's: its file, its line, the commit that last changed it; a line may hold two of them."""
    sandbox.write("prompts/_partials/tone.md", "Be short.\nBe kind.\n")
    sandbox.replace(PROMPT, "output: {", "partials: [_partials/tone.md]\noutput: {")
    sandbox.replace(PROMPT, "\nuser:", '\nTone: {% include "_partials/tone.md" %} Always.\n\nuser:')
    first = sandbox.commit_all("Begin")
    sandbox.write("prompts/_partials/tone.md", "Be short.\nBe polite.\n")
    second = sandbox.commit_all("Be polite")

    lines = call("blame", NAME, "--json").json["lines"]

    place = next(index for index, line in enumerate(lines) if line["text"] == "Tone: ")
    start = sandbox.read(PROMPT).splitlines().index('Tone: {% include "_partials/tone.md" %} Always.') + 1
    assert [
        ("Tone: ", PROMPT, start, first), ("Be short.", "prompts/_partials/tone.md", 1, first),
        ("Be polite.", "prompts/_partials/tone.md", 2, second), (" Always.", PROMPT, start, first),
    ] == [(line["text"], line["file"], line["line"], line["commit"]) for line in lines[place : place + 4]]  # fmt: skip
    assert {"Author"} == {line["author"] for line in lines}


def test_blame_marks_lines_that_are_not_committed(sandbox, call):
    """A changed line of the work tree has no commit; the lines around it keep theirs."""
    commit = sandbox.commit_all("Begin")
    sandbox.replace(PROMPT, "<feedback>\n", "Read this:\n<feedback>\n")

    lines = call("blame", NAME, "--json").json["lines"]
    then = call("blame", NAME, "--at", "HEAD", "--json").json["lines"]

    assert [("Read this:", "")] == [(line["text"], line["commit"]) for line in lines if line["commit"] != commit]
    assert {commit} == {line["commit"] for line in then}
    assert len(then) + 1 == len(lines)


def test_blame_of_a_new_prompt_shows_it_uncommitted(sandbox, call):
    """A prompt that no commit holds yet has lines, and no commit."""
    sandbox.write("README.md", "x\n")
    sandbox.git("init", "-q", "-b", "main")
    sandbox.git("add", "README.md")
    sandbox.git("commit", "-q", "-m", "Begin")

    outcome = call("blame", NAME)

    assert 0 == outcome.code
    assert "not committed" in outcome.out
