"""Several processes at one run: together they stay under its caps, and who was replaced begins nothing more."""

import threading
from contextlib import closing

import pytest
from run_rows import header

from promptops.core.errors import EvaluationError
from promptops.project.store import Seat, Store, StoreAddress, open_store

RUN = "20260101-000000-aaaaaa"


def seated(
    address: StoreAddress, worker: str, *, max_nanousd: int | None = None, max_calls: int | None = None
) -> Store:
    store = open_store(address)
    store.take_seat(Seat(run_id=RUN, worker=worker, max_nanousd=max_nanousd, max_calls=max_calls))
    return store


def test_E21_spent_and_booked_never_pass_the_cap_whoever_books(store: Store, store_address: StoreAddress):
    """Four seats book at once: exactly as many calls begin as fit under the cap, counting what was spent before."""
    store.begin_run(header(RUN))
    store.open_seats(RUN, calls=3, booked_nanousd=100)
    booked: list[int] = []

    def book(worker: str) -> None:
        with closing(seated(store_address, worker, max_nanousd=1_000)) as mine:
            booked.append(sum(mine.book([30, 30]) for _ in range(10)))

    threads = [threading.Thread(target=book, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (4, 30) == (len(booked), sum(booked))  # (1000 - 100) / 30


def test_the_first_calls_that_fit_are_booked_and_what_ends_gives_room_back(store: Store, store_address: StoreAddress):
    """Of three calls two fit; when one of them ends for less, another seat has room again, and knows that it may come."""
    store.begin_run(header(RUN))
    store.open_seats(RUN, calls=0, booked_nanousd=0)
    with (
        closing(seated(store_address, "a", max_nanousd=100)) as first,
        closing(seated(store_address, "b", max_nanousd=100)) as second,
    ):
        fitting = first.book([40, 40, 40])
        attempts = first.begin_attempts(RUN, [("k1", 40), ("k2", 40)], "2026-01-01T00:00:00+00:00")
        refused, may_come = second.book([40]), second.may_get_room()
        first.end_attempt(attempts[0], "ok", 10, 40)
        first.settle_seat()
        then = second.book([40])

    assert (2, 0, True, 1) == (fitting, refused, may_come, then)


def test_a_cap_of_calls_is_exact_and_gives_nothing_back(store: Store, store_address: StoreAddress):
    """Calls are never given back: once all are made there is nothing to wait for, whatever is booked for those in flight."""
    store.begin_run(header(RUN))
    store.open_seats(RUN, calls=8, booked_nanousd=0)
    with closing(seated(store_address, "a", max_calls=10)) as mine:
        found = mine.book([50] * 5), mine.book([50]), mine.may_get_room()

    assert (2, 0, False) == found


def test_E17_who_lost_the_seat_begins_no_further_call(store: Store, store_address: StoreAddress):
    """A worker that was replaced, one of a run that somebody took over, and one of a run that ended: each is told so when it books."""
    store.begin_run(header(RUN))
    store.open_seats(RUN, calls=0, booked_nanousd=0)
    with closing(seated(store_address, "a")) as replaced, closing(seated(store_address, "b")) as left_over:
        store.vacate_seat(RUN, "a")
        with pytest.raises(EvaluationError, match="goes on elsewhere"):
            replaced.book([1])
        assert 1 == left_over.book([1])
        store.open_seats(RUN, calls=1, booked_nanousd=1)
        with pytest.raises(EvaluationError, match="goes on elsewhere"):
            left_over.book([1])
    store.close_seats(RUN)
    with pytest.raises(EvaluationError):
        seated(store_address, "c")


def test_without_a_seat_everything_fits(store: Store):
    """A run in one process keeps its cap by itself."""
    assert 3 == store.book([1, 2, 3])
