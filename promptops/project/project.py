"""A project: where it is, how it is configured, and its prompts with their suites."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from promptops.core.digest import digest
from promptops.core.errors import DataError, did_you_mean
from promptops.core.jsontext import Json
from promptops.core.names import is_name
from promptops.project.config import LOCAL, Config, check_places, find_root, load_config
from promptops.project.git import Git, GitTree
from promptops.project.tree import OverlayTree, Tree, WorkTree

if TYPE_CHECKING:
    from promptops.core.prompt import Prompt
    from promptops.core.rubric import Rubric
    from promptops.core.suite import Suite
    from promptops.project.golden import GoldenScan
    from promptops.project.store import StoreAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluable:
    """A prompt with everything its evaluation is decided by."""

    prompt: "Prompt"
    suite: "Suite"
    scan: "GoldenScan"
    rubric: "Rubric | None"
    tree: Tree

    @property
    def suite_digest(self) -> str:
        return digest(dict(self.suite.settings))

    @property
    def rubric_digest(self) -> str:
        return digest(dict(self.rubric.document)) if self.rubric else ""

    def subject(self, model: Mapping[str, Json], judge_digest: str = "") -> str:
        """What evidence is bound to: prompt, golden rows, suite with its gate, rubric, and the judge if there is one."""
        parts = [self.prompt.digest(model), self.scan.digest, self.suite_digest, self.rubric_digest]
        return digest([*parts, judge_digest] if judge_digest else parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    root: Path
    tree: Tree
    config: Config

    @property
    def git(self) -> Git:
        return Git(self.root)

    @property
    def store_at(self) -> "StoreAddress":
        """Where its runs are kept. Raises RefusedError for a server or bucket that only a file of the project names."""
        address = self.shared_store("" if self.config.store == LOCAL else self.config.store)
        if "store" not in self.config.chosen:
            check_places("store", address.hosts, os.environ)
        return address

    def shared_store(self, url: str) -> "StoreAddress":
        """A store at an address that whoever runs this names, with the project's place for large texts; '' is the project's folder."""
        from promptops.project.store import StoreAddress

        texts = self.config.texts if url else ""
        bucket = "" if texts.startswith(("file:", "memory:")) else urlsplit(texts).netloc
        if bucket and "texts" not in self.config.chosen:
            check_places("texts", [bucket], os.environ)
        return StoreAddress(root=self.root, url=url, texts=texts, texts_min_bytes=self.config.texts_min_bytes)

    def names(self) -> list[str]:
        from promptops.project.prompts import prompt_names

        return prompt_names(self.tree)

    def at(self, ref: str) -> "Project":
        """The project as it was in a commit. Raises DataError or EvaluationError for a ref that cannot be used."""
        return Project(root=self.root, tree=GitTree(self.git, self.git.commit(ref)), config=self.config)

    def staged(self) -> "Project":
        """The project as the next commit would have it. Raises EvaluationError outside a repository."""
        tree = GitTree(self.git, self.git.staged())
        return Project(root=self.root, tree=tree, config=load_config(tree))

    def prompt_tree(self, name: str, candidate: str = "") -> Tree:
        """Where a prompt is read from: with a candidate, the files of its folder hide those of the prompt."""
        if not candidate:
            return self.tree
        from promptops.project.prompts import CANDIDATES, FOLDER

        folder = f"{FOLDER}/{name}/{CANDIDATES}"
        known = self.tree.names(folder)
        if not is_name(candidate) or candidate not in known:
            raise DataError(
                f"prompt {name} has no candidate {candidate[:60]!r}", where=folder, hint=did_you_mean(candidate, known)
            )
        return OverlayTree(base=self.tree, under=f"{FOLDER}/{name}", over=f"{folder}/{candidate}")

    def load(self, name: str, candidate: str = "") -> Evaluable:
        """Read and check a prompt, its suite, every golden row and its rubric. Raises DataError with all problems of a file."""
        from promptops.project.golden import scan_golden
        from promptops.project.prompts import load_prompt
        from promptops.project.rubrics import load_rubric
        from promptops.project.suites import load_suite

        tree = self.prompt_tree(name, candidate)
        prompt = load_prompt(tree, name)
        suite = load_suite(tree, name, prompt)
        scan = scan_golden(tree, suite, prompt, max_case_bytes=self.config.max_case_bytes)
        rubric = None
        if suite.rubric:
            rubric = load_rubric(tree, suite.rubric, wanted_by=f"golden/{name}.yaml", categories=tuple(scan.categories))
        return Evaluable(prompt=prompt, suite=suite, scan=scan, rubric=rubric, tree=tree)


def open_project(start: Path) -> Project:
    """The project around a folder. Raises DataError when there is none or its configuration is wrong."""
    root = find_root(start.resolve())
    tree = WorkTree(root)
    return Project(root=root, tree=tree, config=load_config(tree))
