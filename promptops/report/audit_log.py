"""The audit trail as a table, as CSV and as JSON."""

import csv
import io
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.release.audit_log import AuditLog
from promptops.report.release import UNSIGNED
from promptops.report.show import show
from promptops.report.tables import count, headline, table

COLUMNS = ("at", "actor", "action", "prompt", "what", "why", "signature", "signature_why", "ref")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_audit_log(found: AuditLog) -> RenderableType:
    """Oldest first, as an auditor reads it; what does not count is said before the table."""
    word = (
        ("REFUSED", "red", f"{count(len(found.faults), 'record')} do not count")
        if found.faults
        else ("AUDIT LOG", "green", count(len(found.lines), "record"))
    )
    parts: list[RenderableType] = [headline(*word)]
    parts += [show(f"fault: {fault}") for fault in found.faults]
    grid = table("at", "who", "what", "why", "signature")
    for line in found.lines:
        what = line.what if line.order else f"{line.action} {line.what}"
        grid.add_row(line.at[:16].replace("T", " "), show(line.actor, limit=28), show(f"{line.prompt}: {what}", limit=120),
                     show(line.why, limit=120), line.signature)  # fmt: skip
    if found.lines:
        parts.append(grid)
    parts.append(Text(f"signatures judged by the signers of {found.signers_of}; times are what each record states"))
    if found.unsigned:
        parts.append(Text(UNSIGNED))
    return Group(*parts)


def audit_json(found: AuditLog) -> dict[str, Any]:
    return {
        "records": [asdict(line) for line in found.lines],
        "faults": list(found.faults),
        "signers_of": found.signers_of,
        "unsigned": found.unsigned,
    }


def audit_csv(found: AuditLog) -> str:
    """RFC 4180 with a header; a text that a spreadsheet would run as a formula is prefixed with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for line in found.lines:
        row = asdict(line)
        writer.writerow([_defused(str(row[column])) for column in COLUMNS])
    return out.getvalue()


def _defused(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
