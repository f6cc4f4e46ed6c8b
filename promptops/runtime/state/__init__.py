"""What requests share: cached answers and budget meters, behind one Protocol.

Every implementation passes the same contract suite (tests/runtime/state_contract.py).
"""

from promptops.runtime.state.base import (
    BUCKETS,
    Denied,
    Entry,
    Grant,
    Hold,
    State,
    StateError,
    bucket_of,
    retry_after_s,
)
from promptops.runtime.state.memory import MemoryState

__all__ = ["BUCKETS", "Denied", "Entry", "Grant", "Hold", "MemoryState", "State", "StateError", "bucket_of", "retry_after_s"]  # fmt: skip
