"""What a change of a schema or of an answer's form means for callers and readers, and the version bump it needs.

A schema is compared keyword by keyword. Each difference narrows (a value that was accepted no longer is), widens (a value is
accepted that was not), or both; what cannot be decided counts as both. Callers are broken by inputs that narrow, readers of
answers by outputs that widen. By convention, a property that is added breaks nobody who need not send it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from promptops.core.jsontext import Json, canonical_json
from promptops.core.prompt import Prompt
from promptops.core.schema import compile_schema

Side = Literal["input", "output"]
Bump = Literal["major", "minor", "patch"]
_ANNOTATIONS = frozenset(("$schema", "$id", "$anchor", "$comment", "$defs", "title", "description", "default", "deprecated", "readOnly",
                          "writeOnly", "examples"))  # fmt: skip
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LIMITS = ("pattern", "format")
_SETS = ("anyOf", "oneOf")
_COMPARED = frozenset((*_LOWER, *_UPPER, *_LIMITS, *_SETS, "type", "enum", "const", "multipleOf", "uniqueItems", "properties", "required",
                       "additionalProperties", "items", "prefixItems", "allOf", "$ref"))  # fmt: skip
_TYPES = ("null", "boolean", "object", "array", "string", "integer", "number")
_KINDS = {"minimum": "number", "exclusiveMinimum": "number", "maximum": "number", "exclusiveMaximum": "number", "multipleOf": "number",
          "minLength": "string", "maxLength": "string", "pattern": "string", "format": "string", "minItems": "array", "maxItems": "array",
          "uniqueItems": "array", "minProperties": "object", "maxProperties": "object"}  # fmt: skip
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    """One difference: `where` is a pointer into the values (`*` for every item), `breaking` says whether somebody must follow."""

    side: Side
    where: str
    what: str
    breaking: bool

    def as_dict(self) -> dict[str, Json]:
        return {"side": self.side, "where": self.where, "what": self.what, "breaking": self.breaking}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference before anybody's side is taken."""

    where: str
    what: str
    narrows: bool
    widens: bool


def schema_changes(before: Prompt, after: Prompt) -> tuple[SchemaChange, ...]:
    """Every change of what callers may send and of what readers get, breaking ones first."""
    inputs, outputs = differences(before.input_schema.document, after.input_schema.document, closed=True), []
    old, new = before.output_schema, after.output_schema
    if before.output_format != after.output_format:
        what = f"format {before.output_format} became {after.output_format}"
        outputs.append(Difference(where="", what=what, narrows=True, widens=True))
    elif old is not None and new is None:
        outputs.append(Difference(where="", what="the schema was removed", narrows=False, widens=True))
    elif new is not None and old is None:
        outputs.append(Difference(where="", what="a schema was added", narrows=True, widens=False))
    elif old is not None and new is not None:
        outputs += differences(old.document, new.document, answers=True)
    found = [SchemaChange(side="input", where=item.where, what=item.what, breaking=item.narrows) for item in inputs]
    found += [SchemaChange(side="output", where=item.where, what=item.what, breaking=item.widens) for item in outputs]
    return tuple(sorted(found, key=lambda change: not change.breaking))


def needed_bump(changes: Sequence[SchemaChange], *, same_content: bool) -> Bump:
    """The smallest version bump a change may have: major when somebody must follow, patch when no digest changed."""
    if any(change.breaking for change in changes):
        return "major"
    return "patch" if same_content else "minor"


def differences(before: Json, after: Json, *, closed: bool = False, answers: bool = False) -> list[Difference]:
    """How two schemas differ in the values they accept; annotations are passed over.

    `closed`: properties that the top level does not declare are refused whatever the schema says, as inputs are.
    `answers`: a property that is gone is a loss to whoever reads it, whether or not the schema would still accept it.
    """
    return list(_Walk(before, after, answers=answers).compare(before, after, "", closed=closed))


