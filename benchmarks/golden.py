"""What the commands about golden data cost: simpler answers to 240 cases, statistics of 20,000, coverage of 100,000 requests.

Texts are the questions of banking77 where ../shared/data (or PROMPTOPS_SHARED_DATA) has them, else made of common words.
"""

import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.golden_coverage import DATA, Question, project_of, questions
from benchmarks.measure import REPOSITORY, Figure, cost_of

_PRODUCT = (sys.executable, "-m", "promptops")
_BARE = """
import json, sys
from sklearn.feature_extraction.text import TfidfVectorizer
rows = [json.loads(line) for line in open(sys.argv[1], "rb")]
texts = [next(iter(row.get("inputs", row).values())) for row in rows]
matrix = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True).fit_transform(texts)
if len(sys.argv) > 2:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    cross_val_predict(LogisticRegression(max_iter=1000), matrix, [row["category"] for row in rows], cv=10)
"""
"""Letter groups of every text by scikit-learn; with a second argument also one classifier, out of fold."""


def alternatives(folder: Path) -> Iterator[Figure]:
    """`promptops alternatives support-triage`: seven simple answers to the shipped 240 cases, nothing stored before."""
    for name in ("prompts", "golden", "rubrics"):
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    found = cost_of((*_PRODUCT, "alternatives", "support-triage"), folder)
    bare = cost_of((sys.executable, "-c", _BARE, "golden/support-triage.jsonl", "learn"), folder)
    yield Figure(what="alternatives, 240 cases; bare: one classifier", unit="wall s", value=found.wall_s, reference=bare.wall_s, target=60)  # fmt: skip
    yield Figure(what="the same", unit="CPU s", value=found.cpu_s, reference=bare.cpu_s, target=120)


def stats(folder: Path) -> Iterator[Figure]:
    """`promptops golden stats` of 20,000 rows: questions, and further ones with another question behind."""
    rows, chance = _questions(), random.Random(0)
    rows += [{**row, "text": f"{row['text']} {chance.choice(rows)['text']}"} for row in chance.sample(rows, 20_000 - len(rows))]  # fmt: skip
    project_of(folder, rows)
    found = cost_of((*_PRODUCT, "golden", "stats", "intents"), folder)
    bare = cost_of((sys.executable, "-c", _BARE, "golden/intents.jsonl"), folder)
    yield Figure(what="golden stats, 20,000 rows; bare: letter groups", unit="CPU s", value=found.cpu_s, reference=bare.cpu_s, target=10)  # fmt: skip
    yield Figure(what="its peak memory", unit="MiB", value=found.peak_bytes / 2**20, reference=bare.peak_bytes / 2**20, target=1024)  # fmt: skip


def coverage(folder: Path) -> Iterator[Figure]:
    """`promptops golden coverage` of 100,000 different requests against 1,000 cases."""
    rows, chance = _questions(), random.Random(0)
    project_of(folder, chance.sample(rows, 1_000))
    with (folder / "log.jsonl").open("w", encoding="utf-8") as file:
        for number in range(100_000):
            one, two = chance.choice(rows)["text"], chance.choice(rows)["text"]
            file.write(json.dumps({"text": f"{one} {number}" if number % 2 else f"{one} {two}"}) + "\n")
    found = cost_of((*_PRODUCT, "golden", "coverage", "intents", "--traffic", "log.jsonl", "-o", "page.html"), folder)
    bare = cost_of((sys.executable, "-c", _BARE, "log.jsonl"), folder)
    yield Figure(what="golden coverage, 100,000 rows; bare: letter groups", unit="CPU s", value=found.cpu_s, reference=bare.cpu_s, target=60)  # fmt: skip
    yield Figure(what="its peak memory", unit="MiB", value=found.peak_bytes / 2**20, reference=bare.peak_bytes / 2**20, target=1536)  # fmt: skip


def _questions() -> list[Question]:
    if DATA.exists():
        return questions()
    chance = random.Random(7)
    words = ["".join(chance.choices("aeiounrstlmdpk", k=chance.randint(2, 9))) for _ in range(4_000)]
    shares = [1 / place for place in range(1, len(words) + 1)]
    return [{"text": " ".join(chance.choices(words, shares, k=chance.randint(6, 18))) + f" {words[-1 - number % 77]}", "intent": f"intent {number % 77}", "split": "train"}
            for number in range(13_083)]  # fmt: skip


GOLDEN = {"alternatives": alternatives, "golden_stats": stats, "golden_coverage": coverage}
