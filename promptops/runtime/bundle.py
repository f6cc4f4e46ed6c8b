"""A bundle: what was approved, read whole, verified to the last byte, and only then used.

Nothing in a bundle is executed, unpacked or written: files are read into memory up to a cap, compared with the manifest, and
parsed as JSON. The manifest itself is believed because a trusted key signed it, because its digest was pinned, or because the
caller said that it need not be.
"""

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptops.core.errors import DataError, Problem, RefusedError
from promptops.core.serving import Settings, parse_settings, settings_faults
from promptops.core.version import __version__
from promptops.runtime.expiry import Expiry

if TYPE_CHECKING:
    from promptops.core.checks import Check
    from promptops.core.money import Price
    from promptops.core.prompt import Prompt
    from promptops.models.local.linear import LinearClassifier
    from promptops.runtime.formats import BundleFormat

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
SIGNATURE_NAMESPACE = "promptops-bundle"
MAX_FILES = 2_000
MAX_FILE_BYTES = 64 * 2**20
MAX_BYTES = 256 * 2**20
_SHOWN_PROBLEMS = 50
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*){0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Why a manifest is believed: a signature by one of `keys` (lines `ssh-ed25519 AAAA...`), a pinned `digest`, or nothing at all."""

    keys: tuple[str, ...] = ()
    digest: str = ""
    unsigned: bool = False

    def __post_init__(self) -> None:
        """Raises DataError for a digest that no manifest can have."""
        if self.digest and not _DIGEST.fullmatch(self.digest):
            raise DataError(
                f"{self.digest[:80]!r} is not the digest of a manifest", hint="sha256: and 64 hexadecimal digits"
            )

    @property
    def is_stated(self) -> bool:
        return bool(self.keys or self.digest or self.unsigned)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as the bundle names it; where it is and with which key is the service's to say."""

    alias: str
    provider: str
    model: str
    price: "Price"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version of a prompt with everything it was approved with. `router` and `matcher` are the raw documents, if any."""

    name: str
    version: str
    commit: str
    digest: str
    evidence: str
    prompt: "Prompt"
    settings: Settings
    checks: "tuple[Check, ...]"
    checks_by_category: "Mapping[str, tuple[Check, ...]]"
    knowledge_digest: str = ""
    router: bytes | None = None
    cache: bytes | None = None
    classifier: "LinearClassifier | None" = None
    expiry: Expiry | None = None

    def checks_for(self, category: str) -> "tuple[Check, ...]":
        return self.checks_by_category.get(category, self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What a channel serves of one prompt: `live`, and a `canary` for `percent` of the requests."""

    seq: int
    live: Release
    canary: Release | None = None
    percent: int = 0
    revoked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle. `digest` is that of its manifest, which names every other byte."""

    digest: str
    channel: str
    development: bool
    channels: Mapping[str, Channel]
    models: Mapping[str, ModelSpec]

    def follows(self, other: "Bundle") -> list[Problem]:
        """Why this bundle may not replace `other`: another channel, or an older state of it."""
        problems: list[Problem] = []
        if self.channel != other.channel:
            problems.append(Problem(what=f"it is of channel {self.channel or '(none)'}", why=f"{other.channel or '(none)'} is being served"))  # fmt: skip
        for name, old in other.channels.items():
            new = self.channels.get(name)
            if new is not None and new.seq < old.seq:
                problems.append(Problem(what=f"{name} would go back from event {old.seq} to {new.seq}", why="an older bundle is not a rollback",
                                        hint="promptops rollback, then export again"))  # fmt: skip
            if new is not None and new.live.version in old.revoked and new.seq <= old.seq:
                problems.append(Problem(what=f"{name} {new.live.version} was revoked"))
        return problems


def load_bundle(path: Path, trust: Trust) -> Bundle:
    """The verified bundle at a folder or a .tar file.

    Raises RefusedError listing everything that is wrong with it, DataError when nothing is there or no trust is stated.
    """
    files = read_files(path)
    return parse_bundle(files, trust, where=str(path))


def read_files(path: Path) -> dict[str, bytes]:
    """Every file of a bundle by name. Raises RefusedError for anything that is not a plain file inside it, or too much."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DataError("no bundle", where=str(path), why=error.strerror or "", hint="make one with `promptops export`") from error  # fmt: skip
    try:
        members = list(_folder(path)) if stat.S_ISDIR(mode) else list(_archive(path))
    except OSError as error:
        raise RefusedError("the bundle cannot be read", where=str(path), why=error.strerror or str(error)) from error
    seen: dict[str, str] = {}
    for name, _ in members:
        if name.casefold() in seen:
            raise RefusedError(f"{name[:100]!r} is in the bundle twice", where=str(path), why=f"as {seen[name.casefold()][:100]!r}")  # fmt: skip
        seen[name.casefold()] = name
    return dict(members)


def parse_bundle(files: Mapping[str, bytes], trust: Trust, *, where: str) -> Bundle:
    """The bundle these files are, verified. Raises RefusedError."""
    manifest, digest = check_manifest(files, trust, where=where)
    return _Reader(files, manifest, digest, where).build()


def check_manifest(files: Mapping[str, bytes], trust: Trust, *, where: str) -> tuple[Mapping[str, Any], str]:
    """The manifest and its digest, when it may be believed and every file is as it says. Raises RefusedError."""
    raw = files.get(MANIFEST)
    if raw is None:
        raise RefusedError(f"no {MANIFEST}", where=where, why="it is not a bundle")
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    _check_trust(raw, files.get(SIGNATURE), digest, trust, where)
    _check_age(raw, where)
    manifest = _document(raw, "manifest", MANIFEST, where)
    problems = list(_differences(files, manifest["files"], where))
    if problems:
        raise RefusedError(problems=problems[:_SHOWN_PROBLEMS])
    return manifest, digest


def _check_age(raw: bytes, where: str) -> None:
    """Before anything else is read: a bundle for a newer runtime may have fields, files and settings that this one takes for faults.

    Raises RefusedError that names both versions.
    """
    from promptops.core.jsontext import JsonError, parse_json

    try:
        manifest = parse_json(raw)
    except (JsonError, ValueError, RecursionError):
        return  # told, with the reason, by whoever reads it next
    stated, form = (
        (manifest.get("min_runtime"), manifest.get("promptops")) if isinstance(manifest, dict) else (None, None)
    )
    wanted = stated if isinstance(stated, str) and re.fullmatch(r"\d{1,6}(\.\d{1,6}){2}", stated) else ""
    if (wanted and _numbers(wanted) > _numbers(__version__)) or (type(form) is int and form > FORMAT):
        what = (
            f"the bundle needs promptops >= {wanted}"
            if wanted and _numbers(wanted) > _numbers(__version__)
            else f"the bundle has format {form}"
        )
        raise RefusedError(
            what,
            where=where,
            why=f"this is promptops {__version__}, which reads format {FORMAT}",
            hint="upgrade promptops",
        )


def _check_trust(manifest: bytes, signature: bytes | None, digest: str, trust: Trust, where: str) -> None:
    if not trust.is_stated:
        raise DataError("nothing says why this bundle may be believed", where=where,
                        hint="give trusted keys or the digest of its manifest, or allow unsigned bundles")  # fmt: skip
    if trust.digest and trust.digest != digest:
        raise RefusedError("the manifest is not the one that was pinned", where=where, why=f"its digest is {digest}")
    if trust.keys:
        from promptops.core.sshsig import parse_public_key, parse_signature

        try:
            found = parse_signature((signature or b"").decode("ascii", "replace"))
            keys = [parse_public_key(key) for key in trust.keys]
        except ValueError as error:
            raise RefusedError("the bundle is not signed", where=where, why=str(error)) from None
        if found.key not in keys:
            raise RefusedError("the bundle is signed by a key that is not trusted", where=where, why=found.key.fingerprint)  # fmt: skip
        if found.namespace != SIGNATURE_NAMESPACE or not found.matches(manifest):
            raise RefusedError("the signature does not belong to this manifest", where=where)


def _folder(root: Path) -> Iterator[tuple[str, bytes]]:
    """Files below a folder; opened without following links, and read no further than the caps."""
    total = count = 0
    pending = [root]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda item: item.name):
                path = Path(entry.path)
                name = path.relative_to(root).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    _check_name(name, root)
                    pending.append(path)
                    continue
                if not entry.is_file(follow_symlinks=False):
                    raise RefusedError(f"{name[:100]!r} is not a plain file", where=str(root))
                _check_name(name, root)
                count += 1
                content = _read_plain(path, name, root)
                total += len(content)
                _check_caps(count, total, root)
                yield name, content


