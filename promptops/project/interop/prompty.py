"""Prompty files (v1 and v2), read and written."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from promptops.core.errors import DataError, PromptopsError
from promptops.core.jsontext import Json
from promptops.core.prompt import Prompt
from promptops.project.interop.draft import Draft, DraftPrompt, Message, slug, yaml_value
from promptops.project.interop.foreign import Folder, convert_template
from promptops.project.interop.frontmatter import (
    KINDS,
    PromptFile,
    finish_prompt,
    mustache_to_jinja,
    read_params,
    split_file,
)
from promptops.project.interop.losses import Losses

_ROLE = re.compile(
    r"^[ \t]*#?[ \t]*(system|developer|user|assistant|function|tool)(\[[^\]\n]*\])?[ \t]*:[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_KNOWN_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_V1 = (
    "name",
    "description",
    "version",
    "authors",
    "tags",
    "model",
    "inputs",
    "outputs",
    "sample",
    "template",
    "base",
    "$schema",
)
_V2 = (
    "name",
    "displayName",
    "description",
    "metadata",
    "model",
    "inputs",
    "inputSchema",
    "outputs",
    "outputSchema",
    "template",
    "kind",
    "$schema",
)


def read_prompty(path: Path, name: str = "") -> Draft:
    """The project a .prompty file describes. Raises DataError when it cannot be read."""
    folder, losses = Folder(path.parent.resolve()), Losses()
    file = split_file(folder.text(path.name), path.name)
    fields = file.fields
    second = _is_v2(fields)
    for key in fields:
        if key not in (_V2 if second else _V1):
            losses.lost(file.at(key), f"`{key}`", "promptops has no counterpart")
        elif key in ("version", "authors", "tags", "base", "metadata", "displayName"):
            losses.lost(file.at(key), f"`{key}`", "it is kept by git or CODEOWNERS here")
    prompt = DraftPrompt(
        name=name or slug(str(fields.get("name") or path.stem)),
        messages=[],
        description=str(fields.get("description") or ""),
    )
    model = fields.get("model") if isinstance(fields.get("model"), dict) else {}
    assert isinstance(model, dict)
    prompt.params = read_params(
        file, model.get("options" if second else "parameters"), ("model", "options" if second else "parameters"), losses
    )
    for key in sorted(model.keys() - {"id", "provider", "apiType", "options", "api", "parameters"}):
        losses.lost(
            file.at("model", key), f"model.{key}", "endpoints and keys live in promptops.toml and the environment"
        )
    inputs, samples = _inputs(file, folder, losses, second=second)
    prompt.messages = _messages(file, losses)
    used = _names(prompt)
    properties = {key: value for key, value in inputs.items() if key in used} | {
        key: {"type": "string"} for key in sorted(used - inputs.keys())
    }
    for key in sorted(inputs.keys() - used):
        losses.lost(file.at("inputs", key), f"input {key}", "no message uses it")
    prompt.input_schema = {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }
    _output(file, prompt, losses)
    named = str(
        model.get("id")
        or _table(model.get("configuration")).get("model")
        or _table(model.get("configuration")).get("azure_deployment")
        or ""
    )
    losses.kept(f"{path.name}:1", "prompt")
    return finish_prompt(prompt, samples, losses, f"{path.name}:1", model=named,
                         default_model_why="local:echo answers until you choose it")  # fmt: skip


def _is_v2(fields: Mapping[str, Any]) -> bool:
    model = _table(fields.get("model"))
    return "id" in model or "connection" in model or isinstance(fields.get("inputs"), list) or "inputSchema" in fields


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _inputs(
    file: PromptFile, folder: Folder, losses: Losses, *, second: bool
) -> tuple[dict[str, Json], list[dict[str, Json]]]:
    """Schema of each input, and the sample values."""
    found: dict[str, Json] = {}
    sample: dict[str, Json] = {}
    declared = file.fields.get("inputs") or _table(file.fields.get("inputSchema")).get("properties") or {}
    items = _named_items(declared)
    for key, spec in items:
        if not isinstance(spec, dict):  # v1 allows a bare sample value
            found[key], sample[key] = {"type": _kind(spec)}, spec
            continue
        stated = str(spec.get("kind" if second else "type", "string"))
        if stated not in KINDS:
            losses.changed(file.at("inputs", key), f"input {key}", f"kind {stated[:20]!r} is text here")
        schema: dict[str, Json] = {"type": KINDS.get(stated, "string")}
        if spec.get("description"):
            schema["description"] = str(spec["description"])
        if isinstance(spec.get("enumValues"), list):
            schema["enum"] = spec["enumValues"]
        found[key] = schema
        for source in ("default", "sample", "example"):
            if source in spec:
                sample.setdefault(key, spec[source])
    stated_sample = file.fields.get("sample")
    if isinstance(stated_sample, str):
        try:
            stated_sample = folder.document(re.sub(r"^\$\{file:(.*)\}$", r"\1", stated_sample)).value
        except PromptopsError as error:
            losses.lost(file.at("sample"), "sample", error.problems[0].what)
    if isinstance(stated_sample, dict):
        sample |= stated_sample
        for key, value in stated_sample.items():
            found.setdefault(key, {"type": _kind(value)})
    examples = _table(file.fields.get("inputSchema")).get("examples")
    samples = [item for item in examples if isinstance(item, dict)] if isinstance(examples, list) else []
    return found, samples or ([sample] if sample else [])


def _named_items(declared: Any) -> list[tuple[str, Any]]:
    """Inputs or outputs by name, written as a table (v1) or as a list (v2); nothing for anything else."""
    if isinstance(declared, list):
        return [(str(item.get("name", "")), item) for item in declared if isinstance(item, dict)]
    return [(str(key), spec) for key, spec in declared.items()] if isinstance(declared, dict) else []


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {int: "integer", float: "number", list: "array", dict: "object"}.get(type(value), "string")


def _messages(file: PromptFile, losses: Losses) -> list[Message]:
    template = file.fields.get("template")
    form = template if isinstance(template, str) else _table(template).get("format", "jinja2")
    form = _table(form).get("kind", form) if not isinstance(form, str) else form
    if form not in ("jinja2", "mustache", "handlebars"):
        raise DataError(f"template format {str(form)[:30]!r} has no counterpart", where=file.at("template"))
    marks = list(_ROLE.finditer(file.body))
    parts: list[tuple[str, str]] = []
    if not marks or file.body[: marks[0].start()].strip():
        parts.append(("system", file.body[: marks[0].start()]) if marks else ("user", file.body))
    ends = [*(mark.start() for mark in marks[1:]), len(file.body)]
    parts += [(mark[1].lower(), file.body[mark.end() : end]) for mark, end in zip(marks, ends, strict=False)]
    messages: list[Message] = []
    for role, text in parts:
        known = _KNOWN_ROLES.get(role)
        if known is None:
            raise DataError(
                f"a message of role {role!r}",
                where=file.where,
                hint="promptops sends system, user and assistant messages",
            )
        if not text.strip():
            continue
        source = mustache_to_jinja(text, file.where) if form != "jinja2" else text
        converted = convert_template(source.strip("\n"), f"{file.where}:{file.body_line}")
        if converted.constants:
            raise DataError(
                "it holds a link or ${...}", where=f"{file.where}:{file.body_line}", hint="pass it as an input"
            )
        for change in converted.changes:
            losses.changed(file.where, f"{role} message", change)
        messages.append((known, converted.text))  # type: ignore[arg-type]
    if not messages or messages[-1][0] != "user":
        raise DataError(
            "the last message is not the user's", where=file.where, hint="end the file with a `user:` message"
        )
    return messages


def _names(prompt: DraftPrompt) -> set[str]:
    from promptops.core.template import compile_template

    return {name for _, text in prompt.messages for name in compile_template(text, "").variables}


def _output(file: PromptFile, prompt: DraftPrompt, losses: Losses) -> None:
    declared = file.fields.get("outputs") or _table(file.fields.get("outputSchema")).get("properties")
    if not declared:
        return
    items = _named_items(declared)
    properties = {
        key: {"type": KINDS.get(str(_table(spec).get("kind", _table(spec).get("type", "string"))), "string")}
        for key, spec in items
    }
    if properties:
        prompt.output_format, prompt.output_schema = (
            "json",
            {"type": "object", "properties": properties, "required": sorted(properties)},
        )
        losses.kept(file.at("outputs"), "outputs")


def write_prompty(prompt: Prompt, sample: Mapping[str, Json], losses: Losses, *, version: int, model: str) -> str:
    """A .prompty file; what it cannot hold is reported."""
    where = f"prompts/{prompt.name}/prompt.md"
    head: dict[str, Json] = {"name": prompt.name}
    if prompt.description:
        head["description"] = prompt.description
    properties: Mapping[str, Any] = prompt.input_schema.document.get("properties", {})
    if version == 1:
        names = {"max_output_tokens": "max_tokens"}
        head["model"] = {"api": "chat", "configuration": {"type": "openai"} | ({"name": model} if model else {}),
                         "parameters": {names.get(key, key): value for key, value in prompt.params.items()}}  # fmt: skip
        head["inputs"] = {key: {"type": _written_kind(spec)} for key, spec in properties.items()}
        head["sample"] = dict(sample)
        head["template"] = "jinja2"
    else:
        names = {"max_output_tokens": "maxOutputTokens", "top_p": "topP", "stop": "stopSequences", "frequency_penalty": "frequencyPenalty",
                 "presence_penalty": "presencePenalty"}  # fmt: skip
        head["model"] = ({"id": model, "provider": "openai"} if model else {}) | {
            "options": {names.get(key, key): value for key, value in prompt.params.items()}
        }
        head["inputs"] = [{"name": key, "kind": _written_kind(spec)} | ({"default": sample[key]} if key in sample else {}) for key, spec in properties.items()]  # fmt: skip
        head["template"] = {"format": {"kind": "jinja2"}, "parser": {"kind": "prompty"}}
        if prompt.output_schema:
            outputs: Mapping[str, Any] = prompt.output_schema.document.get("properties", {})
            head["outputs"] = [{"name": key, "kind": _written_kind(spec)} for key, spec in outputs.items()]
    report_unwritten(prompt, losses, where, output="types" if version == 2 else "none")
    lines = ["---", *(f"{key}: {yaml_value(value)}" for key, value in head.items()), "---"]
    for message in prompt.messages:
        lines += [f"{message.role}:", message.template.source, ""]
    return "\n".join(lines)


def _written_kind(spec: Any) -> str:
    stated = _table(spec).get("type", "string")
    return str(stated) if stated in ("string", "number", "integer", "boolean", "array", "object") else "string"


def report_unwritten(prompt: Prompt, losses: Losses, where: str, *, output: Literal["whole", "types", "none"]) -> None:
    """What prompt formats of others have no place for."""
    losses.kept(where, "messages")
    if prompt.examples:
        losses.lost(
            where, f"{len(prompt.examples)} few-shot rows", "the format has no place for them", "write them as messages"
        )
    if prompt.knowledge:
        losses.lost(
            where, f"{len(prompt.knowledge.passages)} passages of knowledge", "the format has no place for them"
        )
    if prompt.rules:
        losses.lost(where, "rules.yaml", "local models are promptops' own")
    if prompt.untrusted:
        losses.lost(where, "untrusted inputs", "the format does not tell trusted inputs from others")
    if prompt.owners:
        losses.lost(where, "owners", "the format has no place for them")
    if prompt.output_schema and output == "none":
        losses.lost(where, "output schema", "the format has no place for it")
    elif prompt.output_schema and output == "types":
        losses.changed(where, "output schema", "names and types of its properties are kept, other rules are not")
