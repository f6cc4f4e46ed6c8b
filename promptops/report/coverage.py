"""How golden cases cover traffic: on the terminal, as a page with a picture, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.version import __version__
from promptops.evaluation.coverage import CategoryShares, Coverage, Part, Suggestion
from promptops.report.html import asset, environment, policy
from promptops.report.show import show
from promptops.report.tables import command, count, headline, next_line, percent, table

_SHOWN_CHARS = 90
_GOOD, _FAIR = 0.9, 0.7
_WIDTH, _HEIGHT = 620, 420


def render_coverage(found: Coverage, name: str, log: str, shares: CategoryShares | None = None) -> RenderableType:
    """The share that is covered first, then what is not, then who is left out, then weights for the suite when they are wanted."""
    parts: list[RenderableType] = [headline(*_verdict(found), coverage_sentence(found, name))]
    parts += [show(line) for line in _facts(found)]
    if found.clusters:
        grid = table("not covered", "inputs>", "line>", "words", "for example")
        for cluster in found.clusters:
            grid.add_row(percent(cluster.share), str(cluster.inputs), str(cluster.line), show(", ".join(cluster.words)), show(_cut(cluster.example)))  # fmt: skip
        parts += [Text(""), Text("what users ask and no golden case is like", style="bold"), grid]
    parts += [Text(""), _parts("language", found.languages), _parts("length", found.lengths)]
    parts += [show(line, style="dim") for line in _notes(found)]
    if shares:
        parts += [Text(""), *(show(line) for line in weight_lines(shares, name))]
    return Group(*parts, Text(""), next_line(command("promptops", "golden", "suggest", name, "--traffic", log)))


def weight_lines(shares: CategoryShares, name: str) -> Iterator[str]:
    """`categories:` with the traffic's shares in percent, to be pasted into the suite, below how they were found."""
    if not shares.shares:
        yield "no weights: the log states no category of this prompt, and no request is like a golden case"
        return
    rest = max(0.0, 1 - shares.stated - shares.near)
    yield (f"# weights for golden/{name}.yaml, percent of the traffic: {percent(shares.stated)} by the log's own category, {percent(shares.near)} by the "
           f"nearest golden case, {percent(rest)} of no known category and left out")  # fmt: skip
    yield "categories:"
    for category, share in shares.shares.items():
        yield f"  {category}: {{weight: {round(100 * share, 2):g}}}"


def _verdict(found: Coverage) -> tuple[str, str]:
    if found.covered >= _GOOD:
        return "COVERED", "green"
    return ("PARTLY COVERED", "yellow") if found.covered >= _FAIR else ("NOT COVERED", "red")


def coverage_sentence(found: Coverage, name: str) -> str:
    """What is covered, with the counts."""
    return f"{name}: {percent(found.covered)} of {count(found.rows, 'request')} are like one of {count(found.cases, 'golden case')}"


def _facts(found: Coverage) -> Iterator[str]:
    yield (f"distance to the nearest case: mean {found.mean_distance:.2f}, half of the requests within {found.median_distance:.2f}, 90% within "
           f"{found.p90_distance:.2f} (0 the same, 1 nothing in common); alike is within {found.radius:.2f}")  # fmt: skip
    if found.idle:
        yield f"{count(found.idle, 'golden case')} of {found.cases} are like no request: rare, or not asked any more"


def _notes(found: Coverage) -> Iterator[str]:
    yield from (f"{count(number, 'row')} left out: {why}" for why, number in found.skipped.items())
    if found.sampled:
        yield f"clusters are of {found.sampled} requests drawn by weight from {found.inputs} different ones"
    yield "alike is lexical (shared words and letter groups, by how rare they are): other words for the same thing count as far"


def _parts(title: str, parts: Sequence[Part]) -> RenderableType:
    grid = table(title, "traffic>", "golden>", "covered>")
    for part in parts:
        style = "yellow" if part.traffic >= 0.05 and part.golden < part.traffic / 3 else ""
        grid.add_row(show(part.name), percent(part.traffic), percent(part.golden), percent(part.covered) if part.traffic else "-", style=style)  # fmt: skip
    return grid


def _cut(text: str) -> str:
    flat = " ".join(text[: 4 * _SHOWN_CHARS].split())
    return flat if len(flat) <= _SHOWN_CHARS else flat[: _SHOWN_CHARS - 1] + "…"


def coverage_json(found: Coverage, name: str, shares: CategoryShares) -> dict[str, Any]:
    """Shares in 0..1, distances 1 - cosine."""
    return {"prompt": name, **asdict(found), "categories": asdict(shares)}


