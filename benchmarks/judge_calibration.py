"""Does the corrected pass rate hold what it says? `python -m benchmarks.judge_calibration [--trials 4000] [--labels 50]`.

On real judges and real labels in ../shared/data/judge (skipped, with the reason, where that folder is missing): 26 judges on 419 LLMBar
pairs and 2 on 999 PandaLM pairs. "Passes" is that people prefer the first answer. A trial draws labelled and unlabelled items, with
replacement, so that the mean of the data set is the truth that an interval of 95 % should hold in 95 % of trials. Beside PPI++ stand the
judge's raw rate and the labels alone (t interval, as PPI++ has). J and kappa are compared with scikit-learn's. Exit 1 when a target is missed.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from promptops.gate.calibration import agreement, cohen_kappa, corrected_rate, t_quantile

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "judge" / "judge_human.jsonl.gz"
Bools = Sequence[bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One judge's verdicts on the items of a data set that people labelled."""

    name: str
    human: np.ndarray
    judge: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Coverage of 95 % intervals and their mean width, over trials."""

    covered: float
    width: float
    alone_covered: float
    alone_width: float
    raw_covered: float


def load(path: Path = DATA) -> list[Judged]:
    """Every judge of the data with all items it gave a verdict on."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            human = _prefers_first(row)
            if human is None:
                continue
            for name, said in row["judge"].items():
                verdict = said[0] if isinstance(said, list) else said
                if verdict in ("0", "1", "2", "Tie"):
                    found.setdefault(f"{row['dataset']} {name}", []).append((human, verdict == "1"))
    return [
        Judged(name=name, human=np.array([a for a, _ in rows]), judge=np.array([b for _, b in rows]))
        for name, rows in sorted(found.items())
    ]


def _prefers_first(row: dict) -> bool | None:
    """What most annotators say; None where they are split."""
    votes = [label == "1" for label in row["human"].values()]
    return None if 2 * sum(votes) == len(votes) else 2 * sum(votes) > len(votes)


def simulate(data: Judged, *, labels: int, trials: int, seed: int) -> Trials:
    rng = np.random.default_rng(seed)
    truth, n = data.human.mean(), len(data.human)
    y, f = data.human.astype(float), data.judge.astype(float)
    rows = []
    for trial in range(trials):
        some, others = rng.integers(0, n, labels), rng.integers(0, n, n - labels)
        found = corrected_rate(y[some], f[some], f[others], seed=trial)
        half = t_quantile(labels - 1) * y[some].std(ddof=1) / sqrt(labels)
        everyone = np.concatenate([f[some], f[others]])
        raw_half = 1.96 * everyone.std(ddof=1) / sqrt(len(everyone))
        rows.append((found.interval.low <= truth <= found.interval.high, found.width, abs(y[some].mean() - truth) <= half,
                     min(1, y[some].mean() + half) - max(0, y[some].mean() - half), abs(everyone.mean() - truth) <= raw_half))  # fmt: skip
    mean = np.array(rows, dtype=float).mean(axis=0)
    return Trials(covered=mean[0], width=mean[1], alone_covered=mean[2], alone_width=mean[3], raw_covered=mean[4])


def differences_from_sklearn(data: Judged) -> tuple[float, float]:
    """(of J, of kappa), absolute, on all items of the data set."""
    from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

    found = agreement(list(data.human), list(data.judge))
    j = balanced_accuracy_score(data.human, data.judge, adjusted=True)
    return abs(found.j.value - j), abs(
        cohen_kappa(list(data.human), list(data.judge)) - cohen_kappa_score(data.human, data.judge)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--labels", type=int, default=50)
    options = parser.parse_args()
    if not DATA.exists():
        print(f"skipped: {DATA} is not here")
        return 0
    return report(list(rows(options.labels, options.trials)), options.labels, options.trials)


def rows(labels: int, trials: int) -> Iterator[tuple[Judged, Trials, tuple[float, float]]]:
    for number, data in enumerate(load()):
        yield data, simulate(data, labels=labels, trials=trials, seed=number), differences_from_sklearn(data)


def report(found: list[tuple[Judged, Trials, tuple[float, float]]], labels: int, trials: int) -> int:
    print("| judge | J | corrected: covers | width | labels alone: covers | width | narrower by | raw rate: covers |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for data, trial, _ in sorted(found, key=lambda item: -agreement(list(item[0].human), list(item[0].judge)).j.value):
        j = agreement(list(data.human), list(data.judge)).j.value
        print(f"| {data.name} | {j:.2f} | {trial.covered:.1%} | {trial.width:.3f} | {trial.alone_covered:.1%} | {trial.alone_width:.3f}"
              f" | {1 - trial.width / trial.alone_width:.0%} | {trial.raw_covered:.0%} |")  # fmt: skip
    covered = np.mean([trial.covered for _, trial, _ in found])
    width, alone = (
        np.mean([trial.width for _, trial, _ in found]),
        np.mean([trial.alone_width for _, trial, _ in found]),
    )
    raw = np.mean([trial.raw_covered for _, trial, _ in found])
    worst = max(max(pair) for _, _, pair in found)
    print(f"\n{len(found)} judges, {labels} labels, {trials} trials each: intervals cover {covered:.1%} on average, "
          f"{min(t.covered for _, t, _ in found):.1%} to {max(t.covered for _, t, _ in found):.1%}; mean width {width:.3f} against {alone:.3f} of the "
          f"labels alone ({1 - width / alone:.1%} narrower); the raw rate's interval covers {raw:.0%}; "
          f"J and kappa differ from scikit-learn's by {worst:.1e} at the most")  # fmt: skip
    every = all(0.93 <= trial.covered <= 0.97 for _, trial, _ in found)
    return int(not (0.93 <= covered <= 0.97 and every and width < alone and worst < 1e-9))


if __name__ == "__main__":
    sys.exit(main())
