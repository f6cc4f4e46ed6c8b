"""Human review on the terminal, as JSON and as the page shows it: untrusted text in pieces that say what is different or hides."""

import base64
import csv
import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from importlib.resources import files
from io import StringIO
from itertools import groupby
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.jsontext import readable
from promptops.core.rubric import Criterion, Rubric
from promptops.evaluation.review import (
    CHANGED,
    JUDGE_NEAR,
    JUDGE_SPLIT,
    JUDGE_UNSURE,
    NEAR,
    UNSTABLE,
    Place,
    ReviewReport,
)
from promptops.evaluation.review_due import ReviewDue
from promptops.evaluation.review_sample import Estimate
from promptops.gate.agreement import Agreement
from promptops.project.reviews import Batch, ReviewItem
from promptops.report.show import hides, show, spreadsheet_cell
from promptops.report.tables import command, count, headline, next_line, percent, percent_interval, table

Kind = Literal["", "same", "mark", "twin"]
Piece = tuple[Kind, str]
"""Text in one style: '' plain or, beside a reference, what differs; `same` as the reference; `mark` the name of a character that
cannot be seen; `twin` a letter of another script than its word's."""
MAX_SHOWN = 200_000
_NOTES = 10
_MAX_COMPARED = 3_000
_UNSPACED_RANGE = "\u0e00-\u0e7f\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED = re.compile(f"[{_UNSPACED_RANGE}]")
_TOKEN = re.compile(rf"\d+(?:[.,:]\d+)*|[{_UNSPACED_RANGE}]|[^\W_{_UNSPACED_RANGE}]+|\S")
_LETTERS = re.compile(r"[^\W\d_]+")
_BLANK_LETTERS = frozenset("\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800\u034f")
_JOINERS = frozenset("\u200c\u200d")
_ALIKE = ("LATIN", "CYRILLIC", "GREEK")
_SCHEMES = {"\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI",
            "\u2068": "FSI", "\u2069": "PDI", "\u200e": "LRM", "\u200f": "RLM", "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ",
            "\ufeff": "BOM", "\u2060": "WJ", "\u00ad": "SHY", "\u061c": "ALM"}  # fmt: skip


_WHY = {
    CHANGED: "of cases whose verdict changed between the runs", UNSTABLE: "of cases whose draws disagree",
    JUDGE_SPLIT: "on which the judges' votes differ", JUDGE_UNSURE: "that the judge could not decide", JUDGE_NEAR: "close to the judge's pass mark", NEAR: "close to a threshold of a check",
}  # fmt: skip


def pieces(text: str, reference: str = "") -> list[Piece]:
    """Text for people, what hides made visible; beside a reference, what it has in common with it is `same`."""
    shown = text[:MAX_SHOWN]
    found = [piece for same, part in _compared(shown, reference) for piece in _visible(part, "same" if same else "")]
    if len(text) > MAX_SHOWN:
        found.append(("mark", f"{len(text) - MAX_SHOWN} more characters"))
    return _joined(found)


def _joined(found: Iterable[Piece]) -> list[Piece]:
    """Neighbours of one kind as one piece; marks and twins stay apart."""
    joined: list[Piece] = []
    for kind, group in groupby((piece for piece in found if piece[1]), key=lambda piece: piece[0]):
        parts = [part for _, part in group]
        joined += [(kind, part) for part in parts] if kind in ("mark", "twin") else [(kind, "".join(parts))]
    return joined


def _compared(text: str, reference: str) -> Iterator[tuple[bool, str]]:
    """Parts of the text, and whether the reference has them in this order. Without a reference, or when too long, all is one part."""
    mine, theirs = _tokens(text), _tokens(reference)
    if not theirs or len(mine) * len(theirs) > _MAX_COMPARED**2:
        yield False, text
        return
    keys, others = [_folded(token[0]) for token in mine], [_folded(token[0]) for token in theirs]
    least = 4 if _UNSPACED.search(text) else 1  # single characters agree by chance
    done = 0
    for tag, first, last, _, _ in SequenceMatcher(None, keys, others, autojunk=False).get_opcodes():
        if first == last:
            continue
        start, end = mine[first].start(), mine[last - 1].end()
        yield True, text[done:start]
        yield tag == "equal" and (last - first >= least or not _UNSPACED.search(text[start:end])), text[start:end]
        done = end
    yield True, text[done:]


def _tokens(text: str) -> list[re.Match[str]]:
    """Words and marks, without blanks; each character of a script without blanks is a word."""
    return list(_TOKEN.finditer(text))


def _folded(token: str) -> str:
    return unicodedata.normalize("NFKC", token).casefold()


