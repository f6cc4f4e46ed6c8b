"""Which model answers: its identity, and a client for it."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from promptops.core.digest import digest
from promptops.core.errors import DataError, did_you_mean
from promptops.core.jsontext import Json
from promptops.core.prompt import Prompt
from promptops.core.suite import Case
from promptops.models.base import Client
from promptops.models.local import LEARN_FROM_CASES, LOCAL_MODELS, LocalClient, LocalModel
from promptops.models.local.classifier import Classifier
from promptops.models.local.echo import Echo
from promptops.models.local.extractive import Extractive
from promptops.models.local.nearest import Constant, Nearest
from promptops.models.local.rules import Rules
from promptops.models.local.search import Search
from promptops.models.responses import UNSUPPORTED
from promptops.models.secret import Secret
from promptops.project.config import ModelConfig, check_host

if TYPE_CHECKING:
    from promptops.models.sdk import TokenProvider

_VERSIONS = {"rules": Rules.version, "classifier": Classifier.version, "boosted": Classifier.version, "nearest": Nearest.version,
             "constant": Constant.version, "extractive": Extractive.version, "search": Search.version, "echo": Echo.version}  # fmt: skip
_NEED_A_SECTION = {"rules": "rules", "classifier": "classifier", "boosted": "classifier", "search": "search"}


def identify(model: ModelConfig, prompt: Prompt, golden_digest: str, more_digest: str = "") -> dict[str, Json]:
    """What decides the answers besides the request; part of the prompt digest and of every answer's key.

    `more_digest` is of labelled rows that a local model learns from beside the golden cases. Raises DataError when the prompt
    does not configure the local model, or has parameters that its API does not know.
    """
    if model.provider != "local":
        identity: dict[str, Json] = {"provider": model.provider, "model": model.model, "url": model.base_url}
        if model.api == "responses":
            _check_params(prompt, model)
            identity["api"] = model.api
        return identity
    name = _local_name(model, prompt)
    rules = prompt.rules
    settings: dict[str, Json] = {
        "text": list(input_names(prompt)),
        "settings": rules.get(_NEED_A_SECTION.get(name, name), {}),
    }
    if name in LEARN_FROM_CASES:
        settings |= {"golden": golden_digest}
    if name in ("classifier", "boosted"):
        settings |= {"rules": rules.get("rules", {}), "rules_version": Rules.version}
    if name in ("nearest", "constant"):
        settings |= {"fields": list(_fields(prompt))}
    if more_digest:
        settings |= {"more": more_digest}
    return {"provider": "local", "model": name, "version": _VERSIONS[name], "settings": digest(settings)}


def open_client(
    model: ModelConfig,
    prompt: Prompt,
    cases: Callable[[], Iterable[Case]],
    environment: Mapping[str, str] | None = None,
    more: Sequence[Case] = (),
) -> Client:
    """A client for `model`; `cases` are what a local model learns from and answers, `more` what it learns from only.

    Raises DataError when a key is missing or the prompt does not configure the local model.
    """
    if model.provider == "local":
        name = _local_name(model, prompt)
        return LocalClient(name=name, model=_local_model(name, prompt, cases, more))
    return open_remote(model, environment)


def open_remote(model: ModelConfig, environment: Mapping[str, str] | None = None) -> Client:
    """A client for a model on a server. Raises DataError when a key is missing, RefusedError for a host keys may not go to."""
    found = os.environ if environment is None else environment
    check_host(model, found)
    shared: dict[str, Any] = {
        "base_url": model.base_url, "model": model.model, "key": _key(model, found), "price": model.price, "timeout_s": model.timeout_s,
    }  # fmt: skip
    if model.transport == "sdk":
        from promptops.models.sdk import SdkClient

        return SdkClient(**shared, api_version=model.azure_api_version, token=_token_provider(model))
    from promptops.models.http import HttpClient

    return HttpClient(**shared, stream=model.stream, api=model.api)


def _check_params(prompt: Prompt, model: ModelConfig) -> None:
    unknown = [name for name in UNSUPPORTED if name in prompt.params]
    if unknown:
        raise DataError(f"the Responses API has no {', '.join(unknown)}", where=f"prompts/{prompt.name}/prompt.md",
                        hint=f'leave it out, or set api = "chat" for model {model.alias}')  # fmt: skip


def limit_key(model: ModelConfig, environment: Mapping[str, str] | None = None) -> str:
    """Names the limits that a key has on a server, without telling the key."""
    key = (os.environ if environment is None else environment).get(model.api_key_env, "") if model.api_key_env else ""
    return digest([model.base_url, key])[7:39]


def _key(model: ModelConfig, environment: Mapping[str, str]) -> Secret:
    if not model.api_key_env:
        return Secret("")
    value = environment.get(model.api_key_env, "").strip()
    if not value:
        raise DataError(f"no key for model {model.alias!r}", why=f"{model.api_key_env} is not set",
                        hint=f"set {model.api_key_env}, or try `--model local`")  # fmt: skip
    if not value.isascii() or not value.isprintable():
        raise DataError(
            f"the key of model {model.alias!r} has characters no key has", where=model.api_key_env, hint="set it again"
        )
    return Secret(value)


def _token_provider(model: ModelConfig) -> "TokenProvider | None":
    if not model.token_provider:
        return None
    known = {point.name: point for point in entry_points(group="promptops.tokens")}
    if model.token_provider not in known:
        raise DataError(f"no entry point {model.token_provider!r} in the group promptops.tokens",
                        hint=did_you_mean(model.token_provider, known) or "install the package that provides it")  # fmt: skip
    provider: TokenProvider = known[model.token_provider].load()
    return provider


def _local_name(model: ModelConfig, prompt: Prompt) -> str:
    name = model.model or str(prompt.rules.get("default", ""))
    where = f"prompts/{prompt.name}/rules.yaml"
    if not name:
        raise DataError(f"prompt {prompt.name} has no local model", where=where,
                        hint="write that file, or use --model local:echo, or a model of the configuration")  # fmt: skip
    if name not in LOCAL_MODELS:
        raise DataError(f"unknown local model {name!r}", hint=did_you_mean(name, LOCAL_MODELS))
    section = _NEED_A_SECTION.get(name)
    if section and section not in prompt.rules:
        raise DataError(
            f"prompt {prompt.name} does not configure local:{name}", where=where, hint=f"add a section `{section}:`"
        )
    return name


def _fields(prompt: Prompt) -> tuple[str, ...]:
    """The properties an answer may have; none for text."""
    return tuple(prompt.output_schema.document.get("properties", {})) if prompt.output_schema else ()


def input_names(prompt: Prompt) -> tuple[str, ...]:
    """The inputs local models read."""
    return tuple(prompt.rules.get("text", prompt.untrusted or sorted(prompt.input_names)))


def _local_model(name: str, prompt: Prompt, cases: Callable[[], Iterable[Case]], more: Sequence[Case]) -> LocalModel:
    rules, text = prompt.rules, input_names(prompt)
    match name:
        case "rules":
            return Rules(rules["rules"], text)
        case "classifier" | "boosted":
            said = Rules(rules.get("rules", {}), text)
            return Classifier(
                rules["classifier"],
                text,
                said,
                cases(),
                more=more,
                kind="boosted" if name == "boosted" else "classifier",
            )
        case "nearest":
            return Nearest(_fields(prompt), text, cases(), more)
        case "constant":
            return Constant(_fields(prompt), text, cases(), more)
        case "extractive":
            return Extractive(rules.get("extractive", {}), text)
        case "search":
            return Search(rules["search"], text)
        case _:
            return Echo()
