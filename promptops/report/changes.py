"""What changed in a prompt, on the terminal and as JSON."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.checks.base import brief
from promptops.core.jsontext import Json, canonical_json
from promptops.core.money import format_usd
from promptops.release.changes import Counted, PromptDiff, Quality, QualityRow
from promptops.release.sides import Side
from promptops.report.show import escape, show
from promptops.report.tables import command, count, next_line, percent, points, points_interval, table
from promptops.report.words import marked_lines, pieces_json, word_diff

_NAMED = 8
_BUMP_WHY = {
    "major": "callers or readers must follow",
    "minor": "the content changed",
    "patch": "nothing a model sees changed",
}


def render_diff(found: PromptDiff) -> RenderableType:
    """What changed in one line, then texts, schemas, settings, price and quality; parts without a change are left out."""
    parts: list[RenderableType] = [Text.assemble((found.name, "bold"), f"  {escape(found.before.label)} -> {escape(found.after.label)}: ",
                                                 escape(summary_line(found)))]  # fmt: skip
    for message in found.changed_messages:
        lines = marked_lines(word_diff(message.before or "", message.after or ""))
        state = " (new)" if message.before is None else " (removed)" if message.after is None else ""
        parts += [Text(""), Text(f"{message.role}:{state}", style="bold"), *lines]
    if found.schemas:
        parts += [Text(""), Text("schemas", style="bold"), _schemas(found)]
    if found.settings:
        parts += [Text(""), Text("settings", style="bold"), _settings(found)]
    for title, counted in (("few-shot examples", found.examples), ("knowledge", found.knowledge)):
        if counted:
            parts += [Text(""), Text(title, style="bold"), *_counted(counted)]
    parts += [Text(""), *_price(found), *_quality(found)]
    return Group(*parts, Text(""), next_line(_next(found)))


def diff_text(found: PromptDiff) -> str:
    """Texts, schemas and settings as plain lines, for a code block; '' when none of them changed."""
    lines: list[str] = []
    for message in found.changed_messages:
        lines += [
            f"{message.role}:",
            *(line.plain for line in marked_lines(word_diff(message.before or "", message.after or ""))),
            "",
        ]
    lines += [
        f"{'BREAKING' if change.breaking else 'compatible'}  {change.side}{change.where}: {change.what}"
        for change in found.schemas
    ]
    lines += [
        f"{item.name}: {brief(_value(item.before), 160)} -> {brief(_value(item.after), 160)}" for item in found.settings
    ]
    for title, counted in (("few-shot examples", found.examples), ("knowledge", found.knowledge)):
        lines += [f"{title}, {line.plain}" for line in _counted(counted)]
    return "\n".join(lines).rstrip()


def summary_line(found: PromptDiff) -> str:
    """What changed, and the version it needs."""
    if found.same_content and not found.settings:
        return "no change"
    changes = [
        (len(found.changed_messages), "message"), (len(found.breaking), "breaking schema change"),
        (len(found.schemas) - len(found.breaking), "compatible schema change"), (len(found.settings), "setting"),
        (sum(map(len, (found.examples.added, found.examples.removed, found.examples.changed))), "few-shot row"),
        (sum(map(len, (found.knowledge.added, found.knowledge.removed, found.knowledge.changed))), "passage"),
    ]  # fmt: skip
    named = ", ".join(count(number, noun) for number, noun in changes if number)
    return f"{named or 'other content'}; needs a {found.bump} version ({_BUMP_WHY[found.bump]})"


def _schemas(found: PromptDiff) -> RenderableType:
    grid = table("", "where", "change")
    grid.show_header = False
    for change in found.schemas:
        word = Text("BREAKING", style="bold red") if change.breaking else Text("compatible", style="green")
        grid.add_row(word, show(f"{change.side}{change.where}"), show(change.what))
    return grid


def _settings(found: PromptDiff) -> RenderableType:
    grid = table("", "before", "after")
    for change in found.settings:
        grid.add_row(show(change.name), show(_value(change.before), limit=60), show(_value(change.after), limit=60))
    return grid


def _value(value: Json) -> str:
    return "-" if value is None else value if isinstance(value, str) else canonical_json(value).decode()


def _counted(counted: Counted) -> list[Text]:
    rows = (
        (counted.added, "added", "green"),
        (counted.removed, "removed", "red"),
        (counted.changed, "changed", "yellow"),
    )
    return [Text.assemble((f"{word}: ", style), show(_names(names))) for names, word, style in rows if names]


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _price(found: PromptDiff) -> list[RenderableType]:
    if found.prices is None:
        return [Text(f"tokens and price: not estimated, {escape(found.why_no_price)}", style="dim")]
    before, after = found.prices
    tokens = f"about {before.input_tokens:.0f} -> {after.input_tokens:.0f} input tokens a request ({_change(before.input_tokens, after.input_tokens)})"
    over = f", over {count(found.priced_cases, 'golden case')}"
    if before.cost_nanousd is None or after.cost_nanousd is None:
        cost = "price unknown: a model is not configured"
    elif before.cost_nanousd == after.cost_nanousd == 0:
        cost = "nothing to pay"
    else:
        limits = f"with answers of {before.output_limit} and {after.output_limit} tokens" if before.output_limit != after.output_limit else f"with answers of {after.output_limit} tokens"  # fmt: skip
        cost = f"{format_usd(1000 * before.cost_nanousd)} -> {format_usd(1000 * after.cost_nanousd)} for 1,000 requests {limits}"
    return [Text(f"{tokens}{over}; {cost}")]


def _change(before: float, after: float) -> str:
    return "no change" if round(before) == round(after) else f"{100 * (after - before) / before:+.0f}%"


def _quality(found: PromptDiff) -> list[RenderableType]:
    quality = found.quality
    if quality is None:
        return [Text(f"quality: not compared, {escape(found.why_no_quality)}", style="dim")]
    grid = table("", "n>", "before>", "after>", "points>", "95% interval>")
    for group in (quality.categories, quality.slices):
        for place, row in enumerate(group):
            grid.add_row(*_cells(row), end_section=place == len(group) - 1)
    grid.add_row(*_cells(quality.total), style="bold")
    head = f"pass rates of {'stored runs' if quality.source == 'runs' else 'the evidence'} {quality.before} and {quality.after} on {quality.model} (no verdict)"
    notes = [Text(escape(quality.note), style="yellow")] if quality.note else []
    return [Text(""), Text(head, style="bold"), *notes, grid]


def _cells(row: QualityRow) -> tuple[str | Text, ...]:
    return (show(row.name), str(row.cases), percent(row.before), percent(row.after), points(row.after - row.before),
            points_interval(row.interval))  # fmt: skip


def _next(found: PromptDiff) -> str:
    if found.quality is not None and found.quality.source == "runs":
        return command("promptops", "compare", found.quality.before, found.quality.after)
    if found.before.kind in ("work tree", "candidate") or found.same_content:
        return command("promptops", "eval", found.name)
    reference = found.before.label if found.before.kind == "ref" else found.before.commit
    words = ["promptops", "eval", found.name, "--against", reference]
    if found.after.kind == "candidate":
        words += ["--candidate", found.after.label.partition("@")[2]]
    elif found.after.commit:
        return command("promptops", "eval", found.name, "--at", found.after.commit)
    return command(*words)


def diff_json(found: PromptDiff) -> dict[str, Any]:
    return {
        "prompt": found.name, "before": _side_json(found.before), "after": _side_json(found.after), "changed": not found.same_content,
        "bump": found.bump, "breaking": bool(found.breaking),
        "messages": [{"role": item.role, "before": item.before, "after": item.after,
                      "words": pieces_json(word_diff(item.before or "", item.after or ""))} for item in found.changed_messages],
        "schemas": [item.as_dict() for item in found.schemas],
        "settings": [{"name": item.name, "before": item.before, "after": item.after} for item in found.settings],
        "examples": _counted_json(found.examples), "knowledge": _counted_json(found.knowledge), "price": _price_json(found),
        "quality": _quality_json(found.quality), "why_no_quality": found.why_no_quality, "why_no_price": found.why_no_price,
    }  # fmt: skip


def _side_json(side: Side) -> dict[str, str]:
    return {"label": side.label, "kind": side.kind, "commit": side.commit, "version": side.version}


def _counted_json(counted: Counted) -> dict[str, list[str]]:
    return {"added": list(counted.added), "removed": list(counted.removed), "changed": list(counted.changed)}


def _price_json(found: PromptDiff) -> dict[str, Any] | None:
    if found.prices is None:
        return None
    names = ("before", "after")
    sides = {name: {"model": item.model, "input_tokens": item.input_tokens, "output_tokens_limit": item.output_limit,
                    "cost_nanousd": item.cost_nanousd} for name, item in zip(names, found.prices, strict=True)}  # fmt: skip
    return {"cases": found.priced_cases, **sides}


def _quality_json(quality: Quality | None) -> dict[str, Any] | None:
    if quality is None:
        return None
    rows = [*quality.categories, *quality.slices, quality.total]
    return {
        "source": quality.source, "before": quality.before, "after": quality.after, "model": quality.model, "note": quality.note,
        "rows": [{"name": row.name, "cases": row.cases, "before": row.before, "after": row.after,
                  "interval": [row.interval.low, row.interval.high]} for row in rows],
    }  # fmt: skip