class _Walk:
    def __init__(self, before: Json, after: Json, *, answers: bool) -> None:
        self.roots = (before, after)
        self.answers = answers
        self.seen: set[tuple[bytes, bytes]] = set()

    def compare(
        self, before: Json, after: Json, where: str, *, closed: bool = False, depth: int = 0
    ) -> Iterator[Difference]:
        old, new = _resolved(self.roots[0], before), _resolved(self.roots[1], after)
        if old is None or new is None or depth > _MAX_DEPTH:
            if canonical_json(before) != canonical_json(after):
                yield _undecided(where, "a reference changed")
            return
        pair = (canonical_json(old), canonical_json(new))
        if "$ref" in str(before) or "$ref" in str(after):
            if pair in self.seen:
                return
            self.seen.add(pair)
        elif pair[0] == pair[1]:
            return
        if old is False or new is False:
            if pair[0] != pair[1]:
                yield Difference(where=where, what="nothing is accepted any more" if new is False else "no longer refused",
                                 narrows=new is False, widens=old is False)  # fmt: skip
            return
        old, new = {} if old is True else old, {} if new is True else new
        finite = _finite(old), _finite(new)
        if finite[0] is not None and finite[1] is not None:
            yield from _value_sets(finite[0], finite[1], where)
            return
        yield from self._types(old, new, where)
        yield from _values(old, new, where)
        yield from _bounds(old, new, where)
        yield from self._alternatives(old, new, where, depth)
        yield from self._object(old, new, where, closed=closed, depth=depth)
        yield from self._array(old, new, where, depth)
        yield from self._all_of(old, new, where, depth)
        for keyword in sorted((old.keys() | new.keys()) - _COMPARED - _ANNOTATIONS):
            if keyword.startswith("unevaluated") or canonical_json(old.get(keyword)) != canonical_json(
                new.get(keyword)
            ):
                yield _undecided(where, f"`{keyword}` changed")

    def _types(self, old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[Difference]:
        before, after = _types_of(old), _types_of(new)
        if before != after:
            yield Difference(where=where, what=f"type {_type_text(old)} became {_type_text(new)}", narrows=not before <= after,
                             widens=not after <= before)  # fmt: skip

    def _alternatives(
        self, old: Mapping[str, Any], new: Mapping[str, Any], where: str, depth: int
    ) -> Iterator[Difference]:
        for keyword in _SETS:
            if keyword not in old and keyword not in new:
                continue
            if keyword not in old or keyword not in new:
                yield Difference(where=where, what=f"`{keyword}` was {'removed' if keyword in old else 'added'}", narrows=keyword in new,
                                 widens=keyword in old)  # fmt: skip
                continue
            before, after = _by_text(old[keyword]), _by_text(new[keyword])
            gone, come = _only_in(before, after), _only_in(after, before)
            inside = [
                found
                for key in before.keys() & after.keys()
                for found in self.compare(before[key], after[key], where, depth=depth + 1)
            ]
            if keyword == "anyOf" and len(gone) == len(come) == 1:
                inside += self.compare(gone[0], come[0], where, depth=depth + 1)
            elif gone or come:
                inside.append(Difference(where=where, what=f"`{keyword}`: {len(come)} alternatives added, {len(gone)} removed",
                                         narrows=bool(gone), widens=bool(come)))  # fmt: skip
            if keyword == "oneOf":  # a value that two alternatives accept is refused: nothing follows from the parts
                inside = [_undecided(found.where, found.what) for found in inside]
            yield from inside

    def _object(
        self, old: Mapping[str, Any], new: Mapping[str, Any], where: str, *, closed: bool, depth: int
    ) -> Iterator[Difference]:
        before, after = old.get("properties", {}), new.get("properties", {})
        must_before, must_after = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(before.keys() | after.keys()):
            at = f"{where}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in after:
                rest = False if closed else new.get("additionalProperties", True)
                unsure = _reaches_others(new) or not isinstance(rest, bool)
                yield Difference(
                    where=at,
                    what="removed",
                    narrows=unsure or rest is False,
                    widens=unsure or self.answers or rest is True,
                )
            elif name not in before:
                needed = name in must_after
                unsure = not closed and (
                    _reaches_others(old) or not isinstance(old.get("additionalProperties", True), bool)
                )
                yield Difference(
                    where=at,
                    what=f"added, {'required' if needed else 'optional'}",
                    narrows=needed or unsure,
                    widens=unsure,
                )
            else:
                if (name in must_before) != (name in must_after):
                    needed = name in must_after
                    what = "optional became required" if needed else "required became optional"
                    yield Difference(where=at, what=what, narrows=needed, widens=not needed)
                yield from self.compare(before[name], after[name], at, depth=depth + 1)
        for name in sorted((must_before ^ must_after) - before.keys() - after.keys()):
            needed = name in must_after
            yield Difference(where=f"{where}/{name}", what="must be there" if needed else "need not be there", narrows=needed,
                             widens=not needed)  # fmt: skip
        rest = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if canonical_json(rest[0]) != canonical_json(rest[1]) and not closed:
            yield from self._rest(rest[0], rest[1], f"{where}/*", "other properties", depth)

    def _array(self, old: Mapping[str, Any], new: Mapping[str, Any], where: str, depth: int) -> Iterator[Difference]:
        before, after = old.get("prefixItems", []), new.get("prefixItems", [])
        if len(before) != len(after):
            yield _undecided(where, f"a list of {len(before)} fixed items became one of {len(after)}")
        else:
            for index, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from self.compare(one, other, f"{where}/{index}", depth=depth + 1)
        items = old.get("items", True), new.get("items", True)
        if canonical_json(items[0]) != canonical_json(items[1]) or "$ref" in str(items):
            yield from self._rest(items[0], items[1], f"{where}/*", "items", depth)

    def _rest(self, old: Json, new: Json, where: str, noun: str, depth: int) -> Iterator[Difference]:
        if isinstance(old, bool) or isinstance(new, bool):
            if old is False or new is True:
                yield Difference(where=where, what=f"{noun}: fewer are refused", narrows=False, widens=True)
            elif new is False or old is True:
                yield Difference(where=where, what=f"{noun}: more are refused", narrows=True, widens=False)
            return
        yield from self.compare(old, new, where, depth=depth + 1)

    def _all_of(self, old: Mapping[str, Any], new: Mapping[str, Any], where: str, depth: int) -> Iterator[Difference]:
        before, after = _by_text(old.get("allOf", ())), _by_text(new.get("allOf", ()))
        for key in before.keys() & after.keys():
            yield from self.compare(before[key], after[key], where, depth=depth + 1)
        gone, come = _only_in(before, after), _only_in(after, before)
        if gone or come:
            yield Difference(
                where=where,
                what=f"`allOf`: {len(come)} added, {len(gone)} removed",
                narrows=bool(come),
                widens=bool(gone),
            )


def _by_text(schemas: Sequence[Json]) -> dict[bytes, Json]:
    return {canonical_json(item): item for item in schemas}


def _only_in(some: Mapping[bytes, Json], others: Mapping[bytes, Json]) -> list[Json]:
    return [item for key, item in some.items() if key not in others]


def _undecided(where: str, what: str) -> Difference:
    return Difference(where=where, what=f"{what} (cannot be decided)", narrows=True, widens=True)


def _resolved(root: Json, node: Json) -> Json:
    """The schema a reference stands for; None when it cannot be followed or says more than the reference."""
    for _ in range(20):
        if not isinstance(node, dict) or "$ref" not in node:
            return node
        if node.keys() - _ANNOTATIONS != {"$ref"} or not str(node["$ref"]).startswith("#"):
            return None
        target = root
        for token in str(node["$ref"]).removeprefix("#").split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or key not in target:
                return None
            target = target[key]
        node = target
    return None


def _reaches_others(node: Mapping[str, Any]) -> bool:
    """Whether keywords beside `properties` say something about properties, too."""
    return any(key in node for key in ("patternProperties", "unevaluatedProperties"))


def _finite(node: Mapping[str, Any]) -> dict[bytes, Json] | None:
    """The values a schema accepts when it lists them; None when it does not."""
    listed = [node["const"]] if "const" in node else node.get("enum")
    if listed is None or any(key not in _COMPARED | _ANNOTATIONS for key in node) or "$ref" in str(node):
        return None
    schema = compile_schema(node)
    return {canonical_json(value): value for value in listed if schema.accepts(value)}


def _value_sets(old: Mapping[bytes, Json], new: Mapping[bytes, Json], where: str) -> Iterator[Difference]:
    gone, come = [key.decode() for key in old if key not in new], [key.decode() for key in new if key not in old]
    if come:
        yield Difference(where=where, what=f"values added: {_listed(come)}", narrows=False, widens=True)
    if gone:
        yield Difference(where=where, what=f"values removed: {_listed(gone)}", narrows=True, widens=False)


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:6]) + (f" and {len(values) - 6} more" if len(values) > 6 else "")


