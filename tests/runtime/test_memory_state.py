"""The state of one process."""

import pytest

from promptops.runtime.state import MemoryState
from runtime.clock import FakeClock
from runtime.state_contract import StateContract, hold


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def state(clock: FakeClock) -> MemoryState:
    return MemoryState(clock=clock)


class TestMemoryState(StateContract):
    """The contract, in memory."""


def test_the_least_recently_used_value_goes_first(clock: FakeClock) -> None:
    """Reading a value keeps it; the bound on entries holds."""
    state = MemoryState(clock=clock, max_entries=2)
    state.put("p", "a", b"1", keep_s=60)
    state.put("p", "b", b"1", keep_s=60)
    state.get("p", "a")
    state.put("p", "c", b"1", keep_s=60)

    assert [True, False, True] == [state.get("p", key) is not None for key in "abc"]


def test_memory_is_bounded_in_bytes(clock: FakeClock) -> None:
    """Large values push out others, and one larger than everything is not kept."""
    state = MemoryState(clock=clock, max_bytes=10_000)
    state.put("p", "a", b"x" * 6_000, keep_s=60)
    state.put("p", "b", b"x" * 6_000, keep_s=60)
    state.put("p", "c", b"x" * 20_000, keep_s=60)

    assert [False, True, False] == [state.get("p", key) is not None for key in "abc"]


def test_T34_meters_of_tenants_that_are_gone_are_forgotten(clock: FakeClock, state: MemoryState) -> None:
    """Ever new tenants do not fill the memory: an idle meter goes when there are very many."""
    for number in range(100_000):
        state.reserve([hold(meter=str(number))], lease_s=1)
    clock.advance(120)
    state.reserve([hold(meter="new")], lease_s=1)

    assert len(state._meters) < 10
