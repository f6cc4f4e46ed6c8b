"""Did the model call the tools it should have, with the right arguments?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from promptops.core.checks.base import CaseFacts, Check, Completion, NotStated, Score, Unscored, brief, expected_at
from promptops.core.jsontext import Json, canonical_json

Arguments = Literal["equal", "include", "ignore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalls(Check):
    """The answer calls exactly the expected tools: a name, `{name, arguments}`, or a list of them; `[]` is no call at all.

    `arguments`: `equal` (default) to the expected ones, `include` them, or `ignore` them; those that are not stated are not compared.
    `ordered`: the calls come in the expected order. An answer to a case that states nothing here is not judged by this check.
    """

    kind: ClassVar[str] = "tool_call"
    version: ClassVar[int] = 1
    name: str
    expected: str = "/tool_calls"
    arguments: Arguments = "equal"
    ordered: bool = False

    def wanted(self, case: CaseFacts) -> list[tuple[str, Json]] | None:
        """(name, arguments or None) of each expected call; None when the case states nothing that can be compared."""
        try:
            stated = expected_at(case, self.expected)
        except NotStated:
            return None
        items = stated if isinstance(stated, list) else [stated]
        calls = [(item, None) if isinstance(item, str) else _expected_call(item) for item in items]
        return None if stated is None or None in calls else [call for call in calls if call]

    def score(self, completion: Completion, case: CaseFacts) -> Score | Unscored | None:
        wanted = self.wanted(case)
        if wanted is None:
            return None
        got = [(str(call["name"]), call["arguments"]) for call in completion.tool_calls]
        fault = self._fault(got, wanted)
        return Score(check=self.name, passed=not fault, reason=fault or "called as expected")

    def _fault(self, got: Sequence[tuple[str, Json]], wanted: Sequence[tuple[str, Json]]) -> str:
        if not self.ordered:
            got, wanted = sorted(got, key=_order), sorted(wanted, key=_order)
        names, expected = [name for name, _ in got], [name for name, _ in wanted]
        if names != expected:
            return f"called {', '.join(names) or 'nothing'}, not {', '.join(expected) or 'nothing'}"
        for name, arguments in got:
            if not isinstance(arguments, dict):
                return f"{name}: the arguments are not a JSON object: {brief(arguments)}"
        left = list(got)
        for name, arguments in wanted:
            fits = [call for call in left if call[0] == name and self._agree(call[1], arguments)]
            if not fits:
                other = next(call for call in left if call[0] == name)
                return f"{name}({_text(other[1])}), not {name}({_text(arguments)})"
            left.remove(fits[0])
        return ""

    def _agree(self, got: Json, wanted: Json) -> bool:
        if wanted is None or self.arguments == "ignore":
            return True
        if self.arguments == "include":
            return all(key in got and _same(got[key], value) for key, value in wanted.items())
        return _same(got, wanted)


def _expected_call(item: Json) -> tuple[str, Json] | None:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    arguments = item.get("arguments")
    return (item["name"], arguments) if arguments is None or isinstance(arguments, dict) else None


def _order(call: tuple[str, Json]) -> str:
    return call[0]


def _same(got: Json, wanted: Json) -> bool:
    """Equal as JSON: 1 and 1.0 are one number, 1 and true are two values."""
    if isinstance(got, bool) or isinstance(wanted, bool):
        return got is wanted
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_same(got[key], wanted[key]) for key in got)
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(_same(*pair) for pair in zip(got, wanted, strict=True))
    return bool(got == wanted)


def _text(arguments: Json) -> str:
    return brief(canonical_json(arguments).decode(), 80)
