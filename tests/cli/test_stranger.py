"""What somebody types who has not read the manual: each answer names what to do instead."""

import os
import stat

import pytest

from conftest import Sandbox


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("report", "--model", "small"), "--model chooses the runs of --history"),
        (("report", "--history", "feedback-sentiment", "--base", "latest"), "--history shows all versions"),
        (("report", "--history", "feedback-sentiment", "--format", "csv"), "--history shows all versions"),
        (("report", "no-run"), "'no-run' is no run"),
        (("serve", "bundle"), "give --trusted-key, --digest or --allow-unsigned"),
        (("convert", "feedback-sentiment", "--to", "promptfoo", "-o", "promptops.toml"), "choose another -o"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(call, typed: tuple[str, ...], said: str):
    """No option is parsed and ignored, and a hint names options this command has."""
    found = call(*typed)

    assert (2, True) == (found.code, said in found.err), found


@pytest.mark.parametrize("typed", [("report", "-o"), ("runs", "export", "latest", "-o")])
def test_a_pipe_or_device_is_written_to_and_never_replaced(sandbox: Sandbox, call, typed: tuple[str, ...]):
    """`-o csv:/dev/stdout` must not put a file in the place of the device."""
    pipe = sandbox.path("pipe")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    assert 0 == call("eval", "--limit", "2").code

    found = call(*typed, f"csv:{pipe}" if typed[0] == "report" else str(pipe))

    assert (0, True) == (found.code, stat.S_ISFIFO(pipe.stat().st_mode)), found
    assert b"delivery-01" in os.read(reader, 65536)
    os.close(reader)


def test_the_router_and_the_cache_of_a_prompt_are_called_so_in_its_log(sandbox: Sandbox, call):
    """They are trained files of the prompt, not its knowledge."""
    sandbox.commit_all("Write it")
    sandbox.write("prompts/feedback-sentiment/router.json", "{}")
    sandbox.write("prompts/feedback-sentiment/cache.json", "{}")
    sandbox.commit_all("Train")

    found = call("log", "feedback-sentiment", "--json")

    assert ["router", "semantic cache"] == sorted(found.json["commits"][0]["parts"])


def test_a_policy_change_is_accepted_of_a_comparison_only(call):
    """Without a base nothing can have become weaker; the option would be ignored."""
    outcome = call("eval", "--accept-policy-change", "cases")

    assert (2, True) == (outcome.code, "--accept-policy-change is for comparisons; add --against REF" in outcome.err)
