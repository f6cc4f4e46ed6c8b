"""Evidence: in-toto statements about a subject, in DSSE envelopes signed with SSH keys, kept as refs by their content.

A test result says that the gate passed; a sign-off says that a person agrees. Both name the subject by its digest.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from promptops.core.jsontext import Json, JsonError, canonical_json, parse_json
from promptops.project.git import Git
from promptops.release.names import EvidenceName, parse_ref
from promptops.release.share import evidence_prefix
from promptops.release.sshsig import Signer
from promptops.release.trust import SignatureState, Trust

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
SIGN_OFF = "urn:promptops:sign-off:v1"
PAYLOAD = "application/vnd.in-toto+json"
ROLES = {TEST_RESULT: "promptops-evidence", SIGN_OFF: "promptops-approve"}
"""Who may sign which statement; the namespace of the signature is the role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A stored statement: what it says, who says so, and whether the signature counts. `fault` says why it is none."""

    name: EvidenceName
    kind: str
    actor: str
    at: str
    predicate: Mapping[str, Json]
    signature: SignatureState
    fault: str = ""

    @property
    def counts(self) -> bool:
        return not self.fault and self.signature.counts

    @property
    def digest(self) -> str:
        return f"sha256:{self.name.digest}"


def statement(*, prompt: str, subject: str, kind: str, predicate: Mapping[str, Json]) -> dict[str, Json]:
    """An in-toto statement over a subject (`sha256:...`)."""
    named = {"name": f"prompts/{prompt}", "digest": {"sha256": subject.removeprefix("sha256:")}}
    return {"_type": STATEMENT, "subject": [named], "predicateType": kind, "predicate": dict(predicate)}


def envelope(content: Mapping[str, Json], signer: Signer | None) -> bytes:
    """The DSSE envelope of a statement, signed when there is a key; the same statement and key give the same bytes."""
    payload = canonical_json(dict(content))
    signatures: list[Json] = []
    if signer is not None:
        armored = signer.sign(pre_authentication(payload), ROLES[str(content["predicateType"])])
        signatures.append({"keyid": signer.key.fingerprint, "sig": base64.b64encode(armored.encode()).decode()})
    return canonical_json(
        {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD, "signatures": signatures}
    )


def pre_authentication(payload: bytes) -> bytes:
    """What DSSE signs: type and payload with their lengths. Source: DSSE v1, protocol.md, PAE."""
    kind = PAYLOAD.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def name_of(subject: str, content: bytes) -> EvidenceName:
    return EvidenceName(subject.removeprefix("sha256:"), hashlib.sha256(content).hexdigest())


def put_evidence(git: Git, subject: str, content: bytes) -> tuple[EvidenceName, str]:
    """Store an envelope under its name; (name, object id). Storing the same again changes nothing."""
    name = name_of(subject, content)
    oid = git.write_object("blob", content)
    if git.refs([evidence_prefix(subject)]).get(name.ref) != oid:
        git.change_refs([f"create {name.ref} {oid}"])
    return name, oid


def read_evidence(git: Git, trust: Trust, subjects: Sequence[str], now: datetime) -> list[Evidence]:
    """Everything stored about the subjects, or about all when none is named; in order of what it says about time."""
    prefixes = [evidence_prefix(subject) for subject in subjects] or ["refs/promptops/evidence/"]
    listed = git.refs(prefixes)
    contents = git.objects(dict.fromkeys(listed.values()))
    found = [
        _check(name, contents[oid][1], trust, now)
        for ref, oid in listed.items()
        if isinstance(name := parse_ref(ref), EvidenceName)
    ]
    return sorted(found, key=lambda item: (item.at, item.name.digest))


def _check(name: EvidenceName, content: bytes, trust: Trust, now: datetime) -> Evidence:
    def faulty(why: str) -> Evidence:
        return Evidence(
            name=name,
            kind="",
            actor="",
            at="",
            predicate={},
            signature=SignatureState(status="bad", why=why),
            fault=why,
        )

    if hashlib.sha256(content).hexdigest() != name.digest:
        return faulty("its content is not what its name says")
    try:
        parts = parse_json(content)
        payload = base64.b64decode(parts["payload"], validate=True)
        said = parse_json(payload)
        armored = [base64.b64decode(item["sig"], validate=True).decode("ascii") for item in parts["signatures"]]
        kind, predicate, subjects = said["predicateType"], said["predicate"], said["subject"]
        named = subjects[0]["digest"]["sha256"]
        detail = predicate["promptops"]
        actor, at = str(detail["actor"]), str(detail["at"])
    except (JsonError, KeyError, TypeError, IndexError, ValueError, binascii.Error):
        return faulty("it is not an envelope of a statement")
    if parts.get("payloadType") != PAYLOAD or said.get("_type") != STATEMENT or kind not in ROLES or len(subjects) != 1:
        return faulty("it is a statement of another kind")
    if named != name.subject:
        return faulty("it is about another subject")
    if kind == TEST_RESULT and predicate.get("result") != "PASSED":
        return faulty("it does not say that the gate passed")
    role = ROLES[kind]
    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        when = now
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    states = [
        trust.judge(item, pre_authentication(payload), namespace=role, roles=[role], actor=actor, when=when)
        for item in armored or [""]
    ]
    best = next((state for state in states if state.counts), states[0])
    return Evidence(name=name, kind=kind, actor=actor, at=at, predicate=predicate, signature=best)
