"""A clock that tests move by hand."""

from promptops.runtime.testing import FakeClock

__all__ = ["FakeClock"]