def _visible(text: str, kind: Kind) -> Iterator[Piece]:
    """The text with what hides or poses named. Plain ASCII, the usual case, passes as it is."""
    if text.isascii() and all(char.isprintable() or char in "\n\t" for char in text):
        yield kind, text
        return
    done = 0
    for word in _LETTERS.finditer(text):
        yield from _unhidden(text, done, word.start(), kind)
        letters = word[0]
        posing = frozenset() if letters.isascii() else _posing(letters)
        if posing:
            yield from (("twin" if char in posing else kind, char) for char in letters)
        else:
            yield from _unhidden(text, word.start(), word.end(), kind)
        done = word.end()
    yield from _unhidden(text, done, len(text), kind)


def _unhidden(text: str, start: int, end: int, kind: Kind) -> Iterator[Piece]:
    """A part of the text, with the names of characters in it that cannot be seen."""
    done = start
    for place in range(start, end):
        char = text[place]
        if char.isascii() and char.isprintable():
            continue
        if hides(char) or char in _BLANK_LETTERS or (char in _JOINERS and not _joins(text, place)):
            yield kind, text[done:place]
            yield "mark", _SCHEMES.get(char, f"U+{ord(char):04X}")
            done = place + 1
    yield kind, text[done:end]


def _joins(text: str, index: int) -> bool:
    """Whether a joiner has work to do: between letters that change shape, or between pictures."""
    around = (text[index - 1] if index else "", text[index + 1] if index + 1 < len(text) else "")
    return all(char and not char.isspace() and not char.isascii() and _script(char) not in _ALIKE for char in around)


@lru_cache(maxsize=4096)
def _posing(word: str) -> frozenset[str]:
    """Letters of a word that look like its others, but are of another script: the rarer one; in a tie, the one that is not Latin."""
    scripts = Counter(script for script in map(_script, word) if script in _ALIKE)
    if len(scripts) < 2:
        return frozenset()
    main = max(scripts, key=lambda script: (scripts[script], script == "LATIN"))
    return frozenset(char for char in word if _script(char) in _ALIKE and _script(char) != main)


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0]


# What both screens show of a place


def place_view(place: Place, rubric: Rubric, batch: Batch, reference: str) -> dict[str, Any]:
    """One answer as the page takes it. Nothing here says which run, version or model it is from, or why it was chosen."""
    item = place.item
    return {
        "prompt": batch.prompt, "batch": batch.id, "rubric": rubric.name, "done": place.done, "total": place.total, "skipped": place.skipped,
        "undoable": place.undoable, "item": None if item is None else _item_view(item, place, reference),
    }  # fmt: skip


def _item_view(item: ReviewItem, place: Place, reference: str) -> dict[str, Any]:
    answer = _laid_out(item.answer)
    return {
        "id": item.id, "case": item.case_id, "category": item.category,
        "inputs": [[name, pieces(_laid_out(readable(value)))] for name, value in item.inputs.items()],
        "answer": pieces(answer, reference), "compared": bool(reference), "characters": len(item.answer),
        "expected": [[name, pieces(readable(value), answer if value == reference else ""), value == reference]
                     for name, value in sorted(item.expected.items(), key=lambda entry: entry[1] != reference)],
        "criteria": [criterion_view(criterion) for criterion in place.criteria],
        "verdicts": dict(place.verdicts), "passed": place.passed, "note": place.note,
    }  # fmt: skip


def criterion_view(criterion: Criterion) -> dict[str, Any]:
    return {"id": criterion.id, "question": criterion.question, "scale": criterion.scale, "hard": criterion.hard,
            "anchors": dict(sorted(criterion.anchors.items()))}  # fmt: skip


def _laid_out(text: str) -> str:
    """JSON over several lines, where the text is a JSON object or list."""
    if text[:1] in ("{", "[") and len(text) < MAX_SHOWN:
        try:
            return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            return text
    return text


def as_text(found: Sequence[Piece], *, compared: bool = False) -> Text:
    """Pieces for a terminal; nothing in them is markup."""
    styles = {
        "": "yellow underline" if compared else "",
        "same": "",
        "mark": "black on yellow",
        "twin": "bold red underline",
    }
    return Text.assemble(
        *(Text(f"[{part}]" if kind == "mark" else show(part).plain, style=styles[kind]) for kind, part in found)
    )


# Results


def render_batch(batch: Batch, path: str) -> RenderableType:
    shares = ", ".join(f"{count(len(batch.items_of(who)), 'answer')} for {who}" for who in batch.reviewers)
    parts: list[RenderableType] = [
        headline(
            "ASSIGNED",
            "green",
            f"{count(len(batch.items), 'answer')} of {batch.population} in batch {batch.id}: {shares}",
        )
    ]
    parts += [show(f"  {chosen} of {count(of, 'answer')} {_WHY[why]}") for why, (chosen, of) in batch.reasons.items()]
    parts += [
        show(
            f"runs: {', '.join(batch.runs)}; seed {batch.seed}; the file {path} holds the answers, and can be sent to a colleague"
        ),
        Text(""),
    ]
    first = batch.reviewers[0]
    parts.append(next_line(command("promptops", "review", batch.prompt, "--as", first)))
    return Group(*parts)


