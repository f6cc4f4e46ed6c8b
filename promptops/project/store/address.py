"""Where the runs of a project are kept: in its folder, or on a server that a team shares."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from promptops.core.errors import DataError
from promptops.project.config import LOOPBACK, STORE_FOLDER, TEXTS_MIN_BYTES
from promptops.project.store.base import Store
from promptops.project.store.folder import FILE, prepare_folder
from promptops.project.store.sqlite import open_sqlite

SCHEMA = "promptops"
PATIENCE_S = 30.0
_MOST_PATIENCE_S = 3600.0
_SCHEMA_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """All that a process needs to open the store, on another host too: small, and it can be pickled.

    `url` is '' for the store in the folder of the project. It may hold a password, so it is in no `repr`; `shown` has none.
    """

    root: Path
    url: str = field(default="", repr=False)
    texts: str = ""
    texts_min_bytes: int = TEXTS_MIN_BYTES

    @property
    def exists(self) -> bool:
        """Whether there may be runs; nobody is asked over a network."""
        return bool(self.url) or (self.root / STORE_FOLDER / FILE).exists()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Servers it may connect to; none for a local file or socket. Raises DataError for an address that is none."""
        if not self.url:
            return ()
        parts = urlsplit(self.url)
        named = [part.rpartition("@")[2] for part in parts.netloc.rpartition("@")[2].split(",")]
        query = [(name, value) for name, value in parse_qsl(parts.query) if name in ("host", "hostaddr")]
        hosts = [_without_port(name) for name in named] + [host for _, value in query for host in value.split(",")]
        return tuple(host for host in hosts if host and not host.startswith(("/", "%2F", "%2f", "@")))

    @property
    def schema(self) -> str:
        """The schema its tables are in, `?schema=NAME` of the address. Raises DataError for a name that is none."""
        name = dict(parse_qsl(urlsplit(self.url).query)).get("schema", SCHEMA)
        if not _SCHEMA_NAME.fullmatch(name):
            raise DataError(
                f"{name[:60]!r} is no schema for a store", where=self.shown, hint="use small letters, digits and _"
            )
        return name

    @property
    def patience_s(self) -> float:
        """How long a run waits for a server that went away, `?patience_s=SECONDS` of the address."""
        text = dict(parse_qsl(urlsplit(self.url).query)).get("patience_s", str(PATIENCE_S))
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= _MOST_PATIENCE_S:  # also when it is no number
            raise DataError(f"patience_s={text[:20]!r} of the store is no number of seconds", where=self.shown,
                            hint=f"leave it out ({PATIENCE_S:g} s), or state one up to {_MOST_PATIENCE_S:g}")  # fmt: skip
        return seconds

    @property
    def is_local(self) -> bool:
        return all(host in LOOPBACK for host in self.hosts)

    @property
    def connection(self) -> str:
        """The address as PostgreSQL's own library reads it."""
        parts = urlsplit(self.url)
        query = [
            (name, value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if name not in ("schema", "patience_s")
        ]
        return f"postgresql://{parts.netloc}{parts.path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")

    @property
    def shown(self) -> str:
        """What a message may say: server and database, no user and no password."""
        if not self.url:
            return f"{STORE_FOLDER}/{FILE}"
        parts = urlsplit(self.url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _without_port(host: str) -> str:
    """`a:5432` and `[::1]:5432` without the port and the brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def open_store(at: StoreAddress | Path) -> Store:
    """The store there, or the one in the folder of the project at a path; made on first use.

    Raises RefusedError when it is a link, DataError when a newer promptops wrote it or something to reach it with is missing,
    EvaluationError when it cannot be reached or written.
    """
    address = StoreAddress(root=at) if isinstance(at, Path) else at
    if not address.url:
        return open_sqlite(address.root)
    from promptops.project.store.postgres import open_postgres

    prepare_folder(address.root)
    return open_postgres(address)
