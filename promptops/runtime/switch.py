"""The kill switch: flags file, environment and OpenFeature, watched in the background; asking it costs no IO."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

from promptops.core.errors import DataError
from promptops.core.names import is_name
from promptops.runtime.flags import MAX_BYTES, FlagsError, Kills, parse_flags

VARIABLE = "PROMPTOPS_KILL"
FLAGS_VARIABLE = "PROMPTOPS_FLAGS"
_NOBODY = ("", "0", "false", "no", "off", "none")
_EVERYBODY = ("1", "true", "yes", "on", "all")
_POLL_S = 0.25
_REPEAT_ALARM_S = 60.0
_STALE_S = 5.0
_LOG = logging.getLogger("promptops.runtime")


class FlagStore(Protocol):
    """Where flags live. Both methods raise OSError when that cannot be reached."""

    def read(self) -> bytes:
        """The document. Raises FileNotFoundError when there is none."""
        ...

    def change(self, edit: Callable[[bytes | None], bytes]) -> None:
        """Replace the document by what `edit` makes of it (None: none yet); two editors do not undo each other."""
        ...

    def __str__(self) -> str: ...


class Judge(Protocol):
    """Another opinion, such as an OpenFeature provider: `reason` is asked per request, `refresh` from the watcher."""

    def reason(self, name: str, tenant: str) -> str: ...

    def refresh(self) -> None: ...


class FlagFile:
    """Flags in a file of this machine, replaced as a whole by whoever changes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    def change(self, edit: Callable[[bytes | None], bytes]) -> None:
        """Replace the content by what `edit` makes of it (None: no file yet); two editors wait for each other.

        Raises OSError, and what `edit` raises.
        """
        import tempfile

        from filelock import FileLock

        with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=10):
            try:
                old: bytes | None = self.read()
            except FileNotFoundError:
                old = None
            content = edit(old)
            parse_flags(content)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                mode = self.path.stat().st_mode & 0o777 if old is not None else 0o644
                Path(temporary).chmod(mode)
                Path(temporary).replace(self.path)
            finally:
                Path(temporary).unlink(missing_ok=True)


def open_flags(address: str) -> FlagStore:
    """Flags in a file, or in Redis (`redis://host:port/db`). Raises DataError for another address."""
    from promptops.runtime.state.redis_address import is_redis

    if is_redis(address):
        from promptops.runtime.redis_flags import RedisFlags
        from promptops.runtime.state.opening import need_redis

        need_redis(address)
        return RedisFlags(address)
    if "://" in address:
        from promptops.runtime.state.redis_address import FORMS

        raise DataError(f"{address.partition('://')[0][:40]!r} is no place for flags", hint=f"a file, or {FORMS}")
    return FlagFile(Path(address))


class EnvironmentKills:
    """PROMPTOPS_KILL: `all`, or prompts separated by commas, each for one tenant with `name@tenant`."""

    def __init__(self, text: str) -> None:
        """Raises DataError for anything else: a typing error must not leave a prompt running."""
        word = text.strip().lower()
        self._all = word in _EVERYBODY
        self._pairs: frozenset[tuple[str, str]] = frozenset()
        if self._all or word in _NOBODY:
            return
        pairs = set()
        for entry in text.split(","):
            name, at, tenant = entry.strip().partition("@")
            if not is_name(name) or (at and not tenant):
                raise DataError(f"{entry.strip()!r} is not a prompt", where=VARIABLE,
                                hint="write `all`, or names such as `support-triage,invoice@tenant-7`")  # fmt: skip
            pairs.add((name, tenant))
        self._pairs = frozenset(pairs)

    def reason(self, name: str, tenant: str) -> str:
        if self._all:
            return f"{VARIABLE} switches everything off"
        if self._pairs and ((name, "") in self._pairs or (name, tenant) in self._pairs):
            return f"{VARIABLE} switches {name} off"
        return ""

    def refresh(self) -> None:
        return None


