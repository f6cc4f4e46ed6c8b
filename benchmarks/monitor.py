"""Monitoring: what reading a million events costs, and how soon planted problems are found in a simulated fortnight.

`python -m benchmarks.monitor [SEEDS] [EVENTS] [PLANTED]`: SEEDS fortnights of EVENTS clean events, and PLANTED of 1,000,000 with every problem.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmarks.fortnight import LOOPING, PROBLEMS, START, lines
from benchmarks.measure import Figure, cost_of, middle
from promptops.audit.drift import Finding, find_drift
from promptops.audit.events import EventReader

MILLION = 1_000_000
BEGINS_H: Mapping[str, int] = {"japanese": 5 * 24, "loop": 8 * 24, "slow": 10 * 24, "new kind": 12 * 24}
WITHIN_H: Mapping[str, int] = {"japanese": 48, "loop": 3, "slow": 3, "new kind": 24}


def monitor(folder: Path) -> Iterator[Figure]:
    """`promptops monitor` over a million events with every problem, against a loop that only parses them with orjson."""
    product = (sys.executable, "-m", "promptops", "monitor", "--events", "e.jsonl", "--json")
    bare = (sys.executable, "-c", "import orjson\nfor line in open('e.jsonl', 'rb'): orjson.loads(line)")
    with (folder / "e.jsonl").open("wb") as file:
        file.writelines(lines(MILLION, 1, PROBLEMS))
    found = [(cost_of(product, folder, codes=(1,)), cost_of(bare, folder)) for _ in range(3)]
    ours, reference = middle([cost for cost, _ in found]), middle([cost for _, cost in found])
    yield Figure(what="read and judge 1,000,000 events", unit="CPU s", value=ours.cpu_s, reference=reference.cpu_s, target=20)  # fmt: skip
    yield Figure(what="peak memory with 1,000,000 events", unit="MiB", value=ours.peak_bytes / 2**20, reference=reference.peak_bytes / 2**20, target=500)  # fmt: skip


def alarms(events: int, seed: int, problems: tuple[str, ...]) -> list[Finding]:
    """What a fortnight's monitoring found, whether or not it went back."""
    reader = EventReader(now=time.time)
    for line in lines(events, seed, problems):
        reader.add(line)
    return [finding for finding in find_drift(reader.traffic).findings if finding.state in {"alert", "recovered"}]


def problem_of(finding: Finding) -> str:
    """Which planted problem a finding tells of; '' for none."""
    if finding.metric == "bad" and finding.value == "ja":
        return "japanese"
    if finding.dimension == "tenant" and finding.value == LOOPING:
        return "loop"
    if finding.metric == "slow":
        return "slow"
    if finding.value == "other" or finding.metric == "long questions":
        return "new kind"
    return ""


def delays_h(found: list[Finding]) -> dict[str, int]:
    """Hours from the start of each problem to the end of the bucket that showed it, the earliest finding of each."""
    hours: dict[str, int] = {}
    for finding in found:
        if name := problem_of(finding):
            seen = datetime.fromisoformat(f"{finding.seen}:00:00+00:00")
            late = int((seen - START).total_seconds() // 3600) + 1 - BEGINS_H[name]
            hours[name] = min(late, hours.get(name, late))
    return hours


def main(seeds: int = 20, events: int = MILLION, planted: int = 3) -> int:
    failed = False
    false = []
    for seed in range(seeds):
        false.append(len(alarms(events, 1000 + seed, ())))
        print(f"clean fortnight {seed + 1} of {seeds}: {false[-1]} false alarms", flush=True)
    print(f"clean fortnights of {events} events: {sum(false)} false alarms in {seeds}", flush=True)
    failed |= sum(false) > seeds
    rounds = [(delays_h(found), found) for found in (alarms(MILLION, seed, PROBLEMS) for seed in range(1, planted + 1))]
    for name in PROBLEMS:
        hours = [late.get(name, 10**6) for late, _ in rounds]
        failed |= max(hours) > WITHIN_H[name] or min(hours) < 1
        print(f"{name}: found in {sum(late < 10**6 for late in hours)} of {planted}, after {min(hours)} to {max(hours)} h (median {median(hours)}), stated {WITHIN_H[name]} h", flush=True)  # fmt: skip
    others = [f"{finding.metric} {finding.dimension} {finding.value}" for _, found in rounds for finding in found if not problem_of(finding)]  # fmt: skip
    print(f"rates that moved besides: {len(others)} {sorted(set(others))}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
