"""SSH signatures (SSHSIG, ed25519): made with a key file or an agent, checked in Python.

The format is OpenSSH's PROTOCOL.sshsig; the agent is asked by draft-ietf-sshm-ssh-agent. `ssh-keygen -Y verify` reads what is
made here, and git does.
"""

import base64
import binascii
import hashlib
import socket
import struct
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from promptops.core.errors import DataError, EvaluationError

ALGORITHM = "ssh-ed25519"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
_MAGIC = b"SSHSIG"
_HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}
_LARGEST = 16_384
_AGENT_TIMEOUT_S = 120.0  # a person may have to touch a token or confirm
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14


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
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        signed = _to_be_signed(message, self.namespace, self.hash_name)
        try:
            Ed25519PublicKey.from_public_bytes(self.key.raw).verify(self.raw, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key that can sign; `origin` says where it is, for people."""

    key: PublicKey
    origin: str
    _sign: Callable[[bytes], bytes] = field(repr=False, compare=False)

    def sign(self, message: bytes, namespace: str) -> str:
        """An armored signature. Raises EvaluationError when an agent does not sign."""
        raw = self._sign(_to_be_signed(message, namespace, b"sha512"))
        blob = _MAGIC + struct.pack(">I", 1) + _strings(
            self.key.blob, namespace.encode(), b"", b"sha512", _strings(ALGORITHM.encode(), raw)
        )  # fmt: skip
        return BEGIN + "\n".join(textwrap.wrap(base64.b64encode(blob).decode(), 70)) + "\n" + END


def parse_public_key(text: str) -> PublicKey:
    """The key of a line `ssh-ed25519 AAAA... [comment]`. Raises ValueError for other kinds and for what is no key."""
    kind, _, rest = text.strip().partition(" ")
    if kind != ALGORITHM:
        raise ValueError(f"{kind[:40]!r} is not {ALGORITHM}, the only kind of key that is supported")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
        parts = list(_split(blob))
    except (binascii.Error, ValueError, IndexError):
        raise ValueError("the key is not well-formed") from None
    if len(parts) != 2 or parts[0] != ALGORITHM.encode() or len(parts[1]) != 32:
        raise ValueError("the key is not well-formed")
    return PublicKey(blob)


def parse_signature(armored: str) -> Signature:
    """A signature from its armored text. Raises ValueError saying what is wrong; nothing is checked against a message."""
    text = armored.replace("\r\n", "\n")
    if not text.startswith(BEGIN) or not text.rstrip("\n").endswith(END.rstrip("\n")) or len(text) > _LARGEST:
        raise ValueError("not an SSH signature")
    body = text.removeprefix(BEGIN).rstrip("\n").removesuffix(END.rstrip("\n"))
    try:
        blob = base64.b64decode(body.replace("\n", ""), validate=True)
        key, namespace, reserved, hash_name, signature = _split(blob[10:])
        kind, raw = _split(signature)
        key_kind, key_raw = _split(key)
    except (binascii.Error, struct.error, ValueError):
        raise ValueError("not a well-formed SSH signature") from None
    if blob[:10] != _MAGIC + struct.pack(">I", 1):
        raise ValueError("not an SSH signature of version 1")
    if kind != ALGORITHM.encode() or key_kind != kind or len(raw) != 64 or len(key_raw) != 32:
        raise ValueError(f"the signature is not by an {ALGORITHM} key")
    if hash_name not in _HASHES or reserved:
        raise ValueError("the signature uses a hash or a field that is not supported")
    return Signature(key=PublicKey(key), namespace=namespace.decode("utf-8", "replace"), hash_name=hash_name, raw=raw)


def open_signer(place: str, *, agent: str = "") -> Signer:
    """A signer from a private key file, a public key file or `key::ssh-ed25519 ...` whose private half an agent holds.

    `agent` is the path of the agent's socket. Raises DataError when there is no usable key.
    """
    literal = place.removeprefix("key::")
    if literal.startswith(ALGORITHM + " "):
        return _agent_signer(_public(literal, "the signing key"), agent, "agent")
    path = Path(place).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError("the signing key cannot be read", where=str(path), why=error.strerror or "",
                        hint="set PROMPTOPS_SIGNING_KEY, or `git config user.signingkey`, to an ed25519 key file") from error  # fmt: skip
    if content.startswith(ALGORITHM.encode() + b" "):
        return _agent_signer(_public(content.decode("utf-8", "replace"), str(path)), agent, str(path))
    return _file_signer(path, content, agent)


def _file_signer(path: Path, content: bytes, agent: str) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        private = load_ssh_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        public = path.with_name(path.name + ".pub")
        if "assword" in str(error) and public.is_file() and agent:
            return _agent_signer(_public(public.read_text("utf-8", "replace"), str(public)), agent, str(path))
        locked = "assword" in str(error)
        raise DataError("the signing key cannot be used", where=str(path), why="it has a passphrase" if locked else "it is not an OpenSSH private key",
                        hint="put it into an agent (`ssh-add`) and name its .pub file" if locked else "make one with `ssh-keygen -t ed25519`") from error  # fmt: skip
    if not isinstance(private, Ed25519PrivateKey):
        raise DataError(
            "the signing key is not an ed25519 key", where=str(path), hint="make one with `ssh-keygen -t ed25519`"
        )
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Signer(key=PublicKey(_strings(ALGORITHM.encode(), raw)), origin=str(path), _sign=private.sign)


def _public(text: str, where: str) -> PublicKey:
    try:
        return parse_public_key(text)
    except ValueError as error:
        raise DataError("the signing key cannot be used", where=where, why=str(error)) from error


def _agent_signer(key: PublicKey, agent: str, origin: str) -> Signer:
    if not agent:
        raise DataError("the signing key is a public key, and no agent is running", where=origin, hint="start ssh-agent and `ssh-add` the key")  # fmt: skip

    def sign(data: bytes) -> bytes:
        request = bytes([_SIGN_REQUEST]) + _strings(key.blob, data) + struct.pack(">I", 0)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_AGENT_TIMEOUT_S)
                connection.connect(agent)
                connection.sendall(struct.pack(">I", len(request)) + request)
                answer = _receive(connection, _receive_length(connection))
            if answer[:1] != bytes([_SIGN_RESPONSE]):
                raise EvaluationError(
                    "the agent did not sign", why=f"it may not hold {key.fingerprint}", hint="see `ssh-add -l`"
                )
            ((kind, raw),) = (tuple(_split(part)) for part in _split(answer[1:]))
        except (OSError, ValueError) as error:
            raise EvaluationError(
                "the agent did not answer", where=agent, why=str(error), hint="see `ssh-add -l`"
            ) from error
        if kind != ALGORITHM.encode() or len(raw) != 64:
            raise EvaluationError("the agent signed with another kind of key", where=agent)
        return raw

    return Signer(key=key, origin=f"agent ({origin})" if origin != "agent" else "agent", _sign=sign)


def _receive_length(connection: socket.socket) -> int:
    (length,) = struct.unpack(">I", _receive(connection, 4))
    if not 1 <= length <= _LARGEST:
        raise ValueError("an answer of impossible length")
    return int(length)


def _receive(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise ValueError("it closed the connection")
        found += part
    return found


def _to_be_signed(message: bytes, namespace: str, hash_name: bytes) -> bytes:
    return _MAGIC + _strings(namespace.encode(), b"", hash_name, _HASHES[hash_name](message).digest())


def _strings(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _split(data: bytes) -> list[bytes]:
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
