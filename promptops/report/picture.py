"""The picture of golden cases and traffic as PNG, for a document or a chat: the same dots as on the page, with title and legend."""

from io import BytesIO

from promptops.core.errors import DataError
from promptops.evaluation.coverage import Coverage, Kind
from promptops.report.coverage import coverage_sentence
from promptops.report.show import escape

_WIDTH, _HEIGHT, _EDGE, _HEAD = 1240, 920, 24, 96
_COLOUR: dict[Kind, str] = {"covered": "#8a94a6", "uncovered": "#c0392b", "golden": "#1f5fbf"}
_NAMED: dict[Kind, str] = {"golden": "golden case", "covered": "request like a case", "uncovered": "request like none"}
_RADIUS: dict[Kind, int] = {"covered": 5, "uncovered": 5, "golden": 8}
_INK, _PAPER, _FRAME = "#1c2430", "#ffffff", "#d5dae2"
_FINE = 2
"""Drawn so many times larger and made smaller, so that edges are smooth."""


def coverage_picture(found: Coverage, name: str) -> bytes:
    """A PNG file. Raises DataError when Pillow is not installed."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise DataError("a PNG picture needs Pillow", hint="pip install 'promptops[picture]', or write the page (.html)") from None  # fmt: skip
    image = Image.new("RGB", (_WIDTH * _FINE, _HEIGHT * _FINE), _PAPER)
    draw = ImageDraw.Draw(image)

    def write(x: int, y: int, text: str, size: int) -> float:
        """The width of the text."""
        font = ImageFont.load_default(size * _FINE)
        draw.text((x * _FINE, y * _FINE), escape(text), fill=_INK, font=font)
        return draw.textlength(escape(text), font=font) / _FINE

    def dot(x: float, y: float, kind: Kind) -> None:
        radius = _RADIUS[kind]
        box = [(x - radius) * _FINE, (y - radius) * _FINE, (x + radius) * _FINE, (y + radius) * _FINE]
        draw.ellipse(box, fill=_COLOUR[kind], outline=_PAPER, width=_FINE)

    write(_EDGE, 16, coverage_sentence(found, name), 24)
    place = _EDGE + 10
    for kind, text in _NAMED.items():
        dot(place, 68, kind)
        place = int(place + 16 + write(place + 16, 57, text, 18) + 40)
    draw.rectangle(
        [_EDGE * _FINE, _HEAD * _FINE, (_WIDTH - _EDGE) * _FINE, (_HEIGHT - _EDGE) * _FINE], outline=_FRAME, width=_FINE
    )
    left, top, wide, high = _EDGE + 14, _HEAD + 14, _WIDTH - 2 * _EDGE - 28, _HEIGHT - _HEAD - _EDGE - 28
    for item in sorted(found.dots, key=lambda one: one.kind == "golden"):
        dot(left + item.x * wide, top + item.y * high, item.kind)
    out = BytesIO()
    image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS).save(out, "PNG", optimize=True)
    return out.getvalue()
