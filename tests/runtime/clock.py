"""A clock that tests move by hand."""


class FakeClock:
    """Seconds, monotonic unless a test turns it back."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
