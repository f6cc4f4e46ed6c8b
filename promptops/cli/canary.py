"""promptops canary ...: whether a canary may have all the traffic."""

from typing import TYPE_CHECKING, Annotated

import typer

from promptops.cli.events import Events, wanted_events
from promptops.core.errors import DataError, ExitCode

if TYPE_CHECKING:
    from promptops.audit.canary import Canary
    from promptops.audit.guard import Guard, Policy
    from promptops.release.channels import ChannelState

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Whether a canary may have all the traffic."""


@app.command("status")
def status(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    events: Events = "",
    channel: Annotated[str, typer.Option(metavar="CHANNEL", help="The channel that has a canary.")] = "prod",
    control: Annotated[
        str, typer.Option(metavar="VERSION", help="With --canary: compare these versions, whatever the channel says.")
    ] = "",
    canary: Annotated[str, typer.Option(metavar="VERSION", help="See --control.")] = "",
    every: Annotated[str, typer.Option(metavar="hour|minute", help="How traffic is cut into buckets.")] = "hour",
    apply: Annotated[
        bool, typer.Option("--apply", help="Promote or roll back as decided; without it nothing is changed.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="With --apply: write it in this clone only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Compare a canary with what it may replace.

    Exits 1 when the canary is worse in errors, fallbacks, rejections, refusals, feedback, latency or cost.
    """
    from promptops.audit.canary import compare_canary
    from promptops.audit.sources import read_traffic
    from promptops.cli.output import emit, emit_json
    from promptops.report.canary import canary_json, render_canary
    from promptops.runtime.telemetry.stream import shown_address

    address = _events_address(events, every)
    if bool(control) != bool(canary) or (control and apply):
        raise DataError(
            "--control and --canary go together, and without --apply", hint="or leave them out: the channel knows"
        )
    old, new = (control, canary) if control else _of_channel(name, channel)
    traffic = read_traffic(address, every="minute" if every == "minute" else "hour")
    found = compare_canary(traffic, name, control=old, canary=new)
    then = _next(found, channel, shown_address(address))
    if as_json:
        emit_json({**canary_json(found, then), "applied": apply and found.decision != "wait"})
    else:
        emit(render_canary(found, then))
    if apply and found.decision != "wait":
        _apply(found, channel, offline=offline, quiet=as_json)
    return ExitCode.GATE if found.decision == "abort" else ExitCode.OK


