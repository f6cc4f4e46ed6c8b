"""SSH signatures (SSHSIG, ed25519): made with a key file or an agent, checked in Python.

The format is OpenSSH's PROTOCOL.sshsig; the agent is asked by draft-ietf-sshm-ssh-agent. `ssh-keygen -Y verify` reads what is
made here, and git does.
"""

import base64
import socket
import struct
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from promptops.core.errors import DataError, EvaluationError
from promptops.core.sshsig import (
    ALGORITHM,
    BEGIN,
    END,
    LARGEST,
    MAGIC,
    PublicKey,
    join_strings,
    parse_public_key,
    split_strings,
    to_be_signed,
)

_AGENT_TIMEOUT_S = 120.0  # a person may have to touch a token or confirm
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key that can sign; `origin` says where it is, for people."""

    key: PublicKey
    origin: str
    _sign: Callable[[bytes], bytes] = field(repr=False, compare=False)

    def sign(self, message: bytes, namespace: str) -> str:
        """An armored signature. Raises EvaluationError when an agent does not sign."""
        raw = self._sign(to_be_signed(message, namespace, b"sha512"))
        blob = MAGIC + struct.pack(">I", 1) + join_strings(
            self.key.blob, namespace.encode(), b"", b"sha512", join_strings(ALGORITHM.encode(), raw)
        )  # fmt: skip
        return BEGIN + "\n".join(textwrap.wrap(base64.b64encode(blob).decode(), 70)) + "\n" + END


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
    return Signer(key=PublicKey(join_strings(ALGORITHM.encode(), raw)), origin=str(path), _sign=private.sign)


def _public(text: str, where: str) -> PublicKey:
    try:
        return parse_public_key(text)
    except ValueError as error:
        raise DataError("the signing key cannot be used", where=where, why=str(error)) from error


def _agent_signer(key: PublicKey, agent: str, origin: str) -> Signer:
    if not agent:
        raise DataError("the signing key is a public key, and no agent is running", where=origin, hint="start ssh-agent and `ssh-add` the key")  # fmt: skip

    def sign(data: bytes) -> bytes:
        request = bytes([_SIGN_REQUEST]) + join_strings(key.blob, data) + struct.pack(">I", 0)
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
            ((kind, raw),) = (tuple(split_strings(part)) for part in split_strings(answer[1:]))
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
    if not 1 <= length <= LARGEST:
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
