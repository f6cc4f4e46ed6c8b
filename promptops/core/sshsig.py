"""SSH signatures (SSHSIG, ed25519) and public keys, checked in Python; the format is OpenSSH's PROTOCOL.sshsig."""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALGORITHM = "ssh-ed25519"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
MAGIC = b"SSHSIG"
LARGEST = 16_384
_HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An ed25519 public key as SSH writes it; `blob` is the binary form."""

    blob: bytes

    def __str__(self) -> str:
        return f"{ALGORITHM} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def raw(self) -> bytes:
        return self.blob[-32:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature taken apart; it is not checked yet."""

    key: PublicKey
    namespace: str
    hash_name: bytes
    raw: bytes

    def matches(self, message: bytes) -> bool:
        """Whether the key made this signature over the message in the signature's namespace."""
        from cryptography.exceptions import InvalidSignature

        signed = to_be_signed(message, self.namespace, self.hash_name)
        try:
            _loaded(self.key.raw).verify(self.raw, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


@lru_cache(maxsize=256)
def _loaded(raw: bytes) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(raw)


def parse_public_key(text: str) -> PublicKey:
    """The key of a line `ssh-ed25519 AAAA... [comment]`. Raises ValueError for other kinds and for what is no key."""
    kind, _, rest = text.strip().partition(" ")
    if kind != ALGORITHM:
        raise ValueError(f"{kind[:40]!r} is not {ALGORITHM}, the only kind of key that is supported")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
        parts = split_strings(blob)
    except (binascii.Error, ValueError, IndexError):
        raise ValueError("the key is not well-formed") from None
    if len(parts) != 2 or parts[0] != ALGORITHM.encode() or len(parts[1]) != 32:
        raise ValueError("the key is not well-formed")
    return PublicKey(blob)


def parse_signature(armored: str) -> Signature:
    """A signature from its armored text. Raises ValueError saying what is wrong; nothing is checked against a message."""
    text = armored.replace("\r\n", "\n")
    if not text.startswith(BEGIN) or not text.rstrip("\n").endswith(END.rstrip("\n")) or len(text) > LARGEST:
        raise ValueError("not an SSH signature")
    body = text.removeprefix(BEGIN).rstrip("\n").removesuffix(END.rstrip("\n"))
    try:
        blob = base64.b64decode(body.replace("\n", ""), validate=True)
        key, namespace, reserved, hash_name, signature = split_strings(blob[10:])
        kind, raw = split_strings(signature)
        key_kind, key_raw = split_strings(key)
    except (binascii.Error, struct.error, ValueError):
        raise ValueError("not a well-formed SSH signature") from None
    if blob[:10] != MAGIC + struct.pack(">I", 1):
        raise ValueError("not an SSH signature of version 1")
    if kind != ALGORITHM.encode() or key_kind != kind or len(raw) != 64 or len(key_raw) != 32:
        raise ValueError(f"the signature is not by an {ALGORITHM} key")
    if hash_name not in _HASHES or reserved:
        raise ValueError("the signature uses a hash or a field that is not supported")
    return Signature(key=PublicKey(key), namespace=namespace.decode("utf-8", "replace"), hash_name=hash_name, raw=raw)


def to_be_signed(message: bytes, namespace: str, hash_name: bytes) -> bytes:
    """The bytes that a key signs for a message in a namespace."""
    return MAGIC + join_strings(namespace.encode(), b"", hash_name, _HASHES[hash_name](message).digest())


def join_strings(*parts: bytes) -> bytes:
    """The parts as SSH writes strings: each after its length."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def split_strings(data: bytes) -> list[bytes]:
    """The strings that a blob is made of. Raises ValueError when it does not end with the last."""
    parts: list[bytes] = []
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise ValueError("cut off")
        (length,) = struct.unpack(">I", data[position : position + 4])
        position += 4 + length
        if position > len(data):
            raise ValueError("cut off")
        parts.append(data[position - length : position])
    return parts
