"""A real Redis server on a free port, for tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


class RedisServer:
    """Keeps nothing on disk. `stop` and `go_on` freeze the process, so that it accepts connections and answers nothing.

    `options` are further options of the program, `tls` says that its port is one of TLS.
    """

    def __init__(self, folder: Path, *options: object, tls: bool = False) -> None:
        self._options, self._tls = [str(option) for option in options], tls
        program = shutil.which("redis-server")
        if program is None:
            if os.environ.get("CI") == "true":
                pytest.fail("redis-server is not installed; .ci/run installs it")
            pytest.skip("redis-server is not installed")
        self._program, self._folder = program, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "--tls-port" if self._tls else "--port", str(self.port), *(["--port", "0"] if self._tls else []), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self._folder, *self._options],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    if self._tls:
                        return
                    connection.sendall(b"PING\r\n")
                    if connection.recv(7) in {b"+PONG\r\n", b"-NOAUTH"}:
                        return
            except OSError:
                pass
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail("redis-server did not start: " + (self._folder / "redis.log").read_text()[-500:])
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)
