"""The proof table of docs/router-cache.md: `python -m benchmarks.router_cache [router|cache|probes|speed]... [--splits 50] [--half]`.

Reads ../shared/data, or the folder that PROMPTOPS_SHARED_DATA names (router/mmlu, router/gsm8k, semcache/banking77), which is not part of the project; without it only `probes` and the router's
speed are measured. Rows whose id has an even first byte of sha256 were used to develop the method ("seen half"); the others never were.
With --half the cache is measured on the never-seen half alone. Seeds are 0, 1, 2, ...; every split is random by its seed.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np

from promptops.release.cache_calibration import (
    Labelled,
    Labels,
    Pair,
    calibrate_texts,
    count_hits,
    learn_embedder,
    learn_weights,
    lookup_of,
    pair_lookup,
    scores_of,
)
from promptops.release.router_training import Outcome, Table, compare_rules, fit, make_table
from promptops.runtime.embedding import Embedder, cosine
from promptops.runtime.matcher import Matcher
from promptops.runtime.semantic import SemanticCache

DATA = Path(os.environ.get("PROMPTOPS_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PROBES = Path(__file__).resolve().parents[1] / "tests" / "runtime" / "near_misses.jsonl"
MAX_ERROR = 0.02
OUT_OF_SCOPE = 400


def rows_of(name: str) -> list[dict]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def is_seen(row_id: str) -> bool:
    """Whether the method was developed on this row."""
    return hashlib.sha256(row_id.encode()).digest()[0] % 2 == 0


def show(*cells: object) -> None:
    print(
        "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def router() -> None:
    """APGR by rule, out of fold; means of three seeds."""
    show("data", "rows", "folds", "length", "category mean", "text", "random", "oracle")
    for name in ("mmlu", "gsm8k"):
        rows = rows_of(f"router/{name}.jsonl.gz")
        for part, picked in (("all", rows), ("never-seen half", [row for row in rows if not is_seen(row["id"])])):
            table = router_table(picked)
            for by_category in (False, True) if name == "mmlu" else (False,):
                reports = [compare_rules(table, seed=seed, by_category=by_category, nested=False) for seed in range(3)]
                found = {
                    item.rule: mean(
                        entry.apgr.value for report in reports for entry in report if entry.rule == item.rule
                    )
                    for item in reports[0]
                }
                spread = {
                    rule: max(e.apgr.value for r in reports for e in r if e.rule == rule)
                    - min(e.apgr.value for r in reports for e in r if e.rule == rule)
                    for rule in found
                }
                show(
                    f"{name}, {part}",
                    len(picked),
                    "unseen subjects" if by_category else "random 5",
                    found["length"],
                    found.get("category", "-"),
                    found["text"],
                    found["random"],
                    found["oracle"],
                )
                beaten = {item.rule: item.beaten_by for report in reports for item in report if item.beaten_by}
                interval = next(item.apgr for item in reports[0] if item.rule == "text")
                print(
                    f"  text, seed 0: [{interval.low:.3f}, {interval.high:.3f}]; over seeds it varies by {spread['text']:.3f}; beaten: {beaten or 'none'}",
                    flush=True,
                )


def nested() -> None:
    """The same, choosing the rule inside each fold: what `route train` would have shipped."""
    show("data", "folds", "chosen")
    for name in ("mmlu", "gsm8k"):
        table = router_table(rows_of(f"router/{name}.jsonl.gz"))
        for by_category in (False, True) if name == "mmlu" else (False,):
            found = next(
                item for item in compare_rules(table, seed=0, by_category=by_category) if item.rule == "chosen"
            )
            show(
                name,
                "unseen subjects" if by_category else "random 5",
                f"{found.apgr.value:.3f} [{found.apgr.low:.3f}, {found.apgr.high:.3f}]",
            )


def router_table(rows: Sequence[dict]) -> Table:
    return make_table(
        [
            Outcome(
                id=row["id"], text=row["prompt"], category=row["category"], small=row["weak_ok"], large=row["strong_ok"]
            )
            for row in rows
        ]
    )


def cache(splits: int, *, half: bool) -> None:
    """Calibrated on a random half, measured on the other; beside two fixed cosines with the same embedder and the same entries."""
    rows = [row for row in rows_of("semcache/banking77.jsonl.gz") if not half or not is_seen(row["id"])]
    print(
        f"banking77, {'never-seen half' if half else 'all'}: {len(rows)} rows, {splits} splits, max_error {MAX_ERROR:.0%}",
        flush=True,
    )
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(splits):
        for rule, figures in split(rows, seed):
            found.setdefault(rule, []).append(figures)
        calibrated = found["calibrated"]
        broken = sum(wrong > MAX_ERROR for _, wrong, _ in calibrated)
        print(
            f"  split {seed}: hit rate {calibrated[-1][0]:.3f}, wrong of hits {calibrated[-1][1]:.4f}; so far mean {mean(hit for hit, _, _ in calibrated):.3f}, bound exceeded {broken} of {seed + 1}",
            flush=True,
        )
    show("rule", "hit rate", "wrong of hits", "splits with more than 2 % wrong", "off", "served out of scope")
    for rule, figures in found.items():
        on = [wrong for hit, wrong, _ in figures if hit]
        show(
            rule,
            mean(hit for hit, _, _ in figures),
            mean(on) if on else 0.0,
            f"{sum(wrong > MAX_ERROR for wrong in on)} of {splits}",
            sum(not hit for hit, _, _ in figures),
            mean(stray for _, _, stray in figures),
        )


def split(rows: Sequence[dict], seed: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """(rule, (hit rate, wrong of hits, share of out-of-scope questions served)) on the fresh half."""
    order = list(rows)
    random.Random(seed).shuffle(order)
    labelled = [Labelled(id=row["id"], text=row["text"], answer=row["intent"]) for row in order]
    known, fresh = labelled[: len(order) // 2], labelled[len(order) // 2 :]
    found = calibrate_texts(known, max_error=MAX_ERROR, seed=seed)
    index = Labels(found.matcher.embedder, known)
    near = index.near(fresh)
    strangers = fresh[:OUT_OF_SCOPE]
    apart = index.near(strangers, hide_answer=True)
    hits, wrong = count_hits(found.matcher, [lookup_of(row, items) for row, items in zip(fresh, near, strict=True)])
    stray, _ = count_hits(found.matcher, [lookup_of(row, items) for row, items in zip(strangers, apart, strict=True)])
    yield "calibrated", (hits / len(fresh), wrong / hits if hits else 0.0, stray / len(strangers))
    for limit in (0.6, 0.9):
        served = [
            (row, items[0]) for row, items in zip(fresh, near, strict=True) if items and items[0].similarity >= limit
        ]
        bad = sum(row.answer != item.entry.answer for row, item in served)
        outside = sum(bool(items) and items[0].similarity >= limit for items in apart)
        yield (
            f"cosine >= {limit}",
            (len(served) / len(fresh), bad / len(served) if served else 0.0, outside / len(strangers)),
        )


def probes() -> None:
    """Developed on one half of the pairs (by hash), reported on the other."""
    rows = [json.loads(line) for line in PROBES.read_text("utf-8").splitlines()]
    seen = [row for row in rows if not is_seen(row["id"])]  # of the pairs, those with an odd byte were developed on
    fresh = [row for row in rows if is_seen(row["id"])]
    embedder = learn_embedder([text for row in seen for text in (row["a"], row["b"])], [])
    taught = [pair_lookup(embedder, as_pair(row)) for row in seen]
    matcher = learn_weights(Matcher(embedder=embedder), taught)
    assert matcher is not None
    wrong_scores = sorted(
        (score for score, item in zip(scores_of(matcher, taught), taught, strict=True) if not item.right), reverse=True
    )
    allowed = int(0.02 * len(wrong_scores))
    cut = float(np.nextafter(wrong_scores[allowed], np.inf))
    served = scores_of(matcher, [pair_lookup(embedder, as_pair(row)) for row in fresh]) >= cut
    alike = np.array([cosine(embedder.embed(row["a"]), embedder.embed(row["b"])) for row in fresh])
    same = np.array([row["same"] for row in fresh])
    show("rule", f"false hits of {int((~same).sum())}", f"true hits kept of {int(same.sum())}")
    for rule, hit in (("vetoes and matcher", served), ("cosine >= 0.6", alike >= 0.6), ("cosine >= 0.9", alike >= 0.9)):
        show(
            rule,
            f"{int((hit & ~same).sum())} ({(hit & ~same).sum() / (~same).sum():.1%})",
            f"{int((hit & same).sum())} ({(hit & same).sum() / same.sum():.1%})",
        )
    print(
        "  kinds, vetoes and matcher: "
        + ", ".join(
            f"{kind} {sum(bool(h) for h, row in zip(served, fresh, strict=True) if row['kind'] == kind)}/{sum(row['kind'] == kind for row in fresh)}"
            for kind in sorted({row["kind"] for row in fresh})
        ),
        flush=True,
    )
    print(
        "  languages, served of same / of different: "
        + ", ".join(
            f"{lang} {ratio(fresh, served, lang, True)} / {ratio(fresh, served, lang, False)}"
            for lang in sorted({row["lang"] for row in fresh})
        ),
        flush=True,
    )


def ratio(rows: Sequence[dict], served: np.ndarray, lang: str, same: bool) -> str:
    picked = [bool(hit) for hit, row in zip(served, rows, strict=True) if row["lang"] == lang and row["same"] is same]
    return f"{sum(picked)}/{len(picked)}"


def as_pair(row: dict) -> Pair:
    return Pair(id=row["id"], a=row["a"], b=row["b"], same=row["same"])


def speed() -> None:
    """CPU time of this thread for one call: p50 and p99."""
    show("call", "p50 ms", "p99 ms")
    if (DATA / "router/mmlu.jsonl.gz").exists():
        texts = [row["prompt"] for row in rows_of("router/mmlu.jsonl.gz")]
        table = router_table(rows_of("router/mmlu.jsonl.gz"))
        trained = fit(table, np.arange(len(table)), "text")
    else:
        rng = random.Random(0)
        texts = [
            " ".join(
                rng.choice(("lamp", "order", "refund", "delivery", "broken", "please", "invoice")) for _ in range(60)
            )
            for _ in range(400)
        ]
        made = [
            Outcome(id=str(n), text=text, category="a", small=rng.random(), large=rng.random())
            for n, text in enumerate(texts)
        ]
        trained = fit(make_table(made), np.arange(len(made)), "text")
    joined = "\n".join(texts[:2000])
    for label, size, count in (
        ("route, 1 kB", 1_000, 1000),
        ("route, 10 kB", 10_000, 300),
        ("route, 1 MB", 1_000_000, 30),
    ):
        asked = [
            joined[start : start + size]
            for start in (random.Random(1).randrange(len(joined) // 2) for _ in range(count))
        ]
        timed(label, asked, trained.score)
    japanese = [("注文番号の請求書について返金の方法を教えてください。" * 200)[:3333]] * 200
    timed("route, 10 kB of Japanese", japanese, trained.score)
    if not (DATA / "semcache/banking77.jsonl.gz").exists():
        print("no ../shared/data: the lookups are not measured")
        return
    rows = rows_of("semcache/banking77.jsonl.gz")
    random.Random(0).shuffle(rows)
    halves = [row["text"].split() for row in rows]
    for size in (10_000, 100_000):
        rng = random.Random(2)
        found = SemanticCache(Matcher(embedder=Embedder(), threshold=0.0), max_entries=10**6)
        for number in range(size):
            text = (
                rows[number]["text"]
                if number < 10_000
                else " ".join(_half(rng.choice(halves), 0) + _half(rng.choice(halves), 1))
            )
            found.add("p", str(number), text, answer=rows[number % len(rows)]["intent"], ttl_s=1e9)
        timed(
            f"lookup with embedding, {size:,} entries",
            [row["text"] for row in rows[10_000:12_000]],
            lambda text, found=found: found.find("p", text),
        )


def _half(words: list[str], which: int) -> list[str]:
    middle = len(words) // 2
    return words[middle:] if which else words[:middle]


def timed(label: str, asked: Sequence[str], call: Callable[[str], object]) -> None:
    for text in asked[:20]:
        call(text)
    taken = []
    for text in asked:
        start = time.thread_time()
        call(text)
        taken.append((time.thread_time() - start) * 1e3)
    show(label, median(taken), sorted(taken)[int(len(taken) * 0.99)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["router", "nested", "cache", "probes", "speed"])
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--half", action="store_true")
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "router": router,
        "nested": nested,
        "cache": lambda: cache(options.splits, half=options.half),
        "probes": probes,
        "speed": speed,
    }
    for part in options.parts:
        if part in ("router", "nested", "cache") and not DATA.exists():
            print(f"{part}: ../shared/data is not here, skipped")
            continue
        parts[part]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
