"""What commands that run a bundle share: where models are, why the bundle is believed, the state, the switch, the telemetry."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.core.errors import DataError

if TYPE_CHECKING:
    from promptops.runtime import Endpoint, Observer, Runtime
    from promptops.runtime.switch import Switch

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Folder, .tar, or a folder with `current.json` that is followed.")
]
BaseUrl = Annotated[
    str, typer.Option(metavar="URL", help="OpenAI-compatible server of every model that --models does not name.")
]
KeyVariable = Annotated[str, typer.Option("--api-key-env", metavar="VAR", help="Variable with the key for --base-url.")]
Models = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="TOML with [models.ALIAS] tables: base_url, api_key_env; promptops.toml will do."
    ),
]
TrustedKeys = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Public keys (lines `ssh-ed25519 AAAA...`) that sign bundles.")
]
Digest = Annotated[str, typer.Option(metavar="sha256:...", help="Digest of the manifest, instead of a signature.")]
Unsigned = Annotated[bool, typer.Option("--allow-unsigned", help="Believe a bundle that nobody signed.")]
State = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Budgets and cache: memory, sqlite:FILE, redis://host:port/db.")
]
Flags = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS", help="Flags that `promptops kill` writes: FILE or redis://...; default: $PROMPTOPS_FLAGS."
    ),
]
Events = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write an event for each request, for `promptops monitor`.")
]
Content = Annotated[
    bool, typer.Option("--content", help="Events and spans hold inputs and answers: texts of customers.")
]
Otel = Annotated[bool, typer.Option("--otel", help="OpenTelemetry spans and metrics, to the SDK's global providers.")]
SALT_VARIABLE = "PROMPTOPS_TELEMETRY_SALT"


def load_runtime(
    bundle: Path, *, base_url: str, api_key_env: str, models: Path | None, trusted_keys: Path | None, digest: str, allow_unsigned: bool,
    state: str, switch: "Switch", observers: "list[Observer]", **options: Any,
) -> "Runtime":  # fmt: skip
    """The runtime a command asked for. Raises DataError or RefusedError."""
    from promptops.runtime import Runtime
    from promptops.runtime.state.opening import open_state

    if not (trusted_keys or digest or allow_unsigned):
        raise DataError("nothing says why this bundle may be believed", where=str(bundle),
                        hint="give --trusted-keys, --digest or --allow-unsigned")  # fmt: skip

    return Runtime.load(
        bundle, models=_endpoints(base_url, api_key_env, models), trusted_keys=_lines(trusted_keys), digest=digest, allow_unsigned=allow_unsigned,
        state=open_state(state), switch=switch, observers=observers, **options,
    )  # fmt: skip


def make_switch(flags: str) -> "Switch":
    from promptops.runtime.switch import Switch, open_flags

    return Switch(open_flags(flags) if flags else None, alarm=alarm)


def make_observers(events: Path | None, *, content: bool, otel: bool) -> "list[Observer]":
    """Raises DataError when the file cannot be written or a package is missing."""
    from importlib.util import find_spec

    from promptops.runtime.telemetry import EventsFile

    salt = os.environ.get(SALT_VARIABLE, "")
    found: list[Observer] = []
    if events is not None:
        try:
            found.append(EventsFile(events, salt=salt, content=content))
        except OSError as error:
            raise DataError("events cannot be written", where=str(events), why=error.strerror or "") from error
    if otel:
        if find_spec("opentelemetry") is None:
            raise DataError("--otel needs OpenTelemetry", hint="pip install 'promptops[otel]'")
        from promptops.runtime.telemetry.otel import OtelObserver

        found.append(OtelObserver(salt=salt, content=content))
    return found


def _endpoints(base_url: str, api_key_env: str, models: Path | None) -> "Mapping[str, Endpoint]":
    from promptops.runtime import Endpoint

    if api_key_env and not base_url:
        raise DataError("--api-key-env without --base-url", hint="say where the key is for")
    found = {"*": Endpoint(base_url=base_url, api_key_env=api_key_env)} if base_url else {}
    for alias, table in (_tables(models) if models else {}).items():
        if isinstance(table, dict) and table.get("base_url"):
            found[alias] = Endpoint(base_url=str(table["base_url"]), api_key_env=str(table.get("api_key_env", "")))
    return found


def _tables(file: Path) -> Mapping[str, Any]:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(
            "the models cannot be read", where=str(file), why=getattr(error, "strerror", None) or str(error)
        ) from error
    tables = document.get("models", document.get("tool", {}).get("promptops", {}).get("models"))
    if not isinstance(tables, dict):
        raise DataError("no [models.ALIAS] table", where=str(file))
    return tables


def _lines(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "the trusted keys cannot be read", where=str(file), why=getattr(error, "strerror", None) or str(error)
        ) from error
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def alarm(text: str) -> None:
    from promptops.cli.output import note

    note(f"ALARM: {text}")
