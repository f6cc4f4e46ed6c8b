"""How far requests are from the golden cases, on a terminal and as JSON; no text of a customer is shown."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.audit.inputs import InputDrift
from promptops.report.show import show
from promptops.report.tables import command, headline, next_line, p_value, table


def render_inputs(found: InputDrift) -> RenderableType:
    word, style = ("DIFFERENT", "yellow") if found.differs else ("ALIKE", "green")
    differing = ", ".join(test.what for test in found.tests if test.differs) or "nothing that can be told"
    grid = table("compared", "adjusted p>", "golden -> requests")
    for test in found.tests:
        grid.add_row(test.what, p_value(test.p_adjusted), show(test.said))
    parts: list[RenderableType] = [
        headline(word, style, f"{found.prompt}: {found.golden} golden cases and {found.sampled} of {found.requests} requests differ in {differing}"),
        Text(""), grid,
    ]  # fmt: skip
    if found.far:
        far = table("request", "category", "language", "characters>", "likeness>")
        for asked, likeness in found.far:
            far.add_row(
                show(asked.id, limit=60),
                show(asked.category or "-", limit=40),
                show(asked.language or "-", limit=10),
                str(asked.chars),
                f"{likeness:.2f}",
            )
        parts += [Text("least like any golden case; look at these first:"), far]
    elif all(test.what != "words" for test in found.tests):
        parts.append(
            Text("words were not compared: the events have no content (`EventsFile(content=True)`)", style="dim")
        )
    parts.append(next_line(command("promptops", "eval", found.prompt)))
    return Group(*parts)


def inputs_json(found: InputDrift) -> dict[str, Any]:
    """Stable keys."""
    return {
        "prompt": found.prompt, "golden": found.golden, "requests": found.requests, "sampled": found.sampled, "differs": found.differs,
        "tests": [{"what": test.what, "p": test.p, "p_adjusted": test.p_adjusted, "differs": test.differs, "text": test.said} for test in found.tests],
        "far": [{"id": asked.id, "category": asked.category, "language": asked.language, "chars": asked.chars, "likeness": likeness} for asked, likeness in found.far],
    }  # fmt: skip
