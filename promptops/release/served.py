"""What channels serve, ready to be shipped: every version is recomputed from its commit and compared with its signed record."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from promptops.core.errors import DataError, Problem, RefusedError, did_you_mean
from promptops.core.jsontext import Json
from promptops.evaluation.clients import identify
from promptops.evaluation.judge import subject_of
from promptops.project.config import Config, ModelConfig, load_config, resolve_model
from promptops.project.git import GitTree
from promptops.project.project import Evaluable, Project
from promptops.release.desk import Desk
from promptops.release.evaluated_models import check_models
from promptops.release.evidence import TEST_RESULT, read_evidence
from promptops.release.export import Served, Shipped
from promptops.release.ledger import Ledger, VersionTag, read_ledger
from promptops.release.names import EVIDENCE, Version
from promptops.release.versions import VersionRecord


def served_by(desk: Desk, channel: str, names: Sequence[str] = ()) -> list[Served]:
    """What a channel serves of these prompts, or of all that have it.

    Raises RefusedError for a record, a signature or evidence that does not count, DataError when nothing is promoted there.
    """
    ledger = read_ledger(desk.git)
    have = sorted(prompt for prompt, name in ledger.events if name == channel)
    wanted = sorted(set(names)) or have
    for name in wanted:
        if name not in have:
            raise DataError(f"nothing of {name[:80]!r} was ever promoted to {channel!r}", hint=did_you_mean(name, have) or f"promptops promote {name[:80]}@VERSION --to {channel}")  # fmt: skip
    if not wanted:
        known = sorted({name for _, name in ledger.events})
        raise DataError(f"channel {channel!r} serves nothing", hint=did_you_mean(channel, known) or f"promptops promote NAME@VERSION --to {channel}")  # fmt: skip
    return [_served(desk, ledger, name, channel) for name in wanted]


def _served(desk: Desk, ledger: Ledger, name: str, channel: str) -> Served:
    state = desk.judge.channel(ledger, name, channel)
    if state.fault:
        raise RefusedError(f"channel {channel} of {name} is not sound", where=state.faulty_ref, why=state.fault, hint="see `promptops status`")  # fmt: skip
    if state.live is None:
        raise DataError(f"channel {channel} of {name} serves nothing yet")
    return Served(
        live=_shipped(desk, ledger, name, state.live), canary=_shipped(desk, ledger, name, state.canary) if state.canary else None,
        percent=state.percent if state.canary else 0, seq=state.seq, revoked=tuple(version.tag for version in sorted(state.bad)),
    )  # fmt: skip


def _shipped(desk: Desk, ledger: Ledger, name: str, version: Version) -> Shipped:
    item: VersionTag | None = ledger.versions.get(name, {}).get(version)
    if item is None or item.record is None:
        raise RefusedError(f"{name} {version.tag} cannot be read", why=item.fault if item else "its tag is missing", hint="git fetch --tags")  # fmt: skip
    signature = desk.judge.version(item)
    if not signature.counts:
        raise RefusedError(f"the release {name} {version.tag} does not count", where=item.name.ref, why=signature.why)
    record = item.record
    evaluable, config, model = _content(desk.project, name, record)
    found = {"prompt": evaluable.prompt.digest(record.model), "subject": subject_of(config, evaluable, record.model)}
    stated = {"prompt": record.prompt_digest, "subject": record.subject}
    if found != stated:
        differing = [what for what in found if found[what] != stated[what]]
        raise RefusedError(problems=[Problem(what=f"the {what} of {name} {version.tag} is not what was released", where=record.commit[:12],
                                             why=f"it is {found[what][:19]}, the record says {stated[what][:19]}") for what in differing])  # fmt: skip
    shipped = Shipped(version=version.tag, commit=record.commit, evaluable=evaluable, config=config, model=model, identity=record.model,
                      evidence=_evidence(desk, name, record), released_at=record.at)  # fmt: skip
    check_models(desk, shipped)
    return shipped


def _content(project: Project, name: str, record: VersionRecord) -> tuple[Evaluable, Config, ModelConfig]:
    """The prompt of the record's commit, by the configuration of that commit, and the model that its identity names."""
    tree = GitTree(project.git, project.git.commit(record.commit))
    then = replace(project, tree=tree, config=load_config(tree))
    evaluable = then.load(name)
    aliases = [evaluable.prompt.model or then.config.default_model, *then.config.models, "local", *(f"local:{kind}" for kind in ("rules", "echo"))]  # fmt: skip
    for alias in aliases:
        model = resolve_model(then.config, alias)
        if _identity(model, evaluable) == dict(record.model):
            return evaluable, then.config, model
    raise RefusedError(f"no model of the configuration is the one that {name} {record.version.tag} was evaluated with", where=record.commit[:12])  # fmt: skip


def _identity(model: ModelConfig, evaluable: Evaluable) -> Mapping[str, Json]:
    try:
        return identify(model, evaluable.prompt, evaluable.scan.digest)
    except DataError:  # a local model that the prompt does not configure
        return {}


def _evidence(desk: Desk, name: str, record: VersionRecord) -> bytes:
    """The stored statement that the record names, byte for byte, if it still counts."""
    if not record.evidence:
        raise RefusedError(f"{name} {record.version.tag} was released without evidence", hint="evaluate and release it with evidence, or export with --development")  # fmt: skip
    ref = f"{EVIDENCE}{record.subject.removeprefix('sha256:')}/{record.evidence.removeprefix('sha256:')}"
    oid = desk.git.refs([ref]).get(ref)
    content = desk.git.objects([oid])[oid][1] if oid else b""
    if "sha256:" + hashlib.sha256(content).hexdigest() != record.evidence:
        raise RefusedError(f"the evidence of {name} {record.version.tag} is {'changed' if oid else 'missing'}", where=ref, hint="git fetch, or evaluate again")  # fmt: skip
    for item in read_evidence(desk.git, desk.trust, [record.subject], desk.clock()):
        if item.digest == record.evidence and item.counts and item.kind == TEST_RESULT:
            return content
        if item.digest == record.evidence:
            raise RefusedError(f"the evidence of {name} {record.version.tag} does not count", where=ref, why=item.fault or item.signature.why)  # fmt: skip
    raise RefusedError(f"the evidence of {name} {record.version.tag} is about something else", where=ref)
