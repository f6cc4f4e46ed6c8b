"""Configuration: [tool.promptops] of pyproject.toml or promptops.toml, below PROMPTOPS_* variables."""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from promptops.core.errors import DataError, Problem, RefusedError, did_you_mean
from promptops.core.money import Price, parse_usd
from promptops.project.formats import format_problems
from promptops.project.tree import Tree, decode_text

LOCAL = "local"
STORE_FOLDER = ".promptops"
TEXTS_MIN_BYTES = 65_536
_SECRET_KEY = re.compile(r"(?:api_?key|token|secret|password)$", re.IGNORECASE)
_VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRET_VALUE = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|xox[abp]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{30,})"
)
ALLOWED_HOSTS = (
    "api.openai.com", "*.openai.azure.com", "*.services.ai.azure.com", "api.anthropic.com", "api.mistral.ai", "api.groq.com",
    "api.together.xyz", "api.deepseek.com", "api.fireworks.ai", "openrouter.ai", "generativelanguage.googleapis.com",
    "localhost", "127.0.0.1", "::1",
)  # fmt: skip
"""Hosts a key may be sent to. The configuration of a project cannot add to them: a pull request could then send the key
anywhere. PROMPTOPS_ALLOWED_HOSTS (comma-separated, set by whoever owns the key) can."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VARIABLES = {
    "PROMPTOPS_DEFAULT_MODEL": "default_model",
    "PROMPTOPS_CONCURRENCY": "concurrency",
    "PROMPTOPS_STORE": "store",
    "PROMPTOPS_TEXTS": "texts",
    "PROMPTOPS_ENGINE": "engine",
}
_TEXTS_SCHEMES = tuple(f"{scheme}://" for scheme in ("s3", "gs", "az", "abfs", "file", "memory"))
_STORE_SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model that can be asked; the key itself is read from the environment when a client is made."""

    alias: str
    provider: Literal["openai", "local"]
    model: str
    base_url: str = ""
    api_key_env: str = ""
    price: Price = field(default_factory=Price)
    timeout_s: float = 60.0
    transport: Literal["http", "sdk"] = "http"
    stream: bool = False
    api: Literal["chat", "responses"] = "chat"
    azure_api_version: str = ""
    token_provider: str = ""
    rpm: int | None = None
    tpm: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """Where a database of a check is: a SQLite file of the project, or what a variable of the environment says."""

    path: str = ""
    url_env: str = ""

    def address(self, root: Path, environment: Mapping[str, str]) -> str:
        """As `sqlite:FILE` or `postgresql://...`; '' when the variable is not set. Raises RefusedError for a file outside of the project."""
        if not self.path:
            return environment.get(self.url_env, "").strip()
        found = (root / self.path).resolve()
        if not found.is_relative_to(root.resolve()):
            raise RefusedError(f"{self.path} is outside of the project", hint="name a variable of the environment with url_env")  # fmt: skip
        return f"sqlite:{found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseConfig:
    """Rules of releases. They count as they are on the protected branch, never as a change under test has them.

    `accepted` are object ids of tags that count without a valid signature, with all events before them in their channel.
    """

    signers: str = ".promptops-signers"
    unsigned: bool = False
    approvals: int = 0
    remote: str = "origin"
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    default_model: str = LOCAL
    max_case_bytes: int = 1_000_000
    concurrency: int = 8
    outage_patience_s: float = 60.0
    engine: str = LOCAL
    """`local`, `ray`, or `ray://HOST:PORT`."""
    store: str = field(default=LOCAL, repr=False)
    """`local`, or the address of a server; with a password only where it comes from the environment."""
    texts: str = ""
    texts_min_bytes: int = TEXTS_MIN_BYTES
    chosen: frozenset[str] = frozenset()
    """Which of `store`, `texts` and `engine` whoever runs this named, and not a file that a change could edit."""
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    databases: Mapping[str, DatabaseConfig] = field(default_factory=dict)
    release: ReleaseConfig = field(default_factory=ReleaseConfig)


