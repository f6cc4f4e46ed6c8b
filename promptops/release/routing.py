"""Outcomes of two models on the golden cases, the router file, and the routed policy as a run of its own."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from promptops.core.digest import digest
from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import Json
from promptops.core.names import is_run_id
from promptops.evaluation.against import Session
from promptops.evaluation.compare import CaseScores, RunComparison, compare_runs, run_scores
from promptops.evaluation.find_run import find_run
from promptops.evaluation.plan import Selection, make_plan
from promptops.project.golden import read_cases
from promptops.project.jsonlines import take_rows
from promptops.project.project import Evaluable
from promptops.project.prompts import FOLDER
from promptops.project.store import Run, RunHeader
from promptops.release.router_training import Outcome, Training, is_for_threshold, train_router
from promptops.runtime.router import MAX_BYTES, Router, parse_router, routing_text

_SIDES = ("small", "large")
_MAX_OUTCOMES = 200_000


def router_path(root: Path, name: str) -> Path:
    return root / FOLDER / name / "router.json"


def load_router(root: Path, name: str) -> Router:
    """The router of a prompt. Raises DataError when there is none, RefusedError when the file is not one."""
    path = router_path(root, name)
    where = f"{FOLDER}/{name}/router.json"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = f"promptops route train {name} --small MODEL --large MODEL"
        raise DataError(f"prompt {name} has no router", where=where, hint=hint) from None
    except OSError as error:
        raise DataError("cannot be read", where=where, why=error.strerror or str(error)) from error
    return parse_router(raw, where=where)


def save_router(root: Path, name: str, router: Router) -> Path:
    """Write router.json; same router, same bytes."""
    path = router_path(root, name)
    write_document(path, router.as_json())
    return path


def write_document(path: Path, document: Mapping[str, Json]) -> None:
    """JSON for review in a change: a line per key, whole or not at all. Raises DataError when the disk refuses."""
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    aside = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be written", where=str(path.parent), why=error.strerror or str(error)) from error  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """A run of the small and one of the large model over the same cases, and the cases."""

    small: Run
    large: Run
    evaluable: Evaluable
    small_scores: Mapping[str, CaseScores]
    large_scores: Mapping[str, CaseScores]

    def outcomes(self) -> list[Outcome]:
        """Pass rates of both over the draws they have, in file order."""
        found = []
        for case in read_cases(self.evaluable.tree, self.evaluable.suite, self.evaluable.scan):
            if case.id in self.small_scores:
                small, large = (scores[case.id].draws for scores in (self.small_scores, self.large_scores))
                found.append(
                    Outcome(id=case.id, text=routing_text(case.inputs), category=case.category, group=case.group,
                            small=sum(small) / len(small), large=sum(large) / len(large))
                )  # fmt: skip
        return found


def find_sides(session: Session, name: str, small: str, large: str, selection: Selection) -> Sides:
    """Both runs: stored ones by id, `latest` or file; a model's name means an evaluation now (stored answers are used again).

    Raises DataError when they are not of this prompt and its cases as they are today.
    """
    evaluable = session.project.load(name)
    runs = [_side(session, name, text, selection) for text in (small, large)]
    scores = [run_scores(session.store, run) for run in runs]
    problems = [
        Problem(what=f"run {run.id} is of {run.header.prompt}", hint=f"name a run of {name}")
        for run in runs if run.header.prompt != name
    ]  # fmt: skip
    problems += [
        Problem(what=f"run {run.id} has other golden cases than golden/{name}.jsonl today", hint="evaluate again, or name the model instead of the run")
        for run in runs if run.header.prompt == name and run.header.golden_digest != evaluable.scan.digest
    ]  # fmt: skip
    if not problems and scores[0].keys() != scores[1].keys():
        problems.append(Problem(what="the two runs have other cases", hint="evaluate both with the same filters"))
    if problems:
        raise DataError(problems=problems)
    return Sides(small=runs[0], large=runs[1], evaluable=evaluable, small_scores=scores[0], large_scores=scores[1])


def _side(session: Session, name: str, text: str, selection: Selection) -> Run:
    if is_run_id(text) or text == "latest" or text.endswith(".jsonl"):
        return find_run(session.store, session.project, text, name)
    return session.run(make_plan(session.project, name, model=text, selection=selection), session.options).run


def mean_cost(session: Session, run: Run) -> float:
    """Nano-dollars an answer of a run, as recorded when it was paid."""
    costs = [item.cost_nanousd for item in session.store.results(run.id)]
    return sum(costs) / len(costs)


def train(
    session: Session, name: str, small: str, large: str, *, more: Path | None, max_loss: float, seed: int = 0
) -> Training:
    """Train on the golden cases, and on further rows from a file."""
    sides = find_sides(session, name, small, large, Selection())
    outcomes = sides.outcomes() + (read_outcomes(more) if more else [])
    return train_router(
        outcomes, small=sides.small.header.model, large=sides.large.header.model, small_cost=mean_cost(session, sides.small),
        large_cost=mean_cost(session, sides.large), max_loss=max_loss, policy=sides.evaluable.suite.gate, seed=seed,
    )  # fmt: skip


def read_outcomes(path: Path) -> list[Outcome]:
    """Rows `{"id", "text" or "inputs", "category", "small", "large", "group"}` of a JSONL file, scores in 0..1.

    Raises DataError with every line that is wrong (at most 1000).
    """
    rows: list[Outcome] = []
    seen: set[str] = set()
    hint = 'write {"id": "a1", "text": "...", "category": "...", "small": 1, "large": 1}'

    def take(row: Json, where: str) -> Iterator[Problem]:
        try:
            found = _outcome(row, seen)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            yield Problem(what="not an outcome", where=where, why=why, hint=hint)
            return
        seen.add(found.id)
        rows.append(found)

    take_rows(path, take, what="not an outcome", most=_MAX_OUTCOMES, hint=hint)
    return rows


def _outcome(row: Json, seen: set[str]) -> Outcome:
    row_id, category, group = (row.get(key, "") for key in ("id", "category", "group"))
    text = row["text"] if "text" in row else routing_text(row["inputs"])
    scores = [row[side] for side in _SIDES]
    if not (row_id and all(isinstance(part, str) for part in (row_id, category, group, text))):
        raise ValueError("id, text, category and group must be texts")
    if not all(type(score) in {int, float, bool} and 0 <= score <= 1 for score in scores):
        raise ValueError("`small` and `large` must be numbers from 0 to 1")
    if row_id in seen:
        raise ValueError(f"id {row_id[:60]!r} is there twice")
    return Outcome(id=row_id, text=text, category=category, group=group, small=float(scores[0]), large=float(scores[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedEvaluation:
    """The routed policy against the large model alone, on cases the rule did not learn from."""

    found: RunComparison
    router: Router
    cases: int
    small_calls: int
    cost_nanousd: int
    large_cost_nanousd: int


def evaluate_routed(session: Session, name: str, router: Router, *, repeat: int = 1) -> RoutedEvaluation:
    """A stored run in which each case has the answer of the model it is routed to, judged against a run of the large model.

    Only the half of the cases that the rule did not learn from is judged: on the others it would look better than it is.
    """
    evaluable = session.project.load(name)
    held = {
        case.id: router.route(routing_text(case.inputs), case.category).target
        for case in read_cases(evaluable.tree, evaluable.suite, evaluable.scan)
        if is_for_threshold(case.group or case.id)
    }
    if not held:
        raise DataError(f"no case of {name} is held out", hint="add golden cases")
    sides = find_sides(session, name, router.small, router.large, Selection(ids=frozenset(held), repeat=repeat))
    routed = _compose(session, sides, held, router)
    found = compare_runs(session.store, sides.large, routed)
    costs = [sum(item.cost_nanousd for item in session.store.results(run.id)) for run in (routed, sides.large)]
    return RoutedEvaluation(found=found, router=router, cases=len(held), cost_nanousd=costs[0], large_cost_nanousd=costs[1],
                            small_calls=sum(target == "small" for target in held.values()))  # fmt: skip


def _compose(session: Session, sides: Sides, targets: Mapping[str, str], router: Router) -> Run:
    store, large = session.store, sides.large.header
    identity: dict[str, Json] = {
        "provider": "policy", "model": "routed", "router": digest(router.as_json()),
        "small": dict(sides.small.header.model_identity), "large": dict(large.model_identity),
    }  # fmt: skip
    prompt = sides.evaluable.prompt
    now = session.clock()
    header: RunHeader = replace(
        large, id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}", model="routed", model_identity=identity,
        prompt_digest=prompt.digest(identity), subject=sides.evaluable.subject(identity), started_at=now.isoformat(timespec="seconds"),
    )  # fmt: skip
    store.begin_run(header)
    for run, target in ((sides.small, "small"), (sides.large, "large")):
        for item in store.results(run.id):
            if targets[item.case_id] == target:
                store.add_result(header.id, item)
    store.finish_run(header.id, "complete", session.clock().isoformat(timespec="seconds"))
    return store.run(header.id)
