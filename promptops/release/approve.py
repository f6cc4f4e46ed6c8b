"""Approval: a passed gate becomes signed evidence, and a person's sign-off a second statement on the same subject."""

import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from promptops.core.errors import DataError, EvaluationError, RefusedError
from promptops.core.jsontext import Json
from promptops.core.version import __version__
from promptops.evaluation.compare import compare_runs
from promptops.evaluation.policy import PolicyChange, loosened_schemas, policy_changes
from promptops.evaluation.summary import Row, Summary, summarize
from promptops.evaluation.verdicts import StoredVerdict, load_verdict, verdict_of
from promptops.project.git import GitTree
from promptops.project.prompts import load_prompt, prompt_names
from promptops.project.store import Run, Store
from promptops.project.suites import load_suite
from promptops.release.content import Content, content_at
from promptops.release.desk import Desk
from promptops.release.evidence import SIGN_OFF, TEST_RESULT, Evidence, envelope, put_evidence, read_evidence, statement
from promptops.release.ledger import VersionTag, read_ledger
from promptops.release.share import Share, evidence_prefix, prefixes_of
from promptops.release.tags import utc

_MAX_COMMENT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What came of it: the evidence (None when the gate says no, with `reasons`), and all that is known about the subject."""

    prompt: str
    subject: str
    run: str
    against: str
    evidence: Evidence | None
    published: bool
    reasons: tuple[str, ...] = ()
    all_evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gate:
    """A run judged for release: why not, and what the evidence says about it."""

    summary: Summary
    verdict: StoredVerdict | None
    changes: tuple[PolicyChange, ...]
    reasons: tuple[str, ...]


def approve(
    desk: Desk, store: Store, name: str, *, run_id: str, accepted: Sequence[str], at: str, offline: bool
) -> Approval:
    """Turn a run that passed into evidence for the content of a commit.

    Raises DataError when the run is of other content or covers only a part, EvaluationError when there is no run or no comparison
    with the version before, RefusedError without a key where signatures are asked for.
    """
    _look(desk, name, offline=offline)
    content, run = _content_and_run(desk, store, name, run_id, at)
    latest = read_ledger(desk.git, name).latest(name)
    gate = _judge(desk, store, run, content, latest, accepted=tuple(accepted))
    against = latest.name.version.tag if latest else ""
    if gate.reasons:
        return Approval(
            prompt=name,
            subject=content.subject,
            run=run.id,
            against=against,
            evidence=None,
            published=False,
            reasons=gate.reasons,
        )
    tagger, _, signer = desk.acting()
    predicate = _test_result(
        store, run, content, gate, accepted=tuple(accepted), against=against, actor=tagger.email, now=utc(desk.clock())
    )
    return _put(
        desk,
        content,
        kind=TEST_RESULT,
        predicate=predicate,
        name=name,
        run=run.id,
        against=against,
        offline=offline,
        signed=signer is not None,
    )


def approved_before(desk: Desk, subject: str) -> bool:
    """Whether a trusted signature says that exactly this content passed its gate; never in unsigned mode, where anybody could."""
    if desk.trust.unsigned:
        return False
    if desk.remote:
        with suppress(EvaluationError):  # without it what is here decides, and less is approved, not more
            Share(desk.git, desk.remote).look([evidence_prefix(subject)])
    known = read_evidence(desk.git, desk.trust, [subject], desk.clock())
    return any(item.kind == TEST_RESULT and item.counts for item in known)


def sign_off(desk: Desk, name: str, *, comment: str, at: str, model: str, judge: str, offline: bool) -> Approval:
    """Say as a person that the content of a commit may be released. Raises RefusedError without a key where signatures are asked for."""
    if len(comment) > _MAX_COMMENT:
        raise DataError(f"the comment has more than {_MAX_COMMENT} characters")
    _look(desk, name, offline=offline)
    content = content_at(desk.project, name, at, model=model, judge=judge)
    tagger, _, signer = desk.acting()
    detail = {
        "actor": tagger.email,
        "at": utc(desk.clock()),
        "prompt": name,
        "commit": content.commit,
        "version": __version__,
    }
    predicate: dict[str, Json] = {"decision": "approved", "comment": comment, "promptops": detail}
    return _put(
        desk,
        content,
        kind=SIGN_OFF,
        predicate=predicate,
        name=name,
        run="",
        against="",
        offline=offline,
        signed=signer is not None,
    )


def _put(
    desk: Desk, content: Content, *, kind: str, predicate: dict[str, Json], name: str, run: str, against: str, offline: bool, signed: bool
) -> Approval:  # fmt: skip
    subject = content.subject
    made = envelope(
        statement(prompt=name, subject=subject, kind=kind, predicate=predicate), desk.signer() if signed else None
    )
    stored, oid = put_evidence(desk.git, subject, made)
    known = read_evidence(desk.git, desk.trust, [subject], desk.clock())
    own = next(item for item in known if item.name == stored)
    if not own.counts:
        desk.git.change_refs([f"delete {stored.ref} {oid}"])
        what = "approve" if kind == SIGN_OFF else "sign evidence"
        raise RefusedError(
            f"you may not {what}",
            why=own.signature.why,
            hint="have your key listed with that role on the protected branch",
        )
    published = bool(desk.remote) and not offline
    if published:
        Share(desk.git, desk.remote).push({stored.ref: oid})
    return Approval(
        prompt=name,
        subject=subject,
        run=run,
        against=against,
        evidence=own,
        published=published,
        all_evidence=tuple(known),
    )


def _look(desk: Desk, name: str, *, offline: bool) -> None:
    if desk.remote and not offline:
        Share(desk.git, desk.remote).look(prefixes_of(name))


def _content_and_run(desk: Desk, store: Store, name: str, run_id: str, at: str) -> tuple[Content, Run]:
    """The content of the commit, and a complete run over all of it."""
    if run_id and run_id != "latest":
        run = store.run(run_id)
        if run.header.prompt != name:
            raise DataError(
                f"run {run.id} is of {run.header.prompt}", hint=f"promptops approve {run.header.prompt} --run {run.id}"
            )
        content = content_at(desk.project, name, at, model=run.header.model, judge=_judge_of(run))
        if run.header.subject != content.subject:
            raise DataError(f"run {run.id} is not of {name} as {at} has it", why=_what_differs(run, content),
                            hint=f"`promptops eval {name}` evaluates what is there; commit what you evaluated")  # fmt: skip
    else:
        known = store.runs(name)
        if not known:
            raise EvaluationError(f"no run of {name}", hint=f"promptops eval {name}")
        content = content_at(desk.project, name, at, model=known[0].header.model, judge=_judge_of(known[0]))
        fitting = [run for run in known if run.header.subject == content.subject and _whole(run)]
        if not fitting:
            raise EvaluationError(f"no complete run of {name} as {at} has it", why=_what_differs(known[0], content),
                                  hint=f"promptops eval {name}")  # fmt: skip
        judged = [run for run in fitting if load_verdict(desk.project.root, run.id)]
        run = (judged or fitting)[0]
    if not _whole(run):
        raise EvaluationError(
            f"run {run.id} is {run.state} or covers only some cases",
            why="evidence needs every case",
            hint=f"promptops eval {name}",
        )
    return content, run


def _judge_of(run: Run) -> str:
    """The judge that was asked for by name; '' for that of the suite, or none."""
    return str(run.header.judge.get("choice", ""))


def _whole(run: Run) -> bool:
    selection = run.header.selection
    partial = any(selection.get(key) for key in ("categories", "tags", "ids")) or selection.get("limit") is not None
    return run.state == "complete" and not partial


def _what_differs(run: Run, content: Content) -> str:
    pairs = {
        "the prompt": (run.header.prompt_digest, content.prompt_digest), "golden cases": (run.header.golden_digest, content.evaluable.scan.digest),
        "the suite": (run.header.suite_digest, content.evaluable.suite_digest), "the rubric": (run.header.rubric_digest, content.evaluable.rubric_digest),
        "the judge": (run.header.judge_digest, content.judge_digest),
    }  # fmt: skip
    different = [part for part, (before, after) in pairs.items() if before != after]
    return f"different: {', '.join(different)}" if different else "the run covers only some cases, or is not complete"


def _judge(
    desk: Desk, store: Store, run: Run, content: Content, latest: VersionTag | None, *, accepted: tuple[str, ...]
) -> _Gate:
    summary = summarize(store, run)
    reasons = [
        f"{row.name} is below its floor: {row.passed} of {row.scored} pass, {row.floor:.0%} are asked for"
        for row in summary.missed_floors
    ]
    if latest is None or latest.record is None:
        return _Gate(summary=summary, verdict=None, changes=(), reasons=tuple(reasons))
    verdict = _verdict(desk, store, run, latest)
    if verdict is not None and verdict.blocked:
        reasons.append(
            f"worse than {latest.name.version.tag}: {', '.join(verdict.blocking)} (`promptops explain {run.id} CATEGORY`)"
        )
    changes = _changes(desk, store, run, content, latest)
    weaker = [change for change in changes if change.name not in accepted]
    reasons += [
        f"its gate is weaker than that of {latest.name.version.tag}: {change.what} (--accept-policy-change {change.name})"
        for change in weaker
    ]
    return _Gate(summary=summary, verdict=verdict, changes=changes, reasons=tuple(reasons))


def _verdict(desk: Desk, store: Store, run: Run, latest: VersionTag) -> StoredVerdict | None:
    """How the run compares with the version before: what --against said, else what two stored runs say.

    None when the prompt itself is the same. Raises EvaluationError when there is nothing to say it by.
    """
    record = latest.record
    assert record is not None, "the caller has a version that can be read"
    if record.prompt_digest == run.header.prompt_digest:
        return None
    kept = load_verdict(desk.project.root, run.id)
    if kept and (kept.base_prompt_digest == record.prompt_digest or kept.base_commit == record.commit):
        return kept
    for other in store.runs(run.header.prompt):
        header = other.header
        same = (header.golden_digest, header.suite_digest, header.rubric_digest) == (
            run.header.golden_digest, run.header.suite_digest, run.header.rubric_digest,
        )  # fmt: skip
        if same and header.prompt_digest == record.prompt_digest and _whole(other):
            return verdict_of(compare_runs(store, other, run))
    raise EvaluationError(
        f"{run.header.prompt} was not compared with {latest.name.version.tag}", why="a new version must not be worse than the one before",
        hint=f"promptops eval {run.header.prompt} --against {latest.name.tag}",
    )  # fmt: skip


def _changes(desk: Desk, store: Store, run: Run, content: Content, latest: VersionTag) -> tuple[PolicyChange, ...]:
    """What the gate of the content asks less of than that of the released version did."""
    name = content.evaluable.prompt.name
    tree = GitTree(desk.git, desk.git.commit(latest.tag.target))
    if name not in prompt_names(tree) or f"{name}.yaml" not in tree.names("golden"):
        return ()
    before = load_suite(tree, name, load_prompt(tree, name))
    return (
        *policy_changes(tree, before, content.evaluable),
        *loosened_schemas(store, run, before, content.evaluable.suite),
    )


def _test_result(
    store: Store, run: Run, content: Content, gate: _Gate, *, accepted: tuple[str, ...], against: str, actor: str, now: str
) -> dict[str, Json]:  # fmt: skip
    """The predicate: result and tests as in-toto has them, and in `promptops` what led to it."""
    summary, ledger = gate.summary, gate.summary.ledger
    evaluable = content.evaluable
    rows = [*summary.categories, *summary.slices]
    verdicts = {row.category: row for row in gate.verdict.rows} if gate.verdict else {}
    warned = [
        row.name for row in rows if row.name in verdicts and verdicts[row.name].verdict not in ("PASS", "IMPROVED")
    ]
    parts = {
        "prompt": content.prompt_digest,
        "golden": evaluable.scan.digest,
        "suite": evaluable.suite_digest,
        "rubric": evaluable.rubric_digest,
        "judge": content.judge_digest,
    }
    detail: dict[str, Json] = {
        "actor": actor, "at": now, "prompt": evaluable.prompt.name, "commit": content.commit, "run": run.id, "started_at": run.header.started_at,
        "finished_at": run.finished_at, "draws": run.header.repeat, "model": dict(content.model), "judge": dict(run.header.judge), "answered_by": store.models_of(run.id),
        "total": _row(summary.total), "categories": [_row(row) for row in summary.categories], "slices": [_row(row) for row in summary.slices],
        "checks": [asdict(check) for check in summary.checks],
        "cost_nanousd": ledger.paid_nanousd, "possibly_paid_nanousd": ledger.possibly_nanousd, "attempts": ledger.attempts,
        "tools": {"promptops": __version__, "evaluated_with": run.header.version, "python": platform.python_version()},
        "gate": _gate_json(gate, accepted, against),
    }  # fmt: skip
    return {
        "result": "PASSED", "configuration": [{"name": part, "digest": {"sha256": digest.removeprefix("sha256:")}} for part, digest in parts.items() if digest],
        "passedTests": [row.name for row in rows if row.name not in warned], "warnedTests": warned, "failedTests": [], "promptops": detail,
    }  # fmt: skip


def _gate_json(gate: _Gate, accepted: tuple[str, ...], against: str) -> dict[str, Json]:
    verdict = gate.verdict
    judged: dict[str, Json] = {"against": against, "policy_changes": [{"name": item.name, "what": item.what} for item in gate.changes],
                               "accepted": sorted(set(accepted) & {item.name for item in gate.changes})}  # fmt: skip
    if verdict is not None:
        judged |= {"baseline": verdict.baseline, "candidate": verdict.candidate, "base_prompt_digest": verdict.base_prompt_digest,
                   "alpha": verdict.alpha, "method": verdict.method, "rows": [asdict(row) for row in verdict.rows]}  # fmt: skip
    return judged


def _row(row: Row) -> dict[str, Json]:
    interval = row.interval
    return {"name": row.name, "passed": row.passed, "scored": row.scored, "unscored": row.unscored, "rate": row.rate,
            "low": interval.low if interval else None, "high": interval.high if interval else None, "floor": row.floor,
            "cost_nanousd": row.cost_nanousd}  # fmt: skip
