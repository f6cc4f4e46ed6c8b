"""Write what the documentation restates of the code: docs/cli.md, and parts of docs/files.md, docs/architecture.md and docs/scale.md.

Run `python docs/generate.py` after a change of a command, a file format, a check, or the list of modules; a test compares.
"""  # noqa: INP001

import ast
import dataclasses
import inspect
import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from promptops.cli.app import app, root
from promptops.core.checks import CHECKS, Check
from promptops.core.errors import ExitCode
from promptops.core.template import FILTERS
from promptops.project.config import _VARIABLES
from promptops.project.formats import FORMATS, FormatName, format_text

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "promptops"
_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_EXIT = {
    ExitCode.OK: "done; the gate passed",
    ExitCode.GATE: "the gate says no: a verdict over a complete run (a category regressed, or is below `min_pass`)",
    ExitCode.BAD_INPUT: "bad input, configuration, prompt, schema, golden data or usage",
    ExitCode.NOT_EVALUATED: "could not evaluate (provider, disk, lock, missing commit): never a verdict, run again",
    ExitCode.REFUSED: "refused: a path that leaves the project, a linked run store, a server that keys may not be sent to",
    ExitCode.CONFLICT: "lost a race or a precondition",
    ExitCode.BUG: "a bug in promptops; one line and the path of a log",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C); answers are kept",
    ExitCode.TERMINATED: "terminated (SIGTERM); answers are kept",
}
_UNDESCRIBED = {
    "prompt params.temperature": "0 to 2.",
    "prompt params.top_p": "Above 0, at most 1.",
    "prompt params.max_output_tokens": "Also what `--dry-run` takes as the length of an answer (400 without it).",
    "prompt params.seed": "",
    "prompt params.stop": "At most 4.",
    "prompt params.frequency_penalty": "-2 to 2.",
    "prompt params.presence_penalty": "-2 to 2.",
    "prompt params.reasoning_effort": "",
    "prompt input": "What a request brings.",
    "prompt output": "What an answer must be.",
    "prompt output.format": "Default `text`. `json` lets checks look at parts of the answer.",
    "prompt knowledge.scope.input": "The input whose value chooses the file.",
    "prompt knowledge.scope.files": "Value of that input -> file name in the folder.",
    "suite gate": "What `eval` and `compare` judge by.",
    "rubric name": "Equals the file name.",
    "rubric description": "For people; outside the digest.",
    "rubric criteria": "What the judge is asked.",
    "rubric examples[].input": "",
    "rubric examples[].answer": "",
    "rubric examples[].verdicts": "Criterion id -> verdict.",
    "rubric examples[].verdicts.<key>.reason": "",
    "rubric examples[].verdicts.<key>.score": "true or false for `pass_fail`, 1 to 5 for `1..5`.",
    "rules classifier": "TF-IDF and logistic regression; each case is predicted out of fold.",
    "rules classifier.seed": "Of the split into folds; default 0.",
    "rules extractive": "The most central sentences of the text, in their order.",
    "rules search": "The best passage of the prompt's knowledge.",
    "config models": "Aliases that prompts and `--model` name.",
    "config models.<key>.provider": "`openai`: any server that speaks its chat-completions protocol.",
}  # fmt: skip
_LAYERS = ("cli", "report", "audit", "release", "evaluation", "gate", "project", "runtime", "models", "core")
_PROSE = {"cost": "The answer cost at most `max_usd`."}
_OPTIONS = {
    "ignore_case": "Compare text without regard to case, width and blanks.",
    "unordered": "Compare lists without regard to order.",
    "tolerance": "Largest accepted difference of numbers.",
    "values": "What to look for.",
    "keywords values": "The facts; an item may be a list of accepted spellings of one fact.",
    "min_share": "Share of the facts that must occur, above 0, at most 1.",
    "pattern": "Regular expression of a linear-time engine: no look-around, no back-references.",
    "negate": "Pass when the pattern is not found.",
    "unit": "What is counted.",
    "length min": "Smallest accepted count.",
    "length max": "Largest accepted count.",
    "similarity min": "Smallest accepted similarity, 0..1.",
    "format": "Which form.",
    "date_format": "strptime codes.",
    "allow_null": "A JSON null passes.",
    "is": "ISO 639-1 code.",
    "same_as": "Name of the input whose language is wanted.",
    "required": "Fail when nothing is cited.",
    "dialect": "SQL dialect.",
    "ddl": "`create table` statements.",
    "metric": "`rouge_l`: words in order; `rouge_1`: words in any order; `levenshtein`: characters.",
    "edit_distance max": "Most edits.",
    "max_s": "Seconds.",
    "options": "Keyword arguments of the function.",
}


def documents() -> dict[Path, str]:
    """Every file with generated text, and what it should hold."""
    blocks = {"files.md": _file_blocks(), "architecture.md": {"modules": _modules()}, "scale.md": _capacity()}
    return {DOCS / "cli.md": _cli(), **{DOCS / name: _filled(DOCS / name, found) for name, found in blocks.items()}}


