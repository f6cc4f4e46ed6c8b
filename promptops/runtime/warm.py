"""Keeps the semantic cache of a replica as warm as those of the others: tells them of new questions, and hears of theirs."""

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from promptops.runtime.state import StateError

if TYPE_CHECKING:
    from promptops.runtime.semantic import SemanticCache
    from promptops.runtime.state.redis_questions import Gone, Question, RedisQuestions

POLL_S = 0.5
_PENDING = 10_000
_BATCH = 100
_REST_S = 0.002
_ANNOUNCE_S = 3600.0
_LOG = logging.getLogger("promptops.runtime")


@runtime_checkable
class SharesQuestions(Protocol):
    """A state through which replicas share questions."""

    def questions(self, release: str) -> "RedisQuestions": ...


class Warm:
    """One for a semantic cache. A daemon thread loads what there is, then exchanges changes twice a second; it ends with the cache.

    Requests only append to a list in memory, of at most 10,000 changes: while Redis is away, the oldest are dropped.
    `notice` hears `semantic_warm` once all is loaded.
    """

    def __init__(
        self, cache: "SemanticCache", questions: "RedisQuestions", *, tags: Sequence[str], notice: Callable[[str, str], None],
        poll_s: float = POLL_S,
    ) -> None:  # fmt: skip
        self.cache, self._questions, self._tags, self._notice, self._poll_s = cache, questions, tags, notice, poll_s
        self._pending: deque[Question | Gone] = deque(maxlen=_PENDING)
        self._place: str | None = None
        self._announced_at = float("-inf")
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_warm(self) -> bool:
        """Whether all that others had was loaded."""
        return self._place is not None

    def start(self) -> None:
        arguments = (weakref.ref(self), self._stop, self._poll_s)
        self._thread = threading.Thread(target=follow, args=arguments, name="promptops-warm", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell what is still to be told, and end."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2.0)
        try:
            with self._turn:
                self._tell()
        except StateError:
            _LOG.debug("the last shared questions were not told")

    def add(self, tenant: str, partition: str, key: str, *, text: str, answer: str, keep_s: float) -> None:
        """A question was answered here."""
        from promptops.runtime.state.redis_questions import Question

        if text.strip() and keep_s > 0:
            self._pending.append(
                Question(tenant=tenant, partition=partition, key=key, keep_s=keep_s, answer=answer, text=text)
            )

    def forget(self, tenant: str, partition: str, key: str) -> None:
        """The answer of a question is gone or bad."""
        from promptops.runtime.state.redis_questions import Gone

        self._pending.append(Gone(tenant=tenant, partition=partition, key=key))

    def alone(self, reason: str) -> None:
        self._notice("semantic_alone", reason)

    def exchange(self) -> None:
        """Load all the first time, else take in what others changed; then tell them. Raises StateError."""
        from promptops.runtime.state.redis_questions import Behind

        with self._turn:
            if self._place is None:
                self._load()
            else:
                try:
                    self._hear(self._place)
                except Behind:
                    self.cache.clear()
                    self._load()
            self._tell()

    def _load(self) -> None:
        begun, count = time.monotonic(), 0
        place = self._questions.end()
        for portion in self._questions.all():
            self._take(portion)
            count += len(portion)
            if self._stop.wait(_REST_S):
                return
        self._place = place
        self._notice("semantic_warm", f"{count} shared questions in {time.monotonic() - begun:.1f} s")

    def _hear(self, place: str) -> None:
        while True:
            following, changes = self._questions.since(place)
            self._take(changes)
            if following == place:
                return
            self._place = place = following

    def _take(self, changes: "Iterable[Question | Gone]") -> None:
        from promptops.runtime.state.redis_questions import Question

        for item in changes:
            if isinstance(item, Question):
                self.cache.add(
                    item.partition, item.key, item.text, answer=item.answer, ttl_s=item.keep_s, owner=item.tenant
                )
            elif item.partition:
                self.cache.forget(item.partition, item.key)
            else:
                self._drop_pending(item.tenant)
                self.cache.drop(item.tenant) if item.tenant else self.cache.clear()

    def _drop_pending(self, tenant: str) -> None:
        """What was forgotten meanwhile is not told again."""
        for _ in range(len(self._pending)):
            item = self._pending.popleft()
            if tenant and item.tenant != tenant:
                self._pending.append(item)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._announced_at > _ANNOUNCE_S:
            self._questions.announce(self._tags)
            self._announced_at = now
        while self._pending:
            portion = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
            try:
                self._questions.change(portion)
            except StateError:
                self._pending.extendleft(reversed(portion))
                raise


class Follower(Protocol):
    """What a thread keeps going."""

    def exchange(self) -> None: ...

    def alone(self, reason: str) -> None:
        """Told once when an exchange fails after one that did not."""
        ...


def follow(reference: "Callable[[], Follower | None]", stop: threading.Event, poll_s: float) -> None:
    """Exchange every `poll_s` seconds, until told to stop or until it is gone (`reference` is weak)."""
    failing = False
    while True:
        follower = reference()
        if follower is None:
            return
        try:
            follower.exchange()
            failing = False
        except StateError as error:
            if not failing:
                failing = True
                follower.alone(str(error)[:200])
        except Exception:  # noqa: BLE001 - a cache is never worth an end of its thread
            _LOG.exception("what replicas share could not be exchanged")
        del follower
        if stop.wait(poll_s):
            return
