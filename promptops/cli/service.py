"""What commands that run a bundle share: where models are, why the bundle is believed, the state, the switch, the telemetry."""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.core.errors import DataError

if TYPE_CHECKING:
    from promptops.runtime import Endpoint, Observer, Runtime
    from promptops.runtime.bundle import Trust
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
    list[str] | None,
    typer.Option(
        "--trusted-key", metavar="KEY", help="Key that signs bundles, `ssh-ed25519 AAAA...`, or a file of them."
    ),
]
Digest = Annotated[str, typer.Option(metavar="sha256:...", help="Digest of the manifest, instead of a signature.")]
Unsigned = Annotated[bool, typer.Option("--allow-unsigned", help="Believe a bundle that nobody signed.")]
State = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Budgets and cache: memory, sqlite:FILE, redis://host:port/db, redis+sentinel://..., redis+cluster://...",
    ),
]
Flags = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS", help="Flags that `promptops kill` writes: FILE or redis://...; default: $PROMPTOPS_FLAGS."
    ),
]
Events = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS", help="Write an event for each request, for `promptops monitor`: FILE or redis://..."
    ),
]
EventsDays = Annotated[
    float,
    typer.Option(
        "--events-days", metavar="DAYS", min=0, help="Events that are older are removed; 0: by their number alone."
    ),
]
Content = Annotated[
    bool,
    typer.Option(
        "--content",
        help="Events and spans hold inputs and answers: texts of customers. E-mail, phone, card and account numbers are masked.",
    ),
]
Otel = Annotated[bool, typer.Option("--otel", help="OpenTelemetry spans and metrics, to the SDK's global providers.")]
_KEY = "ssh-ed25519 "
SALT_VARIABLE = "PROMPTOPS_TELEMETRY_SALT"


def load_runtime(
    bundle: Path, *, base_url: str, api_key_env: str, models: Path | None, trust: "Trust", state: str, switch: "Switch", observers: "list[Observer]", **options: Any,
) -> "Runtime":  # fmt: skip
    """The runtime a command asked for. Raises DataError or RefusedError."""
    from promptops.runtime import Runtime
    from promptops.runtime.state.opening import open_state

    return Runtime.load(
        bundle, models=_endpoints(base_url, api_key_env, models), trusted_keys=trust.keys, digest=trust.digest, allow_unsigned=trust.unsigned,
        state=open_state(state), switch=switch, observers=observers, **options,
    )  # fmt: skip


def stated_trust(bundle: Path, trusted_keys: list[str] | None, digest: str, *, unsigned: bool) -> "Trust":
    """Why the bundle is to be believed, as the options say. Raises DataError when they say nothing."""
    from promptops.runtime.bundle import Trust

    trust = Trust(keys=tuple(_keys(trusted_keys or ())), digest=digest, unsigned=unsigned)
    if not trust.is_stated:
        raise DataError("nothing says why this bundle may be believed", where=str(bundle),
                        hint="give --trusted-key, --digest or --allow-unsigned")  # fmt: skip
    return trust


def _keys(named: Iterable[str]) -> Iterator[str]:
    """Public keys: each name is one, or a file with lines that hold one. Raises DataError."""
    for name in named:
        if name.startswith(_KEY):
            yield name
            continue
        try:
            lines = Path(name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError("the trusted keys cannot be read", where=name,
                            why=getattr(error, "strerror", None) or str(error)) from error  # fmt: skip
        found = [line[line.index(_KEY) :].strip() for line in lines if _KEY in line and not line.startswith("#")]
        if not found:
            raise DataError("no ssh-ed25519 key is in this file", where=name)
        yield from found


def make_switch(flags: str) -> "Switch":
    from promptops.runtime.switch import Switch, open_flags

    return Switch(open_flags(flags) if flags else None, alarm=alarm)


def make_observers(events: str, *, days: float, content: bool, otel: bool) -> "list[Observer]":
    """Raises DataError when the file cannot be written, the address is none, or a package is missing."""
    from importlib.util import find_spec

    from promptops.runtime.state.opening import need_redis
    from promptops.runtime.telemetry import EventsFile
    from promptops.runtime.telemetry.stream import EventsStream, is_redis

    salt = os.environ.get(SALT_VARIABLE, "")
    found: list[Observer] = []
    if is_redis(events):
        need_redis(events)
        found.append(EventsStream(events, salt=salt, content=content, keep_days=days))
    elif events:
        try:
            found.append(EventsFile(Path(events), salt=salt, content=content, keep_days=days))
        except OSError as error:
            raise DataError("events cannot be written", where=events, why=error.strerror or "") from error
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


def alarm(text: str) -> None:
    from promptops.cli.output import note

    note(f"ALARM: {text}")
