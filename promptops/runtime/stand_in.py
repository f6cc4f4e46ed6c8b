"""What stands in for a model: the best passage, the rules of the prompt, a job for later."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from promptops.core.jsontext import Json, canonical_json
from promptops.core.serving import FallbackStep
from promptops.runtime.base import Citation, Request
from promptops.runtime.grounding import Library, query_of
from promptops.runtime.models import local_client

if TYPE_CHECKING:
    from promptops.core.knowledge import Hit, Passage
    from promptops.core.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """What a rung offers; it passes the guardrails like any answer before it is served."""

    text: str
    passages: "tuple[Passage, ...]" = ()
    citations: tuple[Citation, ...] = ()


def search_answer(prompt: "Prompt", library: Library, request: Request, step: FallbackStep) -> StandIn | None:
    """The best passage with its source, in the form the prompt asks for; None when nothing fits."""
    query = query_of(prompt, request.inputs)
    hits = [hit for hit in library.search(query, top=3, sources=library.scope(request.inputs)) if hit.score >= step.min_score]  # fmt: skip
    if not hits:
        return None
    passages = tuple(hit.passage for hit in hits)
    cited = (Citation(id=passages[0].id, title=passages[0].title),)
    if "search" in prompt.rules:
        return StandIn(text=_shaped(prompt, hits, query), passages=passages, citations=cited)
    if prompt.output_format == "json":
        return None
    return StandIn(text=f"{passages[0].text} [{passages[0].id}]", passages=passages, citations=cited)


def _shaped(prompt: "Prompt", hits: "Sequence[Hit]", query: str) -> str:
    from promptops.models.local.search import Search

    value = Search(prompt.rules["search"], ()).answer(hits, query)
    return value if isinstance(value, str) else canonical_json(value).decode()


def rules_answer(prompt: "Prompt", request: Request, passages: "tuple[Passage, ...]") -> StandIn | None:
    """What the rules of the prompt say; None when it has none, or they find nothing."""
    if "rules" not in prompt.rules:
        return None
    from promptops.models.base import ModelRequest

    client: Any = local_client("rules", prompt)
    value = client.model.respond(ModelRequest(messages=(), inputs=request.inputs, passages=passages, output_format=prompt.output_format))  # fmt: skip
    text = value if isinstance(value, str) else canonical_json(value).decode()
    return StandIn(text=text, passages=passages) if text and value != {} else None


def queue_payload(request: Request, version: str) -> bytes:
    """A request as a worker finds it in the queue."""
    job: dict[str, Json] = {
        "promptops": 1, "id": request.id, "prompt": request.prompt, "version": version, "inputs": dict(request.inputs),
        "tenant": request.tenant, "feature": request.feature, "category": request.category,
    }  # fmt: skip
    return canonical_json(job)
