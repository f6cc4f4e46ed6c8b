"""When people must next look at answers: within any `every_days` days, `sample` of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from promptops.core.suite import ReviewPolicy
from promptops.project.labels import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewDue:
    """`recent` of the wanted answers were labelled in the last `every_days` days; `due_at` is None when there never were enough."""

    prompt: str
    policy: ReviewPolicy
    recent: int
    due_at: datetime | None
    last_at: datetime | None
    overdue: bool
    days_left: int

    @property
    def fails(self) -> bool:
        """Whether this is a reason to stop a pipeline."""
        return self.overdue and self.policy.required


def review_due(prompt: str, policy: ReviewPolicy, labels: Iterable[Label], now: datetime) -> ReviewDue:
    """The state of the periodic review. Each answer counts once, at its latest label; labels dated in the future count as of now."""
    latest: dict[tuple[str, str], datetime] = {}
    for label in labels:
        key = (label.case_id, label.answer_digest)
        at = min(datetime.fromisoformat(label.at), now)
        latest[key] = max(at, latest.get(key, at))
    times = sorted(latest.values(), reverse=True)
    period = timedelta(days=policy.every_days)
    due_at = times[policy.sample - 1] + period if len(times) >= policy.sample else None
    overdue = due_at is None or now >= due_at
    return ReviewDue(
        prompt=prompt, policy=policy, recent=sum(now - at < period for at in times), due_at=due_at, last_at=times[0] if times else None,
        overdue=overdue, days_left=0 if due_at is None else (due_at - now).days,
    )  # fmt: skip
