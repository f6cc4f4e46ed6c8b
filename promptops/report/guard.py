"""What is to be done with a canary, on a terminal and as JSON."""

from typing import Any

from rich.console import Group, RenderableType

from promptops.audit.guard import Guard
from promptops.report.show import show
from promptops.report.tables import command, headline, next_line


def acting_command(found: Guard) -> str:
    """The command that does what is called for; '' when nothing is."""
    return (
        command("promptops", found.act, found.prompt, "--channel", found.channel, "--reason", found.reason)
        if found.act and found.is_due
        else ""
    )


def render_guard(found: Guard, source: str, *, acted: bool) -> RenderableType:
    """The answer, the findings that call for it, and the command that would follow; `acted` when it was done."""
    what = f"{found.prompt} on {found.channel}: {found.canary} ({found.percent}%) beside {found.control}"
    if found.act is None:
        parts: list[RenderableType] = [headline("KEEP", "green", f"{what}: nothing the policy names")]
    elif not found.is_due:
        parts = [headline("HELD", "yellow", f"{what}: a hold is called for and in force")]
    else:
        parts = [headline("ROLL BACK" if found.act == "rollback" else "HOLD", "red", what)]
    parts += [show(f"  {trigger.act}, {trigger.origin}: {trigger.said}", "red") for trigger in found.triggers]
    parts += [show(f"  not the canary: {said}", "dim") for said in found.passed_over]
    if found.is_due and not acted:
        parts.append(show("nothing was changed; with --act it does this by itself:", "dim"))
    if not acted:  # what was done says what comes next
        parts.append(
            next_line(
                acting_command(found) or command("promptops", "canary", "status", found.prompt, "--events", source)
            )
        )
    return Group(*parts)


def guard_json(found: Guard, *, acted: bool) -> dict[str, Any]:
    """Stable keys."""
    return {
        "prompt": found.prompt, "channel": found.channel, "control": found.control, "canary": found.canary, "percent": found.percent, "held": found.held,
        "act": found.act, "due": found.is_due, "acted": acted, "reason": found.reason, "command": acting_command(found),
        "triggers": [{"origin": item.origin, "metric": item.metric, "act": item.act, "text": item.said} for item in found.triggers],
        "passed_over": list(found.passed_over),
    }  # fmt: skip
