"""Prompt files with YAML frontmatter, and what their formats share: names of parameters, kinds of inputs, mustache tags."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promptops.core.errors import DataError
from promptops.core.jsontext import Json
from promptops.project.config import contains_secret
from promptops.project.interop.draft import Draft, DraftCase, DraftPrompt
from promptops.project.interop.losses import Losses
from promptops.project.yamltext import Document, parse_foreign_yaml

_FENCE = re.compile(r"\A\s*---[ \t]*\n(?P<head>.*?)^---[ \t]*$\n?(?P<body>.*)\Z", re.DOTALL | re.MULTILINE)
PARAMS = {"temperature": "temperature", "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
          "maxOutputTokens": "max_output_tokens", "max_output_tokens": "max_output_tokens", "top_p": "top_p", "topP": "top_p", "seed": "seed",
          "stop": "stop", "stopSequences": "stop", "frequency_penalty": "frequency_penalty", "frequencyPenalty": "frequency_penalty",
          "presence_penalty": "presence_penalty", "presencePenalty": "presence_penalty"}  # fmt: skip
KINDS = {"string": "string", "str": "string", "number": "number", "float": "number", "integer": "integer", "int": "integer",
         "boolean": "boolean", "bool": "boolean", "array": "array", "list": "array", "object": "object", "dict": "object"}  # fmt: skip
_MUSTACHE = re.compile(r"\{\{\{(?P<raw>[^{}]+)\}\}\}|\{\{(?P<tag>[^{}]+)\}\}")
_NAME = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """A file taken apart: its frontmatter with lines, its body, and the line the body begins at."""

    where: str
    head: Document
    body: str
    body_line: int

    def at(self, *path: str | int) -> str:
        return f"{self.where}:{self.head.line(path) + 1}"

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.head.value if isinstance(self.head.value, dict) else {}


def split_file(text: str, where: str) -> PromptFile:
    """A file that begins with frontmatter. Raises DataError without it."""
    match = _FENCE.fullmatch(text)
    if match is None:
        raise DataError("no frontmatter", where=f"{where}:1", hint="it begins with a line `---`")
    line = text.count("\n", 0, match.start("body")) + 1
    return PromptFile(where=where, head=parse_foreign_yaml(match["head"], where), body=match["body"], body_line=line)


def read_params(file: PromptFile, values: Any, path: tuple[str, ...], losses: Losses) -> dict[str, Json]:
    """Sampling parameters that promptops sends; the others are reported."""
    from promptops.project.interop.promptfoo import fits

    found: dict[str, Json] = {}
    for key, value in (values if isinstance(values, dict) else {}).items():
        name = PARAMS.get(key)
        if name and fits(name, value):
            found[name] = value
        else:
            losses.lost(
                file.at(*path, key),
                f"parameter {key}",
                "promptops does not send it" if not name else "its value is out of range",
            )
    return found


def finish_prompt(
    prompt: DraftPrompt,
    samples: list[dict[str, Json]],
    losses: Losses,
    where: str,
    *,
    model: str,
    default_model_why: str,
) -> Draft:
    """A project of one prompt: a case for each sample, or one with empty texts where the file has none."""
    names = sorted((prompt.input_schema or {}).get("properties", {}))
    if not samples:
        losses.changed(
            where, "golden cases", "the file has no sample: one case with empty values was written", "write real cases"
        )
        samples = [{}]
    for number, sample in enumerate(samples, 1):
        inputs = {name: sample.get(name, _empty((prompt.input_schema or {})["properties"][name])) for name in names}
        prompt.cases.append(DraftCase(id=f"sample-{number}", inputs=inputs, source=where[:200]))
    prompt.checks = [{"check": "length", "min": 1, "name": "answered"}]
    draft = Draft(prompts=[prompt])
    if model and not contains_secret(model) and "$" not in model and "{" not in model:
        from promptops.project.interop.draft import slug

        draft.models[slug(model, "model")] = {
            "provider": "openai",
            "model": model,
            "base_url": "https://api.openai.com/v1",
            "api_key_env": "OPENAI_API_KEY",
        }
        losses.changed(where, f"model {model[:60]}", default_model_why, f"`--model {slug(model, 'model')}`")
    draft.fates = tuple(losses.fates)
    return draft


def _empty(schema: Any) -> Json:
    kind = schema.get("type") if isinstance(schema, dict) else "string"
    if isinstance(schema, dict) and schema.get("enum"):
        return schema["enum"][0]
    empty: dict[str, Json] = {"number": 0, "integer": 0, "boolean": False, "array": [], "object": {}, "null": None}
    return empty.get(str(kind), "")


def mustache_to_jinja(text: str, where: str, *, special: Callable[[str], str | None] | None = None) -> str:
    """Mustache or Handlebars as our language: values, `#if`, `#unless`, `#each`, and sections. Raises DataError for other helpers."""
    stack: list[str] = []
    loops: list[str] = []

    def written(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 1
        tag = (match["raw"] or match["tag"]).strip().strip("~").strip()
        if tag.startswith("!"):
            return ""
        found = special(tag) if special else None
        if found is not None:
            return found
        made = _tag(tag, stack, loops)
        if made is None:
            raise DataError(
                f"{{{{{tag[:60]}}}}} has no counterpart",
                where=f"{where}:{line}",
                hint="write the template with if and for",
            )
        return made

    result = _MUSTACHE.sub(written, text)
    if stack:
        raise DataError(f"{{{{#{stack[-1]}}}}} is not closed", where=where)
    return result


def _tag(tag: str, stack: list[str], loops: list[str]) -> str | None:
    word, _, rest = tag.partition(" ")
    rest = rest.strip()
    if tag == "else":
        return "{% else %}"
    if word in ("#if", "#unless") and _NAME.fullmatch(rest):
        stack.append("if")
        return f"{{% if {'not ' if word == '#unless' else ''}{_value(rest, loops)} %}}"
    if word == "#each" and _NAME.fullmatch(rest):
        loops.append(f"item{len(loops) + 1}")
        stack.append("for")
        return f"{{% for {loops[-1]} in {_value(rest, loops[:-1])} %}}"
    if tag.startswith("/"):
        if not stack:
            return None
        closed = stack.pop()
        if closed == "for":
            loops.pop()
        return "{% endif %}" if closed == "if" else "{% endfor %}"
    if word == "json" and _NAME.fullmatch(rest):
        return f"{{{{ {_value(rest, loops)} | json }}}}"
    if _NAME.fullmatch(tag) and tag not in ("history", "section"):
        return f"{{{{ {_value(tag, loops)} }}}}"
    return None


def _value(name: str, loops: list[str]) -> str:
    if loops and (name == "this" or name.startswith("this.")):
        return loops[-1] + name.removeprefix("this")
    return name
