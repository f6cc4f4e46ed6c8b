"""Documents for an answer: found in the bundle or outside of it, shown as data, and cited truthfully or not at all."""

import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from promptops.core.checks import Citations
from promptops.core.knowledge import Hit, Passage, PassageIndex
from promptops.runtime.base import Citation

if TYPE_CHECKING:
    from promptops.core.jsontext import Json
    from promptops.core.prompt import Prompt

_MARK = re.compile(r"\[([A-Za-z0-9._-]+)\]")
_LONGEST_QUERY = 10_000


class Library:
    """The passages of one release and their index. Thread-safe; `after_fork` makes the child's own index."""

    def __init__(self, prompt: "Prompt") -> None:
        self._prompt = prompt
        self._passages = prompt.knowledge.passages if prompt.knowledge else ()
        self._by_id = {passage.id: passage for passage in self._passages}
        self.after_fork()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._index = PassageIndex(self._passages, any_thread=True) if self._passages else None

    def search(self, query: str, *, top: int, sources: Sequence[str] | None = None) -> list[Hit]:
        """The best passages for a query, best first."""
        if self._index is None:
            return []
        with self._lock:
            return self._index.search(query[:_LONGEST_QUERY], top=top, sources=sources)

    def retrieve(self, inputs: "Mapping[str, Json]") -> tuple[Passage, ...]:
        """The documents for a request: those the inputs bring, else those found."""
        knowledge = self._prompt.knowledge
        given = given_documents(self._prompt, inputs)
        if given is not None or knowledge is None:
            return given or ()
        return tuple(hit.passage for hit in self.search(query_of(self._prompt, inputs), top=knowledge.top, sources=self.scope(inputs)))  # fmt: skip

    def scope(self, inputs: "Mapping[str, Json]") -> list[str] | None:
        """The files that may be searched for a request; None is all."""
        knowledge = self._prompt.knowledge
        if knowledge is None or not knowledge.scope_input:
            return None
        name = knowledge.scope_files.get(str(inputs.get(knowledge.scope_input, "")))
        return [name] if name else []

    def shown(self, inputs: "Mapping[str, Json]", ids: Sequence[str]) -> tuple[Passage, ...]:
        """The documents a kept answer was made with: those of the inputs, else the passages under these ids."""
        given = given_documents(self._prompt, inputs)
        return given if given is not None else tuple(self._by_id[item] for item in ids if item in self._by_id)


def given_documents(prompt: "Prompt", inputs: "Mapping[str, Json]") -> tuple[Passage, ...] | None:
    """The documents that the inputs bring, None when they bring none."""
    into = prompt.knowledge.into if prompt.knowledge else "documents"
    return prompt.passages_for(inputs) if isinstance(inputs.get(into), list) else None


def query_of(prompt: "Prompt", inputs: "Mapping[str, Json]") -> str:
    """What documents are searched by: the stated input, else all texts of the request."""
    if prompt.knowledge:
        return str(inputs.get(prompt.knowledge.query, ""))
    return "\n".join(value for _, value in sorted(inputs.items()) if isinstance(value, str))


def citations_in(text: str, value: "Json", path: str, passages: Sequence[Passage]) -> tuple[Citation, ...]:  # fmt: skip
    """The passages an answer cites, in order, each once; ids that were not shown are left out.

    They are at `path`, where a check of the suite says that citations are, else in `citations` of a JSON answer, else `[id]` marks.
    """
    if not passages:
        return ()
    found: list[str] = []
    place = value.get((path or "/citations").strip("/")) if isinstance(value, dict) else None
    if isinstance(place, list):
        found = [str(item.get("id", "")) if isinstance(item, dict) else str(item) for item in place]
    elif value is None or not path:
        found = _MARK.findall(text)
    titles = {passage.id: passage.title for passage in passages}
    return tuple(Citation(id=item, title=titles[item]) for item in dict.fromkeys(found) if item in titles)


def forged(text: str, value: "Json", path: str, passages: Sequence[Passage]) -> str:
    """Why the citations of an answer cannot be believed; '' when each id was shown and each quote is in its document."""
    from promptops.core.checks import CaseFacts, Completion, Score

    if not path and isinstance(value, dict) and isinstance(value.get("citations"), list):
        path = "/citations"
    completion = Completion(text=text, format="json" if value is not None else "text", value=value)
    score = Citations(name="grounded", path=path, required=True).score(completion, CaseFacts(category="", inputs={}, passages=passages))  # fmt: skip
    return score.reason if isinstance(score, Score) and not score.passed else ""
