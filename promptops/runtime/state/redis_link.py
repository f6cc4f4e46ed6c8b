"""Redis that may hang, go away or move: a call waits a stated time, and the next ones do not wait at all."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from promptops.runtime.state.base import StateError
from promptops.runtime.state.redis_address import parse_redis

if TYPE_CHECKING:
    import redis

_PAUSE_S = 1.0
_STUCK = 4


class RedisLink:
    """A call waits at most `timeout_s`. After a failure Redis is left alone for `pause_s`, then one call tries again.

    Nothing is repeated by itself, and nothing but StateError comes out. For threads and forked children. Through Sentinel, a call
    after a failover finds the new primary. Raises DataError for an address that is none.
    """

    def __init__(
        self, url: str, *, timeout_s: float, pause_s: float = _PAUSE_S, connections: int = 32,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.address, self.timeout_s = parse_redis(url), timeout_s
        self._pause_s, self._connections, self._monotonic = pause_s, connections, monotonic
        self._down_until = 0.0
        self._why = ""
        self._probe = threading.Lock()
        self._begun: dict[object, float] = {}
        self._pid = os.getpid()
        self._client: redis.Redis | None = None
        self._scripts: dict[str, Any] = {}

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a Lua script answers; the server is sent its digest, and its text where it does not know it."""
        return self.call(lambda client: self.prepared(script, client)(keys=keys, args=arguments, client=client))

    def prepared(self, script: str, client: "redis.Redis") -> Any:
        """The script as an object of the library."""
        found = self._scripts.get(script)
        if found is None:
            found = self._scripts[script] = client.register_script(script)
        return found

    def call(self, work: "Callable[[redis.Redis], Any]") -> Any:
        """What `work` does in a round trip or two, or StateError: at once while Redis was seen to fail less than a pause ago."""
        import redis

        if self._pid != os.getpid():
            self.after_fork()
        probing = False
        if self._down_until:
            probing = self._monotonic() >= self._down_until and self._probe.acquire(blocking=False)
            if not probing:
                raise StateError(f"Redis is left alone for a moment: {self._why}")
        elif self._begun and time.monotonic() - min(self._begun.copy().values(), default=0.0) > _STUCK * self.timeout_s:
            # A name server that hangs is beyond every timeout of a socket: the other threads must not be stuck there, too.
            raise StateError("Redis: a call before this one has not come back")
        mark = object()
        self._begun[mark] = time.monotonic()
        try:
            result = work(self._client or self._connect())
            self._down_until = 0.0
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            self._failed(error)
            raise StateError(f"Redis: {self._why}") from error
        finally:
            self._begun.pop(mark, None)
            if probing:
                self._probe.release()
        return result

    def _failed(self, error: Exception) -> None:
        import redis.sentinel

        if isinstance(error, redis.exceptions.MovedError) and self.address.kind != "cluster":
            error = redis.ResponseError("this server is part of a cluster; its address begins with redis+cluster://")
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, redis.sentinel.MasterNotFoundError):
            said = f"no sentinel of {self.address} knows a primary that answers"
        self._why = self.address.without_secrets(said)[:200]
        if isinstance(error, redis.ResponseError) and not isinstance(
            error, redis.ReadOnlyError | redis.exceptions.ClusterError
        ):
            return
        if self.address.kind == "cluster":
            # Which node has what may have changed with what failed: the next client asks anew. Others may be using this one still.
            self._client, self._scripts = None, {}
        self._down_until = self._monotonic() + self._pause_s

    def after_fork(self) -> None:
        """The parent's sockets stay the parent's; the child connects for itself."""
        self._client, self._scripts, self._probe, self._pid = None, {}, threading.Lock(), os.getpid()
        self._begun = {}

    def close(self) -> None:
        if self._client is not None and self._pid == os.getpid():
            self._client.close()
            self._client, self._scripts = None, {}

    def _connect(self) -> "redis.Redis":
        self._client = self.address.client(timeout_s=self.timeout_s, connections=self._connections)
        return self._client
