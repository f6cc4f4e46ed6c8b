"""Hosts on one machine: network namespaces joined to a hub by cables that can be pulled, Redis in the hub, a runtime in each.

All addresses are of namespaces made here (10.77.0.1 is the hub, 10.77.N.2 a host); needs root and the program `ip`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

TESTS = Path(__file__).parents[1]
HUB = "10.77.0.1"


class NoHostsError(Exception):
    """This machine does not allow network namespaces, and why."""


def ip(*words: object) -> None:
    found = subprocess.run(
        [shutil.which("ip") or "/usr/sbin/ip", *map(str, words)], check=False, capture_output=True, text=True
    )
    if found.returncode:
        raise RuntimeError(f"ip {' '.join(map(str, words))}: {found.stderr.strip()}")


class Hosts:
    """A hub and `count` hosts. Use as a context manager."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.folder, self.count, self._name = folder, count, f"po{os.getpid()}"
        self._processes: dict[str, subprocess.Popen[Any]] = {}
        self._commands: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        try:
            ip("netns", "add", self.hub)
            ip("-n", self.hub, "link", "add", "probe", "type", "veth")
        except (RuntimeError, OSError) as error:
            self.__exit__()
            raise NoHostsError(str(error)) from error
        try:
            self._lay_cables()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _lay_cables(self) -> None:
        ip("-n", self.hub, "link", "set", "lo", "up")
        ip("-n", self.hub, "addr", "add", f"{HUB}/32", "dev", "lo")
        for number in range(1, self.count + 1):
            host = self.host(number)
            ip("netns", "add", host)
            ip("-n", self.hub, "link", "add", f"to{number}", "type", "veth", "peer", "name", "cable", "netns", host)
            ip("-n", self.hub, "addr", "add", f"10.77.{number}.1/24", "dev", f"to{number}")
            ip("-n", host, "addr", "add", f"10.77.{number}.2/24", "dev", "cable")
            ip("-n", host, "link", "set", "lo", "up")
            self.join(number)

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(60)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        for name in (self.hub, *(self.host(number) for number in range(1, self.count + 1))):
            subprocess.run(
                [shutil.which("ip") or "/usr/sbin/ip", "netns", "del", name], check=False, capture_output=True
            )

    @property
    def hub(self) -> str:
        return f"{self._name}hub"

    def host(self, number: int) -> str:
        return f"{self._name}h{number}"

    def cut(self, number: int) -> None:
        """Pull the cable of a host: packets of both sides vanish."""
        ip("-n", self.hub, "link", "set", f"to{number}", "down")

    def join(self, number: int) -> None:
        ip("-n", self.hub, "link", "set", f"to{number}", "up")
        ip("-n", self.host(number), "link", "set", "cable", "up")
        ip("-n", self.host(number), "route", "replace", f"{HUB}/32", "via", f"10.77.{number}.1")

    def redis(self, port: int, *options: object, config: str = "") -> None:
        """Start a server in the hub; `config` makes it a sentinel."""
        folder = self.folder / f"redis-{port}"
        folder.mkdir(parents=True, exist_ok=True)
        words = ["--port", port, "--bind", HUB, "--protected-mode", "no", "--dir", folder, "--save", "", *options]
        if config:
            (folder / "redis.conf").write_text(f"port {port}\nbind {HUB}\nprotected-mode no\ndir {folder}\n{config}")
            words = [folder / "redis.conf", "--sentinel"]
        program = shutil.which("redis-server") or "redis-server"
        self._start(f"redis-{port}", self.hub, [program, *map(str, words)])

    def freeze(self, port: int) -> None:
        self._processes[f"redis-{port}"].send_signal(signal.SIGSTOP)

    def thaw(self, port: int) -> None:
        self._processes[f"redis-{port}"].send_signal(signal.SIGCONT)

    def kill(self, port: int) -> None:
        process = self._processes[f"redis-{port}"]
        process.kill()
        process.wait(60)

    def say(self, port: int, *words: object) -> str:
        """What a server in the hub answers."""
        program = shutil.which("redis-cli") or "redis-cli"
        found = subprocess.run(["ip", "netns", "exec", self.hub, program, "-h", HUB, "-p", str(port), *map(str, words)],
                               check=False, capture_output=True, text=True, timeout=60)  # fmt: skip
        return found.stdout

    def runtime(
        self, number: int, bundle: Path, address: str, *, timeout_s: float, namespace: str = "promptops"
    ) -> None:
        """Start a runtime on a host."""
        words = [
            sys.executable,
            "-m",
            "runtime.host_process",
            str(bundle),
            address,
            str(timeout_s),
            f"host{number}",
            namespace,
        ]
        self._start(f"host{number}", self.host(number), words)

    def tell(self, number: int, do: str, **fields: Any) -> None:
        """Give the runtime of a host an order; `hear` waits for what it answers."""
        stdin = self._processes[f"host{number}"].stdin
        assert stdin is not None
        stdin.write(json.dumps({"do": do, **fields}) + "\n")
        stdin.flush()

    def hear(self, number: int) -> Any:
        stdout = self._processes[f"host{number}"].stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"host{number} ended: " + (self.folder / f"host{number}.log").read_text()[-2000:])
        return json.loads(line)

    def all(self, do: str, numbers: Sequence[int] = (), **fields: Any) -> list[Any]:
        """What the runtimes answer to one order, given to all at the same time."""
        chosen = list(numbers) or list(range(1, self.count + 1))
        for number in chosen:
            self.tell(number, do, **fields)
        return [self.hear(number) for number in chosen]

    def _start(self, name: str, namespace: str, words: Sequence[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        with (self.folder / f"{name}.log").open("ab") as log:
            pipes: dict[str, Any] = (
                {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} if name.startswith("host") else {"stdout": log}
            )
            self._processes[name] = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *words], stderr=log, text=True, env=environment, **pipes
            )
