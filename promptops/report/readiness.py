"""Readiness on a terminal, as JSON, as Markdown, and as a card of one page for auditors."""

import re
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.audit.checklist import FUNCTIONS, Finding
from promptops.audit.readiness import Readiness, counts
from promptops.core.digest import short
from promptops.core.version import __version__
from promptops.report.html import asset, environment, policy
from promptops.report.show import escape, show
from promptops.report.tables import command, headline, next_line, table

_STYLE = {"PASS": "green", "FAIL": "red", "WAIVED": "yellow"}
_TONE = {"PASS": "good", "FAIL": "bad", "WAIVED": "warn"}
_ORDER = ("FAIL", "WAIVED", "PASS")


def render_readiness(found: Readiness) -> RenderableType:
    """The answer, what fails with what to do, then the rest."""
    word, text = _answer(found)
    parts: list[RenderableType] = [headline(word, _STYLE["PASS" if word == "READY" else "FAIL"], text), show(_about(found), "dim"), Text("")]  # fmt: skip
    grid = table("state", "item", "evidence")
    for item in _sorted(found):
        grid.add_row(Text(item.state, _STYLE[item.state]), item.item.id, show(_evidence(item)))
    parts.append(grid)
    if found.failed:
        parts.append(Text("\nTo do"))
        for item in found.failed:
            parts.append(show(f"- {item.item.title} ({item.item.id}): {item.todo.words}"))
            parts += [show(f"    {line}", "cyan") for line in item.todo.run]
    parts.append(next_line(command(*found.asked.words, "-o", "card.html")))
    return Group(*parts)


def readiness_json(found: Readiness) -> dict[str, Any]:
    """Stable keys."""
    return {
        "prompt": found.asked.name, "channel": found.asked.channel, "commit": found.commit, "subject": found.subject, "model": found.model, "live": found.live,
        "at": found.at, "ready": not found.failed, "counts": counts(found.findings), "description": found.description, "owners": list(found.owners),
        "items": [_item_json(item) for item in found.findings],
    }  # fmt: skip


def readiness_markdown(found: Readiness) -> str:
    """The card as Markdown."""
    word, text = _answer(found)
    lines = [f"# {found.asked.name}: {word}", "", _plain(text), "", *(f"- {label}: {_plain(value)}" for label, value in _facts(found)), "",
             "| state | item | evidence | NIST AI RMF |", "| --- | --- | --- | --- |"]  # fmt: skip
    lines += [f"| {item.state} | {item.item.title} | {_plain(_evidence(item))} | {', '.join(item.item.functions)} |" for item in _sorted(found)]  # fmt: skip
    lines += [
        "",
        *(
            f"- To do, {item.item.id}: {_plain(item.todo.words)}{''.join(f'; run {_plain(line)}' for line in item.todo.run)}"
            for item in found.failed
        ),
    ]
    return "\n".join(lines).rstrip() + f"\n\npromptops {__version__}\n"


def readiness_page(found: Readiness) -> str:
    """The card as a page that needs nothing else: each item once, then which of them serve which function."""
    css = asset("report.css") + asset("readiness.css")
    word, text = _answer(found)
    facts = [{"label": label, "value": escape(value)} for label, value in _facts(found)]
    rows = [
        {"id": item.item.id, "state": item.state, "tone": _TONE[item.state], "title": item.item.title, "evidence": escape(_evidence(item)),
         "functions": ", ".join(item.item.functions), "todo": escape(item.todo.words) if item.state == "FAIL" else "",
         "run": "\n".join(escape(line) for line in item.todo.run) if item.state == "FAIL" else ""}
        for item in _sorted(found)]  # fmt: skip
    served = {function: [row for row in rows if function in row["functions"].split(", ")] for function in FUNCTIONS}
    groups = [{"title": function.capitalize(), "passed": sum(row["state"] == "PASS" for row in serving), "rows": serving} for function, serving in served.items()]  # fmt: skip
    page: str = environment().render_template(
        "readiness.html", title=f"{found.asked.name}: readiness", css=css, csp=policy(css), word=word, tone="good" if word == "READY" else "bad",
        name=found.asked.name, headline=escape(text), about=facts[:2], facts=facts[2:], rows=rows,
        groups=groups, footer=f"promptops {__version__}; subject {found.subject}; commit {found.commit}",
    )  # fmt: skip
    return page


def _answer(found: Readiness) -> tuple[str, str]:
    number = counts(found.findings)
    tail = f"{number['PASS']} of {len(found.findings)} items pass, {number['WAIVED']} waived"
    return ("NOT READY", f"{found.asked.name}: {number['FAIL']} items fail, {tail}") if found.failed else ("READY", f"{found.asked.name}: {tail}")  # fmt: skip


def _about(found: Readiness) -> str:
    return f"commit {found.commit[:12]}, subject {short(found.subject)}, model {found.model}, {found.asked.channel} serves {found.live or 'nothing'}"  # fmt: skip


def _facts(found: Readiness) -> list[tuple[str, str]]:
    return [("Purpose", found.description or "not stated"), ("Owners", ", ".join(found.owners) or "not stated"), ("Model", found.model),
            ("Served", f"{found.asked.channel}: {found.live or 'nothing'}"), ("Commit", found.commit[:12]), ("Looked at", found.at[:16].replace("T", " ") + " UTC")]  # fmt: skip


def _sorted(found: Readiness) -> list[Finding]:
    return sorted(found.findings, key=lambda item: _ORDER.index(item.state))


def _evidence(item: Finding) -> str:
    if item.waiver is None:
        return item.evidence
    waiver = item.waiver
    word = "waived" if item.state == "WAIVED" else "waiver ran out:"
    return f"{item.evidence}; {word} by {waiver.by} until {waiver.until}: {waiver.why}"


def _plain(text: str) -> str:
    """Text that is no markup and stays in its cell."""
    return re.sub(r"([\\`*_\[\]<>|!#])", r"\\\1", escape(text).replace("\n", " "))


def _item_json(item: Finding) -> dict[str, Any]:
    waiver = item.waiver
    return {
        "id": item.item.id, "title": item.item.title, "state": item.state, "evidence": item.evidence, "functions": list(item.item.functions),
        "todo": item.todo.words, "run": list(item.todo.run), "waiver": {"by": waiver.by, "why": waiver.why, "until": waiver.until.isoformat()} if waiver else None,
    }  # fmt: skip