def find_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds a promptops project. Raises DataError when there is none."""
    for folder in (start, *start.parents):
        if (
            (folder / "promptops.toml").is_file()
            or (folder / "prompts").is_dir()
            or has_table(folder / "pyproject.toml")
        ):
            return folder
    raise DataError("no promptops project here or above", where=str(start.name or start), hint="run `promptops init`")


def has_table(path: Path) -> bool:
    """Whether a pyproject.toml configures promptops."""
    return path.is_file() and "[tool.promptops" in path.read_text("utf-8", errors="replace")


def load_config(tree: Tree, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration of a project. Raises DataError with every problem, RefusedError for a secret-reading path."""
    values, where, text = _read_tables(tree)
    problems = list(_secrets(values, where, text))
    secret_lines = {problem.where for problem in problems}
    found = format_problems("config", values, lambda path: f"{where}:{_line(text, path)}")
    problems += [problem for problem in found if problem.where not in secret_lines]
    if problems:
        raise DataError(problems=problems)
    settings = {
        key: value for key, value in values.items() if key not in ("models", "release", "databases")
    } | _from_environment(os.environ if environment is None else environment)
    models: dict[str, ModelConfig] = {}
    for alias, table in values.get("models", {}).items():
        problems += _model_problems(table, alias, f"{where}:{_line(text, ('models', alias))}")
        try:
            models[alias] = _model(alias, table)
        except ValueError as error:
            problems.append(
                Problem(what=f"price of model {alias!r}: {error}", where=f"{where}:{_line(text, ('models', alias))}")
            )
    if "texts" in values and values.get("store", LOCAL) == LOCAL:
        problems.append(Problem(what="`texts` is for a shared store", where=f"{where}:{_line(text, ('texts',))}",
                                hint='set `store = "postgresql://..."`, or delete it'))  # fmt: skip
    name = settings.get("default_model", LOCAL)
    if name != LOCAL and not name.startswith(LOCAL + ":") and name not in values.get("models", {}):
        stated = name == values.get("default_model")
        at = f"{where}:{_line(text, ('default_model',))}" if stated else "PROMPTOPS_DEFAULT_MODEL"
        problems.append(
            Problem(what=f"default_model {name!r} is not a model", where=at, hint=did_you_mean(name, [*models, LOCAL]))
        )
    if problems:
        raise DataError(problems=problems)
    release = values.get("release", {})
    settings["chosen"] = frozenset(
        name for name in ("store", "texts", "engine") if settings.get(name) != values.get(name)
    )
    databases = {alias: DatabaseConfig(**table) for alias, table in values.get("databases", {}).items()}
    return Config(
        models=models,
        databases=databases,
        release=ReleaseConfig(**{**release, "accepted": tuple(release.get("accepted", ()))}),
        **settings,
    )


def _read_tables(tree: Tree) -> tuple[dict[str, Any], str, str]:
    found: list[tuple[dict[str, Any], str, str]] = []
    for where in ("promptops.toml", "pyproject.toml"):
        try:
            text = decode_text(tree.read(where), where)
        except FileNotFoundError:
            continue
        try:
            tables: Any = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"line (\d+)", str(error))
            raise DataError(
                "TOML syntax error", where=f"{where}:{line[1] if line else text.count(chr(10)) + 1}", why=str(error)
            ) from None
        if where == "pyproject.toml":
            tool = tables.get("tool")
            tables = tool.get("promptops") if isinstance(tool, dict) else None
        if tables is not None:
            found.append((_plain(tables), where, text))
    if len(found) > 1:
        raise DataError("promptops.toml and [tool.promptops] in pyproject.toml", why="only one of them can be in force",
                        hint="move everything into one")  # fmt: skip
    return found[0] if found else ({}, "pyproject.toml", "")