class Switch:
    """May this request ask a model at all? Without a `store`, what PROMPTOPS_FLAGS names is followed, if anything.

    `blocked` reads memory only; a daemon thread looks at the flags every `poll_s` seconds, in every process that uses the
    switch (after a fork the child starts its own). Flags that cannot be read, or are not as they should be, leave the last
    state in force and raise an alarm; until they were read once, nothing runs.
    """

    def __init__(
        self, store: FlagStore | None = None, *, environ: Mapping[str, str] = os.environ, judges: tuple[Judge, ...] = (),
        poll_s: float = _POLL_S, alarm: Callable[[str], None] = _LOG.error, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if not 0 < poll_s <= 0.5:
            raise ValueError("poll_s is above 0 and at most 0.5, so that a kill is seen within a second")
        if store is None and environ.get(FLAGS_VARIABLE):
            store = open_flags(environ[FLAGS_VARIABLE])
        self._store, self._alarm, self._clock, self._poll_s = store, alarm, clock, poll_s
        self._judges = (EnvironmentKills(environ.get(VARIABLE, "")), *judges)
        self._kills: Kills | None = Kills() if store is None else None
        self._raw: bytes | None = None
        self._problem, self._alarmed_at, self._seen_at = "", 0.0, clock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._watched = store is not None or bool(judges)
        self.look()
        _SWITCHES.add(self)
        _follow_forks()

    def blocked(self, *, prompt: str, tenant: str, feature: str) -> str:
        """Why no model may be asked for this prompt and tenant now; empty when one may. Never raises, never waits."""
        if self._watched:
            if self._thread is None:
                self._start()
            if self._clock() - self._seen_at > _STALE_S:
                self._complain(
                    f"flags in {self._store or 'OpenFeature'} have not been looked at for {_STALE_S:.0f} s; the last state stays"
                )
        kills = self._kills
        if kills is None:
            return f"flags in {self._store} were never read ({self._problem})"
        found = kills.reason(prompt, tenant)
        if found:
            return found
        for judge in self._judges:
            found = judge.reason(prompt, tenant)
            if found:
                return found
        return ""

    @property
    def problem(self) -> str:
        """What is wrong with the flags now; empty when they are read as they should be."""
        return self._problem

    def look(self) -> None:
        """Read the flags now. The watcher does this; tests and commands may."""
        for judge in self._judges:
            judge.refresh()
        if self._store is not None:
            self._read(self._store)
        self._seen_at = self._clock()

    def close(self) -> None:
        """Stop watching; the last state stays."""
        self._watched = False
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def _read(self, store: FlagStore) -> None:
        try:
            raw = store.read()
            if raw != self._raw:
                self._kills = parse_flags(raw)
                self._raw = raw
        except (OSError, FlagsError) as error:
            self._raw = None
            why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            self._problem = why or type(error).__name__
            state = "nothing runs until they are" if self._kills is None else "the last state stays"
            self._complain(f"flags in {store} cannot be read ({why}); {state}")
            return
        if self._problem:
            self._problem, self._alarmed_at = "", 0.0

    def _complain(self, text: str) -> None:
        now = self._clock()
        if not self._alarmed_at or now - self._alarmed_at >= _REPEAT_ALARM_S:
            self._alarmed_at = now
            self._alarm(text)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and self._watched:
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=_watch,
                    args=(weakref.ref(self), self._stop, self._poll_s),
                    name="promptops-switch",
                    daemon=True,
                )
                self._thread.start()

    def _after_fork(self) -> None:
        """In the child: the watcher did not come along; the first request starts one, after a look of its own."""
        self._lock = threading.Lock()
        self._thread = None
        with suppress(Exception):  # the last state is known and in force; the watcher will say what is wrong
            self.look()


def _watch(reference: "weakref.ref[Switch]", stop: threading.Event, poll_s: float) -> None:
    while not stop.wait(poll_s):
        switch = reference()
        if switch is None:
            return
        try:
            switch.look()
        except Exception:  # noqa: BLE001 - the watcher must outlive whatever a store or a provider throws
            _LOG.exception("flags could not be looked at")
        del switch


_SWITCHES: "weakref.WeakSet[Switch]" = weakref.WeakSet()


@cache
def _follow_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for switch in list(_SWITCHES):
        switch._after_fork()  # noqa: SLF001
