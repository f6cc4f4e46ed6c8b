"""A resolved prompt: templates, schemas, examples and knowledge, with nothing left to look up."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from promptops.core.checks.base import OutputFormat
from promptops.core.digest import digest
from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json, canonical_json
from promptops.core.knowledge import Passage, index_of
from promptops.core.schema import JsonSchema
from promptops.core.template import Template

Role = Literal["system", "user", "assistant"]
FORMAT_VERSION = 1
_ROLE_LINE = re.compile(r"^(system|user|assistant):[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as a model receives it."""

    role: Role
    content: str

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    role: Role
    template: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A few-shot row: inputs, and the answer to imitate."""

    inputs: Mapping[str, Json]
    output: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """Where documents come from when the inputs bring none: the best `top` passages for the input `query`.

    With a scope, only passages of the file that `scope_files` names for the value of the input `scope_input` are searched.
    """

    passages: tuple[Passage, ...]
    query: str
    into: str
    top: int
    scope_input: str = ""
    scope_files: Mapping[str, str] = field(default_factory=dict)

    def retrieve(self, inputs: Mapping[str, Json]) -> list[Passage]:
        sources = None
        if self.scope_input:
            name = self.scope_files.get(str(inputs.get(self.scope_input, "")))
            sources = [name] if name else []
        hits = index_of(self.passages).search(str(inputs.get(self.query, "")), top=self.top, sources=sources)
        return [hit.passage for hit in hits]

    def as_dict(self) -> dict[str, Json]:
        return {
            "passages": [[passage.id, passage.title, passage.text, passage.source] for passage in self.passages],
            "query": self.query, "into": self.into, "top": self.top,
            "scope": [self.scope_input, dict(self.scope_files)],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Everything that decides what a model is asked, resolved; `rules` configures the local models.

    `tools` are functions the model may call: `{name, description, parameters, strict}`.
    """

    name: str
    messages: tuple[MessageTemplate, ...]
    description: str = ""
    owners: tuple[str, ...] = ()
    model: str = ""
    params: Mapping[str, Json] = field(default_factory=dict)
    input_schema: JsonSchema
    untrusted: tuple[str, ...] = ()
    output_format: OutputFormat = "text"
    output_schema: JsonSchema | None = None
    tools: tuple[Mapping[str, Json], ...] = ()
    examples: tuple[Example, ...] = ()
    knowledge: Knowledge | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    _shown: list[Message] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def input_names(self) -> frozenset[str]:
        return frozenset(self.input_schema.document.get("properties", {}))

    def identity(self, model: Mapping[str, Json]) -> dict[str, Json]:
        """What the prompt digest is taken of, for one resolved model."""
        return {
            "format": FORMAT_VERSION,
            "messages": [[item.role, item.template.source] for item in self.messages],
            "model": dict(model),
            "params": dict(self.params),
            "input": self.input_schema.document,
            "output": [self.output_format, self.output_schema.document if self.output_schema else None],
            "examples": [[dict(example.inputs), example.output] for example in self.examples],
            "knowledge": self.knowledge.as_dict() if self.knowledge else None,
            **({"tools": [dict(tool) for tool in self.tools]} if self.tools else {}),
        }

    def digest(self, model: Mapping[str, Json]) -> str:
        """The prompt digest (DESIGN section 3): resolved content with the model that answers; not name or owners."""
        return digest(self.identity(model))

    def input_problems(self, inputs: Mapping[str, Json]) -> Iterator[Problem]:
        """What is wrong with the inputs of one request: undeclared, missing or wrongly typed values."""
        declared = self.input_schema.document.get("properties", {})
        for name in inputs:
            if name not in declared:
                yield Problem(what=f"input {name!r} is not declared", hint=did_you_mean(name, self.input_names))
        if not self.input_schema.accepts(dict(inputs)):
            for violation in self.input_schema.violations(dict(inputs)):
                if violation.path or not violation.unexpected:
                    yield Problem(what=f"inputs{violation.pointer}: {violation.message}")

    def passages_for(self, inputs: Mapping[str, Json]) -> tuple[Passage, ...]:
        """The documents shown to the model: those of the inputs, else those retrieved, else none."""
        given = inputs.get(self.knowledge.into if self.knowledge else "documents")
        if isinstance(given, list):
            return tuple(
                Passage(id=str(item.get("id", "")), title=str(item.get("title", "")), text=str(item.get("text", "")))
                for item in given
                if isinstance(item, dict)
            )
        return tuple(self.knowledge.retrieve(inputs)) if self.knowledge else ()

    def render(self, inputs: Mapping[str, Json], passages: tuple[Passage, ...] = ()) -> tuple[Message, ...]:
        """The messages for one request; declared inputs that are absent render as null.

        Raises DataError when a template fails on these values.
        """
        values: dict[str, Json] = dict.fromkeys(self.input_schema.document.get("properties", {})) | dict(inputs)
        if self.knowledge:
            values[self.knowledge.into] = [passage.as_input() for passage in passages]
        if self.examples and not self._shown:  # the same in every request
            self._shown[:] = list(self._shots())
        rendered = [Message(role=item.role, content=item.template.render(values)) for item in self.messages]
        if not self._shown:
            return tuple(rendered)
        last_user = max(index for index, message in enumerate(rendered) if message.role == "user")
        return (*rendered[:last_user], *self._shown, *rendered[last_user:])

    def _shots(self) -> Iterator[Message]:
        template = next(item.template for item in reversed(self.messages) if item.role == "user")
        absent = dict.fromkeys(self.input_names | ({self.knowledge.into} if self.knowledge else set()))
        for example in self.examples:
            yield Message(role="user", content=template.render(absent | dict(example.inputs)))
            output = example.output if isinstance(example.output, str) else canonical_json(example.output).decode()
            yield Message(role="assistant", content=output)


def split_messages(body: str, where: str, first_line: int = 1) -> list[tuple[Role, str, int]]:
    """(role, text, line of its first character) of each message; a line `system:`, `user:` or `assistant:` starts one.

    The split is made on the template, before any value is inserted. Raises DataError when the body has no message,
    text before the first, an empty message, or does not end with a user message.
    """
    marks = list(_ROLE_LINE.finditer(body))
    problems: list[Problem] = []
    found: list[tuple[Role, str, int]] = []
    if not marks or body[: marks[0].start()].strip():
        problems.append(Problem(what="text before the first message" if marks else "no messages", where=f"{where}:{first_line}",
                                hint="start each message with a line `system:`, `user:` or `assistant:`"))  # fmt: skip
    ends = [*(mark.start() for mark in marks[1:]), len(body)]
    for mark, end in zip(marks, ends, strict=False):
        start = mark.end()
        text = body[start:end].lstrip(" \t").removeprefix("\n")
        line = first_line + body.count("\n", 0, end - len(text) if text else start)
        content = text.strip("\n")
        if not content.strip():
            problems.append(Problem(what=f"empty {mark[1]} message", where=f"{where}:{line}"))
        line += len(text) - len(text.lstrip("\n"))
        found.append((mark[1], content, line))  # type: ignore[arg-type]
    if found and found[-1][0] != "user":
        problems.append(Problem(what=f"the last message is {found[-1][0]}", where=f"{where}:{found[-1][2]}",
                                hint="end with a `user:` message"))  # fmt: skip
    if problems:
        raise DataError(problems=problems)
    return found