def _plain(value: Any) -> Any:
    """TOML dates and times as text: no setting is a date, but one may look like it."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    return value.isoformat() if isinstance(value, date | time) else value


def _line(text: str, path: tuple[str | int, ...]) -> int:
    """Line of a key or table header: tomllib gives no positions, so the last name of the path is looked up in the text."""
    first = re.search(r"^\[tool\.promptops[.\]]", text, re.MULTILINE)
    start = first.start() if first else 0
    for depth in range(1, len(path) + 1):
        header = re.search(
            rf"^\[(?:tool\.promptops\.)?{re.escape('.'.join(map(str, path[:depth])))}\]", text, re.MULTILINE
        )
        key = re.compile(rf"^[ \t]*{re.escape(str(path[depth - 1]))}[ \t]*[.=]", re.MULTILINE).search(text, start)
        start = header.start() if header else key.start(0) if key else start
    return text.count("\n", 0, start) + 1


def _secrets(value: Any, where: str, text: str, path: tuple[str, ...] = ()) -> list[Problem]:
    if isinstance(value, dict):
        return [problem for key, child in value.items() for problem in _secrets(child, where, text, (*path, key))]
    if isinstance(value, str) and path[-1:] == ("api_key_env",) and not _VARIABLE_NAME.fullmatch(value):
        return [Problem(what=f"`{'.'.join(path)}` ({mask(value)}) is not the name of an environment variable", where=f"{where}:{_line(text, path)}",
                        hint="put the key into a variable such as OPENAI_API_KEY and name that")]  # fmt: skip
    if isinstance(value, str) and path in (("store",), ("texts",)) and has_password(value):
        return [Problem(what=f"a password in `{path[0]}`", where=f"{where}:{_line(text, path)}",
                        hint="leave it out; PGPASSWORD, PGPASSFILE or what the storage reads is for where promptops runs")]  # fmt: skip
    if isinstance(value, str) and path and (_SECRET_VALUE.search(value) or _SECRET_KEY.search(path[-1])):
        return [Problem(what=f"a secret in `{'.'.join(path)}` ({mask(value)})", where=f"{where}:{_line(text, path)}",
                        hint="put it into an environment variable and name that in `api_key_env`")]  # fmt: skip
    return []


def has_password(url: str) -> bool:
    """Whether the address of a store holds one, as user:password@ or as a parameter."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "@" in url
    return parts.password is not None or "password" in parts.query.lower()


def mask(secret: str) -> str:
    """A secret as it may be shown: its first three characters."""
    return secret[:3] + "…" if len(secret) > 8 else "…"


def contains_secret(text: str) -> bool:
    return _SECRET_VALUE.search(text) is not None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, key in _VARIABLES.items():
        value = environment.get(variable)
        if not value:
            continue
        if key == "concurrency":
            if not value.isdecimal() or not 1 <= int(value) <= 1024:
                raise DataError(f"{variable} is {value[:20]!r}", hint="set a number from 1 to 1024")
            found[key] = int(value)
        elif key == "texts" and not value.startswith(_TEXTS_SCHEMES):
            raise DataError(
                f"{variable} is no place for texts",
                hint="write s3://BUCKET/PREFIX, gs://, az://, abfs:// or file:///FOLDER",
            )
        elif key == "store" and value != LOCAL and not value.startswith(_STORE_SCHEMES):
            raise DataError(
                f"{variable} is no address of a store", hint="write postgresql://USER@HOST/DATABASE, or local"
            )
        else:
            found[key] = value
    return found


