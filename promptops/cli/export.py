"""promptops export, and promptops bundle verify, show, diff, install."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptops.cli import service
from promptops.core.errors import ExitCode

if TYPE_CHECKING:
    from rich.text import Text

    from promptops.runtime.bundle import Bundle, Release, Trust

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Place = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder or a .tar.")]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Prompts; default: all of the channel.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="A new folder, or with --archive a new file.")
    ] = Path("bundle"),
    channel: Annotated[str, typer.Option(metavar="C", help="The channel whose versions are shipped.")] = "",
    archive: Annotated[bool, typer.Option("--archive", help="One .tar file instead of a folder.")] = False,
    development: Annotated[
        bool, typer.Option("--development", help="Ship a commit without release and evidence; the bundle says so.")
    ] = False,
    at: Annotated[
        str, typer.Option(metavar="REF", help="With --development: the commit, branch or tag; default: HEAD.")
    ] = "",
    model: Annotated[str, typer.Option(help="With --development: the model that answers.")] = "",
    as_json: Json = False,
) -> int:
    """Put what a channel serves into one bundle for services.

    The same releases give the same bytes on every machine; what has no valid evidence is refused.
    """
    from promptops.cli.output import emit, emit_json, note
    from promptops.core.errors import DataError
    from promptops.evaluation.plan import utc_now
    from promptops.project.project import open_project
    from promptops.release.desk import open_desk
    from promptops.release.export import Served, bundle_files, shipped_at, sign_files, write_bundle
    from promptops.release.served import served_by
    from promptops.report.tables import command, next_line

    if development and channel:
        raise DataError("--channel and --development say different things", hint="leave one out")
    if not development and not channel:
        raise DataError("nothing says which versions to export", hint="name a channel with --channel, or a commit with --development --at REF")  # fmt: skip
    if channel and (at or model):
        raise DataError("--at and --model are for --development", hint="a channel names its versions itself")
    project = open_project(Path.cwd())
    signed = ""
    if development:
        at = at or "HEAD"
        version = f"dev-{project.git.commit(at)[:12]}"
        wanted = names or project.at(at).names()
        files = bundle_files([Served(live=shipped_at(project, name, at=at, version=version, model=model)) for name in wanted], channel="", development=True)  # fmt: skip
        note(
            "note: a development bundle: no release, no evidence, no signature; a runtime takes it only when it is told to"
        )
    else:
        desk = open_desk(project, clock=utc_now)
        files = bundle_files(served_by(desk, channel, names or ()), channel=channel, development=False)
        signer = desk.signer()
        if signer is None:
            note(
                "note: no signing key is configured, so the bundle is not signed: pin its digest, or set PROMPTOPS_SIGNING_KEY"
            )
        else:
            files, signed = sign_files(files, signer.sign), str(signer.key)
    write_bundle(files, output, as_archive=archive)
    bundle = _parsed(files, str(output))
    if as_json:
        emit_json({**_json(bundle), "output": str(output), "signed_by": signed, "bytes": sum(map(len, files.values()))})
        return ExitCode.OK
    emit(_title("EXPORTED", bundle, f"{len(files)} files, {sum(map(len, files.values())):,} bytes in {output}"))
    emit(_releases(bundle))
    for line in _classifiers(bundle):
        emit(line)
    emit(
        next_line(
            command(
                "promptops",
                "bundle",
                "verify",
                str(output),
                *(("--trusted-key", signed) if signed else ("--digest", bundle.digest)),
            )
        )
    )
    return ExitCode.OK


@app.command("verify")
def verify(
    bundle: Place,
    trusted_keys: service.TrustedKeys = None,
    digest: service.Digest = "",
    as_json: Json = False,
) -> int:
    """Check every byte of a bundle, and with --trusted-key or --digest that it is the one that was meant."""
    from promptops.cli.output import emit, emit_json, note

    stated = bool(trusted_keys or digest)
    found = _load(bundle, service.stated_trust(bundle, trusted_keys, digest, unsigned=not stated))
    if not stated:
        note(
            "note: every byte is what the manifest says; who made the manifest was not checked (--trusted-key, --digest)"
        )
    if as_json:
        emit_json({**_json(found), "trusted_by": "key" if trusted_keys else "digest" if digest else ""})
    else:
        emit(_title("VERIFIED", found, f"manifest {found.digest}"))
    return ExitCode.OK


@app.command("show")
def show_bundle(bundle: Place, as_json: Json = False) -> int:
    """What a bundle serves: versions, models, budgets, fallback."""
    from promptops.cli.output import emit, emit_json
    from promptops.report.show import show
    from promptops.report.tables import table

    found = _load(bundle)
    if as_json:
        emit_json(_json(found))
        return ExitCode.OK
    emit(_title("BUNDLE", found, f"manifest {found.digest}"))
    emit(_releases(found))
    grid = table("prompt", "small", "large", "deadline>", "cache>", "budgets", "online checks", "fallback")
    for name, channel in found.channels.items():
        release, settings = channel.live, channel.live.settings
        own = release.prompt.model
        grid.add_row(show(name), show(settings.small or own), show(settings.large or own), f"{settings.deadline_s:g} s", f"{settings.cache.ttl_s:g} s",
                     ", ".join(rule.name for rule in settings.budgets) or "none", ", ".join(show(check.name).plain for check in release.checks) or "none",
                     " > ".join(step.step for step in settings.fallback))  # fmt: skip
    emit(grid)
    for shipped in _shipped(found):
        if shipped.expiry is not None:
            emit(show(f"{shipped.name} {shipped.version} expires {shipped.expiry.expires}"))
    for line in _classifiers(found):
        emit(line)
    return ExitCode.OK


@app.command("diff")
def diff_bundles(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="What is served: a folder or a .tar.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="What would be served.")],
    as_json: Json = False,
) -> int:
    """What changes when NEW is served instead of OLD, and whether a runtime would take it."""
    from rich.text import Text

    from promptops.cli.output import emit, emit_json
    from promptops.release.bundle_diff import differences
    from promptops.report.show import show
    from promptops.report.tables import count, table

    before, after = (_load(place) for place in (old, new))
    rows = differences(before, after)
    refused = [str(problem) for problem in after.follows(before)]
    if as_json:
        emit_json({"changes": [{"prompt": row.prompt, "what": row.what, "old": row.old, "new": row.new} for row in rows], "refused": refused})  # fmt: skip
        return ExitCode.OK
    emit(Text(f"CHANGED  {count(len(rows), 'change')}" if rows else "SAME  the bundles serve the same"))
    if rows:
        grid = table("prompt", "what", "old", "new")
        for row in rows:
            grid.add_row(show(row.prompt), row.what, show(row.old), show(row.new))
        emit(grid)
    for why in refused:
        emit(Text.assemble("a runtime that serves OLD refuses NEW: ", show(why)))
    return ExitCode.OK


@app.command("install")
def install_bundle(
    bundle: Place,
    into: Annotated[Path, typer.Option(metavar="DIR", help="The folder that the services watch.")],
    trusted_keys: service.TrustedKeys = None,
    digest: service.Digest = "",
    allow_unsigned: service.Unsigned = False,
    as_json: Json = False,
) -> int:
    """Put a verified bundle where running services take it from; an older one is refused."""
    from promptops.cli.output import emit, emit_json
    from promptops.report.tables import command, next_line
    from promptops.runtime.pointer import install

    trust = service.stated_trust(bundle, trusted_keys, digest, unsigned=allow_unsigned)
    found, changed = install(bundle, into, trust)
    if as_json:
        emit_json({**_json(found), "installed": changed, "into": str(into)})
    else:
        emit(
            _title(
                "INSTALLED" if changed else "UNCHANGED",
                found,
                f"in {into}; services that watch it change over by themselves",
            )
        )
        emit(next_line(command("promptops", "serve", str(into), *_proof(trust))))
    return ExitCode.OK


def _proof(trust: "Trust") -> tuple[str, ...]:
    """The options that make a service believe what was believed here."""
    if trust.keys:
        return tuple(part for key in trust.keys for part in ("--trusted-key", key))
    return ("--digest", trust.digest) if trust.digest else ("--allow-unsigned",)


def _load(place: Path, trust: "Trust | None" = None) -> "Bundle":
    """A bundle; showing one needs no trust."""
    from promptops.runtime.bundle import Trust, load_bundle

    return load_bundle(place, trust or Trust(unsigned=True))


def _parsed(files: Mapping[str, bytes], where: str) -> "Bundle":
    """The bundle as a runtime would read it: what cannot be loaded is not exported."""
    from promptops.runtime.bundle import Trust, parse_bundle

    return parse_bundle(files, Trust(unsigned=True), where=where)


def _title(word: str, bundle: "Bundle", rest: str) -> Any:
    from rich.text import Text

    from promptops.report.show import show

    kind = "development bundle" if bundle.development else f"channel {bundle.channel}"
    return Text.assemble(f"{word}  ", show(f"{kind}: {rest}"))


def _releases(bundle: "Bundle") -> Any:
    from promptops.core.digest import short
    from promptops.report.show import show
    from promptops.report.tables import table

    grid = table("prompt", "version", "canary", "seq>", "commit", "prompt digest", "evidence")
    for name, channel in bundle.channels.items():
        canary = f"{channel.canary.version} ({channel.percent}%)" if channel.canary else ""
        grid.add_row(show(name), channel.live.version, canary, str(channel.seq), channel.live.commit[:12], short(channel.live.digest),
                     short(channel.live.evidence) or "none")  # fmt: skip
    return grid


def _shipped(bundle: "Bundle") -> "list[Release]":
    return [item for channel in bundle.channels.values() for item in (channel.live, channel.canary) if item is not None]


def _classifiers(bundle: "Bundle") -> "list[Text]":
    """What the classifiers of the fallback are worth, measured out of fold."""
    from promptops.release.bundle_diff import learned_from
    from promptops.report.show import show

    return [show(f"classifier of {item.name} {item.version}: {learned}") for item in _shipped(bundle) if (learned := learned_from(item))]  # fmt: skip


def _json(bundle: "Bundle") -> dict[str, Any]:
    return {
        "digest": bundle.digest, "channel": bundle.channel, "development": bundle.development,
        "releases": {
            name: {
                "seq": channel.seq, "version": channel.live.version, "commit": channel.live.commit, "prompt_digest": channel.live.digest,
                "evidence": channel.live.evidence, "expires": channel.live.expiry.expires if channel.live.expiry else "",
                "classifier": dict(channel.live.classifier.evidence) if channel.live.classifier else None,
                "canary": channel.canary.version if channel.canary else None, "percent": channel.percent,
                "revoked": sorted(channel.revoked), "runtime": channel.live.settings.as_json(),
            }
            for name, channel in bundle.channels.items()
        },
        "models": {alias: {"provider": spec.provider, "model": spec.model} for alias, spec in bundle.models.items()},
    }  # fmt: skip
