"""Requests that nobody could answer now, kept until somebody does: at least once, with an idempotency key.

A job is taken under a lease. Whoever does not say `done` within it has lost it, and another worker gets it; a job that was
taken too often without success is put aside (`dead`) for a person to look at.
"""

from promptops.runtime.queue.base import Counts, DurableQueue, Job, open_queue

__all__ = ["Counts", "DurableQueue", "Job", "open_queue"]
