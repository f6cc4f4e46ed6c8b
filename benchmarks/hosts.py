"""Three runtimes in network namespaces of their own and one Redis: what is spent, how long a reply takes and when it goes on after faults."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import REPOSITORY, Figure

_BUDGET, _SHARE, _ROUNDS = 6_000, 300, 3
_RUNTIME = {
    "deadline_s": 3, "local_share": _SHARE / _BUDGET, "fallback": [{"step": "text", "text": "later"}],
    "budgets": [{"name": "day", "window_s": 86400, "per": ["tenant"], "requests": _BUDGET}, {"name": "all", "window_s": 3600, "per": [], "usd": "1000"}],
}  # fmt: skip


def hosts(folder: Path) -> Iterator[Figure]:
    """Pause, kill and restart empty, cut off, fail over, three times each; root and the program `ip` are needed."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from runtime.bundles import make_bundle
    from runtime.hosts import HUB, Hosts

    bundle = make_bundle(folder / "bundle", _RUNTIME)
    with Hosts(folder / "one") as net:
        _begin(net, 7001)
        for number in (1, 2, 3):
            net.runtime(number, bundle, f"redis://{HUB}:7001/0", timeout_s=0.05)
        yield from _operations(net, 7001)
        account = _Account(net)
        account.ask(200)
        for _ in range(_ROUNDS):
            account.fault("paused", lambda: net.freeze(7001), lambda: net.thaw(7001))
            account.fault("killed", lambda: net.kill(7001), lambda: net.redis(7001))
            account.fault("cut off", lambda: net.cut(2), lambda: net.join(2))
        account.ask(_BUDGET)
        yield from account.figures("one Redis")
        yield from _switched(net, 7001)
    with Hosts(folder / "watched") as net:
        yield from _failovers(net, bundle)


def _begin(net: Any, port: int, *options: object) -> None:
    net.redis(port, *options)
    _until(lambda: "OK" in net.say(port, "SET", "{promptops}:flags", '{"flags": {}}'))


class _Account:
    def __init__(self, net: Any) -> None:
        self.net, self.calls, self.late, self.replies = net, 0, 0, 0
        self.longest: dict[str, float] = {}
        self.recovered: dict[str, list[float]] = {}

    def ask(self, count: int, during: str = "") -> None:
        for found in self.net.all("ask", count=count):
            self.calls += found["calls"]
            self.late += found["late"]
            self.replies += found["replies"]
            if during:
                self.longest[during] = max(self.longest.get(during, 0.0), found["longest_s"])

    def fault(self, name: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        begin()
        self.ask(100, name)
        end()
        self.recover(name)

    def recover(self, name: str) -> None:
        for found in self.net.all("recover"):
            self.calls += found["calls"]
            self.replies += found["tries"]
            self.recovered.setdefault(name, []).append(found["after_s"] or float("inf"))

    def figures(self, where: str) -> Iterator[Figure]:
        over = max(0, self.calls - _BUDGET)
        yield Figure(what=f"{where}: calls beyond the budget of {_BUDGET}", unit="calls", value=over, reference=0, target=3 * _SHARE)  # fmt: skip
        yield Figure(what=f"{where}: replies later than their deadline, of {self.replies}", unit="", value=self.late, reference=0, target=0)  # fmt: skip
        for name, longest_s in self.longest.items():
            yield Figure(what=f"{where}: longest reply, {name}", unit="ms", value=longest_s * 1e3, reference=0, target=3_000)  # fmt: skip
        for name, after in self.recovered.items():
            yield Figure(what=f"{where}: goes on after it was {name}, median", unit="s", value=median(after), reference=0, target=6)  # fmt: skip
            yield Figure(what=f"{where}: the same, slowest of {len(after)}", unit="s", value=max(after), reference=0, target=10)  # fmt: skip


def _operations(net: Any, port: int) -> Iterator[Figure]:
    """What one host costs Redis, counted by Redis (INFO commandstats), without the looks at flags and at what was counted."""
    net.all("ask", [1], count=20)
    net.all("settled", [1])
    for what, text, target in (("miss", "", 4.1), ("hit", "the same", 1.1)):
        if text:
            net.all("ask", [1], count=1, text=text)
            net.all("settled", [1])
        net.say(port, "CONFIG", "RESETSTAT")
        net.all("ask", [1], count=500, text=text)
        net.all("settled", [1])
        found = commands(net.say(port, "INFO", "commandstats"))
        trips = found.get("evalsha", (0, 0.0))
        inside = sum(
            calls for name, (calls, _) in found.items() if name not in {"evalsha", "get", "config|resetstat", "info"}
        )
        yield Figure(what=f"Redis calls of a {what}", unit="", value=trips[0] / 500, reference=0, target=target)
        yield Figure(what=f"Redis commands inside the scripts of a {what}", unit="", value=inside / 500, reference=0, target=100)  # fmt: skip
        yield Figure(what=f"time of the server for a {what}", unit="us", value=trips[1] / 500, reference=0, target=1_000)  # fmt: skip


def commands(stats: str) -> dict[str, tuple[int, float]]:
    """(calls, microseconds) of each command that INFO commandstats names."""
    return {
        name: (int(calls), float(spent))
        for name, calls, spent in re.findall(r"cmdstat_([^:]+):calls=(\d+),usec=(\d+)", stats)
    }


def _switched(net: Any, port: int) -> Iterator[Figure]:
    from promptops.runtime.flags import set_kill

    latest = []
    for number in range(10):
        on = number % 2 == 0
        for host in (1, 2, 3):
            net.tell(host, "killed", wanted=on)
        at = time.time()
        net.say(port, "SET", "{promptops}:flags", set_kill(None, "", off=not on).decode())
        latest.append(max(net.hear(host)["at"] - at for host in (1, 2, 3)))
    yield Figure(what="a kill in force on the last host, slowest of 10", unit="s", value=max(latest), reference=0, target=1)  # fmt: skip


def _failovers(net: Any, bundle: Path) -> Iterator[Figure]:
    from runtime.hosts import HUB

    _begin(net, 7001)
    for port in (7002, 7003):
        net.redis(port, "--replicaof", f"{HUB} 7001", "--repl-diskless-sync-delay", 0)
    _until(lambda: net.say(7001, "INFO", "replication").count("state=online") == 2)
    watch = f"sentinel monitor store {HUB} 7001 2\nsentinel down-after-milliseconds store 1000\nsentinel failover-timeout store 5000\n"
    for port in (7011, 7012, 7013):
        net.redis(port, config=watch)
    _until(lambda: all("slaves=2,sentinels=3" in net.say(port, "INFO", "sentinel") for port in (7011, 7012, 7013)))
    address = f"redis+sentinel://{HUB}:7011,{HUB}:7012,{HUB}:7013/store?replicas=1"
    for number in (1, 2, 3):
        net.runtime(number, bundle, address, timeout_s=0.05)
    account = _Account(net)
    account.ask(200)
    for _ in range(_ROUNDS):
        primary = int(net.say(7011, "SENTINEL", "get-master-addr-by-name", "store").split()[1])
        net.kill(primary)
        account.ask(100, "failed over")
        account.recover("failed over")
        net.redis(primary, "--replicaof", f"{HUB} {_primary(net)}")
        _until(lambda: net.say(_primary(net), "INFO", "replication").count("state=online") == 2)
    account.ask(_BUDGET)
    yield from account.figures("Sentinel")


def _primary(net: Any) -> int:
    return int(net.say(7011, "SENTINEL", "get-master-addr-by-name", "store").split()[1])


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError("Redis did not come up")
        time.sleep(0.05)
