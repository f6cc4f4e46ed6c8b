"""prompts/<name>/prompt.md and what it names, resolved into a Prompt."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from promptops.core.errors import DataError, Problem, did_you_mean
from promptops.core.jsontext import Json, JsonError, parse_json
from promptops.core.knowledge import Passage, split_passages
from promptops.core.names import is_name
from promptops.core.prompt import Example, Knowledge, MessageTemplate, Prompt, Role, split_messages
from promptops.core.schema import JsonSchema, compile_schema, lint_schema
from promptops.core.template import compile_template, includes, inline_partials
from promptops.project.config import contains_secret
from promptops.project.formats import format_problems
from promptops.project.tree import Tree, folder_files, read_text
from promptops.project.yamltext import Document, parse_yaml

FOLDER = "prompts"
CANDIDATES = "candidates"
_FENCE = re.compile(r"^---[ \t]*$", re.MULTILINE)
SUSPECT = re.compile(r"\$\{|\benv\(|https?://", re.IGNORECASE)
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)


def prompt_names(tree: Tree) -> list[str]:
    """Names of the prompts of a project, sorted."""
    return [name for name in tree.names(FOLDER) if is_name(name) and "prompt.md" in tree.names(f"{FOLDER}/{name}")]


def load_prompt(tree: Tree, name: str) -> Prompt:
    """The resolved prompt. Raises DataError with every problem of its files."""
    if not is_name(name):
        raise DataError(f"{name[:80]!r} is not a prompt name", hint="use lower-case words joined by hyphens")
    folder = f"{FOLDER}/{name}"
    where = f"{folder}/prompt.md"
    try:
        text = read_text(tree, where)
    except DataError as error:
        known = prompt_names(tree)
        if name not in known and "not found" in error.problems[0].what:
            raise DataError(
                f"no prompt {name!r}", why=f"{where} does not exist", hint=did_you_mean(name, known)
            ) from None
        raise
    header, body, body_line = _split_frontmatter(text, where)
    problems = list(format_problems("prompt", header.value, lambda path: f"{where}:{header.line(path)}"))
    if problems:
        raise DataError(problems=problems)
    return _Builder(tree, name, header, body, body_line).build()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """A line of a resolved message, or the part of one that comes from one file, with the place it is written at."""

    role: Role
    message: int
    text: str
    file: str
    line: int


def source_lines(tree: Tree, name: str) -> list[SourceLine]:
    """The messages of a prompt with partials inlined, line by line, each with its file and line. Raises DataError as `load_prompt`."""
    load_prompt(tree, name)
    where = f"{FOLDER}/{name}/prompt.md"
    _, body, body_line = _split_frontmatter(read_text(tree, where), where)
    found: list[SourceLine] = []
    for index, (role, source, first) in enumerate(split_messages(body, where, body_line)):
        for text, file, line in _pieces(tree, source, where, first):
            parts = text.split("\n")
            for offset, part in enumerate(parts):
                if part or 0 < offset < len(parts) - 1 or (len(parts) == 1 and file == where):
                    found.append(SourceLine(role=role, message=index, text=part, file=file, line=line + offset))
    return found


def _pieces(tree: Tree, source: str, where: str, first: int) -> Iterator[tuple[str, str, int]]:
    """(text, file, line) of the stretches of a message: its own text, and the partials in it."""
    position = 0
    for start, end, partial in includes(source):
        yield source[position:start], where, first + source.count("\n", 0, position)
        path = f"{FOLDER}/{partial}"
        yield read_text(tree, path).removesuffix("\n"), path, 1
        position = end
    yield source[position:], where, first + source.count("\n", 0, position)


def _split_frontmatter(text: str, where: str) -> tuple[Document, str, int]:
    marks = list(_FENCE.finditer(text))
    if not marks or marks[0].start() != 0 or len(marks) < 2:
        raise DataError("no frontmatter", where=f"{where}:1", hint="begin with a line `---`, YAML, and a line `---`")
    header = text[marks[0].end() + 1 : marks[1].start()]
    body_start = min(marks[1].end() + 1, len(text))
    return parse_yaml(header, where, first_line=2), text[body_start:], text.count("\n", 0, body_start) + 1


class _Builder:
    """Reads what the frontmatter names and collects problems instead of stopping at the first."""

    def __init__(self, tree: Tree, name: str, header: Document, body: str, body_line: int) -> None:
        self.tree, self.name, self.header, self.body, self.body_line = tree, name, header, body, body_line
        self.folder = f"{FOLDER}/{name}"
        self.where = f"{self.folder}/prompt.md"
        self.problems: list[Problem] = []
        self.fields: Mapping[str, Any] = header.value

    def build(self) -> Prompt:
        fields = self.fields
        if fields["name"] != self.name:
            self._problem(
                ("name",), f"name {fields['name']!r} differs from the folder {self.name!r}", "make them equal"
            )
        input_schema = self._schema(("input", "schema"))
        output = fields.get("output", {})
        output_schema = self._schema(("output", "schema")) if "schema" in output else None
        if output.get("format", "text") != "json" and output_schema:
            self._problem(("output", "schema"), "a schema needs `format: json`", "set output.format to json")
        self._lint_text(self.body, self.where, self.body_line)
        messages = self._messages()
        if input_schema and not self.problems:
            self._check_names(input_schema, messages)
        prompt_fields: dict[str, Any] = {
            "knowledge": self._knowledge() if "knowledge" in fields else None,
            "examples": self._examples(input_schema) if "examples" in fields else (),
            "rules": self._rules(),
            "tools": self._tools(),
        }
        if self.problems or input_schema is None:
            raise DataError(problems=sorted(self.problems, key=place_of))
        return Prompt(
            name=self.name, messages=messages, description=fields.get("description", ""),
            owners=tuple(fields.get("owners", ())), model=fields.get("model", ""), params=fields.get("params", {}),
            input_schema=input_schema, untrusted=tuple(fields["input"].get("untrusted", ())),
            output_format=output.get("format", "text"), output_schema=output_schema, **prompt_fields,
        )  # fmt: skip

    def _problem(self, path: tuple[str | int, ...], what: str, hint: str = "") -> None:
        self.problems.append(Problem(what=what, where=f"{self.where}:{self.header.line(path)}", hint=hint))

    def _schema(self, path: tuple[str, str]) -> JsonSchema | None:
        name = self.fields[path[0]][path[1]]
        try:
            return load_schema(self.tree, f"{self.folder}/{name}", wanted_by=f"{self.where}:{self.header.line(path)}")
        except DataError as error:
            self.problems += error.problems
            return None

    def _lint_text(self, text: str, where: str, first_line: int) -> None:
        for number, line in enumerate(text.split("\n"), first_line):
            at = f"{where}:{number}"
            for suspect in dict.fromkeys(SUSPECT.findall(line)):
                self.problems.append(Problem(what=f"{suspect!r} in a prompt", where=at, why="endpoints and variables live in config",
                                             hint="pass it as an input"))  # fmt: skip
            if contains_secret(line):
                self.problems.append(
                    Problem(what="a secret in a prompt", where=at, hint="remove it, and revoke the key")
                )
            for hidden in dict.fromkeys(HIDDEN.findall(line)):
                self.problems.append(Problem(what=f"hidden character U+{ord(hidden):04X}", where=at, hint="remove it"))

    def _messages(self) -> tuple[MessageTemplate, ...]:
        partials: dict[str, str] = {}
        for index, name in enumerate(self.fields.get("partials", ())):
            path, partials[name] = f"{FOLDER}/{name}", ""
            try:
                text = read_text(self.tree, path, wanted_by=f"{self.where}:{self.header.line(('partials', index))}")
                self._lint_text(text, path, 1)
                compile_template(text, path)
                partials[name] = text
            except DataError as error:
                self.problems += error.problems
        messages: list[MessageTemplate] = []
        try:
            parts = split_messages(self.body, self.where, self.body_line)
        except DataError as error:
            self.problems += error.problems
            return ()
        for role, source, line in parts:
            try:
                # Partials stand on their own, so a message without them has the same faults, at their own lines.
                compile_template(
                    inline_partials(source, dict.fromkeys(partials, ""), self.where, line), self.where, line
                )
                text = inline_partials(source, partials, self.where, line)
                messages.append(MessageTemplate(role=role, template=compile_template(text, self.where, line)))
            except DataError as error:
                self.problems += error.problems
        return tuple(messages)

    def _check_names(self, schema: JsonSchema, messages: tuple[MessageTemplate, ...]) -> None:
        declared = set(schema.document.get("properties", {}))
        if "knowledge" in self.fields:
            knowledge = self.fields["knowledge"]
            named = [(("knowledge", "query"), knowledge["query"]), (("knowledge", "into"), knowledge["into"])]
            if "scope" in knowledge:
                named.append((("knowledge", "scope"), knowledge["scope"]["input"]))
            for path, name in named:
                if name not in declared:
                    self._problem(path, f"{name!r} is not an input", did_you_mean(name, declared))
        for index, name in enumerate(self.fields["input"].get("untrusted", ())):
            if name not in declared:
                self._problem(
                    ("input", "untrusted", index),
                    f"untrusted input {name!r} is not an input",
                    did_you_mean(name, declared),
                )
        untrusted = set(self.fields["input"].get("untrusted", ()))
        used: set[str] = set()
        for message in messages:
            used |= message.template.variables
            for name in sorted(message.template.variables - declared):
                at = self._where_used(name)
                self.problems.append(Problem(what=f"unknown variable {name!r}", where=at, why="the input schema does not declare it",
                                             hint=did_you_mean(name, declared)))  # fmt: skip
            if message.role == "system":
                for name in sorted(message.template.variables & untrusted):
                    self.problems.append(Problem(what=f"untrusted input {name!r} in a system message", where=self._where_used(name),
                                                 why="a stranger could give orders there", hint="move it to a user message"))  # fmt: skip
        scope = self.fields.get("knowledge", {})
        used |= {scope.get("query", ""), scope.get("scope", {}).get("input", "")}
        for name in sorted(declared - used):
            self._problem(("input", "schema"), f"input {name!r} is never used", "use it, or remove it from the schema")

    def _where_used(self, name: str) -> str:
        for number, line in enumerate(self.body.split("\n"), self.body_line):
            if re.search(rf"\{{[{{%].*\b{re.escape(name)}\b", line):
                return f"{self.where}:{number}"
        return self.where

    def _knowledge(self) -> Knowledge | None:
        spec = self.fields["knowledge"]
        folder = f"{self.folder}/{spec['path']}"
        passages: list[Passage] = []
        for path in folder_files(self.tree, folder, ".md"):
            try:
                found, problems = split_passages(read_text(self.tree, path), path)
            except DataError as error:
                self.problems += error.problems
                continue
            self.problems += problems
            passages += [
                Passage(id=item.id, title=item.title, text=item.text, source=path.removeprefix(folder + "/"))
                for item in found
            ]
        seen: set[str] = set()
        for passage in passages:
            if passage.id in seen:
                self._problem(
                    ("knowledge", "path"), f"passage id {passage.id!r} is used twice", "give each passage its own id"
                )
            seen.add(passage.id)
        if not passages:
            self._problem(
                ("knowledge", "path"),
                "no passages found",
                f"put .md files with `## Title {{#id}}` headings into {folder}",
            )
        scope = spec.get("scope", {})
        files = {passage.source for passage in passages}
        for value, name in scope.get("files", {}).items():
            if name not in files:
                self._problem(
                    ("knowledge", "scope", "files", value), f"no file {name!r} in {folder}", did_you_mean(name, files)
                )
        return Knowledge(passages=tuple(passages), query=spec["query"], into=spec["into"], top=spec.get("top", 4),
                         scope_input=scope.get("input", ""), scope_files=scope.get("files", {}))  # fmt: skip

    def _examples(self, schema: JsonSchema | None) -> tuple[Example, ...]:
        path = f"{self.folder}/{self.fields['examples']}"
        examples: list[Example] = []
        try:
            text = read_text(self.tree, path, wanted_by=f"{self.where}:{self.header.line(('examples',))}")
        except DataError as error:
            self.problems += error.problems
            return ()
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except JsonError as error:
                self.problems.append(Problem(what="not JSON", where=f"{path}:{number}", why=str(error)))
                continue
            if not isinstance(row, dict) or set(row) != {"inputs", "output"} or not isinstance(row["inputs"], dict):
                self.problems.append(
                    Problem(what="an example must be {inputs: {...}, output: ...}", where=f"{path}:{number}")
                )
                continue
            if schema and not schema.accepts(row["inputs"]):
                self.problems += [Problem(what=f"example inputs{item.pointer}: {item.message}", where=f"{path}:{number}")
                                  for item in schema.violations(row["inputs"])]  # fmt: skip
            examples.append(Example(inputs=row["inputs"], output=row["output"]))
        return tuple(examples)

    def _tools(self) -> tuple[Mapping[str, Json], ...]:
        choice = self.fields.get("params", {}).get("tool_choice", "auto")
        if "tools" not in self.fields:
            if "tool_choice" in self.fields.get("params", {}):
                self._problem(
                    ("params", "tool_choice"), "tool_choice without tools", "name a file of them under `tools`"
                )
            return ()
        path = f"{self.folder}/{self.fields['tools']}"
        try:
            document = parse_json(read_text(self.tree, path, wanted_by=f"{self.where}:{self.header.line(('tools',))}"))
        except JsonError as error:
            self.problems.append(Problem(what="not JSON", where=path, why=str(error)))
            return ()
        except DataError as error:
            self.problems += error.problems
            return ()
        problems = list(format_problems("tools", document, lambda _: path))
        self.problems += problems
        if problems:
            return ()
        tools = tuple(item.get("function", item) for item in document)
        for tool in tools:
            self.problems += lint_schema(tool.get("parameters", {"type": "object"}), f"{path} ({tool['name']})")
        names = [tool["name"] for tool in tools]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(Problem(what=f"two tools are called {name!r}", where=path, hint="rename one"))
        if choice not in ("auto", "none", "required", *names):
            self._problem(("params", "tool_choice"), f"tool_choice {choice!r} is no tool", did_you_mean(choice, names))
        return tools

    def _rules(self) -> Mapping[str, Json]:
        path = f"{self.folder}/rules.yaml"
        if "rules.yaml" not in self.tree.names(self.folder):
            return {}
        try:
            document = parse_yaml(read_text(self.tree, path), path)
        except DataError as error:
            self.problems += error.problems
            return {}
        problems = list(format_problems("rules", document.value, lambda place: f"{path}:{document.line(place)}"))
        self.problems += problems or rules_problems(document, path)
        return document.value if not problems else {}


def rules_problems(document: Document, where: str) -> list[Problem]:
    """What a schema cannot say about rules.yaml: sections that `default` and `classifier` need, patterns Python refuses."""
    value = document.value
    problems: list[Problem] = []
    default = value["default"]
    if default in ("rules", "classifier", "search") and default not in value:
        problems.append(Problem(what=f"`default: {default}` without a section {default!r}", where=f"{where}:{document.line(('default',))}",
                                hint=f"add `{default}:`"))  # fmt: skip
    for name, rules in value.get("rules", {}).items():
        for index, rule in enumerate(rules):
            for key in ("when", "unless", "extract", "extract_all"):
                problems += _pattern_problems(
                    rule.get(key), f"{where}:{document.line(('rules', name, index))}", key.startswith("extract")
                )
    for index, pattern in enumerate(value.get("extractive", {}).get("drop", ())):
        problems += _pattern_problems(pattern, f"{where}:{document.line(('extractive', 'drop', index))}", group=False)
    return problems


def _pattern_problems(pattern: str | None, where: str, group: bool) -> list[Problem]:  # noqa: FBT001
    if pattern is None:
        return []
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        return [Problem(what=f"invalid pattern {pattern[:60]!r}", where=where, why=str(error))]
    if group and groups < 1:
        return [
            Problem(
                what=f"pattern {pattern[:60]!r} has no group", where=where, hint="put ( ) around the part to extract"
            )
        ]
    return []


def load_schema(tree: Tree, path: str, *, wanted_by: str = "") -> JsonSchema:
    """A linted, compiled JSON Schema file. Raises DataError."""
    text = read_text(tree, path, wanted_by=wanted_by)
    try:
        document = parse_json(text)
    except JsonError as error:
        raise DataError("not JSON", where=path, why=str(error)) from None
    problems = lint_schema(document, path)
    if problems:
        raise DataError(problems=problems)
    return compile_schema(document)


def place_of(problem: Problem) -> tuple[str, int]:
    """File and line of a problem, to sort by."""
    path, _, line = problem.where.partition(":")
    return path, int(line) if line.isdecimal() else 0
