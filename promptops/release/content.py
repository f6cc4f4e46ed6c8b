"""What a commit holds of a prompt: its parts, the model that answers, and the digests it is known by."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.evaluation.clients import identify
from promptops.evaluation.judge import set_up_judge
from promptops.project.config import load_config, resolve_model
from promptops.project.git import GitTree
from promptops.project.project import Evaluable, Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A prompt with its suite as one commit has them; `judge_digest` is '' when no judge scores."""

    commit: str
    evaluable: Evaluable
    model: Mapping[str, Json]
    judge_digest: str

    @property
    def subject(self) -> str:
        return self.evaluable.subject(self.model, self.judge_digest)

    @property
    def prompt_digest(self) -> str:
        return self.evaluable.prompt.digest(self.model)


def content_at(project: Project, name: str, ref: str, *, model: str = "", judge: str = "") -> Content:
    """The content of a commit, by the configuration of that commit. Raises DataError with all problems, EvaluationError without it."""
    commit = project.git.commit(ref)
    tree = GitTree(project.git, commit)
    then = replace(project, tree=tree, config=load_config(tree))
    evaluable = then.load(name)
    config = resolve_model(then.config, model or evaluable.prompt.model or then.config.default_model)
    setup = set_up_judge(then.config, evaluable, judge)
    return Content(commit=commit, evaluable=evaluable, model=identify(config, evaluable.prompt, evaluable.scan.digest),
                   judge_digest=setup.digest if setup else "")  # fmt: skip


def refuse_dirty(project: Project, name: str) -> None:
    """Raise DataError when files differ from HEAD: what is released is what is committed, and somebody may think otherwise."""
    _, dirty = project.git.state()
    if dirty:
        raise DataError("files differ from what is committed", why=f"{name} is released from a commit",
                        hint="commit or stash them; with --at HEAD what is committed is taken all the same")  # fmt: skip
