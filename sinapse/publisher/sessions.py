"""Sessions: each device of a subject has a token of its own, which ends alone."""

from sinapse.publisher.operations.identity import ChannelLike, ChannelsLike, SubjectId
from sinapse.publisher.operations.runner import Runner
from sinapse.publisher.operations.sessions import (
    SESSIONS,
    EndSession,
    EndSessions,
    ListSessions,
    NewSession,
    OpenSession,
    RenewSession,
    Session,
)


class Sessions:
    """``publisher.sessions``: any number of tokens for a subject, each with an id to end it by.

    They stand beside those of ``publisher.tokens``, which they do not touch. A session belongs to
    an id, whatever the class, as a list of channels does. `most` is how many a subject may have;
    with `hashed`, Redis has hashes of the tokens only. Every operation raises
    :class:`~sinapse.errors.InvalidSubject` for what is no subject, ``ValueError`` for what is no id
    of a session, and :class:`~sinapse.errors.BrokerUnavailable` when Redis is away or refuses.
    """

    def __init__(self, connections: Runner, *, most: int = SESSIONS, hashed: bool = False) -> None:
        self._run = connections.run
        self._most = most
        self._hashed = hashed

    def open(
        self,
        subject: SubjectId,
        *,
        device: str | None = None,
        expires_in: float | None = None,
        only: ChannelLike | ChannelsLike | None = None,
    ) -> NewSession:
        """Return a new session, with its ``id`` and its ``token``, which nobody is told again.

        `device` is for people: up to 256 printable characters, such as a name of the browser.
        `expires_in` is seconds; without it the session lasts until it is ended. With `only`, its
        streams hear a part of what the subject may listen to: channels, and prefixes that end in
        ``*``, 100 at the most; what is added to the list later is heard if it is among them.

        A subject has 100 sessions, or as many as the publisher was told: beyond that, the oldest
        ends, and the result has its id in ``ended``. Raises ``ValueError`` for a device or a time
        that cannot be, and :class:`~sinapse.errors.InvalidChannel` for an `only` that is empty or
        has what is neither a channel nor a prefix.
        """
        return self._run(
            OpenSession(subject, device, expires_in, only, most=self._most, hashed=self._hashed)
        )

    def list(self, subject: SubjectId) -> list[Session]:
        """Return the sessions of `subject`, the oldest first, without their tokens."""
        return self._run(ListSessions(subject))

    def renew(self, subject: SubjectId, session: str, expires_in: float | None = None) -> bool:
        """Let the session of an id live for `expires_in` seconds from now, and its streams with it.

        Without `expires_in` it does not expire any more. A life is never made shorter. Returns
        whether `subject` has that session; ``ValueError`` for what is no time to come.
        """
        return self._run(RenewSession(subject, session, expires_in))

    def end(self, subject: SubjectId, session: str) -> bool:
        """End the session of an id, and its open streams; return whether `subject` had it.

        Others live on.
        """
        return self._run(EndSession(subject, session))

    def end_all(self, subject: SubjectId, but: str | None = None) -> int:
        """End all sessions of `subject`, but the one of the id `but`; return how many ended."""
        return self._run(EndSessions(subject, but))
