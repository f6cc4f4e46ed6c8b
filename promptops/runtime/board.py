"""Tells the other processes of a service which breakers are open, and hears of theirs: one outage is found out once, not by each."""

import secrets
import socket
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from promptops.runtime.breaker import Breaker
from promptops.runtime.warm import follow

POLL_S = 1.0
_OTHER_HOSTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A breaker of `place` (provider/model) that a process of `host` opened `age_s` ago by what it saw, for `left_s` more seconds."""

    place: str
    host: str
    process: str
    age_s: float
    left_s: float


@runtime_checkable
class SharesBreakers(Protocol):
    """A state through which processes tell each other of open breakers."""

    def open_breakers(self, host: str, process: str, own: Sequence[Report]) -> list[Report]:
        """Replace what this process reported by `own`; what all others report. Raises StateError."""
        ...


class Board:
    """One for a runtime. A closed breaker opens when another process of the same host, or two other hosts, have seen the outage.

    One host alone is not believed by others: its network may be what is broken. A breaker that closed after the others
    had opened believes itself. Opening by report lasts as long as the pause of the reporter, then every process tries for itself.
    """

    def __init__(self, state: SharesBreakers, breakers: "Callable[[], Mapping[str, Sequence[Breaker]]]", *, poll_s: float = POLL_S, host: str = "") -> None:  # fmt: skip
        self._state, self._breakers, self._poll_s = state, breakers, poll_s
        self._host, self._process = host or socket.gethostname(), secrets.token_hex(8)
        self._stop = threading.Event()
        self._told = False

    def start(self) -> None:
        arguments = (weakref.ref(self), self._stop, self._poll_s)
        threading.Thread(target=follow, args=arguments, name="promptops-breakers", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def exchange(self) -> None:
        """Tell and hear once. Raises StateError."""
        breakers = self._breakers()
        own = []
        for place, items in breakers.items():
            seen = [found for item in items if (found := item.seen_open()) is not None]
            if seen:
                age_s, left_s = max(seen, key=lambda pair: pair[1])
                own.append(Report(place=place, host=self._host, process=self._process, age_s=age_s, left_s=left_s))
        reports = self._state.open_breakers(self._host, self._process, own)
        for place, items in breakers.items():
            here = [report for report in reports if report.place == place]
            near = [report for report in here if report.host == self._host]
            hosts = {report.host for report in here} - {self._host}
            if not near and len(hosts) < _OTHER_HOSTS:
                continue
            believed = near or here
            who = "another process of this host" if near else f"{len(hosts)} other hosts"
            for item in items:
                item.hear(age_s=min(report.age_s for report in believed), left_s=max(report.left_s for report in believed), reason=f"{who} found it failing")  # fmt: skip

    def alone(self, reason: str) -> None:
        """Without Redis every process finds out for itself."""