def batch_json(batch: Batch, path: str) -> dict[str, Any]:
    return {
        "batch": batch.id, "prompt": batch.prompt, "runs": list(batch.runs), "seed": batch.seed, "population": batch.population, "file": path,
        "reviewers": {who: len(batch.items_of(who)) for who in batch.reviewers}, "reasons": {name: list(numbers) for name, numbers in batch.reasons.items()},
        "items": [{"item": item.id, "case": item.case_id, "category": item.category, "inclusion": item.inclusion, "reviewers": list(item.reviewers)}
                  for item in batch.items],
    }  # fmt: skip


def render_report(found: ReviewReport) -> RenderableType:
    """Rates with their counts first, then who agrees with whom."""
    done = sum(number for number, _ in found.progress.values())
    rates = [
        f"{_rate(entry.estimate)}{f' of run {entry.run}' if len(found.runs) > 1 else ''}"
        for entry in found.runs
        if entry.estimate
    ]
    word, style = ("DONE", "green") if not found.open else ("OPEN", "yellow")
    said = "; ".join(rates) or "nothing labelled yet"
    parts: list[RenderableType] = [headline(word, style, f"{found.batch.prompt}, batch {found.batch.id}: {said}")]
    grid = table("run", "category", "reviewed>", "pass rate>", "95% interval>")
    for entry in found.runs:
        for name, estimate in (*entry.categories.items(), *((("total", entry.estimate),) if entry.estimate else ())):
            grid.add_row(
                entry.run, name, str(estimate.reviewed), percent(estimate.rate), percent_interval(estimate.interval)
            )
    if grid.rows:
        parts += [
            grid,
            Text(
                "rates are of all answers of the run: each reviewed one is weighted by how likely it was to be chosen"
            ),
            Text(""),
        ]
    parts += [show(f"{who}: {labelled} of {total} labelled") for who, (labelled, total) in found.progress.items()]
    if found.agreed:
        parts += [Text(""), _agreement_grid(found)]
    parts += [show(f"note on {case} by {who}: {note}", limit=200) for case, who, note in found.notes[:_NOTES]]
    parts += (
        [Text(f"and {len(found.notes) - _NOTES} more notes, all of them with --json")]
        if len(found.notes) > _NOTES
        else []
    )
    waiting = next((who for who, (labelled, total) in found.progress.items() if labelled < total), "")
    following = (
        command("promptops", "review", found.batch.prompt, "--as", waiting)
        if waiting
        else f"git add golden/{found.batch.prompt}.labels.jsonl"
    )
    return Group(
        *parts,
        Text(""),
        next_line(following if done or waiting else command("promptops", "review", found.batch.prompt)),
    )


def _rate(estimate: Estimate | None) -> str:
    assert estimate is not None
    if estimate.interval.low == estimate.interval.high:
        return f"{percent(estimate.rate)} pass (all {count(estimate.reviewed, 'answer')} reviewed)"
    return f"{percent(estimate.rate)} pass (95% interval {percent_interval(estimate.interval)}, {estimate.reviewed} reviewed)"


def _agreement_grid(found: ReviewReport) -> RenderableType:
    assert found.agreed is not None
    grid = table("agreement on", "answers>", "agree>", "95% interval>", "beyond chance>", "95% interval>")
    for name, one in (("pass or fail", found.agreed), *found.agreed_by.items()):
        beyond = "-" if one.beyond_chance is None else f"{one.statistic} {one.beyond_chance:.2f}"
        interval = "-" if one.interval is None else f"{one.interval.low:.2f} to {one.interval.high:.2f}"
        grid.add_row(
            show(name), str(one.items), percent(one.agreed), percent_interval(one.agreed_interval), beyond, interval
        )
    return grid


def report_json(found: ReviewReport) -> dict[str, Any]:
    return {
        "batch": found.batch.id, "prompt": found.batch.prompt, "population": found.batch.population, "open": found.open,
        "progress": {who: {"labelled": done, "assigned": total} for who, (done, total) in found.progress.items()},
        "runs": [{"run": entry.run, "pass_rate": _estimate_json(entry.estimate),
                  "categories": {name: _estimate_json(one) for name, one in entry.categories.items()}} for entry in found.runs],
        "agreement": _agreement_json(found.agreed), "agreement_by": {name: _agreement_json(one) for name, one in found.agreed_by.items()},
        "notes": [{"case": case, "by": who, "note": note} for case, who, note in found.notes],
    }  # fmt: skip


