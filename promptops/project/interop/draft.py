"""A project in the making: what importers fill in, checked as a whole before a single file is written."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from promptops.core.errors import DataError, EvaluationError
from promptops.core.jsontext import Json, canonical_json
from promptops.core.names import MAX_NAME
from promptops.core.prompt import Role
from promptops.core.template import compile_template
from promptops.project.config import Config, load_config
from promptops.project.golden import scan_golden
from promptops.project.interop.losses import Fate
from promptops.project.prompts import load_prompt
from promptops.project.suites import load_suite
from promptops.project.tree import Tree, refuse_escape

Message = tuple[Role, str]
_ROLE_LINE = re.compile(r"^((?:system|user|assistant):)([ \t]*)$", re.MULTILINE)
_ANY_TYPE = ["string", "number", "boolean", "array", "object", "null"]


@dataclass(slots=True, kw_only=True)
class DraftCase:
    id: str
    inputs: dict[str, Json]
    category: str = "default"
    expected: dict[str, Json] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(slots=True, kw_only=True)
class DraftPrompt:
    """One prompt; `variants` are other messages for the same inputs, which become candidates."""

    name: str
    messages: list[Message]
    description: str = ""
    model: str = ""
    params: dict[str, Json] = field(default_factory=dict)
    input_schema: dict[str, Json] | None = None
    output_format: str = "text"
    output_schema: dict[str, Json] | None = None
    examples: list[dict[str, Json]] = field(default_factory=list)
    variants: dict[str, list[Message]] = field(default_factory=dict)
    checks: list[dict[str, Json]] = field(default_factory=list)
    cases: list[DraftCase] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Draft:
    """What one import makes: prompts with their suites, models for the configuration, and what became of every part.

    `cases_only`: the file holds no prompt, and the one here is a stand-in.
    """

    prompts: list[DraftPrompt] = field(default_factory=list)
    models: dict[str, dict[str, Json]] = field(default_factory=dict)
    default_model: str = "local:echo"
    cases_only: bool = False
    fates: Sequence[Fate] = ()


def slug(text: str, fallback: str = "imported") -> str:
    """A name made of any text: lower-case words joined by hyphens."""
    made = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAX_NAME].strip("-")
    return made or fallback


def unique(name: str, taken: Mapping[str, Any] | set[str]) -> str:
    """`name`, with a number where it is taken."""
    made, number = name, 2
    while made in taken:
        made, number = f"{name}-{number}", number + 1
    return made


def yaml_value(value: Json) -> str:
    """A value in YAML that the strict reader reads back: JSON, on one line."""
    text = canonical_json(value).decode()
    return "".join(
        f"\\u{ord(char):04x}" if char in "\x85\u2028\u2029\x7f\ufeff" or "\x80" <= char < "\xa0" else char
        for char in text
    )


def render_files(draft: Draft, *, with_config: bool) -> dict[str, bytes]:
    """Every file of the project by path."""
    files: dict[str, bytes] = {}
    for prompt in draft.prompts:
        files |= {path: text.encode() for path, text in prompt_files(prompt).items()}
    if with_config:
        files["promptops.toml"] = config_text(draft).encode()
    return files


def prompt_files(prompt: DraftPrompt) -> dict[str, str]:
    """The files of one prompt with its suite."""
    inputs = prompt.input_schema or infer_inputs(prompt)
    names = sorted(inputs.get("properties", {}))
    sets = [prompt.messages, *prompt.variants.values()]
    in_system = {name for messages in sets for role, text in messages if role == "system" for name in _variables(text)}
    untrusted = [name for name in names if name not in in_system]
    folder = f"prompts/{prompt.name}"
    files = {
        f"{folder}/prompt.md": _prompt_text(prompt, prompt.messages, names, untrusted),
        f"{folder}/input.schema.json": _pretty(inputs),
    }
    for candidate, messages in prompt.variants.items():
        files[f"{folder}/candidates/{candidate}/prompt.md"] = _prompt_text(prompt, messages, names, untrusted)
    if prompt.output_schema is not None:
        files[f"{folder}/output.schema.json"] = _pretty(prompt.output_schema)
    if prompt.examples:
        files[f"{folder}/examples.jsonl"] = "".join(canonical_json(row).decode() + "\n" for row in prompt.examples)
    files[f"golden/{prompt.name}.yaml"] = _suite_text(prompt)
    files[f"golden/{prompt.name}.jsonl"] = "".join(
        canonical_json(case_row(case)).decode() + "\n" for case in prompt.cases
    )
    return files


def _prompt_text(
    prompt: DraftPrompt, messages: Sequence[Message], names: Sequence[str], untrusted: Sequence[str]
) -> str:
    head: dict[str, Json] = {"promptops": 1, "name": prompt.name}
    if prompt.description:
        head["description"] = prompt.description
    if prompt.model:
        head["model"] = prompt.model
    if prompt.params:
        head["params"] = prompt.params
    head["input"] = {"schema": "input.schema.json"} | ({"untrusted": list(untrusted)} if untrusted else {})
    if prompt.output_format != "text" or prompt.output_schema is not None:
        head["output"] = {"format": prompt.output_format} | (
            {"schema": "output.schema.json"} if prompt.output_schema is not None else {}
        )
    if prompt.examples:
        head["examples"] = "examples.jsonl"
    lines = ["---", *(f"{key}: {yaml_value(value)}" for key, value in head.items()), "---"]
    used = {name for _, text in messages for name in _variables(text)}
    unused = "".join(f"{{% if {name} %}}{{% endif %}}" for name in names if name not in used)
    last = len(messages) - 1
    for index, (role, text) in enumerate(messages):
        body = _ROLE_LINE.sub(r"\1{# #}\2", text.strip("\n"))
        lines += [f"{role}:", body + (unused if index == last else ""), ""]
    return "\n".join(lines)


def _variables(text: str) -> frozenset[str]:
    try:
        return compile_template(text, "").variables
    except DataError:
        return frozenset()


def infer_inputs(prompt: DraftPrompt) -> dict[str, Json]:
    """A schema of the inputs from what the cases hold; an input without a value in any case is text."""
    names = {
        name
        for messages in (prompt.messages, *prompt.variants.values())
        for _, text in messages
        for name in _variables(text)
    }
    names |= {name for case in prompt.cases for name in case.inputs}
    properties = {
        name: _type_of([case.inputs[name] for case in prompt.cases if name in case.inputs]) for name in sorted(names)
    }
    required = [name for name in sorted(names) if all(name in case.inputs for case in prompt.cases)]
    schema: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _type_of(values: Sequence[Json]) -> Json:
    kinds = list(dict.fromkeys(_kind(value) for value in values)) or ["string"]
    return {"type": kinds[0] if len(kinds) == 1 else [kind for kind in _ANY_TYPE if kind in kinds]}


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "number", float: "number", list: "array"}
    return names.get(type(value), "object")


def _suite_text(prompt: DraftPrompt) -> str:
    lines = ["promptops: 1", f"prompt: {prompt.name}", f"cases: {prompt.name}.jsonl"]
    if prompt.slices:
        lines.append(f"slices: {yaml_value(list(prompt.slices))}")
    lines += ["checks:", *(f"  - {yaml_value(check)}" for check in prompt.checks)]
    return "\n".join(lines) + "\n"


def case_row(case: DraftCase) -> dict[str, Json]:
    row: dict[str, Json] = {"id": case.id, "category": case.category, "inputs": case.inputs}
    row |= {
        key: value
        for key, value in (("expected", case.expected), ("tags", case.tags), ("source", case.source))
        if value
    }
    return row


def config_text(draft: Draft) -> str:
    """A promptops.toml with the models; no key and no price is written."""
    lines = [f"default_model = {_toml(draft.default_model)}", ""]
    for alias, table in draft.models.items():
        lines += [f"[models.{alias}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _toml(value: Json) -> str:
    return canonical_json(value).decode()


def _pretty(value: Json) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class MemoryTree:
    """Files that are not on disk yet, in front of those that are."""

    files: Mapping[str, bytes]

    def read(self, path: str) -> bytes:
        refuse_escape(path)
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.read(path))

    def names(self, folder: str) -> list[str]:
        start = folder.rstrip("/") + "/"
        return sorted({path.removeprefix(start).partition("/")[0] for path in self.files if path.startswith(start)})


def check_files(draft: Draft, files: Mapping[str, bytes]) -> None:
    """Read back what would be written, as `lint` would. Raises DataError for what promptops would refuse."""
    tree: Tree = MemoryTree(files)
    config = load_config(tree) if "promptops.toml" in files else Config()
    for prompt in draft.prompts:
        for candidate in ("", *prompt.variants):
            seen = _candidate(tree, prompt.name, candidate)
            loaded = load_prompt(seen, prompt.name)
            suite = load_suite(seen, prompt.name, loaded)
            scan_golden(seen, suite, loaded, max_case_bytes=config.max_case_bytes)


def _candidate(tree: Tree, name: str, candidate: str) -> Tree:
    from promptops.project.tree import OverlayTree

    folder = f"prompts/{name}"
    return OverlayTree(base=tree, under=folder, over=f"{folder}/candidates/{candidate}") if candidate else tree


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, all or none of them. Raises DataError when one exists, EvaluationError when the disk refuses."""
    for name in files:
        refuse_escape(name)
    taken = [name for name in sorted(files) if os.path.lexists(folder / name)]
    if taken:
        raise DataError(
            f"{taken[0]} exists already",
            why="nothing was written",
            hint="choose another --name, or another folder with --into",
        )
    real = folder.resolve()
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.parent.resolve().is_relative_to(real):
                raise DataError("a folder of the project is a link to another place", where=str(path.parent))
            with path.open("xb") as file:
                file.write(content)
    except OSError as error:
        raise EvaluationError(
            "cannot write the project", where=str(error.filename or folder), why=error.strerror or ""
        ) from error
