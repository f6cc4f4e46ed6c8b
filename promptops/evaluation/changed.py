"""Which prompts a change touches, by content: files that only moved, were reordered or reworded outside the digests do not count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from promptops.core.errors import DataError, PromptopsError
from promptops.core.jsontext import Json
from promptops.evaluation.clients import identify
from promptops.evaluation.judge import subject_of
from promptops.project.config import Config, load_config, resolve_model
from promptops.project.git import GitTree
from promptops.project.project import Evaluable, Project
from promptops.project.prompts import prompt_names

Kind = Literal["changed", "new", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A prompt whose subject differs from that of the base; `parts` says in what. `subject` is that of today."""

    name: str
    kind: Kind
    parts: tuple[str, ...] = ()
    subject: str = ""
    keyless: bool = True


def find_changes(project: Project, base: str, *, model: str = "") -> tuple[Change, ...]:
    """Every prompt that is not what it was in the commit `base`, by name.

    A base that cannot be read any more (an older format, a broken file) counts as changed. Raises DataError for files of
    today that are wrong.
    """
    tree = GitTree(project.git, base)
    before = Project(root=project.root, tree=tree, config=_config_at(project, tree))
    old, found = set(prompt_names(tree)), []
    for name in sorted(old | set(project.names())):
        if name not in project.names():
            found.append(Change(name=name, kind="removed"))
            continue
        after = _Content.of(project, name, model)
        if name not in old:
            found.append(Change(name=name, kind="new", parts=("prompt",), subject=after.subject, keyless=after.keyless))
            continue
        parts = after.differs(_Content.try_of(before, name, model))
        if parts:
            found.append(Change(name=name, kind="changed", parts=parts, subject=after.subject, keyless=after.keyless))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Content:
    """The digests of a prompt's parts, in the words of a person."""

    evaluable: Evaluable
    identity: Mapping[str, Json]
    subject: str

    @classmethod
    def of(cls, project: Project, name: str, model: str) -> "_Content":
        evaluable = project.load(name)
        config = resolve_model(project.config, model or evaluable.prompt.model or project.config.default_model)
        identity = identify(config, evaluable.prompt, evaluable.scan.digest)
        return cls(evaluable, identity, subject_of(project.config, evaluable, identity))

    @classmethod
    def try_of(cls, project: Project, name: str, model: str) -> "_Content | None":
        try:
            return cls.of(project, name, model)
        except PromptopsError:
            return None

    @property
    def keyless(self) -> bool:
        """Whether neither the model nor a judge needs a key."""
        return self.identity.get("provider") == "local" and self.evaluable.suite.judge is None

    def differs(self, before: "_Content | None") -> tuple[str, ...]:
        if before is None:
            return ("unreadable before",)
        if before.subject == self.subject:
            return ()
        old, new = before.evaluable, self.evaluable
        pairs = (
            ("prompt", old.prompt.digest({}), new.prompt.digest({})),
            ("model", dict(before.identity), dict(self.identity)),
            ("golden cases", old.scan.digest, new.scan.digest),
            ("suite", old.suite_digest, new.suite_digest),
            ("rubric", old.rubric_digest, new.rubric_digest),
        )
        return tuple(what for what, was, is_ in pairs if was != is_) or ("judge",)


def _config_at(project: Project, tree: GitTree) -> Config:
    try:
        return load_config(tree)
    except DataError:
        return project.config
