"""Reading numbers, dates and durations out of text in several languages."""

import re
import unicodedata
from datetime import date

_NUMERALS = (
    ("{ten}-{one}", "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
     "twenty thirty forty fifty sixty seventy eighty ninety"),
    ("{one}und{ten}", "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn",
     "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"),
    ("{ten}-{one}", "un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit dix-neuf",
     "vingt trente quarante cinquante soixante soixante-dix quatre-vingt quatre-vingt-dix"),
)  # fmt: skip
"""How a language joins the two, its numbers from 1 to 19, and its tens from 20 to 90."""
_WORDS = {
    joined.format(ten=ten, one=one): tens * 10 + number
    for joined, ones, all_tens in _NUMERALS
    for tens, ten in enumerate(all_tens.split(), 2)
    for number, one in enumerate(ones.split(), 1)
}
_WORDS |= {one: number for _, ones, _ in _NUMERALS for number, one in enumerate(ones.split(), 1)}
_WORDS |= {ten: tens * 10 for _, _, all_tens in _NUMERALS for tens, ten in enumerate(all_tens.split(), 2)}
_WORDS |= dict.fromkeys(("a", "an", "eine", "einem", "einen", "einer", "une"), 1)
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
_DURATION = re.compile(r"(?<![\d.,])(?<!half )(\d+|[^\W\d_]+(?:-[^\W\d_]+){0,3})\s*(?:\(\s*(\d+)\s*\)|\(\s*[^\W\d_]+(?:[-\s][^\W\d_]+){0,3}\s*\))?[\s-]*"
                       r"(?:calendar\s+|full\s+|clear\s+|consecutive\s+|volle[nr]?\s+|business\s+|working\s+)?"
                       r"(years?|jahre?n?|ans?|années?|months?|monate?n?|mois|weeks?|wochen?|semaines?|days?|tage?n?|jours?)\b",
                       re.IGNORECASE)  # fmt: skip
_NUMBER = re.compile(r"\d+(?:[.,'’]\d+|\s\d{3}(?!\d))*")
_DAYS_IN = {"y": 360, "j": 360, "a": 360, "m": 30, "w": 7, "s": 7, "d": 1, "t": 1}
_MONTHS_IN = {"y": 12, "j": 12, "a": 12, "m": 1}


def read_number(text: str) -> float | None:
    """The number in `text`, whichever of `.` and `,` is its decimal separator; None when there is none."""
    match = _NUMBER.search(unicodedata.normalize("NFKC", text))
    if not match:
        return None
    whole, *rest = re.split(r"([.,])", re.sub(r"['’\s]", "", match.group()))
    marks, groups = rest[::2], rest[1::2]
    thousands = bool(marks) and len(groups[-1]) == 3 and len(marks) == 1 and len(whole) <= 3 and whole[0] != "0"
    if not marks or thousands or marks.count(marks[-1]) > 1:
        return float("".join([whole, *groups]))
    return float("".join([whole, *groups[:-1], ".", groups[-1]]))


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
