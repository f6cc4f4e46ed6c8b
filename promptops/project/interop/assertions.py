"""promptfoo assertions as checks: what has a counterpart is mapped, the rest is named with its place and what to do."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.core.schema import lint_schema, pattern_schema
from promptops.project.interop.draft import DraftCase
from promptops.project.interop.foreign import Folder, fill
from promptops.project.interop.losses import Losses

_CODE_HINT = "write it as an entry point in promptops.checks, or as a check of the suite"
_JUDGE_HINT = "write it as a criterion in rubrics/"
_LOST = {
    "javascript": ("it runs code, which an import never does", _CODE_HINT), "python": ("it runs code, which an import never does", _CODE_HINT),
    "ruby": ("it runs code, which an import never does", _CODE_HINT), "webhook": ("it sends the answer to a server", _CODE_HINT),
    **dict.fromkeys(("llm-rubric", "g-eval", "model-graded-closedqa", "model-graded-factuality", "factuality", "answer-relevance",
                     "conversation-relevance", "context-faithfulness", "context-recall", "context-relevance", "search-rubric", "pi",
                     "agent-rubric", "trajectory:goal-success"), ("a model judges it", _JUDGE_HINT)),
    **dict.fromkeys(("select-best", "max-score"), ("it compares answers of several prompts", "see `promptops compare` and `eval --against`")),
    **dict.fromkeys(("similar", "similar:cosine", "similar:dot", "similar:euclidean", "classifier", "moderation", "guardrails"),
                    ("it needs another model", "see the check `similarity`")),
    "human": ("people answer it", "see `promptops review`"),
}  # fmt: skip
_DIALECTS = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgres", "postgres": "postgres", "sqlite": "sqlite", "bigquery": "bigquery",
             "snowflake": "snowflake", "redshift": "redshift", "transactsql": "tsql", "trino": "trino"}  # fmt: skip
_IGNORED = (
    "metric",
    "type",
    "value",
    "threshold",
    "weight",
    "provider",
    "rubricPrompt",
    "transform",
    "config",
    "contextTransform",
    "assert",
)
_LISTS = ("contains-any", "contains-all", "icontains-any", "icontains-all")
_WITH_ARGUMENT = re.compile(
    r"(?P<type>(?:not-)?[a-z][a-z0-9-]*)(?:\((?P<threshold>[0-9.]+)\))?:?(?P<value>.*)", re.DOTALL
)


class Lost(Exception):  # noqa: N818 - control flow inside this module
    """An assertion that cannot be carried over: why, and what to do."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