def _model_problems(table: Mapping[str, Any], alias: str, where: str) -> list[Problem]:
    problems: list[Problem] = []
    if alias == LOCAL:
        problems.append(Problem(what="a model cannot be called `local`", where=where, hint="choose another alias"))
    url = table.get("base_url", "")
    if table["provider"] == "openai" and not url:
        problems.append(Problem(what=f"model {alias!r} has no base_url", where=where, hint="state the root of the API"))
    if url and not url.startswith(("https://", "http://")):
        raise RefusedError(f"base_url of model {alias!r} is not http(s)", where=where)
    if table.get("transport", "http") == "http" and ("azure_api_version" in table or "token_provider" in table):
        problems.append(
            Problem(
                what=f'model {alias!r} needs `transport = "sdk"`',
                where=where,
                why="azure_api_version and token_provider are its options",
            )
        )
    if table.get("api") == "responses" and (table.get("transport") == "sdk" or table.get("stream")):
        problems.append(Problem(what=f"model {alias!r} cannot use the Responses API so", where=where,
                                why="it is asked over http, without streaming", hint="leave out transport and stream"))  # fmt: skip
    if table.get("transport") == "sdk" and table.get("stream"):
        problems.append(
            Problem(what=f"model {alias!r} cannot stream over the sdk", where=where, hint="use transport http")
        )
    if "@" in url.partition("//")[2].partition("/")[0]:
        problems.append(
            Problem(what=f"base_url of model {alias!r} holds credentials", where=where, hint="use api_key_env")
        )
    return problems


def _model(alias: str, table: Mapping[str, Any]) -> ModelConfig:
    cached = table.get("cached_input_usd_per_mtok")
    price = Price(
        input_nanousd_per_mtok=parse_usd(table.get("input_usd_per_mtok", "0")),
        output_nanousd_per_mtok=parse_usd(table.get("output_usd_per_mtok", "0")),
        cached_input_nanousd_per_mtok=None if cached is None else parse_usd(cached),
    )
    kept = {key: value for key, value in table.items() if not key.endswith("_usd_per_mtok")}
    return ModelConfig(alias=alias, price=price, **kept)


def _allowed_by(environment: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in environment.get("PROMPTOPS_ALLOWED_HOSTS", "").split(",") if name.strip()]


def check_places(
    key: Literal["store", "texts", "engine", "cases"], hosts: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Raises RefusedError for a server or bucket named by a file of the project that whoever runs this has not allowed."""
    what = {"engine": "prompts and cases would be sent there", "cases": "they would be read with the login of whoever runs this, and sent to a model"}  # fmt: skip
    for host in hosts:
        if host not in LOOPBACK and not any(fnmatchcase(host, pattern) for pattern in _allowed_by(environment)):
            raise RefusedError(f"{host[:80]!r} of `{key}` is not allowed", why=what.get(key, "answers, with the login of whoever runs this, would be sent there"),
                               hint=f"if you trust it, set PROMPTOPS_ALLOWED_HOSTS={host[:80]}" + ("" if key == "cases" else f", or name it in PROMPTOPS_{key.upper()}"))  # fmt: skip


def check_host(model: ModelConfig, environment: Mapping[str, str]) -> None:
    """Raises RefusedError unless the model's server is one that keys may be sent to, over TLS or on this machine."""
    url = urlsplit(model.base_url)
    host = url.hostname or ""
    if not any(fnmatchcase(host, pattern) for pattern in (*ALLOWED_HOSTS, *_allowed_by(environment))):
        raise RefusedError(f"host {host[:80]!r} of model {model.alias!r} is not allowed", why="a key would be sent there",
                           hint=f"if you trust it, set PROMPTOPS_ALLOWED_HOSTS={host[:80]}")  # fmt: skip
    if url.scheme != "https" and host not in LOOPBACK:
        raise RefusedError(f"model {model.alias!r} would send its key unencrypted", where=host, hint="use https")


def resolve_model(config: Config, name: str) -> ModelConfig:
    """The model an alias, `local` or `local:NAME` stands for. Raises DataError with a suggestion."""
    if name == LOCAL or name.startswith(LOCAL + ":"):
        return ModelConfig(alias=name, provider="local", model=name.partition(":")[2])
    if name in config.models:
        return config.models[name]
    for model in config.models.values():
        if model.model == name:
            return model
    raise DataError(f"unknown model {name!r}", hint=did_you_mean(name, [*config.models, LOCAL]))
