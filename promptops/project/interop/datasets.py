"""Rows of evaluation data sets: OpenAI evals, Inspect, LangSmith, Langfuse; read as golden cases, written from them."""

import keyword
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptops.core.errors import DataError
from promptops.core.jsontext import Json, canonical_json
from promptops.core.prompt import Prompt
from promptops.core.suite import Case
from promptops.project.config import contains_secret
from promptops.project.interop.draft import Draft, DraftCase, DraftPrompt, Message, slug, unique
from promptops.project.interop.foreign import Folder, read_csv, read_rows
from promptops.project.interop.losses import Losses

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row as every format has it: what is asked, what is expected (several: any of them), and what it is tagged with."""

    where: str
    inputs: Mapping[str, Json]
    answers: tuple[str, ...] = ()
    fields: Mapping[str, Json] | None = None
    system: str = ""
    id: str = ""
    metadata: Mapping[str, Json] | None = None


def read_dataset(form: str, path: Path, name: str = "") -> Draft:
    """Golden cases of a data set, with a stand-in for the prompt it does not hold. Raises DataError when it cannot be read."""
    folder, losses = Folder(path.parent.resolve()), Losses()
    text = folder.text(path.name)
    records: Iterator[tuple[int, Mapping[str, Any]]] = (
        read_csv(text) if path.suffix == ".csv" else read_rows(text, path.name)
    )
    rows: list[Row] = []
    for line, record in records:
        where = f"{path.name}:{line}"
        try:
            row = _READERS[form](record, where, losses)
        except _NotTextError as why:
            losses.lost(where, "row", str(why))
            continue
        if contains_secret(
            canonical_json([dict(row.inputs), list(row.answers), dict(row.fields or {}), row.system]).decode()
        ):
            losses.lost(where, "row", "it holds a secret, which is not copied", "revoke the key")
            continue
        rows.append(row)
        losses.kept(where, "row")
    if not rows:
        problems = [f"{fate.where}: {fate.why}" for fate in losses.fates[:3]]
        raise DataError(
            "no row can be imported", where=path.name, why="; ".join(problems), hint=f"is it a {form} file?"
        )
    return _draft(rows, path, name or slug(path.stem), losses)


class _NotTextError(Exception):
    """A row that golden cases cannot hold, and why."""


def _openai_evals(record: Mapping[str, Any], where: str, losses: Losses) -> Row:
    asked, system = _asked(record.get("input"))
    ideal = record.get("ideal")
    _others(record, {"input", "ideal"}, where, losses)
    return Row(where=where, inputs={"input": asked}, system=system, answers=_answers(ideal))


def _inspect(record: Mapping[str, Any], where: str, losses: Losses) -> Row:
    asked, system = _asked(record.get("input"))
    inputs: dict[str, Json] = {"input": asked}
    choices = record.get("choices")
    target = record.get("target")
    if isinstance(choices, list) and choices:
        inputs["choices"] = choices
    for key in ("sandbox", "files", "setup"):
        if record.get(key):
            losses.lost(where, f"`{key}` of a sample", "promptops runs no sandbox")
    _others(record, {"input", "target", "choices", "id", "metadata", "sandbox", "files", "setup"}, where, losses)
    return Row(
        where=where,
        inputs=inputs,
        system=system,
        answers=_answers(target),
        id=str(record.get("id") or ""),
        metadata=_table(record.get("metadata")),
    )


def _langsmith(record: Mapping[str, Any], where: str, losses: Losses) -> Row:
    inputs, outputs = record.get("inputs"), record.get("outputs")
    if not isinstance(inputs, dict):  # a CSV export has a column for each input and output
        inputs = {
            key.removeprefix("input_"): value for key, value in record.items() if key.startswith("input_")
        } or None
        outputs = {
            key.removeprefix("output_"): value for key, value in record.items() if key.startswith("output_")
        } or None
    if not isinstance(inputs, dict) or not inputs:
        raise _NotTextError("it has no inputs")
    _others(record, {"inputs", "outputs", "metadata", "id", "split", "dataset_id", "created_at", "modified_at", "source_run_id", "attachment_urls",
                     *(key for key in record if key.startswith(("input_", "output_")))}, where, losses)  # fmt: skip
    metadata = _table(record.get("metadata"))
    split = record.get("split") or metadata.pop("dataset_split", None)
    if split:
        metadata["split"] = split[0] if isinstance(split, list) else split
    return Row(
        where=where, inputs=_named(inputs), fields=_table(outputs), id=str(record.get("id") or ""), metadata=metadata
    )


def _langfuse(record: Mapping[str, Any], where: str, losses: Losses) -> Row:
    asked, expected = record.get("input"), record.get("expectedOutput", record.get("expected_output"))
    if record.get("status") == "ARCHIVED":
        raise _NotTextError("the item is archived")
    _others(record, {"id", "input", "expectedOutput", "expected_output", "metadata", "status", "sourceTraceId", "sourceObservationId", "datasetId",
                     "datasetName", "createdAt", "updatedAt", "projectId"}, where, losses)  # fmt: skip
    shared: dict[str, Any] = {
        "where": where,
        "id": str(record.get("id") or ""),
        "metadata": _table(record.get("metadata")),
    }
    outputs: dict[str, Any] = {"fields": expected} if isinstance(expected, dict) else {"answers": _answers(expected)}
    if isinstance(asked, dict) and asked and "messages" not in asked:
        return Row(inputs=_named(asked), **shared, **outputs)
    text, system = _asked(asked.get("messages") if isinstance(asked, dict) else asked)
    return Row(inputs={"input": text}, system=system, **shared, **outputs)


_READERS: dict[str, Callable[[Mapping[str, Any], str, Losses], Row]] = {
    "openai-evals": _openai_evals, "inspect": _inspect, "langsmith": _langsmith, "langfuse": _langfuse,
}  # fmt: skip


def _asked(value: Any) -> tuple[str, str]:
    """(what the user asks, the system message) of a text or of chat messages. Raises _NotTextError."""
    if isinstance(value, str) and value.strip():
        return value, ""
    if not isinstance(value, list) or not value:
        raise _NotTextError("it has no input")
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    for message in value:
        role, content = _table(message).get("role"), _table(message).get("content")
        if role not in _ROLES or not isinstance(content, str):
            raise _NotTextError("a message of it is not plain text of system, user or assistant")
        if _ROLES[role] == "system" and not turns:
            system.append(content)
        else:
            turns.append((role, content))
    if not turns:
        return system.pop(), "\n\n".join(system)
    if len(turns) == 1:
        return turns[0][1], "\n\n".join(system)
    return "\n\n".join(f"{role}: {content}" for role, content in turns), "\n\n".join(system)


def _answers(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    found = value if isinstance(value, list) else [value]
    return tuple(
        item if isinstance(item, str) else canonical_json(item).decode() for item in found if item not in (None, "")
    )


def _named(inputs: Mapping[str, Any]) -> dict[str, Json]:
    """Inputs under names a template can use."""
    found: dict[str, Json] = {}
    for key, value in inputs.items():
        name = slug(str(key), "input").replace("-", "_")
        if name[0].isdecimal() or keyword.iskeyword(name) or name in ("true", "false", "none", "loop"):
            name = f"input_{name}"
        found[unique(name, found)] = value
    return found


def _others(record: Mapping[str, Any], known: set[str], where: str, losses: Losses) -> None:
    for key in sorted(record.keys() - known):
        losses.lost(where, f"`{str(key)[:40]}` of a row", "golden rows have no place for it")


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _draft(rows: list[Row], path: Path, name: str, losses: Losses) -> Draft:
    names = sorted({key for row in rows for key in row.inputs})
    systems = {row.system for row in rows}
    constant = systems.pop() if len(systems) == 1 else None
    prompt = DraftPrompt(name=name, messages=[], description=f"Imported from {path.name}.")
    if constant is None:
        names.append("instructions")
    prompt.messages = _stand_in(names, constant or "", path, losses)
    taken: set[str] = set()
    for number, row in enumerate(rows, 1):
        prompt.cases.append(_case(row, number, names, taken))
    prompt.slices = sorted({tag for case in prompt.cases for tag in case.tags if tag != "split"} - {"split"})[:5]
    prompt.checks = _checks(rows, prompt, losses, path.name)
    draft = Draft(prompts=[prompt], cases_only=True)
    draft.fates = tuple(losses.fates)
    return draft


def _stand_in(names: list[str], system: str, path: Path, losses: Losses) -> list[Message]:
    """Messages that show every input; the rows hold no prompt."""
    losses.changed(
        f"{path.name}:1",
        "prompt",
        "the file holds none: one that shows every input was written",
        "edit prompts/, or import into a prompt with --name",
    )
    shown = ["{{ input }}"] if names == ["input"] else [f"{key}:\n{{{{ {key} }}}}" for key in names]
    messages: list[Message] = []
    if system and "{{" not in system and "{%" not in system and "{#" not in system:
        from promptops.project.interop.foreign import convert_template

        converted = convert_template(system, f"{path.name}:1")
        if converted.constants:
            losses.lost(
                f"{path.name}:1", "system message", "it holds a link, which a prompt may not", "pass it as an input"
            )
        else:
            messages.append(("system", converted.text))
    elif system:
        losses.lost(f"{path.name}:1", "system message", "it looks like a template", "write it into prompts/")
    return [*messages, ("user", "\n\n".join(shown))]


def _case(row: Row, number: int, names: list[str], taken: set[str]) -> DraftCase:
    metadata = dict(row.metadata or {})
    category = slug(str(metadata.pop("category", "") or "default"), "default")
    tags = {
        slug(str(key)): str(value)[:80]
        for key, value in metadata.items()
        if isinstance(value, str | int | float | bool) and str(value).strip()
    }
    inputs = dict(row.inputs) | ({"instructions": row.system} if "instructions" in names else {})
    expected: dict[str, Json] = {}
    if row.fields:
        expected = dict(row.fields)
    elif len(row.answers) == 1:
        expected = {"answer": row.answers[0]}
    elif row.answers:
        expected = {"any_of": list(row.answers)}
    case_id = unique(_id(row.id) or f"row-{number}", taken)
    taken.add(case_id)
    return DraftCase(
        id=case_id, inputs=inputs, category=category, expected=expected, tags=tags, source=f"imported {row.where}"[:200]
    )


def _id(text: str) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:120]


def _checks(rows: list[Row], prompt: DraftPrompt, losses: Losses, where: str) -> list[dict[str, Json]]:
    """What the expected values suggest: the files do not say how answers are compared."""
    checks: list[dict[str, Json]] = []
    fields = sorted({key for row in rows for key in (row.fields or {})})
    if len(fields) == 1:
        checks.append({"check": "equals", "name": "answer", "expected": f"/{_token(fields[0])}", "ignore_case": True})
    elif fields:
        prompt.output_format = "json"
        checks += [
            {"check": "equals", "path": f"/{_token(key)}", "name": f"field_{number}", "ignore_case": True}
            for number, key in enumerate(fields, 1)
        ]
    if any(len(row.answers) == 1 for row in rows):
        checks.append({"check": "equals", "expected": "/answer", "name": "answer", "ignore_case": True})
    if any(len(row.answers) > 1 for row in rows):
        checks.append({"check": "contains", "expected": "/any_of", "name": "any_of", "any": True, "ignore_case": True})
    if checks:
        losses.changed(f"{where}:1", "how answers are compared", "the file does not say: equal to the expected text, or containing one of several; case does not matter",
                       "edit the checks of the suite")  # fmt: skip
    bare = [case for case in prompt.cases if not case.expected]
    if bare:
        for case in bare:
            case.expected["answered"] = True
        checks.append({"check": "length", "min": 1, "name": "answered", "only": "/answered"})
    return checks


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def write_dataset(form: str, prompt: Prompt, cases: Iterator[Case], losses: Losses) -> str:
    """Golden cases as a data set; for OpenAI evals and Inspect the messages are rendered, the others get the inputs."""
    lines = []
    for case in cases:
        where = f"golden/{prompt.name}.jsonl:{case.line}"
        lines.append(canonical_json(_WRITERS[form](prompt, case, where, losses)).decode())
    return "\n".join(lines) + "\n"


def _rendered(prompt: Prompt, case: Case) -> list[Json]:
    return [message.as_dict() for message in prompt.render(case.inputs, prompt.passages_for(case.inputs))]


def _expected_text(case: Case, where: str, losses: Losses) -> list[str]:
    """The expected answer as text: the one value stated, or all of them as JSON."""
    if not case.expected:
        losses.lost(where, "case", "it states no expected value, so the row has no answer to compare with")
        return []
    if len(case.expected) == 1:
        value = next(iter(case.expected.values()))
        losses.kept(where, "case")
        return [
            item if isinstance(item, str) else canonical_json(item).decode()
            for item in (value if isinstance(value, list) else [value])
        ]
    losses.changed(where, "case", "its expected values became one JSON text")
    return [canonical_json(dict(case.expected)).decode()]


def _write_evals(prompt: Prompt, case: Case, where: str, losses: Losses) -> dict[str, Json]:
    ideal = _expected_text(case, where, losses)
    if case.tags or case.category != "default":
        losses.lost(where, "category and tags", "OpenAI evals rows have no place for them")
    return {"input": _rendered(prompt, case), "ideal": ideal[0] if len(ideal) == 1 else ideal}


def _write_inspect(prompt: Prompt, case: Case, where: str, losses: Losses) -> dict[str, Json]:
    target = _expected_text(case, where, losses)
    return {"id": case.id, "input": _rendered(prompt, case), "target": target[0] if len(target) == 1 else target,
            "metadata": {"category": case.category, **case.tags}}  # fmt: skip


def _write_langsmith(_prompt: Prompt, case: Case, where: str, losses: Losses) -> dict[str, Json]:
    losses.kept(where, "case")
    return {
        "id": case.id,
        "inputs": dict(case.inputs),
        "outputs": dict(case.expected),
        "metadata": {"category": case.category, **case.tags},
    }


def _write_langfuse(_prompt: Prompt, case: Case, where: str, losses: Losses) -> dict[str, Json]:
    losses.kept(where, "case")
    return {
        "id": case.id,
        "input": dict(case.inputs),
        "expectedOutput": dict(case.expected),
        "metadata": {"category": case.category, **case.tags},
    }


_WRITERS: dict[str, Callable[[Prompt, Case, str, Losses], dict[str, Json]]] = {
    "openai-evals": _write_evals, "inspect": _write_inspect, "langsmith": _write_langsmith, "langfuse": _write_langfuse,
}  # fmt: skip