@dataclass(slots=True)
class Assertions:
    """The checks of a suite as they come up; a test states in `expected` which of them are its, and with which value."""

    folder: Folder
    losses: Losses
    checks: dict[str, dict[str, Json]] = field(default_factory=dict)
    slots: dict[bytes, list[str]] = field(default_factory=dict)

    def add(self, spec: Any, where: str, case: DraftCase, values: Mapping[str, Json]) -> None:
        """One assertion of one test, mapped or reported."""
        if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
            self.losses.lost(where, "assertion", "it has no type")
            return
        kind: str = spec["type"]
        if kind == "assert-set":
            self._add_set(spec, where, case, values)
            return
        label = f"assertion {kind}"
        try:
            why = self._map(kind, spec, case, values)
        except Lost as lost:
            self.losses.lost(where, label, lost.why, lost.hint)
            return
        notes = [why] if why else []
        if spec.get("weight") not in (None, 1):
            notes.append("weights do not count: a case passes when every check does")
        notes += [f"`{key}` is not carried over" for key in sorted(spec.keys() - set(_IGNORED))]
        if notes:
            self.losses.changed(where, label, "; ".join(notes))
        else:
            self.losses.kept(where, label)

    def _add_set(self, spec: Mapping[str, Any], where: str, case: DraftCase, values: Mapping[str, Json]) -> None:
        members = spec.get("assert")
        if not isinstance(members, list) or spec.get("threshold") not in (None, 1):
            self.losses.lost(
                where, "assertion assert-set", "a part of the set is enough", "every check of a case must pass here"
            )
            return
        for member in members:
            self.add(member, where, case, values)

    def _map(  # noqa: C901, PLR0912 - one branch an assertion
        self, kind: str, spec: Mapping[str, Any], case: DraftCase, values: Mapping[str, Json]
    ) -> str:
        """Add the check; what is different about it, or ''. Raises Lost."""
        negate = kind.startswith("not-")
        name = kind.removeprefix("not-")
        if name in _LOST:
            raise Lost(*_LOST[name])
        if spec.get("transform") or spec.get("contextTransform"):
            raise Lost("it looks at the answer after a transformation by code", _CODE_HINT)
        if spec.get("weight") == 0:
            raise Lost("its weight is 0: it only measures, and never fails a test")
        value, threshold = self._value(spec.get("value"), values), spec.get("threshold")
        no = {"negate": True} if negate else {}
        match name:
            case "equals":
                return self._equals(value, no, case)
            case "contains" | "icontains" | "contains-any" | "contains-all" | "icontains-any" | "icontains-all":
                options: dict[str, Json] = ({"any": True} if name.endswith("-any") else {}) | (
                    {"ignore_case": True} if name.startswith("i") else {}
                )
                wanted = _listed(value) if name in _LISTS else [_text(value)]
                if not any(item.strip() for item in wanted):
                    raise Lost("it has no value")
                self._state(kind, {"check": "contains", **options, **no}, wanted if name in _LISTS else wanted[0], case)
            case "starts-with":
                self._state(kind, {"check": "starts_with", **no}, _text(value), case)
            case "regex":
                self._only(kind, {"check": "regex", "pattern": _pattern(_text(value)), **no}, case)
            case "is-json" | "contains-json":
                within = {"within": True} if name == "contains-json" else {}
                self._only(kind, {"check": "is_json", **_schema(value), **within, **no}, case)
            case "levenshtein":
                limit = 5 if threshold is None else int(_number(threshold))
                self._state(kind, {"check": "edit_distance", "max": limit, **no}, _text(value), case)
            case "rouge-n" if not negate:
                least = 0.75 if threshold is None else _number(threshold)
                self._state(
                    kind, {"check": "similarity", "metric": "rouge_1", "min": min(1.0, least)}, _text(value), case
                )
                return "words are told apart by promptops' own rules"
            case "latency" if not negate:
                if threshold is None or _number(threshold) <= 0:
                    raise Lost("it has no threshold")
                self._only(kind, {"check": "latency", "max_s": _number(threshold) / 1000}, case)
            case "cost" if not negate:
                if threshold is None:
                    raise Lost("it has no threshold")
                self._only(kind, {"check": "cost", "max_usd": _usd(_number(threshold))}, case)
            case "word-count" if not negate:
                self._only(kind, {"check": "length", "unit": "words", **_limits(value)}, case)
                return "punctuation between blanks is no word here"
            case "is-sql" if not negate:
                self._only(kind, {"check": "sql", "dialect": _dialect(value)}, case)
                return "promptops wants one read-only statement as well"
            case _:
                raise Lost("promptops has no such check", "see `Checks` in docs/files.md")
        return ""

    def _equals(self, value: Json, no: dict[str, Json], case: DraftCase) -> str:
        if isinstance(value, dict | list):  # compared as JSON, whatever its spelling
            self._only("equals-json", {"check": "is_json", "schema": {"const": value}, **no}, case)
        else:
            self._state("not-equals" if no else "equals", {"check": "equals", **no}, _text(value), case)
        return ""

    def _value(self, value: Any, values: Mapping[str, Json]) -> Json:
        """The value with the test's own variables filled in, files of the folder read. Raises Lost."""
        if isinstance(value, list):
            return [self._value(item, values) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith("file://"):
            try:
                return _from_file(self.folder, value)
            except Exception as error:
                raise Lost(str(error).partition("\n")[0]) from error
        if value.startswith("package:"):
            raise Lost("it loads a package", _CODE_HINT)
        try:
            return fill(value, values)
        except ValueError as error:
            raise Lost(str(error), "write the value out") from error

    def _state(self, kind: str, check: dict[str, Json], value: Json, case: DraftCase) -> None:
        """A check whose value is stated by the case."""
        slot = self._slot(kind, check, case)
        self.checks.setdefault(slot, check | {"name": slot, "expected": f"/{slot}"})
        case.expected[slot] = value

    def _only(self, kind: str, check: dict[str, Json], case: DraftCase) -> None:
        """A check without a value of the case, for the cases that ask for it."""
        slot = self._slot(kind, check, case)
        self.checks.setdefault(slot, check | {"name": slot, "only": f"/{slot}"})
        case.expected[slot] = True

    def _slot(self, kind: str, check: Mapping[str, Json], case: DraftCase) -> str:
        """A name under which this case has no such check yet; equal checks of other cases share it."""
        known = self.slots.setdefault(canonical_json([kind, dict(check)]), [])
        for slot in known:
            if slot not in case.expected:
                return slot
        base = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")
        slot, number = base, 2
        while slot in self.checks:
            slot, number = f"{base}-{number}", number + 1
        known.append(slot)
        return slot

    def finish(self, cases: Sequence[DraftCase]) -> list[dict[str, Json]]:
        """The checks of the suite; one that every case asks for is simply a check of all, and a case without any must not be empty."""
        bare = [case for case in cases if not case.expected]
        for case in bare:
            case.expected["answered"] = True
        if bare:
            self.checks["answered"] = {"check": "length", "min": 1, "name": "answered", "only": "/answered"}
        for slot, check in self.checks.items():
            self._same_in_all(slot, check, cases)
            if "only" in check and all(case.expected.get(slot) is True for case in cases):
                del check["only"]
                for case in cases:
                    del case.expected[slot]
        return list(self.checks.values())

    def _same_in_all(self, slot: str, check: dict[str, Json], cases: Sequence[DraftCase]) -> None:
        """A text that every case states is written into the check."""
        stated = [case.expected.get(slot) for case in cases]
        if (
            check["check"] not in ("contains", "starts_with")
            or None in stated
            or any(value != stated[0] for value in stated)
        ):
            return
        value = stated[0]
        del check["expected"]
        check["values"] = value if isinstance(value, list) else [value]
        for case in cases:
            del case.expected[slot]


def from_cell(cell: str) -> dict[str, Any]:
    """An assertion as it is written in a CSV cell: `contains: x`, `levenshtein(5): x`, `is-json`, or the very text."""
    text = cell.strip()
    for prefix, kind in (("fn:", "javascript"), ("eval:", "javascript"), ("javascript:", "javascript"), ("python:", "python"),
                         ("grade:", "llm-rubric"), ("llm-rubric:", "llm-rubric"), ("file://", "javascript")):  # fmt: skip
        if text.startswith(prefix):
            return {"type": kind, "value": text.removeprefix(prefix).strip()}
    match = _WITH_ARGUMENT.fullmatch(text)
    if match and _is_type(match["type"]):
        found: dict[str, Any] = {"type": match["type"]}
        if match["threshold"]:
            found["threshold"] = float(match["threshold"])
        if match["value"].strip():
            found["value"] = match["value"].strip()
        return found
    return {"type": "equals", "value": text}


def _is_type(text: str) -> bool:
    name = text.removeprefix("not-")
    known = ("equals", "contains", "icontains", *_LISTS, "starts-with", "regex", "is-json", "contains-json", "levenshtein", "rouge-n", "latency",
             "cost", "word-count", "is-sql", "contains-sql", "is-xml", "contains-xml", "is-html", "contains-html", "is-refusal", "perplexity",
             "bleu", "gleu", "meteor", "is-valid-openai-function-call", "is-valid-openai-tools-call", "finish-reason")  # fmt: skip
    return name in known or name in _LOST


def _listed(value: Json) -> list[str]:
    if isinstance(value, str):
        return [cell.strip() for cell in next(csv.reader(StringIO(value), skipinitialspace=True), [])]
    if isinstance(value, list):
        return [_text(item) for item in value]
    raise Lost("its value is no list")


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return canonical_json(value).decode()
    raise Lost("its value is no text")


def _number(value: Json) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Lost(f"threshold {str(value)[:20]!r} is no number") from None


def _pattern(text: str) -> str:
    try:
        pattern_schema(text)
    except ValueError:
        raise Lost(
            "its pattern needs look-around or back-references, which a linear-time engine lacks", "rewrite the pattern"
        ) from None
    return text


def _schema(value: Json) -> dict[str, Json]:
    """`schema` for what an assertion states: a table, JSON or YAML text, or nothing."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except JsonError:
            raise Lost("its schema is not JSON") from None
    if not isinstance(value, dict):
        raise Lost("its schema is no table")
    problems = lint_schema(value, "schema")
    if problems:
        raise Lost(f"promptops refuses its schema: {problems[0].what}", problems[0].hint)
    return {"schema": value}


def _usd(amount: float) -> str:
    if not 0 <= amount < 1e6:
        raise Lost("its threshold is no amount")
    return f"{amount:.12f}".rstrip("0").rstrip(".") or "0"


def _limits(value: Json) -> dict[str, Json]:
    if isinstance(value, dict):
        found = {key: int(_number(value[key])) for key in ("min", "max") if key in value}
        if not found:
            raise Lost("it has no limits")
        return dict(found)
    number = int(_number(value))
    return {"min": number, "max": number}


def _dialect(value: Json) -> str:
    named = value.get("databaseType", "MySQL") if isinstance(value, dict) else "MySQL"
    first = named[0] if isinstance(named, list) and named else named
    dialect = _DIALECTS.get(str(first).lower())
    if dialect is None or (isinstance(value, dict) and value.keys() - {"databaseType"}):
        raise Lost("promptops checks neither this dialect nor lists of allowed tables and columns")
    return dialect


def _from_file(folder: Folder, reference: str) -> Json:
    if reference.lower().endswith((".json", ".yaml", ".yml")):
        return folder.document(reference).value
    return folder.text(reference).strip()


def every_assertion(assertions: Any) -> Iterator[Any]:
    """The members of an `assert` list, whatever is written there."""
    if isinstance(assertions, list):
        yield from assertions
    elif assertions is not None:
        yield assertions