@app.command("guard")
def guard(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A prompt.")],
    events: Events = "",
    channel: Annotated[str, typer.Option(metavar="CHANNEL", help="The channel that has a canary.")] = "prod",
    every: Annotated[str, typer.Option(metavar="hour|minute", help="How traffic is cut into buckets.")] = "hour",
    reference: Annotated[
        int, typer.Option(min=1, metavar="BUCKETS", help="How many first buckets say what is usual, for drift.")
    ] = 72,
    act: Annotated[bool, typer.Option("--act", help="Do it; without it the command is printed.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the remote, and write in this clone only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Hold or roll back a canary by policy.

    The section `monitor` of the suite, as it is on the protected branch, says which findings call for it. Exits 1 when one does.
    """
    from promptops.cli.channels import desk_here
    from promptops.cli.output import emit, emit_json
    from promptops.release.names import Version
    from promptops.release.operate import Wanted, operate
    from promptops.release.status import read_status
    from promptops.report.guard import guard_json, render_guard
    from promptops.report.release import render_done
    from promptops.report.show import show
    from promptops.runtime.telemetry.stream import shown_address

    address = _events_address(events, every)
    desk = desk_here(online=not offline)
    policy = (
        desk.project.at(desk.rules_at).load(name).suite.monitor
        if desk.rules_at
        else desk.project.load(name).suite.monitor
    )
    rows = {row.state.channel: row.state for row in read_status(desk, name, offline=offline).rows}
    state = rows.get(channel)
    if state is None or state.canary is None or state.live is None:
        if as_json:
            emit_json({"prompt": name, "channel": channel, "canary": None, "act": None, "due": False, "acted": False})
        else:
            emit(show(f"NO CANARY  {name} has none on {channel}: nothing to guard", "green"))
        return ExitCode.OK
    found = _guard(policy, name, address, state, every=every, reference=reference)
    does = act and found.is_due
    wanted = Wanted(
        prompt=name,
        channel=channel,
        action=found.act or "hold",
        reason=found.reason,
        if_current=Version.parse(found.control),
    )
    done = operate(desk, wanted, offline=offline) if does else None
    if as_json:
        emit_json(guard_json(found, acted=does))
    else:
        emit(render_guard(found, shown_address(address), acted=does))
        if done is not None:
            emit(render_done(done, wanted, remote=desk.remote, unsigned=desk.trust.unsigned))
    return ExitCode.GATE if found.act else ExitCode.OK


def _guard(policy: "Policy", name: str, address: str, state: "ChannelState", *, every: str, reference: int) -> "Guard":
    from promptops.audit.canary import compare_canary, ran_together
    from promptops.audit.drift import find_drift
    from promptops.audit.guard import guard_canary, key_of
    from promptops.audit.sources import read_traffic
    from promptops.report.monitor import sentence

    assert state.live, "a canary is beside a live version"
    assert state.canary, "there is a canary"
    traffic = read_traffic(address, every="minute" if every == "minute" else "hour")
    drift = find_drift(traffic, reference=reference)
    say = {key_of(finding): sentence(finding) for finding in drift.alerts}
    compared = None
    if ran_together(traffic, name, state.live.tag, state.canary.tag):
        compared = compare_canary(traffic, name, control=state.live.tag, canary=state.canary.tag)
    return guard_canary(policy, compared, drift, say, prompt=name, channel=state.channel, control=state.live.tag, canary=state.canary.tag,
                        percent=state.percent, held=state.held)  # fmt: skip


def _events_address(events: str, every: str) -> str:
    address = wanted_events(events)
    if every not in {"hour", "minute"}:
        raise DataError(f"--every {every[:40]!r}", hint="hour or minute")
    return address


def _of_channel(name: str, channel: str) -> tuple[str, str]:
    """The live version and the canary. Raises DataError when there is no canary."""
    from promptops.cli.channels import desk_here
    from promptops.release.status import read_status

    rows = {row.state.channel: row.state for row in read_status(desk_here(online=False), name, offline=True).rows}
    state = rows.get(channel)
    if state is None or state.canary is None or state.live is None:
        raise DataError(f"{name} has no canary on {channel}", hint=f"promptops promote {name}@VERSION --to {channel} --percent 5")  # fmt: skip
    return state.live.tag, state.canary.tag


def _reason(found: "Canary") -> str:
    return f"canary: {', '.join(row.metric for row in found.rows if row.verdict == 'worse')} worse than {found.control}"


def _next(found: "Canary", channel: str, address: str) -> str:
    from promptops.report.tables import command

    if found.decision == "abort":
        return command("promptops", "rollback", found.prompt, "--channel", channel, "--reason", _reason(found))
    if found.decision == "promote":
        return command("promptops", "promote", f"{found.prompt}@{found.canary}", "--to", channel)
    return command("promptops", "canary", "status", found.prompt, "--events", address)


def _apply(found: "Canary", channel: str, *, offline: bool, quiet: bool) -> None:
    from promptops.cli.channels import desk_here
    from promptops.cli.output import emit
    from promptops.release.names import parse_pin
    from promptops.release.operate import Wanted, operate
    from promptops.report.release import render_done

    if found.decision == "abort":
        wanted = Wanted(prompt=found.prompt, channel=channel, action="rollback", reason=_reason(found))
    else:
        name, version = parse_pin(f"{found.prompt}@{found.canary}")
        _, live = parse_pin(f"{found.prompt}@{found.control}")
        wanted = Wanted(prompt=name, channel=channel, action="promote", to=version, if_current=live)
    desk = desk_here(online=not offline)
    done = operate(desk, wanted, offline=offline)
    if not quiet:
        emit(render_done(done, wanted, remote=desk.remote, unsigned=desk.trust.unsigned))
