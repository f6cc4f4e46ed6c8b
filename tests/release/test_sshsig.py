"""SSH signatures: what Python makes ssh-keygen accepts, what ssh-keygen makes Python accepts, and nothing else."""

import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptops.core.errors import DataError, EvaluationError
from promptops.core.sshsig import parse_public_key, parse_signature
from promptops.release.sshsig import Signer, open_signer
from promptops.release.trust import Trust, parse_signers
from release.keys import make_key, signer_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MESSAGE = b"what was signed\n"


@pytest.fixture(autouse=True)
def _ssh() -> None:
    """CI has OpenSSH; elsewhere its tests are passed over."""
    if shutil.which("ssh-keygen") is None and not os.environ.get("CI"):
        pytest.skip("ssh-keygen is not here")


@pytest.fixture
def ana(tmp_path: Path) -> Signer:
    return signer_of(tmp_path / "ana")


def trust(text: str) -> Trust:
    return Trust(entries=parse_signers(text, "signers"), source="signers")


def judged(
    found: Trust,
    armored: str,
    *,
    message: bytes = MESSAGE,
    actor: str = "ana@example.com",
    when: datetime = NOW,
    role: str = "promptops-promote",
):
    return found.judge(armored, message, namespace="git", roles=[role], actor=actor, when=when).status


def test_ssh_keygen_accepts_what_is_signed_here(tmp_path: Path, ana: Signer):
    """The oracle is OpenSSH itself, with the same allowed_signers file."""
    (tmp_path / "signers").write_text(f'ana@example.com namespaces="git,promptops-promote" {ana.key}\n')
    (tmp_path / "sig").write_text(ana.sign(MESSAGE, "git"))
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "ana@example.com", "-n", "git", "-s", "sig"]

    good = subprocess.run(command, cwd=tmp_path, input=MESSAGE, capture_output=True, check=False)
    changed = subprocess.run(command, cwd=tmp_path, input=MESSAGE + b"x", capture_output=True, check=False)

    assert (0, True) == (good.returncode, changed.returncode != 0), good.stderr


def test_what_ssh_keygen_signs_is_accepted_here(tmp_path: Path, ana: Signer):
    """Both hashes that OpenSSH can use."""
    for hash_name in ("sha512", "sha256"):
        (tmp_path / "message").write_bytes(MESSAGE)
        subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-O", f"hashalg={hash_name}", "-f", "ana", "-n", "git", "message"], cwd=tmp_path, check=True,
                       capture_output=True)  # fmt: skip
        armored = (tmp_path / "message.sig").read_text()
        (tmp_path / "message.sig").unlink()
        assert "trusted" == judged(trust(f"ana@example.com {ana.key}"), armored)


def test_an_agent_signs_for_a_key_with_a_passphrase(tmp_path: Path):
    """The private half never leaves the agent; without one, the message says what to do."""
    key = make_key(tmp_path / "ana")
    started = subprocess.run(
        ["ssh-agent", "-a", str(tmp_path / "agent"), "-s"], check=True, capture_output=True, text=True
    ).stdout
    agent = str(tmp_path / "agent")
    pid = started.partition("SSH_AGENT_PID=")[2].partition(";")[0]
    try:
        subprocess.run(
            ["ssh-add", "-q", str(key)], env=os.environ | {"SSH_AUTH_SOCK": agent}, check=True, capture_output=True
        )
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(key)], check=True)
        for place in (str(key), f"{key}.pub", "key::" + Path(f"{key}.pub").read_text().strip()):
            signer = open_signer(place, agent=agent)
            assert parse_signature(signer.sign(MESSAGE, "git")).matches(MESSAGE)
        other = make_key(tmp_path / "bob")
        with pytest.raises(EvaluationError, match="did not sign"):
            open_signer(f"{other}.pub", agent=agent).sign(MESSAGE, "git")
    finally:
        os.kill(int(pid), 15)
    with pytest.raises(DataError, match="passphrase"):
        open_signer(str(key))


