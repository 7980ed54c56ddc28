"""How many streams there may be."""

from collections import Counter
from collections.abc import Callable, Sized

from sinapse.errors import LimitReached


class StreamLimits:
    """The limits of streams, in all, of an address and of a subject; 0 is any number.

    A stream counts from its request on, so that many at once do not get in while the first are
    looked up. With `replaces`, the oldest stream of a subject that has too many is ended; without,
    the newest is refused. `counted` returns the key that counts an address, None for no limit;
    `is_full` returns whether there is no room for a different reason.
    """

    def __init__(
        self,
        *,
        total: int = 0,
        per_address: int = 0,
        per_subject: int = 0,
        replaces: bool = True,
        counted: Callable[[str], str | None] = lambda address: address,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._per_address = per_address
        self.per_subject = per_subject
        self._replaces = replaces
        self._total = total
        self._counted = counted
        self._is_full = is_full
        self._count = 0
        self._by_address: Counter[str] = Counter()

    def opening(self, address: str) -> "_Opening":
        """Count a request for a stream during the ``with`` block of the result.

        Raises :class:`~sinapse.errors.LimitReached`.
        """
        if self._is_full() or 0 < self._total <= self._count:
            raise LimitReached("too many streams", 503)
        key = self._key(address)
        if key is not None and self._by_address[key] >= self._per_address:
            raise LimitReached("too many streams of this address", 429)
        return _Opening(self, address)

    def opened(self, address: str) -> None:
        """Count an open stream."""
        self._count += 1
        if (key := self._key(address)) is not None:
            self._by_address[key] += 1

    def closed(self, address: str) -> None:
        """Count a stream that has ended no longer."""
        self._count -= 1
        if (key := self._key(address)) is not None:
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]

    def exceeded(self, streams: Sized) -> bool:
        """Whether one of the streams of a subject must end for a new one.

        Raises :class:`~sinapse.errors.LimitReached` if the new one is refused.
        """
        if not 0 < self.per_subject <= len(streams):
            return False
        if not self._replaces:
            raise LimitReached("too many streams of this subject", 429)
        return True

    def _key(self, address: str) -> str | None:
        return self._counted(address) if self._per_address else None


class _Opening:
    """A request for a stream, which counts as a stream."""

    __slots__ = ("_address", "_limits")

    def __init__(self, limits: StreamLimits, address: str) -> None:
        self._limits = limits
        self._address = address

    def __enter__(self) -> None:
        self._limits.opened(self._address)

    def __exit__(self, *_: object) -> None:
        self._limits.closed(self._address)
