"""One prompt on the terminal and as JSON."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from promptops.core.digest import short
from promptops.core.jsontext import Json, canonical_json
from promptops.evaluation.judge import JudgeSetup
from promptops.project.project import Evaluable
from promptops.report.run import measured
from promptops.report.show import show
from promptops.report.tables import next_line, table


def render_prompt(
    evaluable: Evaluable, model: str, identity: Mapping[str, Json], judge: JudgeSetup | None = None
) -> RenderableType:
    prompt, suite, scan = evaluable.prompt, evaluable.suite, evaluable.scan
    facts = table("", "")
    facts.show_header = False
    rows = [("description", prompt.description), ("owners", ", ".join(prompt.owners)), ("model", model),
            ("params", canonical_json(dict(prompt.params)).decode() if prompt.params else ""),
            ("inputs", ", ".join(sorted(prompt.input_names)) + (f" (untrusted: {', '.join(prompt.untrusted)})" if prompt.untrusted else "")),
            ("output", prompt.output_format + (" with a schema" if prompt.output_schema else "")),
            ("tools", ", ".join(str(tool["name"]) for tool in prompt.tools)),
            ("examples", str(len(prompt.examples)) if prompt.examples else ""),
            ("knowledge", f"{len(prompt.knowledge.passages)} passages, best {prompt.knowledge.top} shown" if prompt.knowledge else ""),
            ("rubric", suite.rubric), ("judge", _judge(judge)), ("prompt digest", short(prompt.digest(identity))), ("subject", short(evaluable.subject(identity, judge.digest if judge else "")))]  # fmt: skip
    for name, value in rows:
        if value:
            facts.add_row(Text(name, style="bold"), show(value))
    parts: list[RenderableType] = [Text(prompt.name, style="bold"), facts]
    for message in prompt.messages:
        parts += [Text(""), Text(f"{message.role}:", style="bold"), show(message.template.source)]
    counts = table("category or slice", "cases>", "checks")
    for category, count in scan.categories.items():
        counts.add_row(show(category), str(count), show(", ".join(check.name for check in suite.checks_for(category))))
    for name, count in scan.slices.items():
        counts.add_row(show(name), str(count), "")
    return Group(*parts, Text(""), counts, Text(""), next_line(f"promptops eval {prompt.name}"))


def _judge(judge: JudgeSetup | None) -> str:
    if judge is None:
        return ""
    return f"{judge.name}, {judge.mode.replace('_', ' ')}, {judge.standing.standing} ({judge.standing.why}{measured(judge.header())})"


def prompt_json(
    evaluable: Evaluable, model: str, identity: Mapping[str, Json], judge: JudgeSetup | None = None
) -> dict[str, Any]:
    prompt, suite, scan = evaluable.prompt, evaluable.suite, evaluable.scan
    return {
        "name": prompt.name, "description": prompt.description, "owners": list(prompt.owners), "model": model, "params": dict(prompt.params),
        "messages": [{"role": message.role, "template": message.template.source} for message in prompt.messages],
        "inputs": sorted(prompt.input_names), "untrusted": list(prompt.untrusted), "output_format": prompt.output_format,
        "tools": [dict(tool) for tool in prompt.tools],
        "passages": len(prompt.knowledge.passages) if prompt.knowledge else 0, "examples": len(prompt.examples), "rubric": suite.rubric,
        "judge": judge.header() if judge else None,
        "prompt_digest": prompt.digest(identity), "golden_digest": scan.digest, "subject": evaluable.subject(identity, judge.digest if judge else ""),
        "cases": scan.count, "categories": dict(scan.categories), "slices": dict(scan.slices),
        "checks": {category: [check.name for check in suite.checks_for(category)] for category in scan.categories},
    }  # fmt: skip
