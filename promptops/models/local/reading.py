"""Reading numbers, dates and durations out of text in several languages."""

import re
import unicodedata
from datetime import date

_WORDS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "eighteen": 18, "twenty": 20, "twenty-four": 24, "thirty": 30,
    "thirty-six": 36, "forty-five": 45, "sixty": 60, "ninety": 90,
    "ein": 1, "eine": 1, "einem": 1, "einen": 1, "einer": 1, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6, "sieben": 7,
    "acht": 8, "neun": 9, "zehn": 10, "zwölf": 12, "dreißig": 30, "sechzig": 60, "neunzig": 90,
    "un": 1, "une": 1, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "sept": 7, "huit": 8, "neuf": 9, "dix": 10,
    "douze": 12, "quinze": 15, "trente": 30, "soixante": 60, "a": 1, "an": 1,
}  # fmt: skip
_MONTHS = {
    1: "january januar janvier jan janv jänner", 2: "february februar février feb févr fév", 3: "march märz mars mar mrz",
    4: "april avril apr avr", 5: "may mai", 6: "june juni juin jun", 7: "july juli juillet jul juil",
    8: "august août aug", 9: "september septembre sep sept", 10: "october oktober octobre oct okt",
    11: "november novembre nov", 12: "december dezember décembre dec dez déc",
}  # fmt: skip
_MONTH_OF = {name: number for number, names in _MONTHS.items() for name in names.split()}
_DAY_FIRST = re.compile(r"(\d{1,2})\s*(?:st|nd|rd|th|er|\.|º)?\s*(?:day\s+of\s+|of\s+)?([^\W\d_]+)\.?,?\s+(\d{4})")
_MONTH_FIRST = re.compile(r"([^\W\d_]+)\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})")
_YEAR_FIRST = re.compile(r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})")
_NUMERIC = re.compile(r"(\d{1,2})\s*[-/.]\s*(\d{1,2})\s*[-/.]\s*(\d{4})")
_DURATION = re.compile(r"(\d+|[^\W\d_]+(?:-[^\W\d_]+)?)\s*(?:\(\s*(\d+)\s*\)|\(\s*[^\W\d_-]+\s*\))?[\s-]*"
                       r"(?:calendar\s+|full\s+|clear\s+|consecutive\s+|volle[nr]?\s+|business\s+|working\s+)?"
                       r"(years?|jahre?n?|ans?|années?|months?|monate?n?|mois|weeks?|wochen?|semaines?|days?|tage?n?|jours?)\b",
                       re.IGNORECASE)  # fmt: skip
_DAYS_IN = {"y": 360, "j": 360, "a": 360, "m": 30, "w": 7, "s": 7, "d": 1, "t": 1}
_MONTHS_IN = {"y": 12, "j": 12, "a": 12, "m": 1}


def read_number(text: str) -> float | None:
    """The number in `text`, whichever of `.` and `,` is its decimal separator; None when there is none."""
    match = re.search(r"\d[\d.,'’\s]*", unicodedata.normalize("NFKC", text))
    if not match:
        return None
    digits = re.sub(r"['’\s]", "", match.group()).rstrip(".,")
    decimal = re.search(r"[.,](\d{1,2})$", digits)
    whole = re.sub(r"[.,]", "", digits[: decimal.start()] if decimal else digits)
    return float(f"{whole}.{decimal[1]}") if decimal else float(whole)


def read_date(text: str) -> str | None:
    """The first date in `text` as YYYY-MM-DD, day before month where only digits are given; None when there is none."""
    folded = unicodedata.normalize("NFKC", text)
    found = [(m.start(), int(m[1]), int(m[2]), int(m[3])) for m in _YEAR_FIRST.finditer(folded)]
    found += [(m.start(), int(m[3]), int(m[2]), int(m[1])) for m in _NUMERIC.finditer(folded)]
    found += [(m.start(), int(m[3]), _MONTH_OF.get(m[2].casefold(), 0), int(m[1])) for m in _DAY_FIRST.finditer(folded)]
    found += [
        (m.start(), int(m[3]), _MONTH_OF.get(m[1].casefold(), 0), int(m[2])) for m in _MONTH_FIRST.finditer(folded)
    ]
    for _, year, month, day in sorted(found):
        try:
            return date(year, month, day).isoformat()
        except ValueError:
            continue
    return None


def read_duration(text: str, *, unit: str) -> int | None:
    """The first duration in `text` in whole `unit` ("months" or "days"; a month is 30 days, a week 7); None if there is none."""
    scale = _MONTHS_IN if unit == "months" else _DAYS_IN
    for match in _DURATION.finditer(unicodedata.normalize("NFKC", text)):
        word, digits, name = match.groups()
        count = int(digits or word) if (digits or word).isdecimal() else _WORDS.get(word.casefold())
        factor = _factor(name.casefold(), scale)
        if count is not None and factor is not None:
            return count * factor
    return None


def _factor(name: str, scale: dict[str, int]) -> int | None:
    key = "d" if name.startswith(("jour", "tag")) else name[0]
    return scale.get(key)
