"""The frame around one call, the same for both transports: one deadline, one attempt, its latency, and no key in what comes back."""

import asyncio
import time
import zlib
from collections.abc import Awaitable
from dataclasses import dataclass

from promptops.models.base import Answer
from promptops.models.body import MAX_RESPONSE_BYTES, TooLarge
from promptops.models.secret import Secret

Errors = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How calls to one server end.

    `lost` are the exceptions of a transport for a broken connection; `late` and `unsent`, some of them, for its own deadline
    and for a connection that never came to be. Without `timeout_s` the caller sets the deadline.
    """

    host: str
    key: Secret
    timeout_s: float | None
    lost: Errors
    late: Errors = ()
    unsent: Errors = ()

    async def around(self, call: Awaitable[Answer]) -> Answer:
        """The answer of a call, whatever happens to it; foreign exceptions end here."""
        started = time.perf_counter()
        try:
            if self.timeout_s is None:
                answer = await call
            else:
                async with asyncio.timeout(self.timeout_s):
                    answer = await call
        except (TimeoutError, *self.late):  # type: ignore[misc]
            limit = "" if self.timeout_s is None else f" within {self.timeout_s:g} s"
            answer = Answer(outcome="timeout", detail=f"no answer{limit}")
        except TooLarge:
            answer = Answer(outcome="too_large", detail=f"more than {MAX_RESPONSE_BYTES} bytes")
        except (*self.lost, OSError, UnicodeError, zlib.error) as error:  # type: ignore[misc]
            sent = not isinstance(error, self.unsent) and not isinstance(error.__cause__, self.unsent)
            answer = Answer(outcome="connection", detail=f"{cause_of(error)} at {self.host}", sent=sent)
        return self.key.redact_answer(answer).after(time.perf_counter() - started)


def cause_of(error: BaseException) -> str:
    """What kind of connection failure it was, without addresses, keys or paths."""
    inner = getattr(error, "os_error", None) or error.__cause__ or error
    return str(getattr(inner, "strerror", None) or type(inner).__name__)