def _estimate_json(found: Estimate | None) -> dict[str, Any] | None:
    return (
        None
        if found is None
        else {
            "rate": found.rate,
            "low": found.interval.low,
            "high": found.interval.high,
            "reviewed": found.reviewed,
            "effective": found.effective,
        }
    )


def _agreement_json(found: Agreement | None) -> dict[str, Any] | None:
    return None if found is None else {
        "answers": found.items, "raters": found.raters, "agreed": found.agreed, "agreed_low": found.agreed_interval.low,
        "agreed_high": found.agreed_interval.high, "statistic": found.statistic, "value": found.beyond_chance,
        "low": found.interval and found.interval.low, "high": found.interval and found.interval.high,
    }  # fmt: skip


def due_line(found: ReviewDue) -> str:
    """One sentence: when, or what is missing."""
    policy = found.policy
    asked = f"{policy.sample} answers every {count(policy.every_days, 'day')}"
    if found.due_at is None:
        return f"{found.prompt}: never reviewed in full: {found.recent} of {asked} labelled"
    day = found.due_at.date().isoformat()
    missing = max(0, policy.sample - found.recent)
    if found.overdue:
        return f"{found.prompt}: was due on {day}: {asked}, {missing} more needed"
    return f"{found.prompt}: next due on {day}, in {count(found.days_left, 'day')}: {asked}, {found.recent} labelled"


def render_due(found: Sequence[ReviewDue]) -> RenderableType:
    late = [one for one in found if one.overdue]
    word, style = ("OVERDUE", "red") if late else ("OK", "green")
    head = (
        f"{len(late)} of {count(len(found), 'review')} overdue"
        if late
        else f"{count(len(found), 'review')}, none overdue"
    )
    lines = [show(due_line(one) + ("" if not one.overdue or one.policy.required else " (only a notice: `review.required` is not set)"))
             for one in sorted(found, key=lambda one: (not one.overdue, one.days_left))]  # fmt: skip
    following = [Text(""), next_line(command("promptops", "review", late[0].prompt))] if late else []
    return Group(headline(word, style, head), *lines, *following)


def due_json(found: Sequence[ReviewDue]) -> dict[str, Any]:
    return {
        "reviews": [
            {"prompt": one.prompt, "every_days": one.policy.every_days, "sample": one.policy.sample, "required": one.policy.required,
             "labelled": one.recent, "last_at": one.last_at and one.last_at.isoformat(), "due_at": one.due_at and one.due_at.isoformat(),
             "overdue": one.overdue, "fails": one.fails} for one in found
        ]
    }  # fmt: skip


# Labels made elsewhere


def export_rows(items: Sequence[ReviewItem], rubric: Rubric) -> Iterator[dict[str, Any]]:
    """One row an answer with nothing filled in: what it says, what was asked, and a place for each criterion."""
    names = list(dict.fromkeys(one.id for item in items for one in rubric.criteria_for(item.category)))
    for item in items:
        asked = {one.id for one in rubric.criteria_for(item.category)}
        yield {
            "item": item.id, "case": item.case_id, "category": item.category, "inputs": dict(item.inputs), "expected": dict(item.expected),
            "answer": item.answer, "verdicts": {name: "" for name in names if name in asked}, "passed": "", "note": "",
        }  # fmt: skip


def export_jsonl(items: Sequence[ReviewItem], rubric: Rubric) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in export_rows(items, rubric))


def export_csv(items: Sequence[ReviewItem], rubric: Rubric) -> str:
    """For spreadsheets: text that would run as a formula starts with an apostrophe; a criterion of other categories says n/a."""
    rows = list(export_rows(items, rubric))
    names = list(dict.fromkeys(name for row in rows for name in row["verdicts"]))
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("item", "case", "category", "inputs", "expected", "answer", *names, "passed", "note"))
    for row in rows:
        texts = [
            row["item"],
            row["case"],
            row["category"],
            _readable_row(row["inputs"]),
            _readable_row(row["expected"]),
            row["answer"],
        ]
        writer.writerow([*map(spreadsheet_cell, texts), *(row["verdicts"].get(name, "n/a") for name in names), "", ""])
    return out.getvalue()


def _readable_row(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {readable(value)}" for name, value in values.items())


# The page


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The page, and the content policy that lets nothing run or load but what is in it."""

    html: str
    policy: str


@lru_cache(maxsize=1)
def review_page() -> Page:
    """It holds no data: its script asks for them with the token."""
    from minijinja import Environment

    css, script, html = (
        files("promptops.report").joinpath("page", f"review.{kind}").read_text("utf-8")
        for kind in ("css", "js", "html")
    )
    style, code = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, script))
    policy = (
        f"default-src 'none'; script-src 'sha256-{code}'; style-src 'sha256-{style}'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Page(
        html=Environment(templates={"review.html": html}).render_template("review.html", css=css, script=script),
        policy=policy,
    )
