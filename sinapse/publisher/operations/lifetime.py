"""How long a token lives, or a grant: ``expires_in``, checked."""

from sinapse.publisher.operations.numbers import is_number, shown

#: Seconds, 317 years: more is a mistake, and Redis refuses a time beyond its clock.
MAX_LIFETIME = 10**10


def lifetime(seconds: object) -> int | None:
    """Return a time of some seconds in milliseconds, None for ever.

    Raises ``ValueError`` for what is no number above 0, or too large.
    """
    if seconds is None:
        return None
    if not is_number(seconds) or not 0 < seconds <= MAX_LIFETIME:
        raise ValueError(
            f"expires_in is seconds, over 0 and up to {MAX_LIFETIME}: {shown(seconds)}"
        )
    return max(1, round(seconds * 1000))
