"""The one door for untrusted text to a terminal: nothing in it can steer the terminal, be read as markup, or hide."""

import unicodedata

from rich.text import Text

_KEPT = frozenset("\n\t")
_HIDING = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_JOINERS = frozenset("\u200d\u200c")  # needed by emoji sequences and by Indic and Persian script


def escape(text: str) -> str:
    """Text with control, format, bidi and surrogate characters written as escapes; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape_char(char) for char in text)


def hides(char: str) -> bool:
    """Whether a character steers the terminal, reorders text or is invisible; line breaks and tabs are none of these."""
    return char not in _KEPT and char not in _JOINERS and unicodedata.category(char) in _HIDING


def _escape_char(char: str) -> str:
    if not hides(char):
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def show(text: str, style: str = "", limit: int = 0) -> Text:
    """Untrusted text for rich: escaped, never markup, on one line and cut when a limit is given."""
    safe = escape(text)
    if limit:
        safe = " ".join(safe.split())
        safe = safe if len(safe) <= limit else safe[: limit - 1] + "…"
    return Text(safe, style=style)


def spreadsheet_cell(value: str | float) -> str | float:
    """A value as no spreadsheet runs it."""
    if not isinstance(value, str):
        return value
    text = escape(value)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA[:4]) else text
