"""A prompt of this project with its cases, in another tool's format."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from promptops.core.checks import (
    Check,
    Contains,
    Cost,
    EditDistance,
    Equals,
    IsJson,
    JsonSchemaCheck,
    Latency,
    Length,
    NotContains,
    Only,
    Regex,
    StartsWith,
)
from promptops.core.errors import DataError, did_you_mean
from promptops.core.jsontext import Json, at_pointer
from promptops.core.prompt import Prompt
from promptops.core.suite import Case, Suite
from promptops.project.config import ModelConfig, resolve_model
from promptops.project.golden import read_cases
from promptops.project.interop.datasets import write_dataset
from promptops.project.interop.dotprompt import write_dotprompt
from promptops.project.interop.formats import DATASETS, WRITTEN
from promptops.project.interop.losses import Fate, Losses
from promptops.project.interop.prompty import report_unwritten, write_prompty
from promptops.project.project import Project

_SUFFIX = {
    "promptfoo": "promptfooconfig.yaml",
    "prompty-v1": ".prompty",
    "prompty-v2": ".prompty",
    "dotprompt": ".prompt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The text of a file, a name for it, and what became of every part."""

    text: str
    file: str
    fates: tuple[Fate, ...]


def export_prompt(project: Project, name: str, form: str, candidate: str = "") -> Exported:
    """A prompt in another format. Raises DataError for an unknown format, or a prompt that the format cannot hold."""
    if form not in WRITTEN:
        raise DataError(f"unknown format {form[:40]!r}", hint=did_you_mean(form, WRITTEN))
    evaluable = project.load(name, candidate)
    losses = Losses()
    prompt = evaluable.prompt
    cases = read_cases(evaluable.tree, evaluable.suite, evaluable.scan)
    if form in DATASETS:
        text, file = write_dataset(form, prompt, cases, losses), f"{name}.{form}.jsonl"
    elif form == "promptfoo":
        text, file = write_promptfoo(project, prompt, evaluable.suite, cases, losses), _SUFFIX[form]
    else:
        sample = next(cases).inputs
        model = _model(project, prompt)
        named = model.model if model and model.provider == "openai" else ""
        file = name + _SUFFIX[form]
        text = write_dotprompt(prompt, sample, losses, model=named) if form == "dotprompt" else write_prompty(
            prompt, sample, losses, version=1 if form == "prompty-v1" else 2, model=named)  # fmt: skip
    return Exported(text=text, file=file, fates=tuple(losses.fates))


def _model(project: Project, prompt: Prompt) -> ModelConfig | None:
    try:
        return resolve_model(project.config, prompt.model or project.config.default_model)
    except DataError:
        return None


