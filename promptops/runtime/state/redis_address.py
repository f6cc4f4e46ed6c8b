"""Addresses of Redis: one server, Sentinel or a cluster; what of them may be shown, and the client they open."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from promptops.core.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from redis import Redis

FORMS = "redis://host:port/db, redis+sentinel://host:port,host:port/service/db, redis+cluster://host:port,host:port (rediss... for TLS)"
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = ("db", "namespace", "replicas", "sentinel_username", "sentinel_password", *_TLS)
_PORTS = {"server": 6379, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is. `replicas`: a reservation counts only once so many replicas have it. `namespace`: what all keys begin with,
    so that services share a server and nothing on it. Passwords are in no text of it.
    """

    kind: Literal["server", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    socket: str = ""
    service: str = ""
    db: int = 0
    tls: bool = False
    replicas: int = 0
    namespace: str = "promptops"
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls_files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "server" else f"+{self.kind}")
        place = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        if self.socket:
            return f"unix://{self.socket}"
        return (
            f"{scheme}://{place}"
            + (f"/{self.service}" if self.service else "")
            + (f"/{self.db}" if self.kind != "cluster" else "")
        )

    def without_secrets(self, text: str) -> str:
        """A text of the library or the server, with no password in it."""
        for secret in (self.password, self.sentinel_login.get("password")):
            if secret:
                text = text.replace(secret, "***")
        return text

    def client(self, *, timeout_s: float, connections: int) -> "Redis":
        """A client that waits at most `timeout_s` for a connection or an answer and repeats nothing by itself.

        For a cluster it connects at once, to learn which node has what.
        """
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        redis: Any = import_module("redis")  # half of its signatures have no types
        common: dict[str, Any] = {
            "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": Retry(NoBackoff(), 0), "username": self.username,
            "password": self.password, "decode_responses": False,
        }  # fmt: skip
        secure: dict[str, Any] = (
            {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, **self.tls_files} if self.tls else {}
        )
        if self.kind == "cluster":
            nodes = [redis.cluster.ClusterNode(host, port) for host, port in self.hosts]
            return redis.RedisCluster(startup_nodes=nodes, max_connections=connections, require_full_coverage=False, **common, **secure)  # type: ignore[no-any-return]  # fmt: skip
        if self.kind == "sentinel":
            login = {
                **self.sentinel_login,
                **secure,
                **{name: common[name] for name in ("socket_timeout", "socket_connect_timeout", "retry")},
            }
            sentinel = redis.Sentinel(self.hosts, sentinel_kwargs=login)
            return sentinel.master_for(self.service, db=self.db, max_connections=connections, **common, **secure)  # type: ignore[no-any-return]
        place: dict[str, Any]
        if self.socket:
            place = {"connection_class": redis.UnixDomainSocketConnection, "path": self.socket}
            del common["socket_connect_timeout"]
        else:
            host, port = self.hosts[0]
            secure.pop("ssl", None)
            connection = redis.SSLConnection if self.tls else redis.Connection
            place = {"connection_class": connection, "host": host, "port": port, **secure}
        pool = redis.BlockingConnectionPool(
            max_connections=connections, timeout=timeout_s, db=self.db, **common, **place
        )
        return redis.Redis(connection_pool=pool)  # type: ignore[no-any-return]


def is_redis(address: str) -> bool:
    """Whether the address means to be one of Redis."""
    return address.partition("://")[0] in _SCHEMES and "://" in address


def parse_redis(address: str) -> RedisAddress:
    """The address in parts. Raises DataError, in whose text there is never a part of the address that may be a password."""
    scheme, _, rest = address.partition("://")
    if scheme not in _SCHEMES:
        raise _bad("another scheme than redis, rediss, unix, +sentinel, +cluster")
    try:
        place = urlsplit(f"//{rest}")
    except ValueError:
        raise _bad("it cannot be read") from None
    options = _options(place.query)
    login, _, hosts = place.netloc.rpartition("@")
    username, _, password = login.partition(":")
    namespace = options.get("namespace", "promptops")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", namespace):
        raise _bad("a namespace is 1 to 64 letters, digits, '.', '_', '-'")
    common: dict[str, Any] = {
        "username": unquote(username) or None,
        "password": unquote(password) or None,
        "namespace": namespace,
    }
    if scheme == "unix":
        if not place.path or hosts:
            raise _bad("unix:///path/of/the/socket is wanted")
        return RedisAddress(kind="server", hosts=(), socket=unquote(place.path), db=_number(options.get("db", "0"), "db"),
                            replicas=_number(options.get("replicas", "0"), "replicas"), **common)  # fmt: skip
    kind: Literal["server", "sentinel", "cluster"] = "sentinel" if scheme.endswith("+sentinel") else "cluster" if scheme.endswith("+cluster") else "server"  # fmt: skip
    found = tuple(_host(item, _PORTS[kind]) for item in hosts.split(","))
    if kind == "server" and len(found) > 1:
        raise _bad("several hosts are for +sentinel or +cluster")
    path = [unquote(part) for part in place.path.split("/") if part]
    service = path.pop(0) if kind == "sentinel" and path else ""
    if kind == "sentinel" and not service:
        raise _bad("the service that the sentinels watch is missing")
    if len(path) > 1 or (path and "db" in options):
        raise _bad("more parts than a database")
    db = _number(path[0] if path else options.get("db", "0"), "db")
    replicas = _number(options.get("replicas", "0"), "replicas")
    if kind == "cluster" and (db or replicas):
        raise _bad("a cluster has one database, and no `replicas` to wait for")
    own = {name.removeprefix("sentinel_"): value for name, value in options.items() if name.startswith("sentinel_")}
    if own and kind != "sentinel":
        raise _bad("sentinel_username and sentinel_password are for +sentinel")
    files = {name: options[name] for name in _TLS if name in options}
    tls = scheme.startswith("rediss")
    if files and not tls:
        raise _bad("files of TLS are for rediss...")
    return RedisAddress(kind=kind, hosts=found, service=service, db=db, tls=tls, replicas=replicas, sentinel_login=own, tls_files=files, **common)  # fmt: skip


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise _bad(f"unknown option {name[:40]!r}", did_you_mean(name, _OPTIONS))
        options[name] = value
    return options


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        place = urlsplit(f"//{text}")
        host, found = place.hostname, place.port
    except ValueError:
        raise _bad("a port is not a number") from None
    if not host:
        raise _bad("a host is missing")
    return host, found or port


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise _bad(f"{what} is not a number")
    return int(text)


def _bad(why: str, hint: str = "") -> DataError:
    return DataError("not an address of Redis", why=why, hint=hint or FORMS)
