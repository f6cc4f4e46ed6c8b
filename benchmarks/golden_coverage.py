"""Golden sets on real questions: does `suggest` cover traffic better than chance, are planted label errors found, and how long does it take?

    python -m benchmarks.golden_coverage [labels|classifier|stats|coverage|speed]...

Reads semcache/banking77.jsonl.gz in ../shared/data or the folder PROMPTOPS_SHARED_DATA names (PolyAI banking77, CC BY 4.0: 13,083 questions, 77 intents); nothing of it is copied.
"""

import gzip
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

DATA = (
    Path(os.environ.get("PROMPTOPS_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    / "semcache/banking77.jsonl.gz"
)
Question = dict[str, Any]
_SUITE = "promptops: 1\nprompt: intents\ncases: intents.jsonl\nchecks:\n  - {check: equals, path: /intent, expected: /intent}\n"
_PROMPT = """---
promptops: 1
name: intents
description: Names the intent of a question to a bank.
params: {temperature: 0}
input: {schema: input.schema.json, untrusted: [text]}
output: {format: json, schema: output.schema.json}
---
user:
{{ text }}
"""


def questions() -> list[Question]:
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def project_of(root: Path, rows: Sequence[Question]) -> Any:
    """A project with these questions as golden cases of one prompt."""
    from promptops.project.project import open_project
    from promptops.project.scaffold import scaffold

    scaffold(root)
    folder = root / "prompts/intents"
    folder.mkdir()
    (folder / "prompt.md").write_text(_PROMPT, "utf-8")
    for name, field in (("input", "text"), ("output", "intent")):
        (folder / f"{name}.schema.json").write_text(json.dumps(
            {"type": "object", "required": [field], "properties": {field: {"type": "string"}}, "additionalProperties": False}), "utf-8")  # fmt: skip
    (folder / "rules.yaml").write_text("promptops: 1\ntext: [text]\ndefault: classifier\nclassifier: {fields: [intent]}\n", "utf-8")  # fmt: skip
    (root / "golden/intents.yaml").write_text(_SUITE, "utf-8")
    (root / "golden/intents.jsonl").write_text("".join(json.dumps(_case(number, row)) + "\n" for number, row in enumerate(rows)), "utf-8")  # fmt: skip
    return open_project(root)


def _case(number: int, row: Question) -> dict[str, Any]:
    intent = row["intent"].lower().replace("_", "-").replace("?", "")
    return {
        "id": f"q{number}",
        "category": "-".join(filter(None, intent.split("-"))),
        "inputs": {"text": row["text"]},
        "expected": {"intent": row["intent"]},
    }


def labels() -> None:
    """2 % of the labels are replaced at random; what does `golden stats` list? On test and training questions, of 2 to 77 labels."""
    print("| questions | labels | suspected | precision | recall | CPU s |\n|---|--:|--:|--:|--:|--:|")
    for part, sizes, seeds in (("test", (2, 5, 12, 30, 77), 6), ("train", (77,), 2)):
        rows = [row for row in questions() if (row["split"] == "train") == (part == "train")]
        for size in sizes:
            runs = [_flipped(rows, size, random.Random(seed)) for seed in range(100, 100 + seeds)]
            many, suspected, precision, recall, used = (sum(values) / len(runs) for values in zip(*runs, strict=True))
            print(
                f"| {part}, {many:.0f} | {size} | {suspected:.1f} | {precision:.2f} | {recall:.2f} | {used:.1f} |",
                flush=True,
            )


def _flipped(rows: Sequence[Question], size: int, chance: random.Random) -> tuple[float, ...]:
    """(questions, suspected, precision, recall, CPU s) of so many intents at random."""
    from promptops.evaluation.label_errors import check_labels
    from promptops.models.local.folds import Labelled

    intents = set(chance.sample(sorted({row["intent"] for row in rows}), size))
    rows = [row for row in rows if row["intent"] in intents]
    flipped = set(chance.sample(range(len(rows)), max(3, len(rows) // 50)))
    given = [
        chance.choice(sorted(intents - {row["intent"]})) if number in flipped else row["intent"]
        for number, row in enumerate(rows)
    ]
    known = [Labelled(str(number), row["text"], "", {}, {}) for number, row in enumerate(rows)]
    started = time.process_time()
    found = check_labels(known, {"intent": given}).suspects
    used = time.process_time() - started
    right = sum(int(item.id) in flipped for item in found)
    return len(rows), len(found), right / max(1, len(found)), right / len(flipped), used


def classifier() -> None:
    """local:classifier, out of fold, on all 13,083 questions, scored as `eval` scores."""
    from promptops.core.suite import Case
    from promptops.models.base import ModelRequest
    from promptops.models.local.classifier import Classifier
    from promptops.models.local.rules import Rules

    rows = questions()
    cases = [
        Case(id=f"q{number}", category="x", inputs={"text": row["text"]}, expected={"intent": row["intent"]})
        for number, row in enumerate(rows)
    ]
    started = time.process_time()
    model = Classifier({"fields": ["intent"], "folds": 3}, ("text",), Rules({}, ("text",)), cases)
    right = sum(
        model.respond(ModelRequest(messages=(), inputs=case.inputs, output_format="json")) == case.expected
        for case in cases
    )
    print(
        f"classifier: {right}/{len(cases)} right out of fold ({right / len(cases):.3f}), 3 folds; CPU {time.process_time() - started:.0f} s"
    )


def stats() -> None:
    """`golden stats` on 20,000 rows: all questions, and 6,917 of them again in other words around them."""
    from promptops.evaluation.golden_stats import golden_stats

    rows = questions()
    chance = random.Random(0)
    rows += [
        {**row, "text": f"{row['text']} {chance.choice(rows)['text']}"}
        for row in chance.sample(rows, 20_000 - len(rows))
    ]
    with tempfile.TemporaryDirectory() as folder:
        project = project_of(Path(folder), rows)
        started = time.process_time()
        found = golden_stats(project, "intents")
        used = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"stats: {found.total.cases} rows, {len(found.twins)} twins, {len(found.labels.suspects)} doubtful labels; CPU {used:.1f} s, peak {peak:.2f} GiB"
    )


def coverage(seeds: int = 20) -> None:
    """60 golden questions of 20 of the 77 intents, chosen anew for each seed; suggested against random ones, judged on the 3,080 test questions.

    First with the training questions as traffic (spread evenly over the intents), then with traffic as users send it: the n-th
    intent a 1/n share of the first.
    """
    rows = questions()
    held = [row for row in rows if row["split"] != "train"]
    for title, skewed in (("even traffic", False), ("skewed traffic", True)):
        print(f"{title}, {seeds} seeds: 60 golden cases and\n| | intent recall | of random | difference | mean distance | of random | difference |\n|---|--:|--:|--:|--:|--:|--:|")  # fmt: skip
        found = [_against_chance(rows, held, random.Random(seed), skewed=skewed) for seed in range(seeds)]
        for many in found[0]:
            cells = [_paired([run[many][measure] for run in found]) for measure in (0, 1)]
            print(f"| {many} | {' | '.join(cells)} |", flush=True)


def _against_chance(rows: Sequence[Question], held: Sequence[Question], chance: random.Random, *, skewed: bool) -> dict[int, list[tuple[float, float]]]:  # fmt: skip
    """By number of added cases: (suggested, random) of intent recall, and of the mean distance of what users send."""
    import numpy as np

    from promptops.evaluation.coverage import Ground, _nearest
    from promptops.evaluation.text_space import TextSpace
    from promptops.evaluation.traffic import Request, Traffic

    intents = sorted({row["intent"] for row in rows})
    chance.shuffle(intents)
    rank = {name: place for place, name in enumerate(intents, 1)}
    sent = [
        row for row in rows if row["split"] == "train" and (not skewed or chance.random() < 1 / rank[row["intent"]])
    ]
    heads = set(intents[:20])
    golden = chance.sample([row for row in sent if row["intent"] in heads], 60)
    requests = tuple(Request(text=row["text"], inputs={"text": row["text"]}, line=number, weight=1) for number, row in enumerate(sent))  # fmt: skip
    ground = Ground(Traffic(path="banking77", requests=requests, rows=len(sent)), [row["text"] for row in golden])
    suggested = list(ground.suggest(200))
    assert all(
        one.covered <= two.covered and one.mean_distance >= two.mean_distance for one, two in pairwise(suggested)
    )
    share = np.array([1 / rank[row["intent"]] if skewed else 1.0 for row in held])
    space = TextSpace([row["text"] for row in sent])
    judged = space.embed([row["text"] for row in held])
    ways = [[sent[item.line] for item in suggested], chance.sample(sent, 200)]
    found: dict[int, list[tuple[float, float]]] = {}
    for many in (25, 50, 100, 200):
        own = [[*golden, *way[:many]] for way in ways]
        recall = [len({row["intent"] for row in cases}) / len(intents) for cases in own]
        far = [
            float(share @ _nearest(judged, space.embed([row["text"] for row in cases])) / share.sum()) for cases in own
        ]
        found[many] = [(recall[0], recall[1]), (far[0], far[1])]
    return found


def _paired(pairs: Sequence[tuple[float, float]]) -> str:
    from promptops.gate.stats import mean_interval

    apart = [one - other for one, other in pairs]
    interval = mean_interval(apart)
    means = [sum(values) / len(pairs) for values in (*zip(*pairs, strict=True), apart)]
    return f"{means[0]:.3f} | {means[1]:.3f} | {means[2]:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def speed() -> None:
    """`golden coverage` for 100,000 different rows: pairs of questions as one text, half of them alone."""
    from promptops.core.prompt import Prompt
    from promptops.evaluation.coverage import Ground
    from promptops.evaluation.traffic import read_traffic

    rows = questions()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        project = project_of(Path(folder), chance.sample(rows, 1_000))
        log = Path(folder) / "log.jsonl"
        with log.open("w", encoding="utf-8") as file:
            for number in range(100_000):
                one, two = chance.choice(rows)["text"], chance.choice(rows)["text"]
                file.write(json.dumps({"text": f"{one} {number}" if number % 2 else f"{one} {two}"}) + "\n")
        evaluable = project.load("intents")
        prompt: Prompt = evaluable.prompt
        started = time.process_time()
        traffic = read_traffic(log, prompt, max_case_bytes=1_000_000)
        ground = Ground(traffic, [row["text"] for row in chance.sample(rows, 1_000)])
        found = ground.measure()
        used = time.process_time() - started
        suggested = list(ground.suggest(200))
        more = time.process_time() - started - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"speed: {found.rows} rows ({found.inputs} different), 1,000 cases: CPU {used:.1f} s, 200 suggestions {more:.1f} s more ({len(suggested)}), peak {peak:.2f} GiB"
    )


if __name__ == "__main__":
    every = {"labels": labels, "classifier": classifier, "stats": stats, "coverage": coverage, "speed": speed}
    for name in sys.argv[1:] or every:
        every[name]()
