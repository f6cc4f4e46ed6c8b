"""promptops serve: a bundle as an OpenAI-compatible HTTP endpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptops.cli import service
from promptops.core.errors import DataError, EvaluationError, ExitCode

if TYPE_CHECKING:
    from promptops.runtime import Observer, Runtime
    from promptops.runtime.serve.keys import Keys
    from promptops.runtime.switch import Switch


def serve(
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="Folder, .tar, or a folder with `current.json` that is followed."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; other than loopback only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8080,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="API keys and their tenants; also $PROMPTOPS_API_KEYS.")
    ] = None,
    new_key: Annotated[
        str, typer.Option(metavar="TENANT", help="Add a key for a tenant to --keys, print it, and serve nothing.")
    ] = "",
    base_url: service.BaseUrl = "",
    api_key_env: service.KeyVariable = "",
    models: service.Models = None,
    trusted_keys: service.TrustedKeys = None,
    digest: service.Digest = "",
    allow_unsigned: service.Unsigned = False,
    state: service.State = "memory",
    queue: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where the fallback `queue` keeps requests: sqlite:FILE, redis://...")
    ] = "",
    flags: service.Flags = "",
    events: service.Events = "",
    events_days: service.EventsDays = 30.0,
    content: service.Content = False,
    otel: service.Otel = False,
    grace_s: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", min=0, help="For requests in flight when it is told to stop.")
    ] = 15.0,
    delay_s: Annotated[
        float,
        typer.Option(
            "--delay", metavar="SECONDS", min=0, help="/healthz says 503 this long before connections are refused."
        ),
    ] = 0.0,
    as_json: service.Json = False,
) -> int:
    """Answer HTTP requests from a bundle, as OpenAI's API does.

    `model` is the name of a prompt, and the tenant is the one the API key belongs to.
    """
    import asyncio

    from promptops.runtime.serve.keys import read_keys

    if new_key:
        return _new_key(keys, new_key, as_json=as_json)
    if bundle is None:
        raise DataError("no bundle is named", hint="promptops serve BUNDLE; `promptops export` makes one")
    found = read_keys(keys)
    switch = service.make_switch(flags)
    observers = service.make_observers(events, days=events_days, content=content, otel=otel)
    registry = _prometheus(observers)
    runtime = service.load_runtime(
        bundle, base_url=base_url, api_key_env=api_key_env, models=models, trust=service.stated_trust(bundle, trusted_keys, digest, unsigned=allow_unsigned),
        state=state, switch=switch, observers=observers, queue=_queue(queue),
    )  # fmt: skip
    _look_at(state, queue)
    asyncio.run(
        _serve(
            runtime,
            found,
            switch,
            observers,
            registry,
            host=host,
            port=port,
            grace_s=grace_s,
            delay_s=delay_s,
            as_json=as_json,
        )
    )
    return ExitCode.OK


async def _serve(
    runtime: "Runtime", keys: "Keys", switch: "Switch", observers: "list[Observer]", registry: object, *, host: str, port: int,
    grace_s: float, delay_s: float, as_json: bool,
) -> None:  # fmt: skip
    from promptops.cli.output import emit, emit_json, note
    from promptops.report.show import show
    from promptops.report.tables import count
    from promptops.runtime.serve.app import Server, is_loopback, run

    server = Server(runtime, keys, loopback=is_loopback(host), registry=registry, problem=lambda: switch.problem)  # type: ignore[arg-type]

    def started(url: str) -> None:
        import sys

        names = sorted(runtime.bundle.channels)
        if as_json:
            emit_json({"url": url, "prompts": names, "bundle": runtime.bundle.digest, "keys": len(keys)})
        else:
            who = count(len(keys), "API key") if len(keys) else "no API keys: every caller is tenant `default`"
            emit(show(f"SERVING  {', '.join(names)} at {url}/v1 ({who})"))
        sys.stdout.flush()
        note("Ctrl-C or SIGTERM ends it; requests in flight are finished")

    try:
        await run(server, host=host, port=port, started=started, grace_s=grace_s, delay_s=delay_s)
    finally:
        await runtime.aclose()
        switch.close()
        for observer in observers:
            close = getattr(observer, "close", None)
            if close is not None:
                close()


def _new_key(keys: Path | None, tenant: str, *, as_json: bool) -> int:
    from promptops.cli.output import emit, emit_json, note
    from promptops.report.show import show
    from promptops.runtime.serve.keys import new_key

    if keys is None:
        raise DataError("nothing says where the key is kept", hint="add --keys FILE")
    try:
        key = new_key(keys, tenant)
    except OSError as error:
        raise EvaluationError("the key cannot be kept", where=str(keys), why=error.strerror or str(error)) from error
    if as_json:
        emit_json({"tenant": tenant, "key": key, "keys": str(keys)})
    else:
        emit(show(key))
        note(
            f"the key of tenant {tenant}; it is shown this once, {keys} has its hash; restart `promptops serve` to use it"
        )
    return ExitCode.OK


def _prometheus(observers: "list[Observer]") -> object | None:
    """A registry of this service with an observer that fills it; None without the package."""
    from importlib.util import find_spec

    if find_spec("prometheus_client") is None:
        return None
    from prometheus_client import CollectorRegistry

    from promptops.runtime.telemetry.prometheus import PrometheusObserver

    registry = CollectorRegistry()
    observers.append(PrometheusObserver(registry))
    return registry


def _look_at(state: str, queue: str) -> None:
    """Whoever starts a service with a wrong path hears of it; one whose server is away for a moment starts all the same."""
    from promptops.runtime.queue import open_queue
    from promptops.runtime.state import StateError
    from promptops.runtime.state.opening import open_state

    for name, look in (
        ("state", lambda: open_state(state).reserved()),
        ("queue", lambda: queue and open_queue(queue).counts()),
    ):
        try:
            look()
        except StateError as error:
            service.alarm(f"the {name} cannot be used now: {error}")


def _queue(address: str) -> object | None:
    from promptops.runtime.queue import open_queue

    return open_queue(address) if address else None
