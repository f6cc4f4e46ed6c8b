"""A calibrated cache and what it is worth, on the terminal and as JSON."""

from dataclasses import asdict
from math import isnan

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.jsontext import Json
from promptops.release.cache_calibration import Calibration
from promptops.report.show import show
from promptops.report.tables import headline, next_line, percent, table
from promptops.runtime.matcher import Matcher


def render_calibration(found: Calibration, name: str) -> RenderableType:
    """The answer in words, then the evidence, then what to run next."""
    off = found.matcher.threshold is None
    parts: list[RenderableType] = [headline("OFF" if off else "CALIBRATED", "yellow" if off else "green", f"{name}: {found.summary}")]  # fmt: skip
    grid = table(
        "labels>", "taught the matcher>", "chose the threshold>", "hits>", "wrong>", "wrong at most (95 %)>", "allowed>"
    )
    grid.add_row(str(found.labels), str(found.learn), str(found.lookups), str(found.hits), str(found.wrong),
                 "-" if off else f"{found.upper:.2%}", percent(found.max_error))  # fmt: skip
    parts.append(grid)
    if found.matcher.categories_off:
        parts.append(
            show(
                f"off for {', '.join(sorted(found.matcher.categories_off))}: wrong too often where the matcher learned"
            )
        )
    if not off and not isnan(found.out_of_scope):
        parts.append(Text(f"questions whose answer is not in the cache: {found.out_of_scope:.1%} of {found.out_of_scope_lookups} are served one (the rest go to the model)"))  # fmt: skip
    parts.append(next_line(f"promptops cost {name}"))
    return Group(*parts)


def calibration_json(found: Calibration) -> dict[str, Json]:
    """The whole report, for --json."""
    fields = asdict(found)
    matcher: dict[str, Json] = fields.pop("matcher")
    return {**fields, "hit_rate": found.hit_rate, "threshold": matcher["threshold"], "categories_off": sorted(found.matcher.categories_off),
            "out_of_scope": None if isnan(found.out_of_scope) else found.out_of_scope}  # fmt: skip


def render_matcher(matcher: Matcher, name: str) -> RenderableType:
    """What cache.json says."""
    state = "OFF" if matcher.threshold is None else "ON"
    parts: list[RenderableType] = [headline(state, "yellow" if state == "OFF" else "green", f"{name}: at most {matcher.max_error:.1%} of hits may be wrong")]  # fmt: skip
    if isinstance(matcher.evidence.get("summary"), str):
        parts.append(show(str(matcher.evidence["summary"])))
    inputs = ", ".join(matcher.text_inputs) or "none named"
    parts.append(show(f"compared by meaning: {inputs}; all other inputs must be equal. {percent(matcher.audit_share)} of hits are audited."))  # fmt: skip
    parts.append(next_line(f"promptops cost {name}"))
    return Group(*parts)


def matcher_json(matcher: Matcher) -> dict[str, Json]:
    """cache.json without the weights of the embedder."""
    document = matcher.as_json()
    embedder = document.pop("embedder")
    return {**document, "embedder": {"name": embedder["name"], "features": len(embedder["weights"])}}
