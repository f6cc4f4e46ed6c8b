"""Why an answer is worth a person's minute: what the stored results and verdicts say of it."""

from contextlib import closing

from stored_runs import a_result, stored

from conftest import PROMPT, Sandbox
from promptops.evaluation.plan import utc_now
from promptops.evaluation.review import BatchPlan, make_batch
from promptops.project.golden import read_cases
from promptops.project.project import open_project
from promptops.project.store import StoredAnswer, Verdict, open_store

RUBRIC = """promptops: 1
name: feedback
criteria:
  - {id: right, question: "Is the sentiment the customer's own?", scale: pass_fail}
"""


def test_what_judges_differ_on_or_nearly_passed_is_likelier_to_be_chosen(sandbox: Sandbox):
    """Votes that differ on a criterion, a judge that could not decide, a score near the pass mark, draws that disagree: one reason each."""
    sandbox.write("rubrics/feedback.yaml", RUBRIC)
    sandbox.write(f"golden/{PROMPT}.yaml", sandbox.read(f"golden/{PROMPT}.yaml") + "rubric: feedback\n")
    project = open_project(sandbox.root)
    cases = {row["id"]: row for row in sandbox.rows()}
    golden = {case.id: case for case in read_cases(project.tree, project.load(PROMPT).suite, project.load(PROMPT).scan)}
    names = sorted(cases)[:5]
    said: list[tuple[bool | None, float | None]] = [(True, 1.0), (None, None), (True, 0.72), (True, 1.0), (False, 0.1)]
    with closing(open_store(sandbox.root)) as store:
        rows = []
        for (name, (passed, value)), draws in zip(zip(names, said, strict=True), (1, 1, 1, 2, 1), strict=True):
            for draw in range(draws):
                scores = (("judge", passed, "because", value),)
                rows.append(a_result(name, draw == 0, draw=draw, category=cases[name]["category"], case_digest=golden[name].digest,
                                     answer_key=f"{name}-{draw}", scores=scores))  # fmt: skip
                store.add_answer(StoredAnswer(key=f"{name}-{draw}", outcome="ok", text=f"{name} {draw}", detail="", model="m", input_tokens=1,
                                              output_tokens=1, usage_trusted=True, cost_nanousd=0, latency_s=0.1, created_at="2026-01-01T00:00:00+00:00"))  # fmt: skip
        run = stored(store, "20260102-030405-abcdef", rows, prompt=PROMPT)
        store.add_verdicts(run.id, names[0], 0, [
            Verdict(judge=judge, vote=0, swapped=False, answer_key="k", outcome="ok", detail="", scores={"right": (value, "r")})
            for judge, value in (("one", 1.0), ("two", 0.0))
        ])  # fmt: skip
        store.flush()
        batch = make_batch(store, project, [run], BatchPlan(reviewers=("ana",), size=6), utc_now)

    reasons: dict[str, set[str]] = {}
    for item in batch.items:
        reasons.setdefault(item.case_id, set()).update(item.reasons)
    assert [{"judge-split"}, {"judge-unsure"}, {"judge-near-pass-mark"}, {"unstable"}, set()] == [
        reasons[name] for name in names
    ]
