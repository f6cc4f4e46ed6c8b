"""rubrics/<name>.yaml."""

import re

from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.suite import Criterion, Rubric
from promptops.project.formats import format_problems
from promptops.project.tree import Tree, read_text
from promptops.project.yamltext import Document, parse_yaml

FOLDER = "rubrics"
_TWO_QUESTIONS = re.compile(r"\b(?:and|and/or|et|und)\b", re.IGNORECASE)


def rubric_names(tree: Tree) -> list[str]:
    return [name.removesuffix(".yaml") for name in tree.names(FOLDER) if name.endswith(".yaml")]


def load_rubric(tree: Tree, name: str, *, wanted_by: str = "") -> Rubric:
    """A rubric. Raises DataError with every problem."""
    where = f"{FOLDER}/{name}.yaml"
    if name not in rubric_names(tree):
        raise DataError(
            f"no rubric {name!r}",
            where=wanted_by,
            why=f"{where} does not exist",
            hint=did_you_mean(name, rubric_names(tree)),
        )
    document = parse_yaml(read_text(tree, where), where)
    problems = list(format_problems("rubric", document.value, lambda path: f"{where}:{document.line(path)}"))
    problems = problems or _lint(document, where, name)
    if problems:
        raise DataError(problems=problems)
    criteria = tuple(Criterion(**criterion) for criterion in document.value["criteria"])
    covered = {key: value for key, value in document.value.items() if key not in ("name", "description")}
    return Rubric(name=name, criteria=criteria, document=covered)


def _lint(document: Document, where: str, name: str) -> list[Problem]:
    problems: list[Problem] = []
    if document.value["name"] != name:
        problems.append(Problem(what=f"name {document.value['name']!r} differs from the file {name!r}", where=f"{where}:{document.line(('name',))}",
                                hint="make them equal"))  # fmt: skip
    seen: set[str] = set()
    for index, criterion in enumerate(document.value["criteria"]):
        at = f"{where}:{document.line(('criteria', index, 'id'))}"
        if criterion["id"] in seen:
            problems.append(
                Problem(what=f"criterion {criterion['id']!r} is given twice", where=at, hint="rename or remove one")
            )
        seen.add(criterion["id"])
        if _TWO_QUESTIONS.search(criterion["question"]):
            problems.append(Problem(what=f"criterion {criterion['id']!r} asks two things at once", where=at,
                                    why="a judge cannot answer both with one verdict", hint="split it at the `and`"))  # fmt: skip
    for index, example in enumerate(document.value.get("examples", ())):
        problems += [
            Problem(what=f"unknown criterion {criterion_id!r}", hint=did_you_mean(criterion_id, seen),
                    where=f"{where}:{document.line(('examples', index, 'verdicts', criterion_id))}")
            for criterion_id in example["verdicts"] if criterion_id not in seen
        ]  # fmt: skip
    return problems
