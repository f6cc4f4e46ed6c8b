"""Until when a release is meant to be served: past that, or by a clock that cannot be right, it is served on and says so."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_SKEW_S = 86_400.0
"""A clock this much before the release is wrong; less is the zone or the drift of somebody's machine."""


def expiry_of(released_at: str, days: int) -> str:
    """When a release expires, as in the manifest; '' for never (`days` 0). Raises ValueError for no date, or one out of range."""
    if not days:
        return ""
    try:
        at = datetime.fromisoformat(released_at)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        at += timedelta(days=days)
    except OverflowError as error:
        raise ValueError(f"{days} days after {released_at} is no date") from error
    return at.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a release was made and when it expires, in seconds of the Unix epoch."""

    released_s: float
    expires_s: float
    expires: str

    @classmethod
    def of(cls, expires: str, days: int) -> "Expiry | None":
        """What a manifest says; None when the release never expires. Raises ValueError for a date that is none."""
        if not expires:
            return None
        at = datetime.fromisoformat(expires).timestamp()
        return cls(at - days * 86_400, at, expires)

    def state(self, now_s: float) -> tuple[str, str]:
        """`expired` or `clock_wrong` with the reason, by a wall clock; two '' while all is well."""
        if now_s >= self.expires_s:
            return "expired", f"since {self.expires}; it is served until another bundle is installed"
        if not now_s >= self.released_s - _SKEW_S:  # also for a clock that gives no number
            return "clock_wrong", f"the clock is before the release; whether it expired ({self.expires}) is not known"
        return "", ""
