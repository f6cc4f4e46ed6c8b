"""Inputs to be labelled, from the events of services: why each, how often it came, and the input with personal data masked."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.audit.candidates import Candidates
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line, table

_LONGEST = 70


def render_candidates(found: Candidates, name: str, source: str) -> RenderableType:
    """The reason of each, in the order in which they are worth a person's time."""
    if not found.chosen:
        return Group(
            headline("NOTHING TO ADD", "green", f"{name}: nothing in {source} speaks against the golden cases"),
            *_said(found),
        )
    kinds = ", ".join(
        f"{sum(item.kind == kind for item in found.chosen)} {kind}"
        for kind in dict.fromkeys(item.kind for item in found.chosen)
    )
    grid = table("", "why", "requests>", "request", "input")
    for place, item in enumerate(found.chosen, 1):
        text = " ".join(item.text.split())
        grid.add_row(str(place), show(item.reason, limit=60), str(item.requests), show(item.id, limit=30), show(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"))  # fmt: skip
    return Group(
        headline("SUGGESTED", "green", f"{name}: {count(len(found.chosen), 'input')} to label, {kinds}"), grid, *_said(found), Text(""),
        next_line(command("promptops", "golden", "add", name, "--from-events", source, "-k", str(len(found.chosen)))),
    )  # fmt: skip


def _said(found: Candidates) -> list[RenderableType]:
    lines = [f"{found.replies} of {found.all_replies} replies have their texts"]
    lines += [f"{number} left out: {why}" for why, number in sorted(found.skipped.items())]
    lines += (
        [f"{count(found.unfit, 'input')} left out: with its personal data masked it is no input of the prompt"]
        if found.unfit
        else []
    )
    return [show(line, "dim") for line in lines]


def candidates_json(found: Candidates, name: str) -> dict[str, Any]:
    """Stable keys; inputs as they would be written."""
    return {
        "prompt": name, "replies": found.all_replies, "with_texts": found.replies, "found": dict(found.found), "skipped": dict(found.skipped), "unfit": found.unfit,
        "masked": dict(found.masked), "suggestions": [asdict(item) for item in found.chosen],
    }  # fmt: skip
