"""What every State must do. A test module subclasses `StateContract` and provides the fixtures `clock` and `state`."""

import threading
from collections.abc import Callable

from promptops.runtime.state import Denied, Grant, Hold, State
from runtime.clock import FakeClock


def hold(amount: int = 1, *, limit: int = 10, soft: int | None = None, meter: str = "m", window_s: int = 60) -> Hold:
    return Hold(meter=meter, amount=amount, limit=limit, soft=soft, window_s=window_s)


def together(count: int, work: Callable[[], object]) -> list[object]:
    """What `count` threads that start at the same time return."""
    gate, found = threading.Barrier(count), []

    def run() -> None:
        gate.wait(30)
        found.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


class StateContract:
    """Fixtures: `clock` (a FakeClock) and `state` (an empty State that reads it)."""

    def test_a_value_is_found_under_its_partition_and_key_only(self, state: State) -> None:
        """The partition is a wall: the same key in another partition is another entry."""
        state.put("a", "k", b"1", keep_s=60)

        found = [getattr(state.get(*at), "value", None) for at in (("a", "k"), ("b", "k"), ("a", "K"), ("", "k"))]

        assert [b"1", None, None, None] == found

    def test_a_later_value_replaces_an_earlier_one(self, state: State) -> None:
        """One value a key."""
        state.put("a", "k", b"1", keep_s=60)
        state.put("a", "k", b"\x00\xff", keep_s=60)

        assert b"\x00\xff" == state.get("a", "k").value

    def test_T7_a_value_ages_and_goes(self, state: State, clock: FakeClock) -> None:
        """An entry knows its age and is gone at the end of its time."""
        state.put("a", "k", b"1", keep_s=60)
        clock.advance(59)
        age = state.get("a", "k").age_s
        clock.advance(1)

        assert (59, None) == (round(age), state.get("a", "k"))

    def test_T7_a_clock_that_is_set_back_keeps_nothing_for_ever(self, state: State, clock: FakeClock) -> None:
        """An entry from the future is a miss, not an entry that never ends."""
        state.put("a", "k", b"1", keep_s=60)
        clock.advance(-86_400)

        assert state.get("a", "k") is None

    def test_a_dropped_value_is_gone(self, state: State) -> None:
        """`drop` forgets one value and no other; dropping nothing is fine."""
        state.put("a", "k", b"1", keep_s=60)
        state.put("a", "l", b"2", keep_s=60)
        state.drop("a", "k")
        state.drop("a", "never")

        assert (None, b"2") == (state.get("a", "k"), state.get("a", "l").value)

    def test_values_are_invalidated_by_tag(self, state: State) -> None:
        """Every value with the tag goes, in all partitions; the count is told."""
        state.put("a", "1", b"1", keep_s=60, tags=("prompt:x@v1.0.0", "doc:d"))
        state.put("b", "1", b"2", keep_s=60, tags=("doc:d",))
        state.put("b", "2", b"3", keep_s=60, tags=("doc:e",))

        assert (2, 0) == (state.invalidate("doc:d"), state.invalidate("doc:d"))
        assert (None, None, b"3") == (state.get("a", "1"), state.get("b", "1"), state.get("b", "2").value)

    def test_a_hold_that_does_not_fit_counts_nothing(self, state: State) -> None:
        """All holds or none: a second meter that is full leaves the first as it was."""
        first = state.reserve([hold(4, meter="a"), hold(9, meter="b")], lease_s=60)
        second = state.reserve([hold(4, meter="a"), hold(2, meter="b")], lease_s=60)

        assert isinstance(first, Grant)
        assert isinstance(second, Denied)
        assert ("b", 9, False) == (second.hold.meter, second.used, second.soft)
        assert (4, 9) == (state.used("a", 60), state.used("b", 60))

    def test_two_holds_on_one_meter_count_together(self, state: State) -> None:
        """A meter named twice in one reservation is not counted twice from the same start."""
        assert isinstance(state.reserve([hold(6), hold(5)], lease_s=60), Denied)
        assert isinstance(state.reserve([hold(5), hold(5)], lease_s=60), Grant)
        assert 10 == state.used("m", 60)

    def test_settling_replaces_what_was_reserved(self, state: State) -> None:
        """Less gives room back; more is counted, too."""
        grant = state.reserve([hold(8), hold(3, meter="n")], lease_s=60)
        state.settle(grant, [2, 5])

        assert (2, 5, 0) == (state.used("m", 60), state.used("n", 60), state.reserved())

    def test_settling_twice_changes_nothing(self, state: State) -> None:
        """A repeated settlement is ignored."""
        grant = state.reserve([hold(8)], lease_s=60)
        state.settle(grant, [2])
        state.settle(grant, [0])

        assert 2 == state.used("m", 60)

    def test_T10_a_reservation_nobody_settles_is_released_by_its_lease_and_stays_charged(self, state: State, clock: FakeClock) -> None:  # fmt: skip
        """After the lease it is no reservation any more, and its worst case stays counted; a late settlement is ignored."""
        grant = state.reserve([hold(8)], lease_s=10)
        before = state.reserved()
        clock.advance(10)
        after = state.reserved()
        state.settle(grant, [0])

        assert (1, 0, 8) == (before, after, state.used("m", 60))

    def test_a_soft_limit_denies_until_it_is_passed_on_purpose(self, state: State) -> None:
        """The soft limit warns, the hard one holds."""
        denied = state.reserve([hold(6, soft=5)], lease_s=60)
        granted = state.reserve([hold(6, soft=5)], lease_s=60, pass_soft=True)
        hard = state.reserve([hold(6, soft=5)], lease_s=60, pass_soft=True)

        assert isinstance(granted, Grant)
        assert (True, False) == (denied.soft, hard.soft)

    def test_T13_the_window_slides(self, state: State, clock: FakeClock) -> None:
        """No window of 60 s holds more than the limit; what is older makes room, at the latest one slice after the window."""
        state.reserve([hold(10)], lease_s=600)
        clock.advance(59)
        early = state.reserve([hold(1)], lease_s=60)
        clock.advance(2)
        late = state.reserve([hold(10)], lease_s=60)

        assert isinstance(early, Denied)
        assert 0 < early.retry_after_s <= 2
        assert isinstance(late, Grant)

    def test_T13_a_clock_that_is_set_back_refills_nothing(self, state: State, clock: FakeClock) -> None:
        """Going back in time never makes room that was used."""
        state.reserve([hold(10)], lease_s=600)
        clock.advance(-3600)
        back = state.reserve([hold(1)], lease_s=60)
        clock.advance(3600)
        again = state.reserve([hold(1)], lease_s=60)

        assert isinstance(back, Denied)
        assert isinstance(again, Denied)

    def test_T9_many_threads_never_pass_the_limit(self, state: State) -> None:
        """Of 64 threads that ask at once for 3 of 100, exactly 33 get it."""
        found = together(64, lambda: state.reserve([hold(3, limit=100)], lease_s=60))
        for grant in found:
            if isinstance(grant, Grant):
                state.settle(grant, [3])

        assert (33, 99, 0) == (sum(isinstance(item, Grant) for item in found), state.used("m", 60), state.reserved())

    def test_T1_names_that_look_alike_are_different(self, state: State) -> None:
        """Meters and partitions are compared as they are: no case folding, trimming or normalising."""
        names = ["", "a", "A", "a ", "a|b", "é", "e\u0301"]
        for number, name in enumerate(names):
            state.put(name, "k", str(number).encode(), keep_s=60)
            state.reserve([hold(number + 1, meter=name, limit=100)], lease_s=60)

        assert [str(number).encode() for number in range(len(names))] == [state.get(name, "k").value for name in names]
        assert list(range(1, len(names) + 1)) == [state.used(name, 60) for name in names]
