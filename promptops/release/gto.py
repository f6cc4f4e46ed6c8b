"""GTO's tags in git: versions and stage assignments, and where their order by number and by date disagree."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.project.git import Git

_TAG = re.compile(
    r"(?P<name>[a-z][a-z0-9/-]*[a-z0-9])(?:@(?P<version>v[0-9]+\.[0-9]+\.[0-9]+)(?P<gone>!)?(?:#(?P<gone_number>[0-9]+))?"
    r"|@deprecated(?:#(?P<deprecated>[0-9]+))?|#(?P<stage>[a-z][a-z0-9-]*)(?P<unassigned>!)?(?:#(?P<number>[0-9]+))?)"
)
Kind = Literal["version", "deregistration", "deprecation", "assignment", "unassignment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GtoTag:
    """One tag of GTO; `number` is the counter of a stage (0 without one), `at` the tagger's clock in seconds."""

    tag: str
    name: str
    kind: Kind
    commit: str
    at: int
    version: str = ""
    stage: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage of an artifact points to, by the numbers of its tags and by their dates; '' for nothing."""

    name: str
    stage: str
    by_number: str
    by_date: str
    tag_by_number: str
    tag_by_date: str

    @property
    def disagree(self) -> bool:
        return self.by_number != self.by_date


@dataclass(frozen=True, slots=True, kw_only=True)
class GtoReport:
    """Artifacts with their versions in order of number, their stages, and tags that look like GTO's but are none."""

    versions: dict[str, tuple[str, ...]]
    latest_by_date: dict[str, str]
    stages: tuple[Stage, ...]
    tags: tuple[GtoTag, ...]
    strange: tuple[str, ...]

    @property
    def disagreements(self) -> int:
        late = sum(known[-1] != self.latest_by_date[name] for name, known in self.versions.items() if known)
        return late + sum(stage.disagree for stage in self.stages)

    def as_dict(self) -> dict[str, Json]:
        return {
            "versions": {name: list(known) for name, known in self.versions.items()}, "latest_by_date": self.latest_by_date,
            "stages": [{"name": item.name, "stage": item.stage, "by_number": item.by_number, "by_date": item.by_date,
                        "tag_by_number": item.tag_by_number, "tag_by_date": item.tag_by_date, "disagree": item.disagree} for item in self.stages],
            "strange": list(self.strange), "disagreements": self.disagreements,
        }  # fmt: skip


def read_gto(git: Git, name: str = "") -> GtoReport:
    """What the tags of a repository say (of one artifact). Raises EvaluationError outside a repository, DataError without such tags."""
    listing = git.run(
        "for-each-ref", "--format=%(objectname) %(*objectname) %(creatordate:unix) %(refname)", "refs/tags"
    ).decode("utf-8", "replace")
    tags: list[GtoTag] = []
    strange: list[str] = []
    for line in listing.splitlines():
        objects, _, ref = line.partition(" refs/tags/")
        parts = objects.split()
        if ref.startswith(("prompt/", "channel/")) or not ("@" in ref or "#" in ref):
            continue
        found = parse_gto(
            ref, commit=parts[1] if len(parts) == 3 else parts[0], at=int(parts[-1]) if parts[-1].isdecimal() else 0
        )
        if found is None:
            strange.append(ref)
        elif not name or found.name == name:
            tags.append(found)
    if not tags:
        raise DataError(
            f"no GTO tags of {name!r}" if name else "no GTO tags in this repository",
            hint="fetch them: `git fetch --tags`",
        )
    return report_of(tags, strange)


def parse_gto(tag: str, *, commit: str = "", at: int = 0) -> GtoTag | None:
    """What a tag's name says; None for a name that GTO does not write."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    number = next((int(match[key]) for key in ("gone_number", "deprecated", "number") if match[key]), 0)
    if match["version"]:
        kind: Kind = "deregistration" if match["gone"] else "version"
    elif match["stage"]:
        kind = "unassignment" if match["unassigned"] else "assignment"
    else:
        kind = "deprecation"
    return GtoTag(
        tag=tag,
        name=match["name"],
        kind=kind,
        commit=commit,
        at=at,
        version=match["version"] or "",
        stage=match["stage"] or "",
        number=number,
    )


def report_of(tags: Iterable[GtoTag], strange: Iterable[str] = ()) -> GtoReport:
    """The state that tags describe."""
    every = list(tags)
    gone = {(item.name, item.version) for item in every if item.kind == "deregistration"}
    registered = [item for item in every if item.kind == "version" and (item.name, item.version) not in gone]
    versions: dict[str, tuple[str, ...]] = {}
    latest: dict[str, str] = {}
    for name in sorted({item.name for item in every}):
        mine = [item for item in registered if item.name == name]
        versions[name] = tuple(item.version for item in sorted(mine, key=_order))
        latest[name] = max(mine, key=lambda item: item.at).version if mine else ""
    at_commit = {(item.name, item.commit): item.version for item in sorted(registered, key=_order)}
    groups: dict[tuple[str, str], list[GtoTag]] = {}
    for item in every:
        if item.stage:
            groups.setdefault((item.name, item.stage), []).append(item)
    stages = tuple(_stage(name, stage, found, at_commit) for (name, stage), found in sorted(groups.items()))
    return GtoReport(versions=versions, latest_by_date=latest, stages=stages, tags=tuple(every), strange=tuple(strange))


def _order(item: GtoTag) -> tuple[int, ...]:
    return tuple(map(int, item.version.removeprefix("v").split(".")))


def _stage(name: str, stage: str, found: list[GtoTag], at_commit: dict[tuple[str, str], str]) -> Stage:
    def target(item: GtoTag) -> str:
        return "" if item.kind == "unassignment" else at_commit.get((item.name, item.commit), item.commit[:12])

    numbered, dated = (
        max(found, key=lambda item: (item.number, item.at)),
        max(found, key=lambda item: (item.at, item.number)),
    )
    return Stage(
        name=name,
        stage=stage,
        by_number=target(numbered),
        by_date=target(dated),
        tag_by_number=numbered.tag,
        tag_by_date=dated.tag,
    )
