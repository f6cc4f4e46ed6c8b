"""The flags file (flagd's format): which prompts are switched off, for whom; read strictly, edited without touching other flags."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from promptops.core.jsontext import Json, JsonError, parse_json

SCHEMA = "https://flagd.dev/schema/v0/flags.json"
KILL_ALL = "promptops.kill"
_PREFIX = KILL_ALL + "."
MAX_BYTES = 1_000_000
_VARIANTS = {"on": True, "off": False}

Condition = Callable[[Mapping[str, str]], Json]


class FlagsError(ValueError):
    """The flags cannot be read or changed as they are; the message says which one and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One boolean flag: its default, and what targeting makes of a request (None: the default)."""

    variants: Mapping[str, bool]
    default: bool = False
    targeting: Condition | None = None

    def value(self, context: Mapping[str, str]) -> bool:
        if self.targeting is None:
            return self.default
        found = self.targeting(context)
        if found is None:
            return self.default
        name = str(found).lower() if isinstance(found, bool) else found
        # A variant that is not there, or no name at all, is a mistake in a switch-off rule: it switches off.
        return self.variants.get(name, True) if isinstance(name, str) else True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """What is switched off: for every prompt, or for one by name."""

    everything: Flag | None = None
    prompts: Mapping[str, Flag] = field(default_factory=dict)

    def reason(self, name: str, tenant: str) -> str:
        """Why a request may not run; empty when it may."""
        if self.everything is None and not self.prompts:
            return ""
        context = {"prompt": name, "tenant": tenant, "targetingKey": tenant}
        if self.everything is not None and self.everything.value(context):
            return f"flag {KILL_ALL} is on"
        flag = self.prompts.get(name)
        if flag is not None and flag.value(context):
            return f"flag {_PREFIX}{name} is on"
        return ""


def parse_flags(raw: bytes) -> Kills:
    """The kill flags of a document; all of it or FlagsError, so that a half-written or mistyped file changes nothing."""
    everything, prompts = None, {}
    for key, body in _flags(_document(raw)).items():
        if key == KILL_ALL:
            everything = _flag(key, body)
        elif key.startswith(_PREFIX):
            prompts[key.removeprefix(_PREFIX)] = _flag(key, body)
    return Kills(everything=everything, prompts=prompts)


def set_kill(raw: bytes | None, name: str, *, tenant: str = "", off: bool = False) -> bytes:
    """The document with one prompt ("" for all) switched off or on again, for one tenant or for all ("").

    Raises FlagsError when the document is broken, or its rule for this prompt is not one that this function writes.
    """
    document = {"$schema": SCHEMA, "flags": {}} if raw is None else _document(raw)
    key = _PREFIX + name if name else KILL_ALL
    flags = _flags(document)
    body = flags.get(key)
    if body is not None:
        _flag(key, body)
    old_default, tenants = _simple(key, body)
    if not tenant:
        default, tenants = not off, ()
    elif off and old_default:
        raise FlagsError(f"{key} is on for every tenant; switch it off for all, then on for those who stay off")
    else:
        default = old_default
        tenants = tuple(sorted({*tenants, tenant} - ({tenant} if off else set())))
    flags[key] = _body(default=default, tenants=tenants)
    return _written(document)


@dataclass(frozen=True, slots=True, kw_only=True)
class KillRule:
    """One kill flag as people read it: `prompt` "" is every prompt; `tenants` None is a rule written by hand."""

    prompt: str
    off: bool
    tenants: tuple[str, ...] | None


def kill_rules(raw: bytes) -> tuple[KillRule, ...]:
    """The kill flags of a document, by prompt. Raises FlagsError as `parse_flags` does."""
    parse_flags(raw)
    rules = []
    for key, body in sorted(_flags(_document(raw)).items()):
        if key == KILL_ALL or key.startswith(_PREFIX):
            prompt = key.removeprefix(KILL_ALL).removeprefix(".")
            try:
                off, tenants = _simple(key, body)
                rules.append(KillRule(prompt=prompt, off=off, tenants=() if off else tenants))
            except FlagsError:
                rules.append(KillRule(prompt=prompt, off=False, tenants=None))
    return tuple(rules)


def _body(*, default: bool, tenants: Sequence[str]) -> Json:
    body: dict[str, Json] = {"state": "ENABLED", "variants": _VARIANTS, "defaultVariant": "on" if default else "off"}
    if tenants:
        body["targeting"] = {"if": [{"in": [{"var": "tenant"}, list(tenants)]}, "on", "off"]}
    return body


def _written(document: Json) -> bytes:
    import json

    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _document(raw: bytes) -> dict[str, Json]:
    if len(raw) > MAX_BYTES:
        raise FlagsError(f"more than {MAX_BYTES} bytes")
    try:
        document = parse_json(raw)
    except (JsonError, RecursionError) as error:
        raise FlagsError(f"not JSON ({error})") from None
    if not isinstance(document, dict):
        raise FlagsError("not an object with `flags`")
    return document


def _flags(document: dict[str, Json]) -> dict[str, Json]:
    flags = document.get("flags")
    if not isinstance(flags, dict):
        raise FlagsError("`flags` is not an object")
    return flags


def _flag(key: str, body: Json) -> Flag:
    if not isinstance(body, dict):
        raise FlagsError(f"{key} is not an object")
    state, variants, default = body.get("state"), body.get("variants"), body.get("defaultVariant")
    if state not in {"ENABLED", "DISABLED"}:
        raise FlagsError(f"{key}: state is ENABLED or DISABLED")
    if (
        not isinstance(variants, dict)
        or not variants
        or any(not isinstance(value, bool) for value in variants.values())
    ):
        raise FlagsError(f"{key}: variants are true or false, not text or numbers")
    if default is not None and (not isinstance(default, str) or default not in variants):
        raise FlagsError(f"{key}: defaultVariant is not one of the variants")
    if state == "DISABLED":
        return Flag(variants=variants)
    rule = body.get("targeting") or None
    return Flag(variants=variants, default=variants[default] if default is not None else False,
                targeting=None if rule is None else _compiled(key, rule, 0))  # fmt: skip


def _simple(key: str, body: Json) -> tuple[bool, tuple[str, ...]]:
    """(on by default, tenants it is on for) of a rule as `set_kill` writes it."""
    if body is None:
        return False, ()
    match body:
        case {"targeting": {"if": [{"in": [{"var": "tenant"}, [*tenants]]}, "on", "off"]}}:
            found = tuple(tenants)
        case {"targeting": rule} if rule:
            raise FlagsError(f"{key} has a targeting rule of its own; edit the file")
        case _:
            found = ()
    state, default = body["state"], body.get("defaultVariant")
    if body["variants"] != _VARIANTS:
        raise FlagsError(f"{key} has variants of its own; edit the file")
    return state == "ENABLED" and default == "on", found if state == "ENABLED" else ()


def _compiled(key: str, rule: Json, depth: int) -> Condition:
    """The part of flagd's targeting (JsonLogic) that a switch needs: if, in, ==, !=, and, or, !, var."""
    if depth > 20:
        raise FlagsError(f"{key}: targeting is nested too deep")
    if not isinstance(rule, dict):
        if isinstance(rule, list):
            items = [_compiled(key, item, depth + 1) for item in rule]
            return lambda context: [item(context) for item in items]
        return lambda _: rule
    if len(rule) != 1:
        raise FlagsError(f"{key}: a targeting rule has one operator")
    ((operator, raw),) = rule.items()
    if operator == "var":
        name = raw[0] if isinstance(raw, list) and len(raw) == 1 else raw
        if not isinstance(name, str):
            raise FlagsError(f"{key}: var takes the name of a field")
        return lambda context: context.get(name)
    arguments = [_compiled(key, item, depth + 1) for item in (raw if isinstance(raw, list) else [raw])]
    makers = {"if": _if, "in": _in, "==": _equal, "!=": _unequal, "and": _and, "or": _or, "!": _not}
    if operator not in makers:
        raise FlagsError(f"{key}: targeting operator {operator!r} is not supported; known: {', '.join(makers)}")
    least, most = {"if": (2, 99), "and": (1, 99), "or": (1, 99), "!": (1, 1)}.get(operator, (2, 2))
    if not least <= len(arguments) <= most:
        raise FlagsError(f"{key}: wrong number of arguments for {operator!r}")
    return makers[operator](arguments)


def _if(parts: list[Condition]) -> Condition:
    def run(context: Mapping[str, str]) -> Json:
        for test, value in zip(parts[::2], parts[1::2], strict=False):
            if test(context):
                return value(context)
        return parts[-1](context) if len(parts) % 2 else None

    return run


def _in(parts: list[Condition]) -> Condition:
    def run(context: Mapping[str, str]) -> Json:
        needle, stack = parts[0](context), parts[1](context)
        if isinstance(stack, str):
            return isinstance(needle, str) and needle in stack
        return isinstance(stack, list) and needle in stack

    return run


def _equal(parts: list[Condition]) -> Condition:
    return lambda context: parts[0](context) == parts[1](context)


def _unequal(parts: list[Condition]) -> Condition:
    return lambda context: parts[0](context) != parts[1](context)


def _and(parts: list[Condition]) -> Condition:
    return lambda context: all(part(context) for part in parts)


def _or(parts: list[Condition]) -> Condition:
    return lambda context: any(part(context) for part in parts)


def _not(parts: list[Condition]) -> Condition:
    return lambda context: not parts[0](context)