def _capacity() -> dict[str, str]:
    found = runpy.run_path(str(DOCS / "capacity.py"))
    tables: dict[str, str] = found["tables"]()
    return tables


def _filled(path: Path, blocks: Mapping[str, str]) -> str:
    text = path.read_text("utf-8")
    places = [match[2] for match in _BLOCK.finditer(text)]
    if sorted(places) != sorted(blocks):
        raise ValueError(f"{path.name} has places for {sorted(places)}, not for {sorted(blocks)}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]]}\n\n{match[3]}", text)


def _file_blocks() -> dict[str, str]:
    described: set[str] = set()
    tables = {
        name: _table(("key", "value", "", "meaning"), _format_rows(name, described))
        for name in FORMATS
        if name != "tools"  # a list: described in prose
    }
    unused = set(_UNDESCRIBED) - described
    if unused:
        raise ValueError(f"described here, but not undescribed keys of a schema: {sorted(unused)}")
    variables = [(f"`{variable}`", f"`{key}`") for variable, key in _VARIABLES.items()]
    return {
        **tables,
        "checks": "\n\n".join(_check(kind) for kind in CHECKS),
        "variables": _table(("variable", "overrides"), variables),
        "filters": ", ".join(f"`{name}`" for name in sorted(FILTERS)) + ".",
    }


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# File formats


def _format_rows(name: FormatName, described: set[str]) -> list[tuple[str, ...]]:
    document = json.loads(format_text(name))
    return [
        (f"`{key}`", _value(node), "required" if required else "", _meaning(f"{name} {key}", node, described))
        for key, node, required in _keys(document, document, "")
    ]


def _keys(document: Mapping[str, Any], node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, bool]]:
    """(dotted key, its schema, whether it is required) of everything a person may write, in the order of the schema."""
    for key, found in node.get("properties", {}).items():
        child = _resolved(document, found)
        yield prefix + key, child, key in node.get("required", ())
        if child.get("title") != "check":
            yield from _below(document, child, prefix + key)


