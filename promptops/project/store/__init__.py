"""The run store: runs, answers, the ledger of paid calls and the limits that runs share."""

from promptops.project.store.address import StoreAddress, open_store
from promptops.project.store.base import Store
from promptops.project.store.folder import FILE, prepare_folder
from promptops.project.store.rows import (
    JUDGE_KEYS,
    Ledger,
    RateLimit,
    Result,
    Run,
    RunHeader,
    RunKind,
    RunState,
    Seat,
    StoredAnswer,
    Verdict,
)
from promptops.project.store.sqlite import VERSION, SqliteStore

__all__ = [
    "FILE",
    "JUDGE_KEYS",
    "VERSION",
    "Ledger",
    "RateLimit",
    "Result",
    "Run",
    "RunHeader",
    "RunKind",
    "RunState",
    "Seat",
    "SqliteStore",
    "Store",
    "StoreAddress",
    "StoredAnswer",
    "Verdict",
    "open_store",
    "prepare_folder",
]
