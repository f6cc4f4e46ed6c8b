"""Which models a release may ask: the one it was evaluated with, and others that have evidence of their own."""

from collections.abc import Mapping

from promptops.core.errors import Problem, RefusedError
from promptops.core.jsontext import Json
from promptops.evaluation.clients import identify
from promptops.evaluation.judge import subject_of
from promptops.project.config import ModelConfig, resolve_model
from promptops.release.desk import Desk
from promptops.release.evidence import TEST_RESULT, read_evidence
from promptops.release.export import Shipped
from promptops.runtime.router import parse_router


def check_models(desk: Desk, shipped: Shipped) -> None:
    """Raises RefusedError for a model of `runtime:` whose answers nobody measured.

    The large model is the evaluated one, or one with which the same content passed its gate. The small one may also be the small
    model of the release's router, which was measured beside this large model. A shadow model is never served, and may be any.
    """
    settings, own = shipped.settings, shipped.model
    large = resolve_model(shipped.config, settings.large) if settings.large else own
    small = resolve_model(shipped.config, settings.small) if settings.small else own
    problems: list[Problem] = []
    if not _is_measured(desk, shipped, large):
        problems.append(_problem(shipped, "large", large, "the release was evaluated with another model"))
    if not _is_measured(desk, shipped, small) and not _is_routed(shipped, small, large):
        problems.append(_problem(shipped, "small", small, "it was neither evaluated nor is it the small model of a router for this large model"))  # fmt: skip
    if problems:
        raise RefusedError(problems=problems)


def _problem(shipped: Shipped, role: str, model: ModelConfig, why: str) -> Problem:
    name, also = shipped.evaluable.prompt.name, ""
    if role == "small":
        also = f", or train a router: promptops route train {name} --small {model.alias} --large MODEL"
    return Problem(
        what=f"runtime.{role} of {name} {shipped.version} is {model.alias!r}, for which there is no evidence", where=f"golden/{name}.yaml", why=why,
        hint=f"promptops eval {name} --model {model.alias}, and promptops approve {name} --run ID{also}",
    )  # fmt: skip


def _is_measured(desk: Desk, shipped: Shipped, model: ModelConfig) -> bool:
    """Whether the release, or signed evidence about the same content with this model, says that its gate passed."""
    evaluable = shipped.evaluable
    identity: Mapping[str, Json] = identify(model, evaluable.prompt, evaluable.scan.digest)
    if dict(identity) == dict(shipped.identity):
        return True
    found = read_evidence(desk.git, desk.trust, [subject_of(shipped.config, evaluable, identity)], desk.clock())
    return any(item.kind == TEST_RESULT and item.counts for item in found)


def _is_routed(shipped: Shipped, small: ModelConfig, large: ModelConfig) -> bool:
    """Whether the router of the release was trained on answers of these two models."""
    path = f"prompts/{shipped.evaluable.prompt.name}/router.json"
    try:
        router = parse_router(shipped.evaluable.tree.read(path), where=path)
    except FileNotFoundError:
        return False
    return (router.small, router.large) == (small.alias, large.alias)