def _below(document: Mapping[str, Any], node: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any, bool]]:
    yield from _keys(document, node, key + ".")
    if isinstance(node.get("items"), dict):
        yield from _below(document, _resolved(document, node["items"]), key + "[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from _below(document, _resolved(document, node["additionalProperties"]), key + ".<key>")


def _resolved(document: Mapping[str, Any], node: Any) -> dict[str, Any]:
    """The schema with its reference filled in; a check is documented in a place of its own."""
    reference = node.get("$ref")
    if not reference:
        return dict(node)
    name = reference.removeprefix("#/$defs/")
    if name == "check":
        return {"type": "check", "title": "check"}
    return document["$defs"][name] | {key: value for key, value in node.items() if key != "$ref"}


def _meaning(key: str, node: Mapping[str, Any], described: set[str]) -> str:
    if "description" in node:
        return str(node["description"])
    if node.get("title") == "check" or key.startswith("rules rules.<key>"):
        return ""
    described.add(key)
    if key not in _UNDESCRIBED:
        raise ValueError(f"{key} has no description: write one in the schema")
    return _UNDESCRIBED[key]


def _value(node: Mapping[str, Any]) -> str:
    if "const" in node:
        return f"`{json.dumps(node['const'])}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "type" not in node:
        alternatives = node.get("anyOf") or node.get("oneOf")
        return " or ".join(dict.fromkeys(_value(item) for item in alternatives)) if alternatives else "any"
    kinds = [node["type"]] if isinstance(node["type"], str) else node["type"]
    if kinds == ["array"]:
        item = node["items"]
        return "list" + ("" if "$ref" in item else f" of {_value(item)}")
    return " or ".join({"string": "text", "object": "table"}.get(kind, kind) for kind in kinds)


# Checks


def _check(kind: str) -> str:
    document = json.loads(format_text("suite"))
    spec = next(
        item["then"]
        for item in document["$defs"]["check"]["allOf"]
        if item["if"]["properties"]["check"]["const"] == kind
    )
    options = {
        key: _resolved(document, node)
        for key, node in spec["properties"].items()
        if key not in ("check", "name", "online", "only")
    }
    text = [f"#### {kind}", "", _PROSE.get(kind) or " ".join((CHECKS[kind].__doc__ or "").split())]
    for key, word in (("oneOf", "Exactly one"), ("anyOf", "At least one")):
        if key in spec:
            text += ["", f"{word} of " + ", ".join(f"`{item['required'][0]}`" for item in spec[key]) + " is needed."]
    if options:
        rows = [_option_row(CHECKS[kind], spec, name, node) for name, node in options.items()]
        text += ["", _table(("option", "value", "default", "meaning"), rows)]
    return "\n".join(text)


def _option_row(check: type[Check], spec: Mapping[str, Any], name: str, node: Mapping[str, Any]) -> tuple[str, ...]:
    default = "required" if name in spec.get("required", ()) else _default(check, name)
    meaning = node.get("description") or _OPTIONS.get(f"{check.kind} {name}") or _OPTIONS.get(name)
    if meaning is None:
        raise ValueError(f"option {name} of check {check.kind} has no description: write one in the schema")
    return f"`{name}`", _value(node), default, meaning


def _default(check: type[Check], name: str) -> str:
    fields = {field.name.rstrip("_"): field for field in dataclasses.fields(check)}  # type: ignore[arg-type]
    value = fields[name].default
    shown = isinstance(value, bool | int | float | str) and value != "" and name != "min"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if shown else ""


# Modules


def _modules() -> str:
    """Each module with the first sentence of its docstring, layer by layer from the top."""
    parts: list[str] = []
    unplaced = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - set(_LAYERS)
    if unplaced:
        raise ValueError(
            f"say where in the layers {sorted(unplaced)} belong: docs/generate.py and docs/architecture.md"
        )
    for layer in _LAYERS:
        folder = PACKAGE / layer
        found = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
        rows = [(f"`{path.relative_to(folder).as_posix()}`", _first_sentence(path)) for path in found]
        parts += [f"### {layer}", _first_sentence(folder / "__init__.py"), _table(("module", "what it does"), rows)]
    return "\n\n".join(parts)


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(re.split(r"(?<=[.])\s", text.partition("\n\n")[0], maxsplit=1)[0].split())


# Commands


def _cli() -> str:
    codes = _table(("code", "means"), [(str(int(code)), _EXIT[code]) for code in ExitCode])
    parts = [
        "# Commands",
        "<!-- generated by docs/generate.py from the commands themselves; edit those, then run it -->",
        (
            "`promptops COMMAND --help` says the same. stdout is the result, stderr is for people. With `--json`, stdout is one JSON "
            "document and nothing else, also for errors."
        ),
        "## Exit codes",
        codes,
        (
            "A closed pipe (`promptops view | head`) ends in 141. The first line of a result is the answer, the last one the next "
            "command to run."
        ),
        _command("promptops", root, "promptops [OPTIONS] COMMAND"),
    ]
    for command in app.registered_commands:
        assert command.callback
        parts.append(_command(f"promptops {command.name}", command.callback))
    for group in app.registered_groups:
        assert group.typer_instance
        for command in group.typer_instance.registered_commands:
            assert command.callback
            parts.append(_command(f"promptops {group.name} {command.name}", command.callback))
    return "\n\n".join(parts) + "\n"


def _command(name: str, callback: Callable[..., Any], usage: str = "") -> str:
    found = list(_parameters(callback))
    arguments = [
        (_argument(value, info), info.help or "") for _, value, info in found if isinstance(info, ArgumentInfo)
    ]
    options = [_option(key, value, info) for key, value, info in found if isinstance(info, OptionInfo)]
    usage = usage or " ".join([name, *(metavar for metavar, _ in arguments), "[OPTIONS]"])
    parts = [f"## {name}", f"`{usage}`", inspect.getdoc(callback) or ""]
    if arguments:
        parts.append(_table(("argument", "meaning"), [(f"`{metavar}`", text) for metavar, text in arguments]))
    parts.append(_table(("option", "value", "default", "meaning"), options))
    return "\n\n".join(parts)


def _argument(default: object, info: ArgumentInfo) -> str:
    """In brackets when it may be left out, with dots when there may be several."""
    name = (info.metavar or "").removesuffix("...") + ("..." if default is None else "")
    return name if default is inspect.Parameter.empty or name.startswith("[") else f"[{name}]"


def _parameters(callback: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, default, what typer knows of it) of each parameter, whichever way it was declared."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        annotated = getattr(hints[name], "__metadata__", None)
        if annotated:
            yield name, parameter.default, annotated[0]
        else:
            yield name, parameter.default.default, parameter.default


def _option(name: str, default: object, info: OptionInfo) -> tuple[str, ...]:
    written = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
    declared = [text for text in written if text.startswith("-")] or ["--" + name.replace("_", "-")]
    flag = default is False
    low, high = info.min, info.max
    number = "" if low is None else f"number from {low}" if high is None else f"number {low}..{high}"
    value = "" if flag else number or info.metavar or "text"
    required = default is inspect.Parameter.empty or default is ...
    shown = "required" if required else "" if flag or default in (None, "") else f"`{default}`"
    return ", ".join(f"`{text}`" for text in declared), value, shown, info.help or ""


def main() -> None:
    """Write the files in place."""
    for path, text in documents().items():
        path.write_text(text, "utf-8")
        sys.stdout.write(f"wrote docs/{path.name}\n")


if __name__ == "__main__":
    main()
