"""Groups of real Redis servers for tests: a primary with replicas and sentinels, and a cluster."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.redis_server import RedisServer

WAIT_S = 60.0


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds; fail after a minute."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {WAIT_S:.0f} s: {what}")
        time.sleep(0.02)


def say(port: int, *words: object) -> str:
    """What a server answers to a command, as text; empty when it does not."""
    raw = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(str(word).encode()), str(word).encode()) for word in words)  # fmt: skip
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(raw)
            connection.settimeout(5)
            return connection.recv(1_000_000).decode("utf-8", "replace")
    except OSError:
        return ""


class Watched:
    """A primary, replicas that have its content, and sentinels that fail over within about a second."""

    def __init__(self, folder: Path, *, replicas: int = 1, sentinels: int = 1, service: str = "store") -> None:
        self.service, self._folder = service, folder
        for number in range(replicas + sentinels + 1):
            (folder / str(number)).mkdir(parents=True)
        self.servers = [RedisServer(folder / "0", "--repl-diskless-sync-delay", 0)]
        first = self.servers[0]
        self.servers += [
            RedisServer(folder / str(number), "--replicaof", f"127.0.0.1 {first.port}", "--repl-diskless-sync-delay", 0)
            for number in range(1, replicas + 1)
        ]
        until(lambda: f"connected_slaves:{replicas}" in say(first.port, "INFO", "replication"), "replicas are there")
        until(lambda: say(first.port, "INFO", "replication").count("state=online") == replicas, "replicas have it all")
        self.sentinels = [self._sentinel(replicas + 1 + number, sentinels) for number in range(sentinels)]
        until(lambda: all(f"slaves={replicas}" in say(port, "INFO", "sentinel") and f"sentinels={sentinels}" in say(port, "INFO", "sentinel")
                          for port, _ in self.sentinels), "sentinels know all")  # fmt: skip

    def _sentinel(self, number: int, sentinels: int) -> "tuple[int, subprocess.Popen[bytes]]":
        folder = self._folder / str(number)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "sentinel.conf").write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {self.service} 127.0.0.1 {self.servers[0].port} {sentinels // 2 + 1}\n"
            f"sentinel down-after-milliseconds {self.service} 500\nsentinel failover-timeout {self.service} 3000\n"
        )
        with (folder / "redis.log").open("ab") as log:
            process = subprocess.Popen(["redis-server", folder / "sentinel.conf", "--sentinel"], stdout=log, stderr=log)
        until(lambda: say(port, "PING").startswith("+PONG"), "a sentinel answers")
        return port, process

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port, _ in self.sentinels)}/{self.service}/0"

    def primary(self) -> int:
        """The port of the primary, as the first sentinel says."""
        return int(say(self.sentinels[0][0], "SENTINEL", "get-master-addr-by-name", self.service).split("\r\n")[4] or 0)

    def kill(self) -> None:
        for _, process in self.sentinels:
            process.kill()
            process.wait(60)
        for server in self.servers:
            server.go_on()
            server.kill()


class Cluster:
    """Three primaries that share the slots."""

    def __init__(self, folder: Path) -> None:
        for number in range(3):
            (folder / str(number)).mkdir(parents=True)
        self.servers = [
            RedisServer(folder / str(number), "--cluster-enabled", "yes", "--cluster-port", _free())
            for number in range(3)
        ]
        ports = [server.port for server in self.servers]
        for number, port in enumerate(ports):
            assert say(port, "CLUSTER", "ADDSLOTSRANGE", number * 5462, min(16383, number * 5462 + 5461)).startswith(
                "+OK"
            )
            assert say(port, "CONFIG", "SET", "cluster-require-full-coverage", "no").startswith("+OK")
        for server in self.servers[1:]:
            bus = server._options[server._options.index("--cluster-port") + 1]
            assert say(ports[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus).startswith("+OK")
        until(lambda: all("cluster_state:ok" in say(port, "CLUSTER", "INFO") and say(port, "CLUSTER", "NODES").count("connected") == 3
                          for port in ports), "the cluster is whole")  # fmt: skip

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{server.port}' for server in self.servers)}"

    def kill(self) -> None:
        for server in self.servers:
            server.go_on()
            server.kill()


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
