"""What findings about a canary call for by the policy of its suite: nothing, a hold, or a rollback."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from promptops.audit.canary import Canary, Row
from promptops.audit.drift import Drift, Finding
from promptops.core.errors import DataError

Act = Literal["hold", "rollback"]
Origin = Literal["canary", "drift"]
Policy = Mapping[str, Mapping[str, Act]]
"""`canary` and `drift`: what a worse rate calls for, by its name; rates that are not named call for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A finding that the policy names, and what it calls for, with its figures in words."""

    origin: Origin
    metric: str
    act: Act
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is to be done with a canary. `passed_over` are findings that call for nothing, and why."""

    prompt: str
    channel: str
    control: str
    canary: str
    percent: int
    held: bool
    triggers: tuple[Trigger, ...]
    passed_over: tuple[str, ...]

    @property
    def act(self) -> Act | None:
        """The stronger of what is called for."""
        acts = {trigger.act for trigger in self.triggers}
        return "rollback" if "rollback" in acts else "hold" if acts else None

    @property
    def is_due(self) -> bool:
        """Whether something is still to be done: a hold on a channel that is held is not."""
        return self.act == "rollback" or (self.act == "hold" and not self.held)

    @property
    def reason(self) -> str:
        """What is kept with the event: the figures of the findings that call for it."""
        said = [f"{trigger.origin}: {trigger.said}" for trigger in self.triggers if trigger.act == self.act]
        text = "; ".join(said)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


_LONGEST = 900


def guard_canary(
    policy: Policy, found: Canary | None, drift: Drift, say: "Mapping[str, str]", *, prompt: str, channel: str, control: str, canary: str, percent: int, held: bool
) -> Guard:  # fmt: skip
    """Bring findings and policy together.

    A rate that drifted counts against the canary only when it began to move once the canary had requests: what moved before has another cause.
    `found` is None while there is nothing to compare; `say` has the words for each drift finding, by `key_of`. Raises DataError without a policy.
    """
    if not policy:
        raise DataError(f"{prompt} has no policy for canaries", where=f"golden/{prompt}.yaml", hint="add `monitor: {canary: {errors: rollback}}`; docs/operate.md has all of it")  # fmt: skip
    drifted, passed_over = _of_drift(policy, found, drift, say, prompt)
    triggers = [*_of_canary(policy, found), *drifted]
    return Guard(prompt=prompt, channel=channel, control=control, canary=canary, percent=percent, held=held, triggers=tuple(triggers), passed_over=tuple(passed_over))  # fmt: skip


def _of_canary(policy: Policy, found: Canary | None) -> Iterator[Trigger]:
    for row in found.rows if found else ():
        act = policy.get("canary", {}).get(row.metric)
        if act is not None and row.verdict == "worse":
            assert found, "rows are of something"
            yield Trigger(origin="canary", metric=row.metric, act=act, said=_figures(row, found))


def _figures(row: Row, found: Canary) -> str:
    return (
        f"{row.means} {100 * (row.canary.rate or 0):.1f}% of {row.canary.n} with {found.canary}, {100 * (row.control.rate or 0):.1f}% of {row.control.n} with {found.control}, "
        f"{100 * row.low:+.1f} to {100 * row.high:+.1f} points at every look"
    )  # fmt: skip


def _of_drift(
    policy: Policy, found: Canary | None, drift: Drift, say: Mapping[str, str], prompt: str
) -> tuple[list[Trigger], list[str]]:
    triggers: list[Trigger] = []
    passed_over: list[str] = []
    for finding in drift.alerts:
        act = policy.get("drift", {}).get(finding.metric)
        if act is None or (finding.prompt or prompt) != prompt:
            continue
        said = say[key_of(finding)]
        if found is None or finding.since < found.buckets[0]:
            passed_over.append(f"{said}: it began before the canary had requests")
        else:
            triggers.append(Trigger(origin="drift", metric=finding.metric, act=act, said=said))
    return triggers, passed_over


def key_of(finding: Finding) -> str:
    """One finding among all."""
    return "\0".join((finding.metric, finding.dimension, finding.prompt, finding.value, str(finding.falls)))
