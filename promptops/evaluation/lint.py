"""Everything wrong with a project's files, found without asking a model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from promptops.core.errors import DataError, Problem, PromptopsError
from promptops.evaluation.clients import identify
from promptops.evaluation.judge import set_up_judge
from promptops.project.config import Config, contains_secret, resolve_model
from promptops.project.golden import read_cases
from promptops.project.project import Evaluable, Project
from promptops.project.prompts import CANDIDATES, FOLDER
from promptops.project.row_files import tree_rows
from promptops.project.rubrics import load_rubric, rubric_names

FEW_CASES = 10
_DATED = re.compile(r"\d{4}-?\d{2}-?\d{2}|-\d{4}\b|@\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LintReport:
    """`problems` stop an evaluation; `warnings` do not."""

    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    prompts: int
    cases: int


def lint_project(project: Project, names: Iterable[str]) -> LintReport:
    """Check the named prompts with their candidates, suites and golden rows, every rubric, and the configured models."""
    problems: list[Problem] = []
    warnings: list[Problem] = list(_undated_models(project))
    prompts = cases = 0
    for name in names:
        folder = f"{FOLDER}/{name}/{CANDIDATES}"
        for candidate in ("", *project.tree.names(folder)):
            try:
                evaluable = project.load(name, candidate)
                _try_first_case(project, evaluable)
                judged, doubtful = lint_judge(project.config, evaluable)
                problems += judged
            except PromptopsError as error:
                problems += error.problems
                continue
            prompts += 1
            if not candidate:
                cases += evaluable.scan.count
                warnings += [*_few_cases(evaluable), *doubtful]
                problems += _keys_in_cases(evaluable)
    for rubric in rubric_names(project.tree):
        try:
            load_rubric(project.tree, rubric)
        except PromptopsError as error:
            problems += error.problems
    return LintReport(problems=tuple(dict.fromkeys(problems)), warnings=tuple(warnings), prompts=prompts, cases=cases)


def lint_judge(config: Config, evaluable: Evaluable) -> tuple[list[Problem], list[Problem]]:
    """(problems, warnings) of the judge a suite names: one that judges itself, or whose behaviour may change under its name."""
    suite, rubric = evaluable.suite, evaluable.rubric
    if rubric is None or (suite.judge is None and not rubric.model):
        return [], []
    try:
        judge = set_up_judge(config, evaluable, "" if suite.judge else rubric.model)
        answering = resolve_model(config, evaluable.prompt.model or config.default_model)
    except DataError as error:
        return list(error.problems), []
    assert judge, "a suite or a rubric that names one"
    where = f"golden/{suite.name}.yaml" if suite.judge else f"rubrics/{rubric.name}.yaml"
    problems = [
        Problem(what=f"model {model.alias!r} judges its own answers", where=where, why="judges prefer what they wrote themselves",
                hint="name a judge of another family")
        for model in judge.models if answering.provider != "local" and model.model == answering.model
    ]  # fmt: skip
    warnings: list[Problem] = []
    if judge.planned_votes > 1 and judge.votes > 1 and judge.params.get("temperature") == 0:
        warnings.append(Problem(what=f"{judge.votes} votes at temperature 0", where=where, why="they say the same and cost as often",
                                hint="ask once, or raise judge.params.temperature"))  # fmt: skip
    return problems, warnings


def _try_first_case(project: Project, evaluable: Evaluable) -> None:
    """Templates and local models can still fail on values; the first case shows it."""
    prompt = evaluable.prompt
    case = next(read_cases(evaluable.tree, evaluable.suite, evaluable.scan))
    prompt.render(case.inputs, prompt.passages_for(case.inputs))
    if prompt.model:
        try:
            identify(resolve_model(project.config, prompt.model), prompt, evaluable.scan.digest)
        except DataError as error:
            raise DataError(problems=[Problem(what=item.what, where=item.where or f"{FOLDER}/{prompt.name}/prompt.md", why=item.why, hint=item.hint)
                                      for item in error.problems]) from error  # fmt: skip


def is_dated(model: str) -> bool:
    """Whether the name of a model says which snapshot it is."""
    return bool(_DATED.search(model))


def _undated_models(project: Project) -> Iterable[Problem]:
    for model in project.config.models.values():
        if model.provider != "local" and not is_dated(model.model):
            yield Problem(what=f"model {model.alias!r} has no date in {model.model!r}", why="providers change what an undated name means",
                          hint="name a dated snapshot")  # fmt: skip


def _keys_in_cases(evaluable: Evaluable) -> Iterable[Problem]:
    """Golden cases come from real traffic, and real traffic holds keys; they would be sent to a provider with every run."""
    rows = tree_rows(evaluable.tree, evaluable.suite.cases_path)
    for number, line in rows:
        if contains_secret(line.decode("utf-8", "replace")):
            yield Problem(what="a golden case holds what looks like a key", where=rows.where(number),
                          why="it would be in git and sent to providers", hint="revoke it, and write a made-up one")  # fmt: skip


def _few_cases(evaluable: Evaluable) -> Iterable[Problem]:
    for category, count in evaluable.scan.categories.items():
        if count < FEW_CASES:
            yield Problem(what=f"category {category!r} has {count} cases", where=evaluable.scan.path,
                          why="a verdict on so few sees only a collapse", hint=f"write at least {FEW_CASES}, better 20, or merge it")  # fmt: skip
