"""`promptops monitor sample`: replies chosen by chance are judged within a cap, and monitoring shows what came of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from traffic import line, reply, stamp

from conftest import PROMPT, Outcome, Sandbox
from faults.server import FaultServer
from judge.judges import judge, judged_project, says
from runtime.redis_server import RedisServer

Call = Callable[..., Outcome]


def event(number: int, **changes) -> dict:
    """A reply with its texts; every fourth answer is wrong."""
    answer = json.dumps({"sentiment": "negative" if number % 4 == 0 else "positive"})
    return reply(
        stamp(number // 20), number, prompt=PROMPT, category="app" if number % 2 else "delivery", inputs={"feedback": f"fine, {number}"},
        text=answer, language="en", version="v1.0.0" if number < 100 else "v1.1.0",
    ) | changes  # fmt: skip


def right(shown, _call) -> bool:
    return '"positive"' in shown["answer"]


@pytest.fixture
def project(sandbox: Sandbox):
    with FaultServer(judge(right)) as server:
        judged_project(sandbox, server.url, judge="model: judge, params: {max_output_tokens: 100}")
        yield sandbox, server


def written(sandbox: Sandbox, events: list[dict]) -> Path:
    return sandbox.write("e.jsonl", b"".join(map(line, events)))


def test_a_seeded_sample_is_judged_once_and_monitoring_shows_its_score(project, call: Call):
    """Without --judge nobody is asked; with it verdicts go to the events; again costs nothing, for they are there."""
    sandbox, server = project
    path = written(sandbox, [event(number) for number in range(200)])
    arguments = ("monitor", "sample", PROMPT, "--events", str(path), "-n", "40", "--json")

    planned = call(*arguments)
    asked = len(server.calls)
    judged = call(*arguments, "--judge")
    again = call(*arguments, "--judge")
    other = call(*arguments, "--seed", "1")
    shown = call("monitor", "--events", str(path), "--json").json

    assert (0, 0, 40, 0) == (planned.code, asked, planned.json["to_judge"], planned.json["judged"])
    assert (0, 40, 40, 40) == (judged.code, judged.json["judged"], judged.json["written"], len(server.calls))
    assert (0, 0, 0, 40) == (
        again.json["to_judge"],
        again.json["judged"],
        again.json["cost_nanousd"],
        len(server.calls),
    )
    assert 40 > other.json["to_judge"] > 20
    wrong = sum(int(verdict["id"][1:]) % 4 == 0 for verdict in judged.json["verdicts"])
    (row,) = shown["prompts"]
    assert (40, wrong, 40 - wrong) == (row["judged"], row["failing"], judged.json["passed"])
    assert (row["judged"], 2, 2) == (
        sum(item["judged"] for item in shown["versions"]),
        len(shown["versions"]),
        len(shown["categories"]),
    )
    assert (
        judged.json["cost_nanousd"]
        == sum(cost["cost_nanousd"] for cost in shown["costs"] if cost["stage"] == "judge")
        > 0
    )


def test_the_sample_is_of_whole_answers_of_the_prompt(project, call: Call):
    """Not of stand-ins, other prompts, empty answers, or events of which the texts were cut."""
    sandbox, _ = project
    odd = [event(1, source="text", degraded="breaker refused"), event(2, prompt="other"), event(3, text=" ")]
    cut = {name: value for name, value in event(4).items() if name not in {"inputs", "text"}}
    path = written(sandbox, [*odd, cut, event(5), event(6)])
    found = call("monitor", "sample", PROMPT, "--events", str(path), "--json").json

    assert (4, 2, 2) == (found["replies"], found["with_texts"], found["sampled"])


def test_a_stream_gets_its_verdicts_too(project, call: Call, redis_server: RedisServer):
    """And its old entries keep their hour: the verdict counts where its reply does."""
    url = redis_server.url.replace("/0", "/4")
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        for number in range(30):
            client.xadd("{promptops}:events", {"e": line(event(number))})
    found = call("monitor", "sample", PROMPT, "--events", url, "--judge", "-n", "10")
    shown = call("monitor", "--events", url, "--json").json

    assert (0, True) == (found.code, found.out.startswith(f"JUDGED  {PROMPT}: "))
    assert (10, 0) == (shown["prompts"][0]["judged"], shown["losses"]["unmatched"])


def test_a_cap_stops_before_it_is_passed_and_nothing_half_is_written(project, call: Call):
    """Exit 3: the worst case of a verdict is more than the cap; a second try with more money does it."""
    sandbox, server = project
    path = written(sandbox, [event(number) for number in range(100)])
    arguments = (
        "monitor",
        "sample",
        PROMPT,
        "--events",
        str(path),
        "--judge",
        "-n",
        "50",
        "--json",
        "--concurrency",
        "1",
    )
    capped = call(*arguments, "--max-cost", "0.001")
    before, unchanged = len(server.calls), path.read_bytes().count(b"judged")
    done = call(*arguments)

    assert (3, True) == (capped.code, "0 of 50 verdicts" in capped.out + capped.err)
    assert (0, 0) == (before, unchanged)
    assert (0, 50, 50) == (done.code, done.json["written"], len(server.calls))


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ({"inputs": None, "text": None}, (), "none with inputs and text"),
        ({"prompt": "other"}, (), "no whole answer of it is in these events"),
        ({}, ("--judge-model", "nobody"), "unknown model 'nobody'"),
        ({}, ("--max-cost", "much"), "--max-cost"),
    ],
)
def test_what_cannot_be_judged_is_bad_input(project, call: Call, change: dict, arguments: tuple[str, ...], said: str):
    """Without texts there is nothing to judge, and the message says how services keep them."""
    sandbox, server = project
    kept = {name: value for name, value in (event(1) | change).items() if value is not None}
    path = written(sandbox, [kept])
    found = call("monitor", "sample", PROMPT, "--events", str(path), "--judge", *arguments)

    assert (2, True, 0) == (found.code, said in found.err, len(server.calls)), found.err


def test_a_judge_that_compares_cannot_judge_requests(project, call: Call):
    sandbox, _ = project
    sandbox.replace(
        f"golden/{PROMPT}.yaml",
        "judge: {model: judge",
        'judge: {mode: reference, reference: "/sentiment", model: judge',
    )
    path = written(sandbox, [event(1)])
    found = call("monitor", "sample", PROMPT, "--events", str(path), "--judge")

    assert (2, True) == (found.code, "no right answer to compare with" in found.err), found.err


def test_a_judge_that_says_nothing_readable_is_exit_3(project, call: Call):
    sandbox, server = project
    server.script = says("fine")
    path = written(sandbox, [event(1), event(2)])
    found = call("monitor", "sample", PROMPT, "--events", str(path), "--judge")

    assert (3, True) == (found.code, "gave no verdict" in found.err), found.err
