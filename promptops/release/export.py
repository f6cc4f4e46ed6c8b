"""The bundle of what is released: the same commit gives the same bytes on every machine."""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from promptops.core.checks import Check
from promptops.core.checks.document import check_document
from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import Json, canonical_json, parse_json
from promptops.core.serving import Settings, parse_settings
from promptops.evaluation.clients import identify, input_names
from promptops.evaluation.judge import subject_of
from promptops.project.config import Config, ModelConfig, load_config, resolve_model
from promptops.project.git import GitTree
from promptops.project.golden import read_cases
from promptops.project.project import Evaluable, Project
from promptops.runtime.bundle import (  # fmt: skip
    FORMAT,
    MANIFEST,
    SIGNATURE,
    SIGNATURE_NAMESPACE,
    knowledge_document,
    prompt_document,
)
from promptops.runtime.expiry import expiry_of

MIN_RUNTIME = "0.1.0"
"""Oldest promptops that reads what is written here: raise it with every field, file or setting that an older one does not know."""

_RUNS_IN_A_SERVICE = ("rules", "echo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """One version of a prompt as it goes into a bundle; `evidence` is the signed statement, empty in development.

    `released_at` is the date of its record, or of the commit in development: what expires is counted from there, never from a clock.
    """

    version: str
    commit: str
    evaluable: Evaluable
    config: Config
    model: ModelConfig
    identity: Mapping[str, Json]
    evidence: bytes = b""
    released_at: str = ""

    @property
    def folder(self) -> str:
        return f"prompts/{self.evaluable.prompt.name}/{self.version}"

    @property
    def settings(self) -> Settings:
        return parse_settings(self.evaluable.suite.runtime)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a channel serves of one prompt."""

    live: Shipped
    canary: Shipped | None = None
    percent: int = 0
    seq: int = 0
    revoked: tuple[str, ...] = ()

    @property
    def shipped(self) -> tuple[Shipped, ...]:
        return (self.live, self.canary) if self.canary else (self.live,)


def shipped_at(project: Project, name: str, *, at: str, version: str, model: str = "") -> Shipped:
    """A prompt as it was in a commit, by the configuration of that commit. Raises DataError with every problem."""
    commit = project.git.commit(at)
    tree = GitTree(project.git, commit)
    then = replace(project, tree=tree, config=load_config(tree))
    evaluable = then.load(name)
    found = resolve_model(then.config, model or evaluable.prompt.model or then.config.default_model)
    identity = identify(found, evaluable.prompt, evaluable.scan.digest)
    return Shipped(version=version, commit=commit, evaluable=evaluable, config=then.config, model=found, identity=identity, released_at=project.git.date_of(commit))  # fmt: skip


def bundle_files(served: Sequence[Served], *, channel: str, development: bool) -> dict[str, bytes]:
    """Every file of the bundle but the signature. Raises DataError for what cannot run in a service, listing all of it."""
    files: dict[str, bytes] = {}
    models: dict[str, dict[str, Json]] = {}
    problems: list[Problem] = []
    for shipped in (item for entry in served for item in entry.shipped):
        try:
            files |= _release_files(shipped)
            models |= _models(shipped)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems=problems)
    files["models.json"] = canonical_json(models)
    manifest = {
        "promptops": FORMAT, "kind": "bundle", "channel": channel, "min_runtime": MIN_RUNTIME, "development": development,
        "files": {name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in files.items()},
        "releases": {entry.live.evaluable.prompt.name: _served_json(entry) for entry in served},
    }  # fmt: skip
    return files | {MANIFEST: canonical_json(manifest)}


def sign_files(files: Mapping[str, bytes], sign: Any) -> dict[str, bytes]:
    """The files with a signature over the manifest; `sign(message, namespace)` gives an armored SSH signature."""
    return {**files, SIGNATURE: sign(files[MANIFEST], SIGNATURE_NAMESPACE).encode()}


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of the files with nothing in it that depends on when, where or by whom it is made."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_bundle(files: Mapping[str, bytes], place: Path, *, as_archive: bool) -> None:
    """Write the bundle to a new folder, or to a file. Raises DataError when something is there already or the disk refuses."""
    from promptops.runtime.pointer import write_folder

    try:
        there = place.exists() and (as_archive or not place.is_dir() or any(place.iterdir()))
        if there:
            raise DataError(f"{place} is there already", hint="name a new place: a bundle is never changed")
        if as_archive:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive(files))
        else:
            write_folder(dict(files), place)
    except OSError as error:
        raise DataError("the bundle cannot be written", where=str(place), why=error.strerror or str(error)) from error


