"""What people ask, beside what the golden cases ask."""

import json
import random
from pathlib import Path

import pytest
from traffic import line, reply, stamp

from conftest import REPOSITORY, Outcome
from promptops.audit.inputs import compare_inputs
from promptops.core.errors import DataError
from promptops.project.project import open_project

NAME = "support-triage"


def golden() -> list[dict]:
    return [json.loads(row) for row in (REPOSITORY / f"golden/{NAME}.jsonl").read_text("utf-8").splitlines()]


def events(path: Path, cases: list[dict], *, content: bool = True, **changes) -> Path:
    """Requests with the inputs of these cases."""
    from promptops.runtime.language import guess_language

    with path.open("wb") as file:
        for number, case in enumerate(cases):
            text = "\n".join(value for value in case["inputs"].values() if isinstance(value, str))
            event = {
                "prompt": NAME,
                "category": case["category"],
                "language": guess_language(text),
                "input_chars": len(text),
            }
            file.write(
                line(reply(stamp(0), number, **event, **({"inputs": case["inputs"]} if content else {}), **changes))
            )
    return path


def differs(path: Path) -> set[str]:
    return {test.what for test in compare_inputs(open_project(REPOSITORY), NAME, str(path)).tests if test.differs}


def test_requests_like_the_golden_cases_are_alike(tmp_path: Path):
    """A sample of the cases themselves, drawn again, differs in nothing."""
    rng = random.Random(5)

    assert set() == differs(events(tmp_path / "e.jsonl", [rng.choice(golden()) for _ in range(300)]))


def test_what_differs_is_named(tmp_path: Path):
    """Only one language; only one category: the shares and the words tell."""
    cases = golden()
    english = [case for case in cases if all(str(value).isascii() for value in case["inputs"].values())]
    category = cases[0]["category"]
    one = [case for case in cases if case["category"] == category] * 10

    assert {"language shares", "words"} <= differs(events(tmp_path / "a.jsonl", english * 2))
    assert {"category shares", "words"} <= differs(events(tmp_path / "b.jsonl", one[:200]))


def test_a_new_kind_of_question_is_named_first(tmp_path: Path):
    """The requests no golden case is like come first, by id and without their text; without content words are not compared."""
    strange = {"category": "other", "inputs": {"ticket": "zymurgy qubit flotsam marzipan quokka"}}
    path = events(tmp_path / "e.jsonl", [*golden()[:100], strange])
    project = open_project(REPOSITORY)
    found = compare_inputs(project, NAME, str(path))
    plain = compare_inputs(project, NAME, str(events(tmp_path / "p.jsonl", golden()[:100], content=False)))

    assert ("r100", True) == (found.far[0][0].id, found.far[0][1] < found.far[1][1])
    assert ((), {"language shares", "category shares", "length"}) == (plain.far, {test.what for test in plain.tests})
    with pytest.MonkeyPatch.context() as patch:
        shown = _shown(patch, path)
    assert (0, True, False) == (shown.code, "r100" in shown.out, "zymurgy" in shown.out)


def _shown(patch: pytest.MonkeyPatch, path: Path) -> Outcome:
    import io
    from contextlib import redirect_stdout

    from promptops.cli.main import main

    out = io.StringIO()
    patch.chdir(REPOSITORY)
    with redirect_stdout(out):
        code = main(("drift", NAME, "--events", str(path)))
    return Outcome(code, out.getvalue(), "")


def test_too_few_requests_are_bad_input(tmp_path: Path):
    with pytest.raises(DataError, match="3 requests of support-triage are too few"):
        differs(events(tmp_path / "e.jsonl", golden()[:3]))
