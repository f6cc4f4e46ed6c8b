"""Personal data that can be told by its form: e-mail addresses, phone numbers, payment cards, bank accounts.

Names and street addresses have no form, and stay.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from promptops.core.jsontext import Json

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\d.,])\d(?:[ -]?\d){11,18}(?![\d]|[.,]\d)")
_PHONE = re.compile(r"(?<![\w.,/-])(?:\+|00)?\(?\d{1,5}\)?(?:[ ./-]{0,2}\(?\d{1,5}\)?){1,6}(?![\w]|[.,/-]\d)")
_DATE_OR_ADDRESS = re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}|\d{1,3}(?:\.\d{1,3}){3}")
_IBAN_LENGTHS = range(15, 35)
_MIN_CARD, _MAX_CARD = 13, 19
_MIN_PHONE, _MAX_PHONE = 8, 15
_Test = Callable[[str], str]
"""The part of a find, from its beginning, that is personal; nothing when none is."""


@dataclass(slots=True)
class Masked:
    """How many of each kind were masked so far."""

    counts: dict[str, int] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """The text with each find replaced by its kind in angle brackets."""
        for kind, pattern, accepted in _KINDS:

            def put(match: re.Match[str], kind: str = kind, accepted: _Test = accepted) -> str:
                part = accepted(match[0])
                if not part:
                    return match[0]
                self.counts[kind] = self.counts.get(kind, 0) + 1
                return f"<{kind}>{match[0][len(part) :]}"

            text = pattern.sub(put, text)
        return text

    def value(self, value: Json) -> Json:
        """The same in every text of a JSON value; names of members stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list) else value


def luhn(digits: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def is_iban(text: str) -> bool:
    """Length and check digits (ISO 13616; ISO 7064, MOD 97-10)."""
    compact = re.sub(r"[ -]", "", text).upper()
    if len(compact) not in _IBAN_LENGTHS or not (compact.isascii() and compact.isalnum()):
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def _email(text: str) -> str:
    return text


def _iban(text: str) -> str:
    """The longest beginning that is an account number: words may follow it after a blank."""
    ends = [len(text), *(match.start() for match in reversed(list(re.finditer(r"[ -]", text))))]
    return next((text[:end] for end in ends if is_iban(text[:end])), "")


def _card(text: str) -> str:
    digits = re.sub(r"\D", "", text)
    return text if _MIN_CARD <= len(digits) <= _MAX_CARD and len(set(digits)) > 1 and luhn(digits) else ""


def _phone(text: str) -> str:
    digits = re.sub(r"\D", "", text)
    begins = text.startswith(("+", "00", "0", "(")) or len(re.findall(r"[ ./-]", text)) >= 2
    return text if begins and _MIN_PHONE <= len(digits) <= _MAX_PHONE and not _DATE_OR_ADDRESS.fullmatch(text) else ""


_KINDS: tuple[tuple[str, re.Pattern[str], _Test], ...] = (
    ("email", _EMAIL, _email), ("iban", _IBAN, _iban), ("card", _CARD, _card), ("phone", _PHONE, _phone),
)  # fmt: skip