def coverage_page(found: Coverage, name: str) -> str:
    """One file without scripts; the picture is SVG, its dots in two directions that part the texts most."""
    css = asset("report.css") + asset("coverage.css")
    word, colour = _verdict(found)
    dots = [{"x": f"{12 + dot.x * (_WIDTH - 24):.1f}", "y": f"{12 + dot.y * (_HEIGHT - 24):.1f}", "kind": dot.kind}
            for dot in sorted(found.dots, key=lambda dot: dot.kind == "golden")]  # fmt: skip
    text: str = environment().render_template(
        "coverage.html", title=f"{name}: coverage", css=css, csp=policy(css), word=word.lower(), tone={"green": "good", "yellow": "warn", "red": "bad"}[colour],
        prompt=name, headline=coverage_sentence(found, name), dots=dots, width=_WIDTH, height=_HEIGHT,
        clusters=[[percent(item.share), str(item.inputs), str(item.line), ", ".join(item.words), _cut(item.example)] for item in found.clusters],
        tables=[{"title": title, "rows": [[part.name, percent(part.traffic), percent(part.golden), percent(part.covered) if part.traffic else "-"] for part in parts]}
                for title, parts in (("language", found.languages), ("length", found.lengths))],
        lines=[*_facts(found), *_notes(found)], footer=f"promptops {__version__}, {count(found.rows, 'request')}, {count(found.cases, 'golden case')}",
    )  # fmt: skip
    return text


def render_suggestions(found: Sequence[Suggestion], name: str, log: str, *, before: float) -> RenderableType:
    if not found:
        return Group(headline("NOTHING TO ADD", "green", f"{name}: every request of the log is a golden case already"))
    last = found[-1]
    grid = table("", "line>", "requests>", "was away>", "covered then>", "input")
    for place, item in enumerate(found, 1):
        grid.add_row(str(place), str(item.line), str(item.weight), f"{item.distance:.2f}", percent(item.covered), show(_cut(item.text)))  # fmt: skip
    return Group(
        headline("SUGGESTED", "green", f"{name}: {count(len(found), 'input')} of {log} that would raise coverage from {percent(before)} to {percent(last.covered)}"),
        grid, Text(""), next_line(command("promptops", "golden", "add", name, "--traffic", log, "-k", str(len(found)))),
    )  # fmt: skip


def suggestions_json(found: Sequence[Suggestion], name: str, *, before: float) -> dict[str, Any]:
    return {
        "prompt": name,
        "covered_before": before,
        "suggestions": [{key: value for key, value in asdict(item).items() if key != "inputs"} for item in found],
    }


def render_added(
    name: str, path: str, added: int, waiting: int, masked: Mapping[str, int], *, kept_pii: bool, unfit: int
) -> RenderableType:
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(masked.items())) or "nothing found to mask"
    lines: list[RenderableType] = [
        headline("ADDED", "green", f"{path}: {count(added, 'case')} to be labelled, {waiting} waiting")
    ]
    lines.append(show("personal data was kept: do not commit it" if kept_pii else f"masked: {kinds}; names and addresses have no form and stay: read before you commit",
                      style="yellow"))  # fmt: skip
    if unfit:
        lines.append(show(f"{count(unfit, 'input')} left out: with its personal data masked it is no input of the prompt", style="yellow"))  # fmt: skip
    lines.append(
        Text("write `category` and `expected` into each row, then import the file; rows without a category are refused")
    )
    return Group(*lines, next_line(command("promptops", "golden", "import", name, path)))


def render_sampled(
    name: str, path: str, added: int, waiting: int, masked: Mapping[str, int], *, kept_pii: bool, unfit: int,
    strata: Mapping[str, Mapping[str, int]], skipped: Mapping[str, int],
) -> RenderableType:  # fmt: skip
    """What `golden sample` wrote, and what it was drawn from."""
    grid = table("stratum", "rows>", "drawn>")
    for stratum, numbers in strata.items():
        grid.add_row(show(stratum or "(all)" if len(strata) == 1 else stratum or "(none)", limit=40), f"{numbers['rows']:,}", str(numbers["drawn"]))  # fmt: skip
    parts: list[RenderableType] = [grid]
    parts += [show(f"{count(number, 'row')} left out: {reason}", style="yellow") for reason, number in sorted(skipped.items())]  # fmt: skip
    return Group(*parts, Text(""), render_added(name, path, added, waiting, masked, kept_pii=kept_pii, unfit=unfit))