def _read_plain(path: Path, name: str, root: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
            raise RefusedError(f"{name[:100]!r} is not a plain file of its own", where=str(root), why="it is linked elsewhere or special")  # fmt: skip
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise RefusedError(f"{name[:100]!r} has more than {MAX_FILE_BYTES} bytes", where=str(root))
    return content


def _archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Members of an uncompressed tar, read as a stream; nothing is written anywhere."""
    total = count = 0
    try:
        with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
            for member in archive:
                count += 1
                _check_caps(count, total, path)
                if (
                    not member.isreg()
                    or member.sparse is not None
                    or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE)
                ):
                    raise RefusedError(f"{member.name[:100]!r} is not a plain file", where=str(path))
                _check_name(member.name, path)
                if member.size > MAX_FILE_BYTES:
                    raise RefusedError(f"{member.name[:100]!r} has more than {MAX_FILE_BYTES} bytes", where=str(path))
                file = archive.extractfile(member)
                content = file.read(MAX_FILE_BYTES + 1) if file else b""
                if len(content) != member.size:
                    raise RefusedError(f"{member.name[:100]!r} is cut off", where=str(path))
                total += len(content)
                _check_caps(count, total, path)
                yield member.name, content
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        raise RefusedError("it is not an uncompressed tar archive", where=str(path), why=str(error)[:120]) from error


def _check_caps(count: int, total: int, where: Path) -> None:
    if count > MAX_FILES or total > MAX_BYTES:
        raise RefusedError("the bundle is too large", where=str(where), why=f"{MAX_FILES} files and {MAX_BYTES} bytes are the most")  # fmt: skip


def _check_name(name: str, where: Path) -> None:
    if len(name) > 300 or not _NAME.fullmatch(name):
        raise RefusedError(f"{name[:100]!r} is not a name that bundles have", where=str(where),
                           why="lower-case letters, digits, '.', '_', '-', and at most four folders deep")  # fmt: skip


def _differences(files: Mapping[str, bytes], listed: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """Every file that is missing, extra, or not what the manifest says."""
    present = files.keys() - {MANIFEST, SIGNATURE}
    yield from (Problem(what=f"{name} is missing", where=where) for name in sorted(listed.keys() - present))
    yield from (Problem(what=f"{name} is not in the manifest", where=where) for name in sorted(present - listed.keys()))
    for name in sorted(present & listed.keys()):
        stated = listed[name]
        if len(files[name]) != stated["size"] or hashlib.sha256(files[name]).hexdigest() != stated["sha256"]:
            yield Problem(what=f"{name} was changed", where=where, why="it is not what the manifest says")


def _document(raw: bytes, form: "BundleFormat", name: str, where: str) -> Any:
    """The JSON of a file that keeps to its schema. Raises RefusedError with every fault."""
    from promptops.core.jsontext import JsonError, parse_json
    from promptops.runtime.formats import bundle_format

    try:
        value = parse_json(raw)
    except (JsonError, ValueError, RecursionError) as error:
        raise RefusedError(f"{name} is not JSON", where=where, why=str(error)[:200]) from None
    schema = bundle_format(form)
    if not schema.accepts(value):
        problems = [Problem(what=f"{name}{item.pointer}: {item.message[:200]}", where=where) for item in schema.violations(value)]  # fmt: skip
        raise RefusedError(problems=problems[:_SHOWN_PROBLEMS])
    return value


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


class _Reader:
    """Turns verified files into values. All faults of all releases are told together."""

    def __init__(self, files: Mapping[str, bytes], manifest: Mapping[str, Any], digest: str, where: str) -> None:
        self.files, self.manifest, self.digest, self.where = files, manifest, digest, where
        self.used = {"models.json"}

    def build(self) -> Bundle:
        problems: list[Problem] = []
        channels: dict[str, Channel] = {}
        models = self._models()
        for name, entry in self.manifest["releases"].items():
            try:
                live = self._release(name, entry["live"], models)
                canary = self._release(name, entry["canary"], models) if entry["canary"] else None
                channels[name] = Channel(seq=entry["seq"], live=live, canary=canary, percent=entry["percent"], revoked=frozenset(entry["revoked"]))  # fmt: skip
            except RefusedError as error:
                problems += error.problems
        unused = sorted(self.files.keys() - self.used - {MANIFEST, SIGNATURE})
        problems += [Problem(what=f"{name} belongs to no release", where=self.where) for name in unused]
        if problems:
            raise RefusedError(problems=problems[:_SHOWN_PROBLEMS])
        return Bundle(digest=self.digest, channel=self.manifest["channel"], development=self.manifest["development"],
                      channels=channels, models=models)  # fmt: skip

    def _models(self) -> dict[str, ModelSpec]:
        from promptops.core.money import Price

        found = self._file("models.json", "models")
        return {
            alias: ModelSpec(
                alias=alias, provider=item["provider"], model=item["model"],
                price=Price(input_nanousd_per_mtok=item["input_nanousd_per_mtok"], output_nanousd_per_mtok=item["output_nanousd_per_mtok"],
                            cached_input_nanousd_per_mtok=item["cached_input_nanousd_per_mtok"]))
            for alias, item in found.items()
        }  # fmt: skip

    def _file(self, name: str, form: "BundleFormat") -> Any:
        if name not in self.files:
            raise RefusedError(f"{name} is missing", where=self.where)
        self.used.add(name)
        return _document(self.files[name], form, name, self.where)

    def _learned(self, name: str) -> bytes | None:
        """A file of numbers, if it is there: a router or a matcher that can be scored. Pickles and other programs are never read."""
        from promptops.runtime.matcher import parse_matcher
        from promptops.runtime.router import parse_router

        raw = self._optional(name)
        if raw is not None:
            parse = parse_router if name.endswith("/router.json") else parse_matcher
            parse(raw, where=name)
        return raw

    def _classifier(self, folder: str, settings: Settings) -> "LinearClassifier | None":
        """The numbers of the step `classifier`, which must be there when it is, and only then."""
        from promptops.models.local.linear import parse_classifier

        if all(step.step != "classifier" for step in settings.fallback):
            return None
        name = f"{folder}/classifier.json"
        document = self._file(name, "classifier")
        try:
            return parse_classifier(document)
        except ValueError as error:
            raise RefusedError(f"{name} is not a classifier", where=self.where, why=str(error)) from None

    def _optional(self, name: str) -> bytes | None:
        self.used.add(name)
        return self.files.get(name)

    def _release(self, name: str, stated: Mapping[str, Any], models: Mapping[str, ModelSpec]) -> Release:
        folder = f"prompts/{name}/{stated['version']}"
        try:
            return self._read_release(folder, name, stated, models)
        except (ValueError, KeyError, TypeError, DataError) as error:
            why = str(error) if isinstance(error, ValueError | DataError) else type(error).__name__
            raise RefusedError(f"{folder} cannot be used", where=self.where, why=why[:300]) from error

    def _read_release(self, folder: str, name: str, stated: Mapping[str, Any], models: Mapping[str, ModelSpec]) -> Release:  # fmt: skip
        document = self._file(f"{folder}/prompt.json", "prompt")
        passages = self._file(f"{folder}/knowledge.json", "knowledge") if document["knowledge"] else []
        prompt = _prompt(document, passages, folder)
        if document["name"] != name or prompt.digest(document["identity"]) != stated["prompt_digest"]:
            raise RefusedError(f"{folder}/prompt.json is not the prompt that was approved", where=self.where,
                               why="its digest differs from the release")  # fmt: skip
        settings = parse_settings(self._file(f"{folder}/runtime.json", "runtime"))
        faults = settings_faults(settings)
        for alias in {settings.small or prompt.model, settings.large or prompt.model, settings.shadow.model} - {""}:
            if alias not in models:
                faults.append(((), f"model {alias!r} is not in models.json"))
        if faults:
            raise RefusedError(problems=[Problem(what=f"{folder}/runtime.json: {what}", where=self.where) for _, what in faults])  # fmt: skip
        if stated["evidence"]:
            self._check_evidence(stated["evidence"])
        elif not self.manifest["development"]:
            raise RefusedError(f"{name} {stated['version']} has no evidence", where=self.where, why="and the bundle is not for development")  # fmt: skip
        if bool(stated.get("expires")) != bool(settings.expires_days):
            raise RefusedError(f"{folder}/runtime.json does not fit the manifest", where=self.where, why="only one of them says that it expires")  # fmt: skip
        checks, by_category = self._checks(f"{folder}/guardrails.json")
        return Release(
            name=name, version=stated["version"], commit=stated["commit"], digest=stated["prompt_digest"], evidence=stated["evidence"],
            prompt=prompt, settings=settings, checks=checks, checks_by_category=by_category,
            knowledge_digest=self.manifest["files"].get(f"{folder}/knowledge.json", {}).get("sha256", ""),
            router=self._learned(f"{folder}/router.json"), cache=self._learned(f"{folder}/cache.json"),
            classifier=self._classifier(folder, settings),
            expiry=Expiry.of(stated.get("expires", ""), settings.expires_days),
        )  # fmt: skip

    def _check_evidence(self, digest: str) -> None:
        raw = self._optional(f"evidence/{digest.removeprefix('sha256:')}.json")
        if raw is None or "sha256:" + hashlib.sha256(raw).hexdigest() != digest:
            raise RefusedError(f"evidence {digest[:19]} is missing or is not what its name says", where=self.where)

    def _checks(self, name: str) -> "tuple[tuple[Check, ...], dict[str, tuple[Check, ...]]]":
        from promptops.core.checks import CHECKS
        from promptops.core.checks.document import parse_check

        document = self._file(name, "guardrails")

        def parse(items: Sequence[Mapping[str, Any]]) -> "tuple[Check, ...]":
            return tuple(parse_check(item, CHECKS, _installed) for item in items)

        return parse(document["checks"]), {key: parse(items) for key, items in document["by_category"].items()}


def _installed(group: str, name: str) -> Any:
    """A user's check function or model, from an installed package; the bundle only names it."""
    from importlib.metadata import entry_points

    for point in entry_points(group=group):
        if point.name == name:
            return point.load()
    raise ValueError(f"no entry point {name!r} in the group {group} is installed here")


def _prompt(document: Mapping[str, Any], passages: Sequence[Mapping[str, str]], where: str) -> "Prompt":
    from promptops.core.knowledge import Passage
    from promptops.core.prompt import Example, Knowledge, MessageTemplate, Prompt
    from promptops.core.schema import compile_schema
    from promptops.core.template import compile_template

    knowledge = document["knowledge"]
    output = document["output"]
    return Prompt(
        name=document["name"], model=document["model"], params=document["params"],
        messages=tuple(MessageTemplate(role=item["role"], template=compile_template(item["content"], where)) for item in document["messages"]),
        input_schema=compile_schema(document["input"]["schema"]), untrusted=tuple(document["input"]["untrusted"]),
        output_format=output["format"], output_schema=compile_schema(output["schema"]) if output["schema"] is not None else None,
        examples=tuple(Example(inputs=item["inputs"], output=item["output"]) for item in document["examples"]),
        knowledge=Knowledge(passages=tuple(Passage(**item) for item in passages), query=knowledge["query"], into=knowledge["into"], top=knowledge["top"],
                            scope_input=knowledge["scope_input"], scope_files=knowledge["scope_files"]) if knowledge else None,
        rules=document["rules"],
    )  # fmt: skip


def prompt_document(prompt: "Prompt", identity: Mapping[str, Any]) -> dict[str, Any]:
    """prompt.json of a prompt that was evaluated as `identity`."""
    knowledge = prompt.knowledge
    return {
        "promptops": FORMAT, "kind": "prompt", "name": prompt.name, "model": prompt.model, "identity": dict(identity), "params": dict(prompt.params),
        "messages": [{"role": item.role, "content": item.template.source} for item in prompt.messages],
        "input": {"schema": prompt.input_schema.document, "untrusted": list(prompt.untrusted)},
        "output": {"format": prompt.output_format, "schema": prompt.output_schema.document if prompt.output_schema else None},
        "examples": [{"inputs": dict(item.inputs), "output": item.output} for item in prompt.examples],
        "knowledge": {"query": knowledge.query, "into": knowledge.into, "top": knowledge.top, "scope_input": knowledge.scope_input,
                      "scope_files": dict(knowledge.scope_files)} if knowledge else None,
        "rules": dict(prompt.rules),
    }  # fmt: skip


def knowledge_document(prompt: "Prompt") -> list[dict[str, str]]:
    """knowledge.json of a prompt."""
    passages = prompt.knowledge.passages if prompt.knowledge else ()
    return [{"id": item.id, "title": item.title, "text": item.text, "source": item.source} for item in passages]
