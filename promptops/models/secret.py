"""A key that cannot be printed by accident, and that is cut out of whatever comes back."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

from promptops.models.base import Answer

_SHOWN = "<secret>"
_SHORTEST = 6


class Secret:
    """Holds a key. Its repr and str are a placeholder; it is removed from text plain, URL-encoded and in base64."""

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        forms = {value, quote(value, safe=""), *_base64_forms(value.encode())}
        self._forms = tuple(sorted((form for form in forms if len(form) >= _SHORTEST), key=len, reverse=True))

    def __repr__(self) -> str:
        return _SHOWN

    def __bool__(self) -> bool:
        return bool(self._value)

    def reveal(self) -> str:
        return self._value

    def redact(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, _SHOWN)
        return text

    def redact_bytes(self, data: bytes) -> bytes:
        """For a body that is going to be cut: half a key is a secret too."""
        for form in self._forms:
            data = data.replace(form.encode(), _SHOWN.encode())
        return data

    def redact_answer(self, answer: Answer) -> Answer:
        """The answer without the key in anything a provider wrote."""
        if not self._forms:
            return answer
        written = (answer.text, answer.detail, answer.model)
        if not any(form in text for form in self._forms for text in written):
            return answer
        return replace(
            answer, text=self.redact(answer.text), detail=self.redact(answer.detail), model=self.redact(answer.model)
        )


def _base64_forms(value: bytes) -> Iterator[str]:
    """How the value looks inside the base64 of a longer text, at each of the three places it can start in a group."""
    for before, changed in ((0, 0), (1, 2), (2, 3)):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(before) + value).decode()[changed:]
            yield text
            yield text.rstrip("=")[:-1] if text.endswith("=") else text
