"""Real SSH keys for tests, made by the library that reads them; ssh-keygen is what they are checked against."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from promptops.release.sshsig import Signer, open_signer


def make_key(path: Path) -> Path:
    """An ed25519 key file in OpenSSH's format with its .pub; always the same for one file name."""
    private = Ed25519PrivateKey.from_private_bytes(path.name.encode().ljust(32, b".")[:32])
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    path.with_name(path.name + ".pub").write_text(f"{line} {path.name}\n")
    return path


def signer_of(path: Path) -> Signer:
    return open_signer(str(make_key(path)))
