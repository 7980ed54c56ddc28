"""Presence: subjects with open streams here, and those that had one moments ago. No clock.

A subject that comes back within `grace` seconds was never gone: a page is loaded anew, a network
changes, or there is the pause between two long polls.
"""

from collections.abc import Callable, KeysView


class Presence:
    """Counts the streams of each subject; several of one count once."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        #: Called with a subject that has come (True) or gone (False).
        self.watchers: list[Callable[[bytes, bool], None]] = []
        self._streams: dict[bytes, int] = {}
        #: Subjects without a stream, and when they are gone: the first to go stands first.
        self._leaving: dict[bytes, float] = {}

    @property
    def subjects(self) -> KeysView[bytes]:
        """All subjects that are there."""
        return self._streams.keys()

    def opened(self, subject: bytes) -> None:
        """Note that a stream has opened."""
        count = self._streams.get(subject)
        self._streams[subject] = (count or 0) + 1
        if count is None:
            self._tell(subject, True)
        elif count == 0:
            del self._leaving[subject]

    def closed(self, subject: bytes, now: float) -> None:
        """Note that a stream has ended."""
        self._streams[subject] -= 1
        if not self._streams[subject]:
            self._leaving[subject] = now + self.grace

    def look(self, now: float) -> None:
        """Remove the subjects whose grace period is over."""
        while self._leaving:
            subject, end = next(iter(self._leaving.items()))
            if end > now:
                return
            del self._leaving[subject], self._streams[subject]
            self._tell(subject, False)

    def _tell(self, subject: bytes, is_here: bool) -> None:
        for watcher in self.watchers:
            watcher(subject, is_here)
