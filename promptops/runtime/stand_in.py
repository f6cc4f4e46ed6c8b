"""What stands in for a model: the best passage, a classifier, the rules of the prompt, a job for later."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptops.core.jsontext import Json, canonical_json
from promptops.core.serving import FallbackStep
from promptops.runtime.base import Citation, Request
from promptops.runtime.grounding import Library, query_of
from promptops.runtime.models import local_client

if TYPE_CHECKING:
    from promptops.core.knowledge import Hit, Passage
    from promptops.core.prompt import Prompt
    from promptops.models.local import LocalModel
    from promptops.models.local.linear import LinearClassifier
    from promptops.models.local.rules import Rules
    from promptops.runtime.bundle import Release


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


def open_rules(prompt: "Prompt") -> "LocalModel | None":
    """The rules of a prompt, compiled, with what they need already loaded; None when it has none."""
    if "rules" not in prompt.rules:
        return None
    _warm(prompt)
    client = local_client("rules", prompt)
    return client.model if client is not None else None


def _warm(prompt: "Prompt") -> None:
    """Load what rules need: a model of languages takes a second, and a request in need has no second to give."""
    if any("detect" in rule for rules in prompt.rules.get("rules", {}).values() for rule in rules):
        from promptops.core.checks.forms import detect_language

        detect_language("warm")


def rules_answer(rules: "LocalModel | None", prompt: "Prompt", request: Request, passages: "tuple[Passage, ...]") -> StandIn | None:  # fmt: skip
    """What the rules say; None when there are none, or they find nothing."""
    if rules is None:
        return None
    from promptops.models.base import ModelRequest

    value = rules.respond(ModelRequest(messages=(), inputs=request.inputs, passages=passages, output_format=prompt.output_format))  # fmt: skip
    text = value if isinstance(value, str) else canonical_json(value).decode()
    return StandIn(text=text, passages=passages) if text and value != {} else None


@dataclass(frozen=True, slots=True)
class Learned:
    """The classifier of a release, and the rules that give it hints and the rest of the answer."""

    classifier: "LinearClassifier"
    rules: "Rules"
    text: tuple[str, ...]


def open_classifier(release: "Release") -> Learned | None:
    """The classifier of a release, ready; None when it has none."""
    if release.classifier is None:
        return None
    from promptops.models.local.rules import Rules

    prompt = release.prompt
    _warm(prompt)
    text = tuple(prompt.rules.get("text", prompt.untrusted or sorted(prompt.input_names)))
    return Learned(release.classifier, Rules(prompt.rules.get("rules", {}), text), text)


def classifier_answer(learned: Learned | None, prompt: "Prompt", request: Request, passages: "tuple[Passage, ...]", step: FallbackStep) -> tuple[StandIn | None, float]:  # fmt: skip
    """What the classifier says, None when it is not sure enough, and how sure it is."""
    if learned is None:
        return None, 0.0
    from promptops.models.base import ModelRequest
    from promptops.models.local import input_text

    asked = ModelRequest(messages=(), inputs=request.inputs, passages=passages, output_format=prompt.output_format)
    guess = learned.classifier.guess(input_text(asked, learned.text), learned.rules.values(asked, {}))
    if guess.confidence < step.min_confidence:
        return None, guess.confidence
    value = learned.rules.answer(asked, guess.values)
    return StandIn(text=value if isinstance(value, str) else canonical_json(value).decode(), passages=passages), guess.confidence  # fmt: skip


def queue_payload(request: Request, version: str) -> bytes:
    """A request as a worker finds it in the queue."""
    job: dict[str, Json] = {
        "promptops": 1, "id": request.id, "prompt": request.prompt, "version": version, "inputs": dict(request.inputs),
        "tenant": request.tenant, "feature": request.feature, "category": request.category,
    }  # fmt: skip
    return canonical_json(job)
