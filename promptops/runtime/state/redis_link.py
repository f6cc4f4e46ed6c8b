"""A Redis server that may hang or go away: a call waits a stated time, and the next ones do not wait at all."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from promptops.runtime.state.base import StateError

if TYPE_CHECKING:
    import redis

_DOWN_S = 1.0


class RedisLink:
    """A call waits at most `timeout_s`. After a failure the server is left alone for a second, then one call tries again.

    Nothing is repeated by itself, and nothing but StateError comes out. For threads and forked children.
    """

    def __init__(
        self, url: str, *, timeout_s: float, connections: int = 32, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.url, self.timeout_s = url, timeout_s
        self._connections, self._monotonic = connections, monotonic
        self._down_until = 0.0
        self._why = ""
        self._probe = threading.Lock()
        self._pid = os.getpid()
        self._client: redis.Redis | None = None
        self._scripts: dict[str, Any] = {}

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a Lua script answers; the server is sent its digest, and its text where it does not know it."""

        def evaluate(client: "redis.Redis") -> Any:
            prepared = self._scripts.get(script)
            if prepared is None:
                prepared = self._scripts[script] = client.register_script(script)
            return prepared(keys=keys, args=arguments, client=client)

        return self.call(evaluate)

    def call(self, work: "Callable[[redis.Redis], Any]") -> Any:
        """One round trip, or StateError: at once while the server was seen to fail less than a second ago."""
        import redis

        if self._pid != os.getpid():
            self.after_fork()
        probing = False
        if self._down_until:
            probing = self._monotonic() >= self._down_until and self._probe.acquire(blocking=False)
            if not probing:
                raise StateError(f"Redis is left alone for a moment: {self._why}")
        try:
            result = work(self._client or self._connect())
            self._down_until = 0.0
        except (redis.RedisError, OSError) as error:
            self._why = f"{type(error).__name__}: {error}"[:200]
            if not isinstance(error, redis.ResponseError) or isinstance(error, redis.ReadOnlyError):
                self._down_until = self._monotonic() + _DOWN_S
            raise StateError(f"Redis: {self._why}") from error
        finally:
            if probing:
                self._probe.release()
        return result

    def after_fork(self) -> None:
        """The parent's sockets stay the parent's; the child connects for itself."""
        self._client, self._scripts, self._probe, self._pid = None, {}, threading.Lock(), os.getpid()

    def close(self) -> None:
        if self._client is not None and self._pid == os.getpid():
            self._client.close()
            self._client, self._scripts = None, {}

    def _connect(self) -> "redis.Redis":
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        pool = redis.BlockingConnectionPool.from_url(
            self.url, max_connections=self._connections, timeout=self.timeout_s, socket_timeout=self.timeout_s,
            socket_connect_timeout=self.timeout_s, retry=Retry(NoBackoff(), 0), retry_on_timeout=False, decode_responses=False,
        )  # fmt: skip
        self._client = redis.Redis(connection_pool=pool)
        return self._client
