"""Where the models of a bundle are: the service says it, a bundle never does."""

import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from promptops.core.errors import DataError, RefusedError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from promptops.core.prompt import Prompt
    from promptops.models.base import Client
    from promptops.models.local import LocalClient
    from promptops.runtime.bundle import ModelSpec

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An OpenAI-compatible server and the key for it. The key is read from `api_key_env` unless it is given."""

    base_url: str = "https://api.openai.com/v1"
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""

    def key(self) -> str:
        """The key. Raises DataError when the variable is named and not set."""
        if self.api_key or not self.api_key_env:
            return self.api_key
        value = os.environ.get(self.api_key_env, "").strip()
        if not value:
            raise DataError(f"no key for {self.base_url}", why=f"{self.api_key_env} is not set", hint=f"set {self.api_key_env}")  # fmt: skip
        return value

    def check(self) -> None:
        """Raises RefusedError for an address a key should not be sent to."""
        from urllib.parse import urlsplit

        url = urlsplit(self.base_url)
        if url.scheme not in ("https", "http") or not url.hostname or url.username:
            raise RefusedError(f"{self.base_url[:80]!r} is not the address of an API", hint="https://host/v1")
        if url.scheme == "http" and url.hostname not in _LOOPBACK and (self.api_key or self.api_key_env):
            raise RefusedError("a key would be sent unencrypted", where=url.hostname, hint="use https")


class Models:
    """Clients by model, made when first needed, one for each event loop that uses them."""

    def __init__(self, specs: "Mapping[str, ModelSpec]", endpoints: Mapping[str, Endpoint], clients: "Mapping[str, Client]") -> None:  # fmt: skip
        self._specs, self._endpoints, self._given = specs, endpoints, clients
        self._keys = {alias: endpoint.key() for alias, endpoint in endpoints.items()}
        self._by_loop: weakref.WeakKeyDictionary[AbstractEventLoop, dict[str, Client]] = weakref.WeakKeyDictionary()

    def client(self, model: str) -> "Client":
        import asyncio

        given = self._given.get(model)
        if given is not None:
            return given
        clients = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        found = clients.get(model)
        if found is None:
            found = clients[model] = self._open(model)
        return found

    def after_fork(self) -> None:
        """The child opens connections of its own; those of the parent are not touched."""
        self._by_loop = weakref.WeakKeyDictionary()

    async def close(self) -> None:
        """Close the clients of the running loop."""
        import asyncio

        for client in self._by_loop.pop(asyncio.get_running_loop(), {}).values():
            await client.close()

    def _open(self, model: str) -> "Client":
        from promptops.models.http import HttpClient
        from promptops.models.secret import Secret

        spec, endpoint = self._specs[model], self._endpoints[model]
        return HttpClient(base_url=endpoint.base_url, model=spec.model, key=Secret(self._keys[model]), price=spec.price, timeout_s=None)  # fmt: skip


def local_client(name: str, prompt: "Prompt") -> "LocalClient | None":
    """A local model of a prompt, None when the prompt does not configure it or it needs the golden cases."""
    from promptops.models.local import LocalClient
    from promptops.models.local.echo import Echo
    from promptops.models.local.extractive import Extractive
    from promptops.models.local.rules import Rules

    rules: Mapping[str, Any] = prompt.rules
    name = name or str(rules.get("default", ""))
    text = tuple(rules.get("text", prompt.untrusted or sorted(prompt.input_names)))
    if name == "rules" and "rules" in rules:
        return LocalClient(name=name, model=Rules(rules["rules"], text))
    if name == "extractive":
        return LocalClient(name=name, model=Extractive(rules.get("extractive", {}), text))
    if name == "echo":
        return LocalClient(name=name, model=Echo())
    return None
