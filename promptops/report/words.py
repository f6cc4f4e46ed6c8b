"""Word differences between two texts: what went in [-brackets-], what came in {+braces+}, in colour where there is one."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from rich.text import Text

from promptops.core.text import has_unspaced_script
from promptops.report.show import escape

Kind = Literal["same", "gone", "came"]
_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
_MARKS = {"gone": ("[-", "-]", "red"), "came": ("{+", "+}", "green")}
_ALIKE = 0.3
_LEAST_JOINT_CHARS = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that is on both sides, only on the left, or only on the right."""

    kind: Kind
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """The pieces of both texts in order: lines are matched first, then the words of lines that differ."""
    left, right = before.splitlines(keepends=True), after.splitlines(keepends=True)
    pieces: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(left[a:b])))
        else:
            pieces += _words("".join(left[a:b]), "".join(right[c:d]))
    return _joined(pieces)


def _words(before: str, after: str) -> Iterator[Piece]:
    joint = has_unspaced_script(before + after)
    left, right = ([*text] if joint else _TOKEN.findall(text) for text in (before, after))
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    if not before or not after or (not joint and matcher.ratio() < _ALIKE):
        yield Piece("gone", before)
        yield Piece("came", after)
        return
    for tag, a, b, c, d in matcher.get_opcodes():
        chance = tag == "equal" and joint and b - a < _LEAST_JOINT_CHARS  # characters that agree by chance
        if tag == "equal" and not chance:
            yield Piece("same", "".join(left[a:b]))
        else:
            yield Piece("gone", "".join(left[a:b]))
            yield Piece("came", "".join(right[c:d]))


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring changes become one removal and one addition; a blank between two changes belongs to them."""
    merged: list[Piece] = []
    gone = came = ""
    for index, piece in enumerate(pieces):
        between = (
            piece.kind == "same" and not piece.text.strip() and "\n" not in piece.text and 0 < index < len(pieces) - 1
        )
        if piece.kind == "gone":
            gone += piece.text
        elif piece.kind == "came":
            came += piece.text
        elif between and gone and came:
            gone, came = gone + piece.text, came + piece.text
        else:
            merged += [Piece("gone", gone), Piece("came", came), piece]
            gone = came = ""
    merged += [Piece("gone", gone), Piece("came", came)]
    return [piece for piece in merged if piece.text]


def marked_lines(pieces: Sequence[Piece], context: int = 1) -> list[Text]:
    """Lines that changed with `context` lines around them; `...` stands for what is left out."""
    lines: list[tuple[bool, Text]] = []
    current, changed = Text(""), False
    for piece in pieces:
        open_, close, style = _MARKS.get(piece.kind, ("", "", ""))
        for part in piece.text.splitlines(keepends=True):
            content = part.rstrip("\n")
            if content or piece.kind != "same":
                shown = (
                    content
                    if content.strip() or piece.kind == "same"
                    else content + ("⏎" if part.endswith("\n") else "")
                )
                current.append(f"{open_}{escape(shown)}{close}" if shown else "", style=style)
            changed = changed or piece.kind != "same"
            if part.endswith("\n"):
                lines.append((changed, current))
                current, changed = Text(""), False
    if current.plain or changed:
        lines.append((changed, current))
    return _near(lines, context)


def _near(lines: Sequence[tuple[bool, Text]], context: int) -> list[Text]:
    places = [index for index, (changed, _) in enumerate(lines) if changed]
    kept = {near for index in places for near in range(index - context, index + context + 1)}
    shown: list[Text] = []
    for index, (_, line) in enumerate(lines):
        if index in kept:
            shown.append(line)
        elif not shown or shown[-1].plain != "...":
            shown.append(Text("...", style="dim"))
    return shown


def pieces_json(pieces: Sequence[Piece]) -> list[list[str]]:
    return [[piece.kind, piece.text] for piece in pieces]
