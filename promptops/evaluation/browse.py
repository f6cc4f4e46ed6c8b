"""One case of a stored run, with the golden row it came from."""

from dataclasses import dataclass

from promptops.core.errors import DataError, PromptopsError, did_you_mean
from promptops.core.suite import Case
from promptops.project.golden import read_cases
from promptops.project.project import Project
from promptops.project.store import Result, Run, Store, StoredAnswer, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """`case` is None when the golden row is no longer what it was in the run; `where` is file:line; `verdicts` are what judges said."""

    result: Result
    answer: StoredAnswer | None
    case: Case | None
    where: str
    verdicts: tuple[Verdict, ...] = ()


def find_case(store: Store, project: Project, run: Run, case_id: str, draw: int = 0) -> CaseView:
    """Raises DataError when the run has no such case."""
    known: list[str] = []
    for result in store.results(run.id):
        if result.case_id == case_id and result.draw == draw:
            case = _golden_case(project, run, result)
            return CaseView(result=result, verdicts=tuple(store.verdicts_on(run.id, case_id, draw)), answer=store.find_answer(result.answer_key), case=case,
                            where=f"golden/{run.header.prompt}.jsonl:{result.line}")  # fmt: skip
        known.append(result.case_id)
    if case_id in known:
        raise DataError(
            f"case {case_id} has no draw {draw + 1} in run {run.id}",
            why=f"it has {known.count(case_id)}",
            hint="leave --draw out",
        )
    raise DataError(f"run {run.id} has no case {case_id[:60]!r}", hint=did_you_mean(case_id, set(known)))


def _golden_case(project: Project, run: Run, result: Result) -> Case | None:
    try:
        evaluable = project.load(run.header.prompt)
        for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan):
            if case.id == result.case_id:
                return case if case.digest == result.case_digest else None
    except PromptopsError:
        return None
    return None
