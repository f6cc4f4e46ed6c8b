"""Three runtimes on hosts of their own and one Redis that is paused, killed, cut off and failed over: what is spent, and that it goes on."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from promptops.runtime.flags import set_kill
from runtime.bundles import make_bundle
from runtime.hosts import HUB, Hosts, NoHostsError

BUDGET, SHARE = 60, 6
RUNTIME = {
    "deadline_s": 10, "state_timeout_s": 0.5, "local_share": SHARE / BUDGET, "fallback": [{"step": "text", "text": "later"}],
    "budgets": [{"name": "day", "window_s": 86400, "per": ["tenant"], "requests": BUDGET}],
}  # fmt: skip
ON, OFF = (set_kill(None, "", off=not killed).decode() for killed in (True, False))
FLAGS = "{promptops}:flags"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Namespaces; where they are not permitted the test is skipped, in CI it fails."""
    refuse: Callable[[str], Any] = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    for program, package in (("ip", "iproute2"), ("redis-server", "redis-server"), ("redis-cli", "redis-tools")):
        if shutil.which(program) is None:
            refuse(f"{program} is not installed; .ci/run installs {package}")
    try:
        made = Hosts(tmp_path)
        made.__enter__()
    except NoHostsError as error:
        refuse(f"network namespaces are not permitted here: {error}")
    yield made
    made.__exit__()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        time.sleep(0.05)


class Account:
    """What all hosts did so far."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts, self.calls, self.late = hosts, 0, 0
        self.local = [0] * hosts.count

    def ask(self, count: int, *numbers: int) -> list[dict[str, Any]]:
        return self._take(numbers, self.hosts.all("ask", numbers, count=count))

    def recover(self, *numbers: int) -> list[bool]:
        return [found["after_s"] is not None for found in self._take(numbers, self.hosts.all("recover", numbers))]

    def _take(self, numbers: tuple[int, ...], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, item in zip(numbers or range(1, self.hosts.count + 1), found, strict=True):
            self.calls += item["calls"]
            self.local[number - 1] += item["local"]
            self.late += item.get("late", 0)
        return found


def begin(hosts: Hosts, tmp_path: Path, address: str) -> Account:
    bundle = make_bundle(tmp_path, RUNTIME)
    for number in range(1, hosts.count + 1):
        hosts.runtime(number, bundle, address, timeout_s=0.5)
    assert [0] * hosts.count == [found["calls"] for found in hosts.all("status")]
    return Account(hosts)


def test_T9_T21_three_hosts_share_a_budget_whatever_happens_to_redis(hosts: Hosts, tmp_path: Path):
    """Paused, killed and started empty, cut off from one host: at most the budget and a local share each, every reply in time, no restart."""
    hosts.redis(7001)
    until(lambda: "OK" in hosts.say(7001, "SET", FLAGS, OFF), "Redis answers")
    account = begin(hosts, tmp_path, f"redis://{HUB}:7001/0")

    account.ask(4)
    hosts.freeze(7001)
    account.ask(SHARE + 2)
    alone = list(account.local)
    hosts.thaw(7001)
    thawed = account.recover()
    hosts.kill(7001)
    account.ask(2)
    hosts.redis(7001)
    restarted = account.recover()
    hosts.cut(2)
    cut_off = account.ask(2)
    hosts.join(2)
    joined = account.recover()
    account.ask(BUDGET)
    spent = account.ask(2)

    assert ([SHARE] * 3, [True] * 3, [True] * 3, [True] * 3) == (alone, thawed, restarted, joined)
    assert 0 < cut_off[0]["shared"] + cut_off[2]["shared"]
    assert 0 == cut_off[1]["calls"]
    assert 0 == account.late
    assert [SHARE] * 3 == account.local
    assert [0] * 3 == [found["calls"] for found in spent]
    assert BUDGET // 2 < account.calls <= BUDGET + 3 * SHARE


def test_T9_T21_three_hosts_share_a_budget_over_a_failover(hosts: Hosts, tmp_path: Path):
    """The primary dies and Sentinel chooses a replica: what was granted stays counted, and the hosts find the new one by themselves."""
    hosts.redis(7001)
    for port in (7002, 7003):
        hosts.redis(port, "--replicaof", f"{HUB} 7001", "--repl-diskless-sync-delay", "0")
    until(lambda: hosts.say(7001, "INFO", "replication").count("state=online") == 2, "two replicas")
    hosts.say(7001, "SET", FLAGS, OFF)
    watch = f"sentinel monitor store {HUB} 7001 2\nsentinel down-after-milliseconds store 500\nsentinel failover-timeout store 3000\n"
    for port in (7011, 7012, 7013):
        hosts.redis(port, config=watch)
    until(
        lambda: all("slaves=2,sentinels=3" in hosts.say(port, "INFO", "sentinel") for port in (7011, 7012, 7013)),
        "sentinels",
    )
    account = begin(hosts, tmp_path, f"redis+sentinel://{HUB}:7011,{HUB}:7012,{HUB}:7013/store?replicas=1")

    before = account.ask(4)
    hosts.kill(7001)
    account.ask(SHARE + 2)
    recovered = account.recover()
    account.ask(BUDGET)
    spent = account.ask(2)

    assert 0 < sum(found["shared"] for found in before)
    assert [True] * 3 == recovered
    assert 0 == account.late
    assert max(account.local) <= SHARE
    assert [0] * 3 == [found["calls"] for found in spent]
    assert BUDGET // 2 < account.calls <= BUDGET + 3 * SHARE


def test_T30_a_kill_reaches_every_host_and_holds_when_redis_is_gone(hosts: Hosts, tmp_path: Path):
    """Each host follows; one that is cut off keeps its last state and raises an alarm, and follows when it is back."""
    hosts.redis(7001)
    until(lambda: "OK" in hosts.say(7001, "SET", FLAGS, OFF), "Redis answers")
    begin(hosts, tmp_path, f"redis://{HUB}:7001/0")

    hosts.say(7001, "SET", FLAGS, ON)
    killed = hosts.all("killed", wanted=True)
    hosts.cut(3)
    until(lambda: bool(hosts.all("status", [3])[0]["problem"]), "the alarm of the host that is cut off")
    hosts.say(7001, "SET", FLAGS, OFF)
    again = hosts.all("killed", [1, 2], wanted=False)
    (held,) = hosts.all("ask", [3], count=1)
    hosts.kill(7001)
    gone = hosts.all("ask", [1, 2], count=1)
    hosts.redis(7001)
    hosts.join(3)
    until(lambda: "OK" in hosts.say(7001, "SET", FLAGS, OFF), "Redis answers again")
    (back,) = hosts.all("killed", [3], wanted=False)

    assert [True] * 6 == [found["at"] is not None for found in (*killed, *again, back)]
    assert (0, 1) == (held["calls"], back["alarms"])
    assert [1, 1] == [found["calls"] for found in gone]
