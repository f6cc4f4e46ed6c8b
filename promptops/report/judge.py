"""What is known of a judge, on the terminal and as JSON: calibration, corrected rates, attacks."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.money import format_usd
from promptops.evaluation.attack import AttackReport, AttackRow
from promptops.evaluation.calibrate import SHOWN, Calibration
from promptops.evaluation.judge_report import JudgeReport, RateRow
from promptops.gate.calibration import MIN_FOR_CORRECTION, Agreement, Corrected, Rate
from promptops.gate.standing import JudgeStanding, standing_of
from promptops.project.store import Ledger
from promptops.report.run import measured
from promptops.report.show import show
from promptops.report.tables import (
    command,
    count,
    headline,
    next_line,
    percent,
    percent_interval,
    points,
    points_interval,
    table,
)

_WORDS = {"blocking": ("CALIBRATED", "green", "its verdicts count in the gate"), "doubtful": ("DOUBTFUL", "yellow", "its verdicts count, with this warning"),
          "advisory": ("NOT TRUSTED", "red", "its verdicts are shown and count for nothing")}  # fmt: skip


def render_calibration(found: Calibration, where: str) -> RenderableType:
    """The standing first, then the figures, the worst disagreements, and what would make it firmer."""
    judge, total = found.plan.judge, found.total
    assert judge, "a calibration is of a judge"
    word, style, meaning = _WORDS[found.standing.standing]
    parts: list[RenderableType] = [
        headline(word, style, f"judge {judge.name} of {found.prompt} by {judge.rubric.name}: {found.standing.why}; {meaning}"),
        _figures(found), Text(""), _confusion(total), Text(""), *_by_category(found), *_criteria(found),
    ]  # fmt: skip
    parts += _disagreements(found)
    labelled = found.labelled
    for number, what in ((labelled.stale_case, "labels left out: their golden case has changed"), (labelled.stale_rubric, "labels left out: the criteria have changed"),
                         (labelled.split, "answers left out: people are split evenly"), (found.unread, "answers left out: no verdict")):  # fmt: skip
        if number:
            parts.append(Text(f"{number} {what}", style="yellow"))
    parts += [Text(f"{line}", style="yellow") for line in found.advice]
    parts.append(
        Text(
            f"{_cost(found.ledger)}; stored in {where} for exactly this judge prompt, model, parameters and rubric",
            style="dim",
        )
    )
    return Group(*parts, Text(""), next_line(command("promptops", "judge", "report", found.prompt)))


def _figures(found: Calibration) -> RenderableType:
    total, humans = found.total, found.humans
    grid = table("", "value>", "95% interval>", "n>", "meaning")
    for name, rate, meaning in (
        ("TPR", total.tpr, "of what people pass, the judge passes"), ("TNR", total.tnr, "of what people fail, the judge fails"),
        ("J = TPR + TNR - 1", total.j, "a true drop of d shows as J * d"), ("kappa", total.kappa, "agreement beyond chance; moves with the pass share"),
    ):  # fmt: skip
        grid.add_row(name, _plain(rate), _plain_interval(rate), str(rate.n), meaning)
    bias = total.bias
    grid.add_row("bias", "-" if bias.value is None else points(bias.value), points_interval(bias.interval) if bias.interval else "-", str(bias.n),
                 "points by which its pass rate is off")  # fmt: skip
    grid.add_row(
        "flips",
        percent(found.flips.value),
        percent_interval(found.flips.interval),
        str(found.flips.n),
        "pairs of verdicts on one answer that differ",
    )
    if humans is None:
        grid.add_row("people agree", "-", "-", "0", "no answer has labels of two people: the ceiling is unknown")
    else:
        beyond = "" if humans.beyond_chance is None else f", {humans.statistic} {humans.beyond_chance:.2f}"
        grid.add_row("people agree", percent(humans.agreed), percent_interval(humans.agreed_interval), str(humans.items),
                     f"the ceiling: {humans.raters} people among themselves{beyond}")  # fmt: skip
    return grid


def _plain(rate: Rate) -> str:
    return "-" if rate.value is None else f"{rate.value:.2f}"


def _plain_interval(rate: Rate) -> str:
    return "-" if rate.interval is None else f"[{rate.interval.low:.2f}, {rate.interval.high:.2f}]"


def _confusion(total: Agreement) -> RenderableType:
    found = total.confusion
    grid = table("", "judge passes>", "judge fails>")
    grid.add_row("people pass", str(found.hit), str(found.missed))
    grid.add_row("people fail", str(found.false_pass), str(found.caught))
    return grid


def _by_category(found: Calibration) -> list[RenderableType]:
    if not found.categories:
        return []
    grid = table("category", "labels>", "TPR>", "TNR>", "J>", "95% interval>", "bias>")
    for name, item in found.categories.items():
        grid.add_row(show(name), str(item.confusion.n), _plain(item.tpr), _plain(item.tnr), _plain(item.j), _plain_interval(item.j),
                     "-" if item.bias.value is None else points(item.bias.value))  # fmt: skip
    return [grid, Text("")]


def _criteria(found: Calibration) -> list[RenderableType]:
    if not found.criteria:
        return []
    grid = table("criterion", "labels>", "same score>", "beyond chance>", "")
    for item in found.criteria:
        beyond = "-" if item.beyond_chance is None else f"{item.beyond_chance:.2f}"
        grid.add_row(show(item.criterion), str(item.n), percent(item.agree), beyond, item.statistic)
    return [grid, Text("")]


def _disagreements(found: Calibration) -> list[RenderableType]:
    if not found.disagreements:
        return []
    shown = found.disagreements[:SHOWN]
    more = f"; the worst {SHOWN}" if len(found.disagreements) > SHOWN else ""
    parts: list[RenderableType] = [Text(f"{count(len(found.disagreements), 'disagreement')}{more}", style="bold")]
    for item in shown:
        word = {True: "pass", False: "fail"}
        parts += [
            Text.assemble(
                "  ", show(item.case_id, style="bold"), f" ({item.category}): ", show(item.answer, limit=160)
            ),
            Text.assemble(f"    people {word[item.human]}: ", show(item.human_reason, limit=200)),
            Text.assemble(
                f"    judge {word[item.judge]} ({item.judge_value:.2f}): ", show(item.judge_reason, limit=200)
            ),
        ]
    return [*parts, Text("")]


def _cost(ledger: Ledger) -> str:
    paid = (
        f"{count(ledger.attempts, 'call')}, {format_usd(ledger.paid_nanousd)} paid"
        if ledger.attempts
        else "nothing asked anew, nothing paid"
    )
    return paid + (f", possibly {format_usd(ledger.possibly_nanousd)} more" if ledger.possibly_nanousd else "")


def calibration_json(found: Calibration, where: str) -> dict[str, Any]:
    """What is stored, and what leads to it."""
    return {
        **found.as_row(), "prompt": found.prompt, "standing": found.standing.standing, "why": found.standing.why, "file": where,
        "stale_case": found.labelled.stale_case, "stale_rubric": found.labelled.stale_rubric, "split": found.labelled.split,
        "criteria": [asdict(item) for item in found.criteria], "advice": list(found.advice),
        "disagreements": [asdict(item) for item in found.disagreements], "calls": found.ledger.attempts, "paid_nanousd": found.ledger.paid_nanousd,
    }  # fmt: skip


# The corrected rate


def render_report(found: JudgeReport, calibration: Mapping[str, Any]) -> RenderableType:
    """The corrected pass rate beside the raw one, by category; `calibration` is today's of the run's judge, empty without one."""
    header, total = found.run.header, found.total
    judge = header.judge
    if total.corrected is None:
        title = headline("RAW ONLY", "yellow", f"{header.prompt}: the judge passes {total.passed}/{total.judged} ({percent(total.passed / total.judged)}); "
                         "nobody has labelled an answer of this run, so its errors are unknown")  # fmt: skip
    else:
        right = total.corrected
        title = headline("CORRECTED", "green", f"{header.prompt}: {percent(right.value)} pass, 95% interval {percent_interval(right.interval)}; "
                         f"the judge alone says {percent(right.raw)} ({total.passed}/{total.judged})")  # fmt: skip
    grid = table("", "judged>", "judge passes>", "raw>", "labels>", "corrected>", "95% interval>", "method")
    for position, row in enumerate(found.categories):
        grid.add_row(*_rate_cells(row), end_section=position == len(found.categories) - 1)
    grid.add_row(*_rate_cells(total), style="bold")
    parts: list[RenderableType] = [title, grid]
    if found.spared:
        whole = (
            ""
            if found.overall is None
            else f"; of all {total.judged + found.spared} about {percent(found.overall)} pass both"
        )
        parts.append(
            Text(
                f"of the {total.judged + found.spared} answers {found.spared} failed a check and were not judged{whole}",
                style="dim",
            )
        )
    if found.missed:
        parts.append(
            Text(
                f"{count(found.missed, 'answer')} got no verdict and {'is' if found.missed == 1 else 'are'} in no rate",
                style="yellow",
            )
        )
    if total.corrected and not found.weighted:
        parts.append(
            Text(
                "some labelled answers were not chosen by chance: the corrected rate may be that of easy or hard ones",
                style="yellow",
            )
        )
    if total.corrected and total.corrected.method == "labels" and total.corrected.labels < total.judged:
        parts.append(Text(f"below {MIN_FOR_CORRECTION} labels people's verdicts are used alone", style="dim"))
    if total.corrected and total.corrected.method == "ppi++":
        parts.append(
            Text(
                f"the judge is listened to with weight {total.corrected.tuning:.2f} (0: not at all, 1: as if it were right)",
                style="dim",
            )
        )
    parts += [
        show(
            f"judge {judge['name']} by {judge['rubric']}: {_standing(calibration).why}{measured({'calibration': calibration})}",
            style="dim",
        ),
        show(f"run {found.run.id}", style="dim"),
        Text(""),
    ]
    following = (
        ("promptops", "review", header.prompt)
        if total.corrected is None
        else ("promptops", "judge", "calibrate", header.prompt)
    )
    return Group(*parts, next_line(command(*following)))


def _standing(calibration: Mapping[str, Any]) -> JudgeStanding:
    interval = calibration.get("j_interval")
    return standing_of(int(calibration.get("labels", 0)), interval[0] if interval else None)


def _rate_cells(row: RateRow) -> tuple[str | Text, ...]:
    found = row.corrected
    return (show(row.name), str(row.judged), str(row.passed), percent(row.passed / row.judged), str(found.labels if found else 0),
            percent(found.value) if found else "-", percent_interval(found.interval) if found else "-",
            {"ppi++": "PPI++", "labels": "labels alone"}[found.method] if found else "")  # fmt: skip


def report_json(found: JudgeReport, calibration: Mapping[str, Any]) -> dict[str, Any]:
    """Stable keys; rates in 0..1."""
    return {"run": found.run.id, "prompt": found.run.header.prompt, "judge": dict(found.run.header.judge), "calibration": dict(calibration) or None, "spared": found.spared, "missed": found.missed,
            "weighted": found.weighted, "overall": found.overall, "total": _rate_json(found.total),
            "categories": [_rate_json(row) for row in found.categories]}  # fmt: skip


def _rate_json(row: RateRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "judged": row.judged,
        "passed": row.passed,
        "raw": row.passed / row.judged,
        "corrected": _corrected_json(row.corrected),
    }


def _corrected_json(found: Corrected | None) -> Mapping[str, Any] | None:
    if found is None:
        return None
    return {
        "rate": found.value,
        "interval": [found.interval.low, found.interval.high],
        "method": found.method,
        "labels": found.labels,
        "tuning": found.tuning,
    }


# Attacks


def render_attack(found: AttackReport, where: str) -> RenderableType:
    """Which attacks raised a score, and on how many answers."""
    judge = found.plan.judge
    assert judge, "an attack is on a judge"
    total, targets = len(found.rows), found.rows[0].targets
    if found.succeeded:
        named = ", ".join(row.attack.id for row in found.succeeded)
        title = headline(
            "FAIL",
            "red",
            f"judge {judge.name} of {found.prompt}: {len(found.succeeded)} of {total} attacks raised a score ({named})",
        )
    else:
        title = headline(
            "PASS",
            "green",
            f"judge {judge.name} of {found.prompt}: none of {total} attacks raised the score of any of {count(targets, 'answer')}",
        )
    grid = table("attack", "language?", "how", "rose>", "now pass>", "unread>?", "mean change>?")
    rows = sorted(found.rows, key=lambda row: (-len(row.rose), row.attack.technique, row.attack.id))
    for position, row in enumerate(rows):
        grid.add_row(*_attack_cells(row), style="red" if row.rose else "", end_section=position == total - 1)
    grid.add_row(*_attack_cells(found.control), style="dim")
    parts: list[RenderableType] = [title, grid]
    if found.control.rose:
        parts.append(Text(f"a harmless sentence raised {len(found.control.rose)} of {targets} scores too: part of this is the judge's own unsteadiness; "
                          "more votes lessen it", style="yellow"))  # fmt: skip
    if found.skipped:
        parts.append(Text(f"{count(found.skipped, 'answer')} left out: full marks already, or no verdict", style="dim"))
    parts.append(Text(f"{_cost(found.ledger)}; stored in {where} for exactly this judge", style="dim"))
    return Group(*parts, Text(""), next_line(command("promptops", "judge", "calibrate", found.prompt)))


def _attack_cells(row: AttackRow) -> tuple[str | Text, ...]:
    return (row.attack.id, row.attack.language, row.attack.technique, f"{len(row.rose)}/{row.targets}", str(len(row.passed)), str(row.unread or "-"),
            f"{row.mean_change:+.2f}")  # fmt: skip


def attack_json(found: AttackReport, where: str) -> dict[str, Any]:
    judge = found.plan.judge
    assert judge, "an attack is on a judge"
    return {
        "verdict": "FAIL" if found.succeeded else "PASS", "prompt": found.prompt, "judge": judge.name, "judge_digest": judge.digest,
        "attacks": [_attack_row(row) for row in found.rows], "control": _attack_row(found.control), "skipped": found.skipped,
        "calls": found.ledger.attempts, "paid_nanousd": found.ledger.paid_nanousd, "file": where,
    }  # fmt: skip


def _attack_row(row: AttackRow) -> dict[str, Any]:
    return {"id": row.attack.id, "language": row.attack.language, "technique": row.attack.technique, "targets": row.targets, "rose": list(row.rose),
            "now_pass": list(row.passed), "unread": row.unread, "mean_change": row.mean_change}  # fmt: skip
