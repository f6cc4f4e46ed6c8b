"""A key that cannot be printed by accident, and that is cut out of whatever comes back."""

import base64
from urllib.parse import quote


class Secret:
    """Holds a key. Its repr and str are a placeholder; `redact` removes it from text, plain, base64 and URL-encoded."""

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        encoded = base64.b64encode(value.encode()).decode()
        self._forms = tuple(
            form for form in {value, quote(value, safe=""), encoded, encoded.rstrip("=")} if len(form) >= 6
        )

    def __repr__(self) -> str:
        return "<secret>"

    def __bool__(self) -> bool:
        return bool(self._value)

    def reveal(self) -> str:
        return self._value

    def redact(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, "<secret>")
        return text