def write_promptfoo(project: Project, prompt: Prompt, suite: Suite, cases: Iterable[Case], losses: Losses) -> str:
    """A promptfoo configuration: the messages as a chat prompt, each case as a test, checks as assertions where there are such."""
    where = f"prompts/{prompt.name}/prompt.md"
    report_unwritten(prompt, losses, where, output="whole")
    chat = [{"role": message.role, "content": message.template.source} for message in prompt.messages]
    model = _model(project, prompt)
    names = {"max_output_tokens": "max_tokens"}
    config = {names.get(key, key): value for key, value in prompt.params.items()}
    provider: Json = (
        {"id": f"openai:chat:{model.model}", "config": config} if model and model.provider == "openai" else "echo"
    )
    tests = [_test(suite, case, losses) for case in cases]
    document = {
        "description": prompt.description or prompt.name,
        "prompts": [json.dumps(chat, ensure_ascii=False)],
        "providers": [provider],
        "tests": tests,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _test(suite: Suite, case: Case, losses: Losses) -> dict[str, Json]:
    where = f"golden/{suite.name}.jsonl:{case.line}"
    assertions: list[Json] = []
    for check in suite.checks_for(case.category):
        try:
            found = assertion_of(check, case.expected, case.category)
        except _NoCounterpartError as why:
            losses.lost(where, f"check {check.name}", str(why))
            continue
        if found is not None:
            assertions.append(found)
    for name, value in case.inputs.items():
        if isinstance(value, list):
            losses.changed(where, f"input {name}", "promptfoo makes a test of each item of a list")
    losses.kept(where, "case")
    return {
        "description": case.id,
        "vars": dict(case.inputs),
        "assert": assertions,
        "metadata": {"category": case.category, **case.tags},
    }


class _NoCounterpartError(Exception):
    """A check that promptfoo has no assertion for, and why."""


def assertion_of(  # noqa: C901, PLR0912 - one branch a check
    check: Check, expected: Mapping[str, Json], category: str = ""
) -> dict[str, Json] | None:
    """The promptfoo assertion of a check for one case; None when it does not apply to it. Raises _NoCounterpartError."""
    if isinstance(check, Only):
        return assertion_of(check.check, expected, category) if _stated(expected, check.expected) is not None else None
    if isinstance(check, JsonSchemaCheck):
        schema = check.by_category.get(category, check.default)
        return {"type": "is-json", "value": dict(schema.document)} if schema else None
    if isinstance(check, Equals) and check.path:
        return _part_equals(check, expected)
    if getattr(check, "path", ""):
        raise _NoCounterpartError("promptfoo has no assertion about a part of a JSON answer")
    no = "not-" if getattr(check, "negate", False) else ""
    pointer = getattr(check, "expected", "")
    stated = _stated(expected, pointer) if pointer else None
    if pointer and stated is None:
        return None
    match check:
        case Equals():
            if check.unordered or check.tolerance or check.ignore_case:
                raise _NoCounterpartError("promptfoo compares to the letter")
            value = stated if pointer else expected
            return {"type": f"{no}equals", "value": value} if value else None
        case Contains():
            values = stated if pointer else list(check.values)
            kind = ("icontains" if check.ignore_case else "contains") + (
                "" if isinstance(values, str) else "-any" if check.any else "-all"
            )
            return {"type": no + kind, "value": values}
        case NotContains():
            values = stated if pointer else list(check.values)
            return {"type": "not-icontains-any", "value": values if isinstance(values, list) else [values]}
        case StartsWith() if not check.ignore_case:
            values = stated if pointer else list(check.values)
            one = (
                values
                if isinstance(values, str)
                else values[0]
                if isinstance(values, list) and len(values) == 1
                else None
            )
            if one is None:
                raise _NoCounterpartError("promptfoo knows one beginning only")
            return {"type": f"{no}starts-with", "value": one}
        case Regex():
            return {"type": f"{no}regex", "value": check.pattern}
        case IsJson():
            fits = {"value": dict(check.schema.document)} if check.schema else {}
            return {"type": no + ("contains-json" if check.within else "is-json"), **fits}
        case EditDistance():
            return {"type": f"{no}levenshtein", "value": stated, "threshold": check.max}
        case Latency():
            return {"type": "latency", "threshold": check.max_s * 1000}
        case Cost():
            return {"type": "cost", "threshold": check.max_nanousd / 1e9}
        case Length() if check.unit == "words":
            return {
                "type": "word-count",
                "value": {"min": check.min} | ({"max": check.max} if check.max is not None else {}),
            }
        case _:
            raise _NoCounterpartError(f"promptfoo has no assertion like {check.kind}")


def _part_equals(check: Equals, expected: Mapping[str, Json]) -> dict[str, Json] | None:
    """Equality of one property, said by a schema."""
    value = _stated(expected, check.expected or check.path)
    if value is None:
        return None
    if check.negate or check.ignore_case or check.unordered or check.tolerance:
        raise _NoCounterpartError(
            "promptfoo has no assertion about a part of a JSON answer, and a schema compares to the letter"
        )
    schema: Json = {"const": value}
    for token in reversed(check.path.split("/")[1:]):
        key = token.replace("~1", "/").replace("~0", "~")
        schema = {"type": "object", "properties": {key: schema}, "required": [key]}
    return {"type": "is-json", "value": schema}


def _stated(expected: Mapping[str, Json], pointer: str) -> Json:
    try:
        return at_pointer(dict(expected), pointer)
    except KeyError:
        return None
