"""API keys of a service: only their hashes are kept, and each belongs to one tenant."""

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from promptops.core.errors import DataError, Problem
from promptops.core.jsontext import JsonError, parse_json

VARIABLE = "PROMPTOPS_API_KEYS"
_HASH = re.compile(r"[0-9a-f]{64}")
_PREFIX = "po-"


class Keys:
    """Tenants by key. `tenant` compares hashes, so that neither file, memory nor timing gives a key away."""

    def __init__(self, tenants: Mapping[str, str]) -> None:
        """`tenants`: sha256 of a key, as hex -> tenant."""
        self._tenants = dict(tenants)

    def __len__(self) -> int:
        return len(self._tenants)

    def tenant(self, key: str) -> str | None:
        """Whose key this is; None when it is nobody's."""
        return self._tenants.get(key_hash(key))

    def new_id(self, tenant: str) -> str:
        """An id for a reply to this tenant that nobody can guess, and that no other tenant can use."""
        nonce = secrets.token_hex(8)
        return f"{nonce}-{_mark(nonce, self._hashes(tenant)[0])}"

    def is_of(self, reply_id: str, tenant: str) -> bool:
        """Whether `new_id` gave this tenant the id, in whichever process; also after the tenant got a further key."""
        nonce, _, mark = reply_id.partition("-")
        return any(
            secrets.compare_digest(mark.encode(), _mark(nonce, found).encode()) for found in self._hashes(tenant)
        )

    def _hashes(self, tenant: str) -> list[str]:
        return sorted(digest for digest, name in self._tenants.items() if name == tenant) or [""]


def _mark(nonce: str, digest: str) -> str:
    """Keyed by the hash of an API key, which is as random as the key: a name of a tenant could be guessed from its hash."""
    return hashlib.blake2b(nonce.encode("utf-8", "replace"), key=digest.encode(), digest_size=6).hexdigest()


def key_hash(key: str) -> str:
    """A key is 256 random bits, so one round of sha256 keeps it secret."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(file: Path | None, environ: Mapping[str, str] = os.environ) -> Keys:
    """Keys of a file (`{"keys": [{"sha256": ..., "tenant": ...}]}`) and of PROMPTOPS_API_KEYS (`tenant:sha256,...`).

    Raises DataError with every problem.
    """
    entries = [(f"{VARIABLE} entry {number}", *entry.strip().rpartition(":")[::2])
               for number, entry in enumerate(filter(None, environ.get(VARIABLE, "").split(",")), 1)]  # fmt: skip
    if file is not None:
        entries += [(f"{file}: key {number}", *item) for number, item in enumerate(_rows(file), 1)]
    problems: list[Problem] = []
    tenants: dict[str, str] = {}
    for where, tenant, digest in entries:
        if not tenant.strip() or not _HASH.fullmatch(digest):
            problems.append(Problem(what="not a tenant with the sha256 of a key", where=where, hint="make one with `promptops serve --new-key TENANT --keys FILE`"))  # fmt: skip
        elif tenants.setdefault(digest, tenant) != tenant:
            problems.append(Problem(what="one key for two tenants", where=where, hint="give each tenant a key of its own"))  # fmt: skip
    if problems:
        raise DataError(problems=problems)
    return Keys(tenants)


def new_key(file: Path, tenant: str) -> str:
    """A new key of a tenant, told this once; its hash is added to the file. Raises DataError, or OSError when it is not kept."""
    if not tenant.strip():
        raise DataError("a key needs a tenant")
    rows = _rows(file) if file.exists() else []
    key = _PREFIX + secrets.token_urlsafe(32)
    document = {"keys": [{"sha256": digest, "tenant": name} for name, digest in (*rows, (tenant, key_hash(key)))]}
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            json.dump(document, target, indent=2, ensure_ascii=False)
            target.write("\n")
            target.flush()
            os.fsync(target.fileno())
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return key


def _rows(file: Path) -> list[tuple[str, str]]:
    """(tenant, hash) of a file's keys."""
    try:
        document = parse_json(file.read_bytes())
        return [(str(row["tenant"]), str(row["sha256"])) for row in document["keys"]]
    except (JsonError, KeyError, TypeError) as error:
        raise DataError("not a file of keys", where=str(file), why=f"{type(error).__name__}: {error}"[:200],
                        hint='{"keys": [{"sha256": "<hex>", "tenant": "<name>"}]}') from None  # fmt: skip
    except OSError as error:
        raise DataError("the keys cannot be read", where=str(file), why=error.strerror or "") from error
