"""What became of each part of a foreign file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from promptops.core.jsontext import Json

Status = Literal["kept", "changed", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One part of a foreign file: where it stands, what it is, what became of it, and why (what to do instead)."""

    where: str
    what: str
    status: Status
    why: str = ""
    hint: str = ""

    def as_dict(self) -> dict[str, Json]:
        return {"where": self.where, "what": self.what, "status": self.status, "why": self.why, "hint": self.hint}


@dataclass(slots=True)
class Losses:
    """Collects fates while a file is read."""

    fates: list[Fate] = field(default_factory=list)

    def kept(self, where: str, what: str) -> None:
        self.fates.append(Fate(where=where, what=what, status="kept"))

    def changed(self, where: str, what: str, why: str, hint: str = "") -> None:
        self.fates.append(Fate(where=where, what=what, status="changed", why=why, hint=hint))

    def lost(self, where: str, what: str, why: str, hint: str = "") -> None:
        self.fates.append(Fate(where=where, what=what, status="lost", why=why, hint=hint))


def counts(fates: Sequence[Fate]) -> dict[Status, int]:
    """How many parts were kept, changed and lost."""
    found = Counter(fate.status for fate in fates)
    return {"kept": found["kept"], "changed": found["changed"], "lost": found["lost"]}
