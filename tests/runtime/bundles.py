"""Bundles for tests, made by the real export from the starter project, and models that answer by script."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from promptops.models.base import Answer, ModelRequest
from promptops.project.project import open_project
from promptops.project.scaffold import scaffold
from promptops.release.export import Served, Shipped, bundle_files, shipped_at, write_bundle
from promptops.runtime import Runtime
from runtime.clock import FakeClock

NAME = "feedback-sentiment"
GOOD = json.dumps({"sentiment": "positive"})
INPUTS = {"feedback": "It works."}
CONFIG = """
[models.small]
provider = "openai"
model = "small-2026-01-01"
base_url = "http://127.0.0.1:9/v1"
input_usd_per_mtok = "1"
output_usd_per_mtok = "1"

[models.large]
provider = "openai"
model = "large-2026-01-01"
base_url = "http://127.0.0.1:9/v1"
input_usd_per_mtok = "10"
output_usd_per_mtok = "10"
"""


class Scripted:
    """A model that answers by a function of the request and counts its calls; `gate` holds calls until it is set."""

    paid = True

    def __init__(self, script: Callable[[int], Answer | str] = lambda _: GOOD) -> None:
        self.script = script
        self.calls = 0
        self.requests: list[ModelRequest] = []
        self.held: asyncio.Event | None = None

    async def answer(self, request: ModelRequest) -> Answer:
        self.calls += 1
        self.requests.append(request)
        number = self.calls
        if self.held is not None:
            await self.held.wait()
        found = self.script(number)
        return found if isinstance(found, Answer) else ok(found)

    async def close(self) -> None: ...


def ok(text: str = GOOD, *, cost_nanousd: int = 1000, latency_s: float = 0.1) -> Answer:
    return Answer(outcome="ok", text=text, model="m", input_tokens=100, output_tokens=20, cost_nanousd=cost_nanousd, latency_s=latency_s)  # fmt: skip


def failed(outcome: Any = "server_error", **fields: Any) -> Answer:
    return Answer(outcome=outcome, detail=fields.pop("detail", "no"), **fields)


def make_project(root: Path, runtime: Mapping[str, Any] | None = None, edit: Callable[[Path], None] | None = None) -> Path:  # fmt: skip
    """The starter project in a git repository, its suite with this `runtime` section."""
    root.mkdir(parents=True, exist_ok=True)
    scaffold(root)
    (root / "promptops.toml").write_text(CONFIG)
    suite = root / f"golden/{NAME}.yaml"
    if runtime is not None:
        suite.write_text(suite.read_text() + f"runtime: {json.dumps(runtime)}\n")
    if edit:
        edit(root)
    return root


def make_served(root: Path, *, seq: int = 1, version: str = "v1.0.0", **fields: Any) -> Served:
    project = open_project(root)
    evaluable = project.load(NAME)
    from promptops.evaluation.clients import identify
    from promptops.project.config import resolve_model

    model = resolve_model(project.config, "small")
    shipped = Shipped(version=version, commit="", evaluable=evaluable, config=project.config, model=model,
                      identity=identify(model, evaluable.prompt, evaluable.scan.digest))  # fmt: skip
    return Served(live=shipped, seq=seq, **fields)


def make_bundle(folder: Path, runtime: Mapping[str, Any] | None = None, *, edit: Callable[[Path], None] | None = None, seq: int = 1,
                version: str = "v1.0.0") -> Path:  # fmt: skip
    """A development bundle of the starter prompt in `folder`/bundle-<seq>."""
    project = folder / f"project-{seq}"
    if not project.exists():
        make_project(project, runtime, edit)
    place = folder / f"bundle-{seq}"
    write_bundle(bundle_files([make_served(project, seq=seq, version=version)], channel="prod", development=True), place, as_archive=False)  # fmt: skip
    return place


def open_runtime(folder: Path, runtime: Mapping[str, Any] | None = None, *, small: Any = None, large: Any = None, clock: FakeClock | None = None,
                 edit: Callable[[Path], None] | None = None, **options: Any) -> Runtime:  # fmt: skip
    """A runtime over a fresh bundle, with scripted models."""
    clients = {"small": small or Scripted(), "large": large or Scripted()}
    if clock is not None:
        options["clock"] = clock
    return Runtime.load(make_bundle(folder, runtime, edit=edit), allow_unsigned=True, clients=clients, **options)


__all__ = ["GOOD", "INPUTS", "NAME", "Scripted", "failed", "make_bundle", "make_project", "make_served", "ok", "open_runtime", "shipped_at"]  # fmt: skip
