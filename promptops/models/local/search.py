"""local:search answers with the best passage of the knowledge base, by BM25, and its citation."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from promptops.core.jsontext import Json
from promptops.core.knowledge import Hit, index_of
from promptops.core.template import compile_template
from promptops.core.text import sentences, terms
from promptops.models.base import ModelRequest
from promptops.models.local import input_text


class Search:
    """`found` and `missing` are the shapes of the two answers; strings in them may use `passage`."""

    version: ClassVar[int] = 1

    def __init__(self, settings: Mapping[str, Any], text: tuple[str, ...]) -> None:
        self._text = text
        self._min_score: float = settings.get("min_score", 0.0)
        self._found, self._missing = settings["found"], settings["missing"]

    def respond(self, request: ModelRequest) -> Json:
        query = input_text(request, self._text)
        return self.answer(index_of(request.passages).search(query, top=1) if request.passages else [], query)

    def answer(self, hits: Sequence[Hit], query: str) -> Json:
        """The answer when a search for `query` gave these hits."""
        if not hits or hits[0].score < self._min_score:
            return self._missing
        return _fill(self._found, {"passage": _view(hits[0], query)})


def _view(hit: Hit, query: str) -> dict[str, Json]:
    """What templates see: the passage, and its sentence that shares most terms with the query."""
    wanted = set(terms(query))
    best = max(sentences(hit.passage.text) or [""], key=lambda item: len(wanted & set(terms(item))))
    return {**hit.passage.as_input(), "sentence": best, "score": hit.score}


def _fill(shape: Json, values: Mapping[str, Json]) -> Json:
    if isinstance(shape, str):
        return compile_template(shape, "rules.yaml").render(values)
    if isinstance(shape, list):
        return [_fill(item, values) for item in shape]
    if isinstance(shape, dict):
        return {key: _fill(item, values) for key, item in shape.items()}
    return shape
