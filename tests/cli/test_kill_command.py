"""promptops kill, as somebody types it in a hurry."""

import json


def test_T30_kill_and_back_by_name_and_tenant(call, sandbox):
    """The answer first, then what is off now."""
    flags = str(sandbox.path("flags.json"))
    killed = call("kill", "feedback-sentiment", "--tenant", "acme", "--flags", flags)
    shown = call("kill", "--flags", flags, "--json").json
    back = call("kill", "feedback-sentiment", "--off", "--flags", flags)

    assert (0, 0) == (killed.code, back.code)
    assert [
        "KILLED  feedback-sentiment for tenant acme",
        "  feedback-sentiment: off for acme",
        f"services that read {flags} follow within a second",
    ] == killed.out.splitlines()
    assert {
        "flags": flags, "kills": [{"prompt": "feedback-sentiment", "all_tenants": False, "tenants": ["acme"]}],
    } == shown  # fmt: skip
    assert [
        "RUNS AGAIN  feedback-sentiment",
        f"services that read {flags} follow within a second",
    ] == back.out.splitlines()


def test_T30_kill_all_needs_no_name(call, sandbox, monkeypatch):
    """PROMPTOPS_FLAGS names the file once for a shell."""
    monkeypatch.setenv("PROMPTOPS_FLAGS", str(sandbox.path("flags.json")))

    assert "KILLED  every prompt" == call("kill", "--all").out.splitlines()[0]
    assert "on" == json.loads(sandbox.read("flags.json"))["flags"]["promptops.kill"]["defaultVariant"]


def test_T30_a_name_that_the_project_lacks_is_refused_unless_forced(call, sandbox):
    """A typing error would switch nothing off and look like a kill; but services may know prompts that this folder does not."""
    flags = str(sandbox.path("flags.json"))
    mistyped = call("kill", "feedback-sentimant", "--flags", flags)
    written = sandbox.path("flags.json").exists()
    forced = call("kill", "of-another-branch", "--force", "--flags", flags)

    assert (2, False, 0) == (mistyped.code, written, forced.code)
    assert "did you mean 'feedback-sentiment'?" in mistyped.err
    assert "KILLED  of-another-branch" == forced.out.splitlines()[0]


def test_what_cannot_be_switched_is_said_and_nothing_is_written(call, sandbox):
    """Which file, which prompt, a broken file: exit 2 with what to do."""
    broken = sandbox.write("broken.json", '{"flags": {"promptops')
    outcomes = [
        call("kill", "feedback-sentiment"),
        call("kill", "--tenant", "acme", "--flags", "f.json"),
        call("kill", "a", "--all", "--flags", "f.json"),
        call("kill", "No Name", "--flags", "f.json"),
        call("kill", "--flags", "f.json"),
        call("kill", "feedback-sentiment", "--flags", str(broken)),
    ]

    assert [2] * 6 == [outcome.code for outcome in outcomes]
    assert [
        "nothing says which flags", "--tenant and --off need a prompt", "NAME and --all", "'No Name' is not", "there are no flags", "are not as they should be",
    ] == [word for word, outcome in zip(
        ["nothing says which flags", "--tenant and --off need a prompt", "NAME and --all", "'No Name' is not", "there are no flags", "are not as they should be"],
        outcomes, strict=True) if word in outcome.err]  # fmt: skip
    assert '{"flags": {"promptops' == broken.read_text()
    assert not sandbox.path("f.json").exists()
