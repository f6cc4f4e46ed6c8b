"""A made-up fortnight of two prompts in production, hour by hour, with four problems that can be planted; same seed, same events."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

START = datetime(2026, 11, 2, tzinfo=UTC)  # a Monday
HOURS = 14 * 24
PROBLEMS = ("japanese", "loop", "slow", "new kind")
LOOPING = "f00dfacecafe"
_LANGUAGES = ("en", "de", "ja")
_CATEGORIES = {
    "support-triage": ("billing", "delivery", "returns", "account", "other"),
    "invoice-extraction": ("pdf", "scan", "mail"),
}
_SHARES = {"support-triage": (0.34, 0.30, 0.20, 0.14, 0.02), "invoice-extraction": (0.6, 0.25, 0.15)}


def lines(events: int, seed: int, problems: tuple[str, ...] = ()) -> Iterator[bytes]:
    """About so many lines of an events file, feedback of 5 % of the requests among them, in order of time.

    Volume follows the day and the week, languages follow the clock of their countries, quality and latency wander from day to day.
    japanese: from day 5, bad answers in Japanese 8 % -> 25 %. loop: from day 8, one tenant asks 15 % more than all did. slow: from day 10,
    every call takes twice as long. new kind: from day 12, questions nobody foresaw (`other`) are 8 % instead of 2 %, and longer.
    """
    rng = np.random.default_rng(seed)
    per_hour = events / 1.05 / HOURS
    weights = 1 / np.arange(5, 205) ** 0.7
    tenants = [f"{number:012x}" for number in range(1, 201)]
    wander = rng.normal(0, 1, (14, 4))
    for hour in range(HOURS):
        at, day = START + timedelta(hours=hour), hour // 24
        clock = hour % 24
        busy = (1 + 0.5 * np.sin((clock - 9) / 24 * 2 * np.pi)) * (0.75 if day % 7 >= 5 else 1.1)
        many = rng.poisson(per_hour * busy)
        japanese = 0.2 + 0.08 * np.sin((clock - 1) / 24 * 2 * np.pi)
        yield from _hour(
            rng, at, many, day, problems, wander[day], japanese, weights / weights.sum(), tenants, f"{seed}-{hour}"
        )


def _hour(rng, at, many, day, problems, wander, japanese, weights, tenants, name) -> Iterator[bytes]:
    extra = rng.poisson(0.15 * many) if "loop" in problems and day >= 8 else 0
    triage = rng.random(many + extra) < 0.7
    language = rng.choice(3, many + extra, p=[(1 - japanese) * 0.75, (1 - japanese) * 0.25, japanese])
    tenant = rng.choice(len(tenants), many + extra, p=weights)
    latency = rng.lognormal(6.2 + 0.04 * wander[0], 0.45, many + extra) * (2 if "slow" in problems and day >= 10 else 1)
    chars = rng.lognormal(5.0 + 0.03 * wander[1], 0.6, many + extra).astype(int) + 5
    draws = rng.random((many + extra, 6))
    hard = 0.3 + 0.01 * wander[3]
    share = dict(_SHARES)
    if "new kind" in problems and day >= 12:
        share["support-triage"] = (0.32, 0.28, 0.19, 0.13, 0.08)
    category = {prompt: rng.choice(len(found), many + extra, p=found) for prompt, found in share.items()}
    step_s = 3600 / max(1, many + extra)
    for place in range(many + extra):
        prompt = "support-triage" if triage[place] else "invoice-extraction"
        loops = place >= many
        kind = _CATEGORIES[prompt][category[prompt][place]]
        lang = _LANGUAGES[language[place]]
        stamp = (at + timedelta(seconds=place * step_s)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        cached, failed, rejected = draws[place][0] < 0.2, draws[place][1] < 0.01, draws[place][2] < 0.015
        length = int(chars[place]) * (3 if kind == "other" else 1)
        yield _reply(
            stamp,
            f"{name}-{place}",
            prompt,
            LOOPING if loops else tenants[tenant[place]],
            kind,
            lang,
            latency[place],
            length,
            cached,
            failed,
            rejected,
            "large" if draws[place][5] < hard else "small",
        )
        bad = 0.08 + 0.005 * wander[2] + (0.17 if lang == "ja" and "japanese" in problems and day >= 5 else 0)
        if draws[place][3] < 0.05:
            good = "bad" if draws[place][4] < bad else "good"
            yield b'{"at":"%s","kind":"notice","event":"feedback_%s","reason":"%s thumbs"}\n' % (
                stamp.encode(),
                good.encode(),
                f"{name}-{place}".encode(),
            )


def _reply(stamp, name, prompt, tenant, category, language, latency, chars, cached, failed, rejected, model) -> bytes:
    version = "v1.4.0" if prompt == "support-triage" else "v2.0.1"
    if cached:
        source, calls, cost, latency = "cache", 0, 0, 0.4
        steps = '[{"stage":"cache","decision":"hit","reason":"12 s old","at_ms":0.3}]'
    else:
        source, calls, cost = "model", 1 + failed, (chars * 90 + 12_000) * (4 if model == "large" else 1)
        tries = (
            '{"stage":"model","decision":"server_error","reason":"","at_ms":%.3f},' % (latency * 0.4) if failed else ""
        )
        verdict = (
            '{"stage":"guardrails","decision":"rejected","reason":"","at_ms":%.3f},' % (latency * 0.6)
            if rejected
            else ""
        )
        steps = (
            f'[{{"stage":"cache","decision":"miss","reason":"","at_ms":0.2}},{{"stage":"route","decision":"{model}","reason":"likely right","at_ms":0.5}},'
            f'{{"stage":"budget","decision":"reserved","reason":"at most 700 tokens","at_ms":0.6}},{tries}{verdict}{{"stage":"model","decision":"ok","reason":"","at_ms":{latency - 0.5:.3f},"cost_nanousd":{cost}}},'
            f'{{"stage":"guardrails","decision":"passed","reason":"","at_ms":{latency - 0.1:.3f}}}]'
        )
    text = (
        '{"at":"%s","kind":"reply","id":"%s","prompt":"%s","version":"%s","tenant":"%s","feature":"inbox","category":"%s","source":"%s","degraded":"",'
        '"model":"%s","calls":%d,"cost_nanousd":%d,"latency_ms":%.3f,"input_tokens":%d,"output_tokens":24,"citations":0,"queued_id":"","language":"%s",'
        '"input_chars":%d,"output_chars":60,"steps":%s}\n'
    )
    return (
        text
        % (
            stamp,
            name,
            prompt,
            version,
            tenant,
            category,
            source,
            model,
            calls,
            cost,
            latency,
            chars // 4,
            language,
            chars,
            steps,
        )
    ).encode()
