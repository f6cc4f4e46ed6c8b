"""What doctor found, and the rules to set on the server."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.release.doctor import Examination
from promptops.report.show import show
from promptops.report.tables import count, headline, table


def render_doctor(found: Examination) -> RenderableType:
    """What is wrong first, then what is fine, then the rules."""
    wrong = [item for item in found.findings if item.level == "fail"]
    said = f"{count(len(wrong), 'thing')} to repair before you can release" if wrong else "this clone can release"
    parts: list[RenderableType] = [headline("FAIL" if wrong else "OK", "red" if wrong else "green", said)]
    grid = table("", "what", "found", "do")
    order = {"fail": 0, "note": 1, "ok": 2}
    for item in sorted(found.findings, key=lambda finding: order[finding.level]):
        grid.add_row(item.level, item.what, show(item.detail), show(item.hint))
    rules = table("for", "rule")
    for what, rule in found.rules:
        rules.add_row(what, rule)
    return Group(*parts, grid, Text(""), Text("Rules to set on the server (this command cannot see them):"), rules)


def doctor_json(found: Examination) -> dict[str, Any]:
    return {"ok": not found.failed, "findings": [asdict(item) for item in found.findings],
            "server_rules": [{"for": what, "rule": rule} for what, rule in found.rules]}  # fmt: skip