def _values(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[Difference]:
    for keyword in ("enum", "const"):
        if canonical_json(old.get(keyword)) == canonical_json(new.get(keyword)) and (keyword in old) == (
            keyword in new
        ):
            continue
        if keyword in old and keyword in new:
            yield _undecided(where, f"`{keyword}` changed")
        else:
            what = f"`{keyword}` was {'added' if keyword in new else 'removed'}"
            yield Difference(where=where, what=what, narrows=keyword in new, widens=keyword in old)


def _types_of(node: Mapping[str, Any]) -> frozenset[str]:
    stated = node.get("type", [kind for kind in _TYPES if kind != "integer"])
    kinds = {stated} if isinstance(stated, str) else set(stated)
    return frozenset(kinds | ({"integer"} if "number" in kinds else set()))


def _type_text(node: Mapping[str, Any]) -> str:
    stated = node.get("type", "any")
    return stated if isinstance(stated, str) else " or ".join(stated)


def _bounds(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[Difference]:
    """Limits of numbers, texts and lists; one that no value of the other side's types can meet says nothing."""
    kinds = _types_of(old) & _types_of(new)
    for keyword in (*_LOWER, *_UPPER, *_LIMITS, "multipleOf", "uniqueItems"):
        before, after = old.get(keyword), new.get(keyword)
        if before == after or (
            _KINDS[keyword] not in kinds and not (_KINDS[keyword] == "number" and "integer" in kinds)
        ):
            continue
        before, after = (None if value is False else value for value in (before, after))
        if before is None and after is None:
            continue
        if before is None or after is None:
            what = (
                f"`{keyword}` {_text(after)} was added"
                if before is None
                else f"`{keyword}` {_text(before)} was removed"
            )
            yield Difference(where=where, what=what, narrows=before is None, widens=after is None)
            continue
        what = f"`{keyword}` {_text(before)} became {_text(after)}"
        if keyword in _LOWER or keyword in _UPPER:
            tighter = (after > before) == (keyword in _LOWER)
            yield Difference(where=where, what=what, narrows=tighter, widens=not tighter)
        elif keyword == "multipleOf" and isinstance(before, int) and isinstance(after, int):
            yield Difference(
                where=where, what=what, narrows=after % before != 0 or after != before, widens=after % before != 0
            )
        else:
            yield Difference(where=where, what=what, narrows=True, widens=True)


def _text(value: Json) -> str:
    return canonical_json(value).decode()
