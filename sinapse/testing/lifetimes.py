"""How long something is kept while messages are captured, by a clock that is never set."""

import time


def seconds(lifetime: int | None) -> float:
    """Return a time of so many milliseconds in seconds; infinity for ever."""
    return float("inf") if lifetime is None else lifetime / 1000


def end_of(lifetime: int | None) -> float:
    """Return when so many milliseconds from now are over, on the monotonic clock."""
    return time.monotonic() + seconds(lifetime)


def is_over(end: float) -> bool:
    """Whether that has come."""
    return end <= time.monotonic()
