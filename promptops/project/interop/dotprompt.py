"""dotprompt files (.prompt): frontmatter with Picoschema, Handlebars in the body; read and written."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptops.core.errors import DataError, PromptopsError
from promptops.core.jsontext import Json
from promptops.core.prompt import Prompt
from promptops.project.interop.draft import Draft, DraftPrompt, Message, slug, yaml_value
from promptops.project.interop.foreign import Folder, convert_template
from promptops.project.interop.frontmatter import (
    PromptFile,
    finish_prompt,
    mustache_to_jinja,
    read_params,
    split_file,
)
from promptops.project.interop.losses import Losses
from promptops.project.interop.prompty import report_unwritten

_ROLE = re.compile(r"\{\{\s*role\s+[\"'](\w+)[\"']\s*\}\}")
_PARTIAL = re.compile(r"\{\{>\s*([\w-]+)\s*\}\}")
_ROLES = {"system": "system", "user": "user", "model": "assistant"}
_KEYS = (
    "name",
    "variant",
    "model",
    "config",
    "input",
    "output",
    "description",
    "metadata",
    "tools",
    "toolDefs",
    "maxTurns",
    "version",
)
_FIELD = re.compile(
    r"(?P<name>[^()?]+)(?P<optional>\?)?(?:\((?P<kind>array|object|enum)(?:,\s*(?P<text>.*))?\))?", re.DOTALL
)
_SCALARS = ("string", "number", "integer", "boolean", "null", "any")
_SIMPLE = re.compile(
    r"\{\{-?\s*([A-Za-z_][\w.]*)\s*-?\}\}|\{%-?\s*if (not )?([A-Za-z_][\w.]*)\s*-?%\}|\{%-?\s*(else|endif)\s*-?%\}"
)


def read_dotprompt(path: Path, name: str = "") -> Draft:
    """The project a .prompt file describes. Raises DataError when it cannot be read."""
    folder, losses = Folder(path.parent.resolve()), Losses()
    text = folder.text(path.name)
    file = split_file(text if text.lstrip().startswith("---") else f"---\n---\n{text}", path.name)
    fields = file.fields
    for key in fields:
        if key not in _KEYS or key in ("variant", "metadata", "tools", "toolDefs", "maxTurns", "version"):
            losses.lost(file.at(key), f"`{key}`", "promptops has no counterpart")
    prompt = DraftPrompt(
        name=name or slug(str(fields.get("name") or path.stem)),
        messages=[],
        description=str(fields.get("description") or ""),
    )
    prompt.params = read_params(file, fields.get("config"), ("config",), losses)
    prompt.messages = _messages(file, folder, losses)
    source = _table(fields.get("input"))
    schema = schema_of(source.get("schema"), file.at("input", "schema"))
    used = _names(prompt)
    properties = {key: value for key, value in _table(schema.get("properties")).items() if key in used}
    for key in sorted(_table(schema.get("properties")).keys() - used):
        losses.lost(file.at("input", "schema", key), f"input {key}", "no message uses it")
    properties |= {key: {"type": "string"} for key in sorted(used - properties.keys())}
    required = [key for key in schema.get("required", sorted(properties)) if key in properties]
    prompt.input_schema = {"type": "object", "properties": properties, "additionalProperties": False} | (
        {"required": required} if required else {}
    )
    output = _table(fields.get("output"))
    if output.get("schema") or output.get("format") == "json":
        prompt.output_format = "json"
        if output.get("schema"):
            prompt.output_schema = schema_of(output["schema"], file.at("output", "schema"))
            losses.kept(file.at("output"), "output schema")
    model = str(fields.get("model") or "")
    provider, _, named = model.rpartition("/")
    if model and provider not in ("", "openai"):
        losses.lost(
            file.at("model"),
            f"model {model[:60]}",
            "no server that speaks the OpenAI protocol is known for it",
            "add a model to promptops.toml",
        )
        named = ""
    default = source.get("default")
    losses.kept(f"{path.name}:1", "prompt")
    return finish_prompt(prompt, [default] if isinstance(default, dict) else [], losses, f"{path.name}:1", model=named,
                         default_model_why="local:echo answers until you choose it")  # fmt: skip


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _names(prompt: DraftPrompt) -> set[str]:
    from promptops.core.template import compile_template

    return {name for _, text in prompt.messages for name in compile_template(text, "").variables}


def _messages(file: PromptFile, folder: Folder, losses: Losses) -> list[Message]:
    body = _with_partials(file, folder)
    marks = list(_ROLE.finditer(body))
    parts = [("user", body[: marks[0].start()] if marks else body)]
    ends = [*(mark.start() for mark in marks[1:]), len(body)]
    parts += [(mark[1], body[mark.end() : end]) for mark, end in zip(marks, ends, strict=False)]
    messages: list[Message] = []
    for role, text in parts:
        if not text.strip():
            continue
        if role not in _ROLES:
            raise DataError(
                f"a message of role {role[:20]!r}",
                where=file.where,
                hint="promptops sends system, user and assistant messages",
            )
        converted = convert_template(mustache_to_jinja(text, file.where).strip("\n"), f"{file.where}:{file.body_line}")
        if converted.constants:
            raise DataError(
                "it holds a link or ${...}", where=f"{file.where}:{file.body_line}", hint="pass it as an input"
            )
        for change in converted.changes:
            losses.changed(file.where, f"{role} message", change)
        messages.append((_ROLES[role], converted.text))  # type: ignore[arg-type]
    if not messages or messages[-1][0] != "user":
        raise DataError(
            "the last message is not the user's", where=file.where, hint='end the file with {{role "user"}}'
        )
    return messages


def _with_partials(file: PromptFile, folder: Folder) -> str:
    def text_of(match: re.Match[str]) -> str:
        try:
            return folder.text(f"_{match[1]}.prompt").rstrip("\n")
        except PromptopsError as error:
            raise DataError(
                f"partial {match[1]!r} cannot be read", where=file.where, why=error.problems[0].what
            ) from error

    return _PARTIAL.sub(text_of, file.body)


def schema_of(pico: Any, where: str) -> dict[str, Json]:
    """JSON Schema of a Picoschema (or of JSON Schema as it is). Raises DataError for what is neither."""
    if pico is None:
        return {"type": "object", "properties": {}}
    if isinstance(pico, dict) and (
        pico.get("type") in ("object", "array", *_SCALARS) or "properties" in pico or "$ref" in pico
    ):
        return pico
    if isinstance(pico, str):
        return _scalar(pico, where)
    if not isinstance(pico, dict):
        raise DataError("not a Picoschema", where=where)
    return _object(pico, where)


def _scalar(text: str, where: str) -> dict[str, Json]:
    kind, comma, description = text.partition(",")
    if kind.strip() not in _SCALARS:
        raise DataError(f"type {kind.strip()[:30]!r} is not known", where=where, hint=f"one of {', '.join(_SCALARS)}")
    schema: dict[str, Json] = {} if kind.strip() == "any" else {"type": kind.strip()}
    return schema | ({"description": description.strip()} if comma else {})


def _object(fields: Mapping[str, Any], where: str) -> dict[str, Json]:
    schema: dict[str, Json] = {"type": "object", "properties": {}, "additionalProperties": False}
    required: list[str] = []
    for key, value in fields.items():
        if key == "(*)":
            schema["additionalProperties"] = schema_of(value, where)
            continue
        match = _FIELD.fullmatch(key.strip())
        if match is None:
            raise DataError(f"field {key[:40]!r} is not Picoschema", where=where)
        name = match["name"].strip()
        inner = _field(match["kind"], value, where)
        if match["text"]:
            inner["description"] = match["text"].strip()
        if match["optional"]:
            if isinstance(inner.get("type"), str):
                inner["type"] = [inner["type"], "null"]
            if "enum" in inner and None not in inner["enum"]:
                inner["enum"] = [*inner["enum"], None]
        else:
            required.append(name)
        schema["properties"][name] = inner
    return schema | ({"required": required} if required else {})


def _field(kind: str | None, value: Any, where: str) -> dict[str, Json]:
    if kind == "array":
        return {"type": "array", "items": schema_of(value, where)}
    if kind == "enum":
        if not isinstance(value, list):
            raise DataError("an enum needs a list", where=where)
        return {"enum": value}
    return dict(schema_of(value, where))


def write_dotprompt(prompt: Prompt, sample: Mapping[str, Json], losses: Losses, *, model: str) -> str:
    """A .prompt file. Raises DataError for a template whose expressions Handlebars lacks."""
    where = f"prompts/{prompt.name}/prompt.md"
    names = {"max_output_tokens": "maxOutputTokens", "top_p": "topP", "stop": "stopSequences", "frequency_penalty": "frequencyPenalty",
             "presence_penalty": "presencePenalty"}  # fmt: skip
    head: dict[str, Json] = {"name": prompt.name}
    if prompt.description:
        head["description"] = prompt.description
    if model:
        head["model"] = f"openai/{model}"
    if prompt.params:
        head["config"] = {names.get(key, key): value for key, value in prompt.params.items()}
    head["input"] = {"schema": dict(prompt.input_schema.document)} | ({"default": dict(sample)} if sample else {})
    if prompt.output_format == "json":
        head["output"] = {"format": "json"} | (
            {"schema": dict(prompt.output_schema.document)} if prompt.output_schema else {}
        )
    report_unwritten(prompt, losses, where, output="whole")
    lines = ["---", *(f"{key}: {yaml_value(value)}" for key, value in head.items()), "---"]
    roles = {"assistant": "model"}
    for message in prompt.messages:
        lines += [
            f'{{{{role "{roles.get(message.role, message.role)}"}}}}',
            _handlebars(message.template.source, where),
            "",
        ]
    return "\n".join(lines)


def _handlebars(source: str, where: str) -> str:
    closing: list[str] = []

    def written(match: re.Match[str]) -> str:
        if match[1]:
            return f"{{{{{{{match[1]}}}}}}}"
        if match[3]:
            closing.append("unless" if match[2] else "if")
            return f"{{{{#{closing[-1]} {match[3]}}}}}"
        if match[4] == "else":
            return "{{else}}"
        return f"{{{{/{closing.pop() if closing else 'if'}}}}}"

    rest = _SIMPLE.sub("", source)
    if "{{" in rest or "{%" in rest:
        at = rest.index("{{") if "{{" in rest else rest.index("{%")
        raise DataError(f"{rest[at : at + 40]!r} has no counterpart in Handlebars", where=where)
    return _SIMPLE.sub(written, source)
