"""Presence: who is here now, and who was moments ago. No clock.

That is of subjects with open streams, or of channels that a subject may listen to. What comes back
within `grace` seconds was never gone: a page is loaded anew, a network changes, or there is the
pause between two long polls.
"""

from collections.abc import Callable, KeysView
from itertools import takewhile


class Presence:
    """Counts the streams of each subject, or what needs each channel; several count once."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        #: Called with a name that has come (True) or gone (False).
        self.watchers: list[Callable[[bytes, bool], None]] = []
        self._counts: dict[bytes, int] = {}
        #: Names that nothing has, and when they are gone: the first to go stands first.
        self._leaving: dict[bytes, float] = {}

    @property
    def names(self) -> KeysView[bytes]:
        """All that are there."""
        return self._counts.keys()

    def opened(self, name: bytes) -> None:
        """Note that a stream has opened, or that a channel is needed."""
        count = self._counts.get(name)
        self._counts[name] = (count or 0) + 1
        if count is None:
            self._tell(name, True)
        elif count == 0:
            del self._leaving[name]

    def closed(self, name: bytes, now: float) -> None:
        """Note that a stream has ended, or that a channel is not needed any more."""
        self._counts[name] -= 1
        if not self._counts[name]:
            self._leaving[name] = now + self.grace

    def look(self, now: float) -> None:
        """Remove those whose grace period is over."""
        # One walk: to find the first again and again, a dict passes what was removed before it.
        over = [name for name, _ in takewhile(lambda it: it[1] <= now, self._leaving.items())]
        for name in over:
            del self._leaving[name], self._counts[name]
            self._tell(name, False)

    def _tell(self, name: bytes, is_here: bool) -> None:
        for watcher in self.watchers:
            watcher(name, is_here)