def test_a_key_that_cannot_sign_says_why(tmp_path: Path):
    """Missing file, no key, other kind of key."""
    (tmp_path / "text").write_text("hello")
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", "ecdsa"], cwd=tmp_path, check=True)
    for name, why in (
        ("none", "cannot be read"),
        ("text", "not an OpenSSH private key"),
        ("ecdsa", "not an ed25519 key"),
        ("ecdsa.pub", "not an OpenSSH"),
    ):
        with pytest.raises(DataError, match=why):
            open_signer(str(tmp_path / name))


def test_roles_namespaces_and_names_decide(ana: Signer, tmp_path: Path):
    """A key without the role, an unlisted key, another's name, another namespace, another message: each its own answer."""
    armored = ana.sign(MESSAGE, "git")
    line = f"ana@example.com {{}} {ana.key}"

    assert {
        "trusted": judged(trust(line.format('namespaces="git,promptops-promote"')), armored),
        "no-role": judged(trust(line.format('namespaces="git,promptops-approve"')), armored),
        "unknown-key": judged(trust(f"bob@example.com {signer_of(tmp_path / 'bob').key}"), armored),
        "unsigned": judged(trust(line.format("")), ""),
        "bad": judged(trust(line.format("")), armored, actor="bob@example.com"),
    } == {key: key for key in ("trusted", "no-role", "unknown-key", "unsigned", "bad")}
    assert ["bad", "bad", "bad"] == [
        judged(trust(line.format("")), armored, message=MESSAGE + b"x"),
        judged(trust(line.format("")), ana.sign(MESSAGE, "file")),
        judged(trust(line.format("")), "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"),
    ]
    assert "no-role" == judged(trust(line.format('namespaces="*,!promptops-promote"')), armored)


def test_a_key_counts_from_and_until_its_dates(ana: Signer):
    """The last moment is before valid-before."""
    found = trust(f'ana@example.com valid-after="20260101Z",valid-before="20270101Z" {ana.key}')
    armored = ana.sign(MESSAGE, "git")
    times = [
        datetime(2025, 12, 31, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC) - timedelta(seconds=1),
        datetime(2027, 1, 1, tzinfo=UTC),
    ]

    assert ["expired", "trusted", "trusted", "expired"] == [judged(found, armored, when=when) for when in times]


def test_every_wrong_line_of_a_signers_file_is_named(ana: Signer):
    """All at once, with the line: unknown options, other keys, times without a zone, certificates."""
    text = f"""# comment

ana@example.com {ana.key} laptop
ana@example.com namespace="git" {ana.key}
ana@example.com ssh-rsa AAAA
ana@example.com valid-before="20270101" {ana.key}
*@example.com cert-authority {ana.key}
ana@example.com ssh-ed25519 {str(ana.key)[12:40]}
ana@example.com
"""
    with pytest.raises(DataError) as caught:
        parse_signers(text, "signers")

    assert [f"signers:{line}" for line in range(4, 10)] == [problem.where for problem in caught.value.problems]


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_R1_a_signature_with_any_bit_flipped_is_refused(tmp_path_factory, place: int, bit: int):
    """Flipped anywhere in the signed bytes or the signature's binary form, it does not count."""
    import base64

    signer = signer_of(tmp_path_factory.getbasetemp() / "flip")
    found = trust(f"ana@example.com {signer.key}")
    armored = signer.sign(MESSAGE, "git")
    body = bytearray(base64.b64decode("".join(armored.splitlines()[1:-1])))
    body[place % len(body)] ^= 1 << bit
    changed = "-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(body).decode() + "\n-----END SSH SIGNATURE-----\n"
    message = bytearray(MESSAGE)
    message[place % len(message)] ^= 1 << bit

    assert judged(found, changed) not in ("trusted", "unchecked")
    assert "bad" == judged(found, armored, message=bytes(message))


def test_a_public_key_is_written_as_it_was_read(ana: Signer):
    """Fingerprints are those of `ssh-keygen -l`."""
    assert ana.key == parse_public_key(f"{ana.key} comment")
    assert ana.key.fingerprint.startswith("SHA256:")
