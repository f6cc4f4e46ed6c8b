"""A quick guess at the language of a text, from its script and its most frequent small words; standard library only."""

import re
from typing import Final

_WORD = re.compile(r"[^\W\d_]+")
_LOOKED_AT = 60
_SMALL_WORDS: Final = {
    "en": "the and is are was i you my to of in it for on that this with have has not can how do does what when where why which please from your be been will would should there a an am if",
    "de": "der die das und ist sind war ich sie mein meine meinen zu von mit für auf nicht kein keine wie was wann wo warum bitte ein eine einen dem den im habe hat kann wird wurde es mir noch nach bei aus oder wenn man",
    "fr": "le la les et est sont je vous mon ma mes de des du dans pour sur que qui ne pas avec une un au aux comment quand où pourquoi quel quelle ai avez peut puis c'est être il elle nous votre vos ce cette si",
    "es": "el la los las y es son yo usted mi mis de del en para por que no con una un al cómo cuándo dónde qué cuál he ha puedo se lo su está hay como cuando donde si me le pero fue muy",
    "pt": "o a os as e é são eu você meu minha meus de do da dos das em no na para por que não com uma um ao à como quando onde qual tenho tem posso se está há foi me seu sua mas isso já quero",
    "it": "il lo la i gli le e è sono io mio mia di del della in per che non con una un come quando dove quale ho ha posso si mi ma questo perché più",
    "nl": "de het een en is zijn ik u mijn van in voor op dat niet met geen hoe wat wanneer waar kan heb heeft er maar aan bij naar of als je",
}
_VOTES: Final = {
    word: tuple(language for language, words in _SMALL_WORDS.items() if word in words.split())
    for words in _SMALL_WORDS.values()
    for word in words.split()
}
_SCRIPTS: Final = (
    ("ja", re.compile(r"[\u3040-\u30ff]")), ("ko", re.compile(r"[\uac00-\ud7af]")), ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")), ("ar", re.compile(r"[\u0600-\u06ff]")), ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("hi", re.compile(r"[\u0900-\u097f]")), ("el", re.compile(r"[\u0370-\u03ff]")), ("he", re.compile(r"[\u0590-\u05ff]")),
)  # fmt: skip
_HEAD_CHARS = 600


def guess_language(text: str) -> str:
    """A language code, or "" when the text does not tell; decided by its first 600 characters."""
    head = text[:_HEAD_CHARS]
    if not head.isascii():
        for language, script in _SCRIPTS:
            if script.search(head):
                return language
    votes: dict[str, int] = {}
    for word in _WORD.findall(head.lower())[:_LOOKED_AT]:
        for language in _VOTES.get(word, ()):
            votes[language] = votes.get(language, 0) + 1
    if not votes:
        return ""
    best = max(votes.values())
    leaders = [language for language in votes if votes[language] == best]
    return leaders[0] if len(leaders) == 1 else ""
