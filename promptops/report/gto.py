"""What GTO's tags say, on the terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.release.gto import GtoReport
from promptops.report.show import show
from promptops.report.tables import count, headline, next_line, table


def render_gto(found: GtoReport) -> RenderableType:
    """Versions and stages; where the order by number and by date disagree, both are shown."""
    number = found.disagreements
    word, style = ("READ", "green") if not number else ("DISAGREE", "yellow")
    text = (
        f"{count(len(found.tags), 'GTO tag')} of {count(len(found.versions), 'artifact')}; order by number and by date "
    )
    text += (
        "agree" if not number else f"disagree in {count(number, 'place')}: promptops follows numbers, GTO follows dates"
    )
    grid = table("artifact", "versions>", "newest by number", "newest by date")
    for name, known in found.versions.items():
        newest = known[-1] if known else "-"
        grid.add_row(show(name), str(len(known)), newest, found.latest_by_date[name] or "-")
    parts: list[RenderableType] = [headline(word, style, text), grid]
    if found.stages:
        stages = table("artifact", "stage", "by number", "by date", "tags")
        for item in found.stages:
            tags = (
                item.tag_by_number
                if item.tag_by_number == item.tag_by_date
                else f"{item.tag_by_number}, {item.tag_by_date}"
            )
            stages.add_row(show(item.name), show(item.stage), show(item.by_number or "nothing"), show(item.by_date or "nothing"), show(tags),
                           style="yellow" if item.disagree else "")  # fmt: skip
        parts += [Text(""), stages]
    if found.strange:
        parts += [Text(""), show(f"not GTO's: {', '.join(found.strange[:10])}", style="dim")]
    return Group(
        *parts, Text(""), next_line("promptops release NAME, then promptops promote NAME@VERSION --to CHANNEL")
    )
