"""Who is there: subjects with open streams here, and those who had one moments ago. No clock.

Who comes back within `grace` seconds was never gone: a page that is loaded anew, a network that
changes, the pause between two long polls.
"""

from collections.abc import Callable, KeysView


class Presence:
    """Counts the streams of each subject; several of one count once."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        #: Told of a subject that has come (True) or gone (False).
        self.watchers: list[Callable[[bytes, bool], None]] = []
        self._streams: dict[bytes, int] = {}
        #: Those without a stream, by when they are gone: the first to go stands first.
        self._leaving: dict[bytes, float] = {}

    @property
    def subjects(self) -> KeysView[bytes]:
        """All who are there."""
        return self._streams.keys()

    def opened(self, subject: bytes) -> None:
        """Take note of a stream."""
        count = self._streams.get(subject)
        self._streams[subject] = (count or 0) + 1
        if count is None:
            self._tell(subject, True)
        elif count == 0:
            del self._leaving[subject]

    def closed(self, subject: bytes, now: float) -> None:
        """Take note of the end of a stream."""
        self._streams[subject] -= 1
        if not self._streams[subject]:
            self._leaving[subject] = now + self.grace

    def look(self, now: float) -> None:
        """Let those go whose time has come."""
        while self._leaving:
            subject, end = next(iter(self._leaving.items()))
            if end > now:
                return
            del self._leaving[subject], self._streams[subject]
            self._tell(subject, False)

    def _tell(self, subject: bytes, is_here: bool) -> None:
        for watcher in self.watchers:
            watcher(subject, is_here)
