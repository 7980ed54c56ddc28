"""What becomes of sessions while messages are captured."""

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sinapse.publisher.operations.sessions import (
    EndSession,
    EndSessions,
    ListSessions,
    NewSession,
    OpenSession,
    RenewSession,
    Session,
)
from sinapse.testing.lifetimes import end_of, is_over


@dataclass
class _Kept:
    asked: OpenSession
    opened: float
    end: float


class Sessions:
    """The sessions of a stand-in for Redis; nobody opens a stream, so none is ever seen."""

    def __init__(self) -> None:
        self._sessions: defaultdict[str, dict[str, _Kept]] = defaultdict(dict)

    def result(
        self, operation: OpenSession | ListSessions | RenewSession | EndSession | EndSessions
    ) -> Any:
        """Return what comes of `operation`."""
        kept = self._of(operation.subject)
        match operation:
            case OpenSession():
                ended = list(kept)[: max(0, len(kept) + 1 - operation.most)]
                for each in ended:
                    del kept[each]
                end = end_of(operation.expires_in)
                kept[operation.session] = _Kept(operation, time.time(), end)
                return NewSession(operation.session, operation.token, tuple(ended))
            case ListSessions():
                return [_told(each) for each in kept.values()]
            case RenewSession():
                if (found := kept.get(operation.session)) is not None:
                    found.end = max(found.end, end_of(operation.expires_in))
                return found is not None
            case EndSession():
                return kept.pop(operation.one, None) is not None
            case EndSessions():
                others = [each for each in kept if each != operation.but]
                for each in others:
                    del kept[each]
                return len(others)

    def _of(self, subject: str) -> dict[str, _Kept]:
        """Return the sessions of a subject, the oldest first, without those that have expired."""
        kept = self._sessions[subject]
        for each in [each for each, session in kept.items() if is_over(session.end)]:
            del kept[each]
        return kept


def _told(kept: _Kept) -> Session:
    asked, left = kept.asked, kept.end - time.monotonic()
    expires = None if left == float("inf") else time.time() + left
    return Session(asked.session, asked.device, asked.only, kept.opened, None, expires)
