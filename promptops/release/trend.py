"""How a prompt did over its versions: one point per content, from stored runs."""

from dataclasses import dataclass

from promptops.core.errors import DataError, PromptopsError, did_you_mean
from promptops.evaluation.plan import Selection
from promptops.evaluation.summary import Row, Summary, summarize
from promptops.project.project import Project
from promptops.project.store import Run, Store
from promptops.release.ledger import read_ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A content that was evaluated in full: `label` is its version, else its commit, else the run."""

    label: str
    released: bool
    summary: Summary

    @property
    def run(self) -> Run:
        return self.summary.run

    def row(self, name: str) -> Row | None:
        return next((row for row in (*self.summary.categories, *self.summary.slices) if row.name == name), None)

    @property
    def cost_nanousd(self) -> float:
        """Mean cost of an answer."""
        total = self.summary.total
        return total.cost_nanousd / max(1, total.scored + total.unscored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Points oldest first; the golden cases may differ between them, and `golden_changed` are the points where they do."""

    prompt: str
    model: str
    points: tuple[Point, ...]

    @property
    def golden_changed(self) -> tuple[int, ...]:
        pairs = zip(self.points, self.points[1:], strict=False)
        return tuple(
            place + 1
            for place, (old, new) in enumerate(pairs)
            if old.run.header.golden_digest != new.run.header.golden_digest
        )

    @property
    def rows(self) -> tuple[str, ...]:
        """Categories and slices of any point, in order."""
        names = {row.name: None for point in self.points for row in (*point.summary.categories, *point.summary.slices)}
        return tuple(names)


def read_trend(store: Store, project: Project, prompt: str, model: str = "") -> Trend:
    """The newest complete run of each content of a prompt, without candidates and partial selections, on one model.

    Without a model it is that of the newest run. Raises DataError when nothing was evaluated in full.
    """
    if prompt not in project.names():
        raise DataError(f"no prompt {prompt[:60]!r}", hint=did_you_mean(prompt, project.names()))
    whole = Selection().as_dict()
    found = [run for run in store.runs(prompt) if run.state == "complete" and not run.header.candidate
             and {**run.header.selection, "first_draw": 0} == whole]  # fmt: skip
    wanted = model or (found[0].header.model if found else "")
    newest: dict[str, Run] = {}
    for run in found:
        if run.header.model == wanted:
            newest.setdefault(run.header.subject, run)
    if not newest:
        raise DataError(
            f"no complete run of {prompt}" + (f" on {model}" if model else ""),
            hint=f"make one with `promptops eval {prompt}`",
        )
    versions = _versions(project, prompt)
    return Trend(
        prompt=prompt, model=wanted, points=tuple(_point(store, run, versions) for run in reversed(newest.values()))
    )


def _point(store: Store, run: Run, versions: dict[str, str]) -> Point:
    header = run.header
    version = versions.get(header.subject) or versions.get(header.prompt_digest)
    return Point(
        label=version or header.commit[:7] + ("+" if header.dirty else "") or run.id,
        released=bool(version),
        summary=summarize(store, run),
    )


def _versions(project: Project, prompt: str) -> dict[str, str]:
    """Version by subject and by prompt digest; nothing outside a repository."""
    try:
        ledger = read_ledger(project.git, prompt)
    except PromptopsError:
        return {}
    found: dict[str, str] = {}
    for tag in ledger.versions.get(prompt, {}).values():
        if tag.record:
            found[tag.record.prompt_digest] = found[tag.record.subject] = tag.record.version.tag
    return found
