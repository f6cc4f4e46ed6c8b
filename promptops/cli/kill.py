"""promptops kill: switch a prompt off in running services, and on again."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.core.errors import DataError, EvaluationError, ExitCode, did_you_mean

if TYPE_CHECKING:
    from promptops.runtime.flags import KillRule
    from promptops.runtime.switch import FlagStore

_VARIABLE = "PROMPTOPS_FLAGS"


def kill(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A prompt; without it, show what is off.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every prompt.")] = False,
    tenant: Annotated[str, typer.Option(metavar="T", help="Only for this tenant.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Take the kill back: the prompt runs again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="A name that this project does not have, too.")] = False,
    flags: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help=f"What the services read: FILE or redis://...; default: ${_VARIABLE}."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Switch a prompt off in all running services within a second.

    No process that reads the flags file asks a model for it any more.
    """
    from promptops.runtime.flags import FlagsError, kill_rules, set_kill

    file = _file(flags)
    _check(name, everything=everything, tenant=tenant, off=off)
    try:
        if name or everything:
            if not force:
                _refuse_unknown(name)
            file.change(lambda raw: set_kill(raw, name, tenant=tenant, off=off))
        rules = kill_rules(file.read())
    except FlagsError as error:
        raise DataError("the flags are not as they should be", where=str(file), why=str(error),
                        hint="repair them; until then services keep the last state they read") from error  # fmt: skip
    except FileNotFoundError as error:
        raise DataError("there are no flags", where=str(file),
                        hint="`promptops kill NAME` writes them, `promptops kill --all --off` some that switch nothing off") from error  # fmt: skip
    except (OSError, TimeoutError) as error:
        raise EvaluationError("the flags cannot be used", where=str(file),
                              why=getattr(error, "strerror", None) or str(error)) from error  # fmt: skip
    _show(file, rules, changed=_sentence(name, tenant, off=off) if name or everything else "", as_json=as_json)
    return ExitCode.OK


def _file(flags: str) -> "FlagStore":
    from promptops.runtime.switch import open_flags

    address = flags or os.environ.get(_VARIABLE, "")
    if not address:
        raise DataError(
            "nothing says which flags to use", hint=f"name what the services read with --flags or {_VARIABLE}"
        )
    return open_flags(address)


def _check(name: str, *, everything: bool, tenant: str, off: bool) -> None:
    from promptops.core.names import is_name

    if name and everything:
        raise DataError("NAME and --all say different things", hint="leave one out")
    if (tenant or off) and not (name or everything):
        raise DataError("--tenant and --off need a prompt", hint="name it, or say --all")
    if name and not is_name(name):
        raise DataError(f"{name!r} is not the name of a prompt", hint="lower-case words joined by hyphens")


def _refuse_unknown(name: str) -> None:
    """A typing error would switch nothing off and look like a kill. Raises DataError when a project is here and lacks the name."""
    from promptops.core.errors import PromptopsError
    from promptops.project.project import open_project

    try:
        known = open_project(Path.cwd()).names()
    except PromptopsError:
        return
    if name and known and name not in known:
        raise DataError(f"no prompt {name!r} in this project", why="nothing was switched", hint=f"{did_you_mean(name, known)}; if services know it all the same: --force")  # fmt: skip


def _sentence(name: str, tenant: str, *, off: bool) -> str:
    whom = f" for tenant {tenant}" if tenant else ""
    return f"{'RUNS AGAIN' if off else 'KILLED'}  {name or 'every prompt'}{whom}"


def _row(rule: "KillRule") -> Mapping[str, Any]:
    return {
        "prompt": rule.prompt or None,
        "all_tenants": rule.off,
        "tenants": None if rule.tenants is None else list(rule.tenants),
    }


def _show(file: "FlagStore", rules: tuple["KillRule", ...], *, changed: str, as_json: bool) -> None:
    from promptops.cli.output import emit, emit_json
    from promptops.report.show import show

    if as_json:
        emit_json({"flags": str(file), "kills": [_row(rule) for rule in rules]})
        return
    on = [rule for rule in rules if rule.off or rule.tenants is None or rule.tenants]
    emit(show(changed or f"{len(on)} of {len(rules)} kill flags of {file} are on"))
    for rule in on:
        whom = (
            "by a rule of its own"
            if rule.tenants is None
            else "for every tenant"
            if rule.off
            else "for " + ", ".join(rule.tenants)
        )
        emit(show(f"  {rule.prompt or 'every prompt'}: off {whom}"))
    if changed:
        emit(show(f"services that read {file} follow within a second"))