def _served_json(entry: Served) -> dict[str, Json]:
    return {
        "seq": entry.seq, "live": _release_json(entry.live), "canary": _release_json(entry.canary) if entry.canary else None,
        "percent": entry.percent, "revoked": sorted(entry.revoked),
    }  # fmt: skip


def _release_json(shipped: Shipped) -> dict[str, Json]:
    days = shipped.settings.expires_days
    if days and not shipped.released_at:
        raise DataError(f"{shipped.evaluable.prompt.name} {shipped.version} has no date that runtime.expires_days could be counted from", hint="export a commit")  # fmt: skip
    try:
        expires = expiry_of(shipped.released_at, days)
    except ValueError as error:
        raise DataError(f"{shipped.evaluable.prompt.name} {shipped.version} cannot expire", why=str(error), hint="correct runtime.expires_days") from error  # fmt: skip
    return {
        "version": shipped.version, "commit": shipped.commit, "prompt_digest": shipped.evaluable.prompt.digest(shipped.identity),
        "subject": subject_of(shipped.config, shipped.evaluable, shipped.identity), "evidence": _digest(shipped.evidence) if shipped.evidence else "",
        **({"expires": expires} if expires else {}),
    }  # fmt: skip


def _release_files(shipped: Shipped) -> dict[str, bytes]:
    evaluable, folder = shipped.evaluable, shipped.folder
    prompt = replace(evaluable.prompt, model=shipped.model.alias)
    suite = evaluable.suite
    online = {
        "checks": _documents(suite.checks, suite.online),
        "by_category": {name: _documents(checks, suite.online) for name, checks in suite.by_category.items()},
    }
    files: dict[str, Json] = {
        "prompt.json": prompt_document(prompt, shipped.identity), "guardrails.json": online, "runtime.json": shipped.settings.as_json(),
    }  # fmt: skip
    if prompt.knowledge:
        files["knowledge.json"] = knowledge_document(prompt)
    for step in shipped.settings.fallback:
        if step.step == "classifier":
            files["classifier.json"] = _classifier(evaluable, step.min_confidence)
    found = {f"{folder}/{name}": canonical_json(value) for name, value in files.items()}
    for name, path in (("router.json", f"prompts/{prompt.name}/router.json"), ("cache.json", f"prompts/{prompt.name}/cache.json")):  # fmt: skip
        try:
            found[f"{folder}/{name}"] = canonical_json(parse_json(evaluable.tree.read(path)))
        except FileNotFoundError:
            continue
    if shipped.evidence:
        found[f"evidence/{_digest(shipped.evidence).removeprefix('sha256:')}.json"] = shipped.evidence
    return found


def _classifier(evaluable: Evaluable, min_confidence: float) -> dict[str, Json]:
    """The numbers that the step `classifier` answers by, learned from the golden cases of the commit."""
    from promptops.models.local.rules import Rules
    from promptops.release.fallback_classifier import fit_classifier

    prompt, text = evaluable.prompt, input_names(evaluable.prompt)
    rules = Rules(prompt.rules.get("rules", {}), text)
    cases = read_cases(evaluable.tree, evaluable.suite, evaluable.scan)
    return fit_classifier(prompt.rules["classifier"], text, rules, cases, min_confidence=min_confidence).as_json()


def _documents(checks: Iterable[Check], online: frozenset[str]) -> list[dict[str, Json]]:
    return [check_document(check) for check in checks if check.name in online]


def _models(shipped: Shipped) -> dict[str, dict[str, Json]]:
    """Every model the release may ask: name and price, no address and no key."""
    settings, name = shipped.settings, shipped.evaluable.prompt.name
    own = shipped.model.alias
    aliases = dict.fromkeys(
        (settings.large or own, settings.small or own, *((settings.shadow.model,) if settings.shadow.model else ()))
    )
    wanted = [shipped.model if alias == own else resolve_model(shipped.config, alias) for alias in aliases]
    found: dict[str, dict[str, Json]] = {}
    for model in wanted:
        kind = (model.model or str(shipped.evaluable.prompt.rules.get("default", ""))) if model.provider == "local" else model.model  # fmt: skip
        if model.provider == "local" and kind not in _RUNS_IN_A_SERVICE:
            raise DataError(f"local:{kind} does not run in a service", where=name,
                            why="it needs the golden cases or a numerical library",
                            hint="set runtime.small and runtime.large, and model of the prompt, to models that do: " + ", ".join(_RUNS_IN_A_SERVICE))  # fmt: skip
        price = model.price
        found[model.alias] = {
            "provider": model.provider, "model": kind, "input_nanousd_per_mtok": price.input_nanousd_per_mtok,
            "cached_input_nanousd_per_mtok": price.cached_input_nanousd_per_mtok, "output_nanousd_per_mtok": price.output_nanousd_per_mtok,
        }  # fmt: skip
    return found


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
