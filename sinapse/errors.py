"""What can go wrong, and whose fault it is.

::

    SinapseError
    ├── StartError            the operator's: a bad option; ends the start with one line
    ├── PublishError          the application's: nothing was sent
    │   ├── InvalidChannel
    │   ├── InvalidEvent
    │   ├── InvalidGroup
    │   ├── InvalidMessage
    │   ├── InvalidStream
    │   ├── MessageTooLarge
    │   └── InvalidSubject
    ├── InvalidPrefix         the application's or the operator's: names in Redis cannot begin so
    ├── ListFull              the application's: a list is as long as it may be
    ├── UnknownID             the application's: it reads on from an id that Redis does not know
    ├── TokenIsHashed         the application's: it asks for a token of which only the hash is kept
    ├── RunOver               the application's: it uses a run that is over
    │   ├── RunStopped        nobody's: somebody has stopped it
    │   └── RunLost           nobody's: its process gave no sign of life in time
    ├── BrokerUnavailable     nobody's: Redis is away or refuses
    │   └── Incomplete        the same for some of several operations
    ├── InvalidPayload        the publisher's: it published bytes that are no message
    ├── LimitReached          the client's, or of too many of them: there is no room now
    ├── Unauthorized          the client's: no valid token, or nothing to listen to
    └── StreamEnded           the same, and what else there is, as told to who listens

:class:`CloseReason` is the one table of reasons why an open stream ends, :class:`ResetReason` that
of reasons why a stream is told that messages are missing.
"""

from collections.abc import Sequence
from enum import Enum, StrEnum
from typing import Any


class SinapseError(Exception):
    """Base of every exception that Sinapse raises on purpose."""


class StartError(SystemExit, SinapseError):
    """The daemon cannot start; the text names the option and the value.

    Both an exit and an ordinary exception: ``twistd`` catches ``Exception`` to remove its pid
    file and to tell the parent of a daemonised process, and the interpreter prints the text of
    a ``SystemExit`` on one line, without a traceback, and exits with 1.
    """


class PublishError(SinapseError, ValueError):
    """The application asked for something that cannot be published."""


class InvalidChannel(PublishError):
    """Not a channel's name: see :func:`sinapse.protocol.keys.channel_name`."""


class InvalidEvent(PublishError):
    """Not an event type: empty, or with a line break or NUL (WHATWG HTML §9.2.6)."""


class InvalidGroup(PublishError):
    """Not a group's name: see :func:`sinapse.protocol.keys.group_name`."""


class InvalidStream(PublishError):
    """Not what a client may call its stream: 1 to 64 of A-Z a-z 0-9 _ -."""


class InvalidMessage(PublishError):
    """Neither text, nor UTF-8 bytes, nor anything that JSON can carry."""


class MessageTooLarge(PublishError):
    """Over the publisher's limit, in bytes of the encoded payload."""


class InvalidSubject(PublishError):
    """The object has no usable identifier: see :func:`sinapse.protocol.keys.subject_id`."""


class InvalidPrefix(SinapseError, ValueError):
    """Not what names in Redis can begin with: see :func:`sinapse.protocol.names.checked_prefix`."""


class ListFull(SinapseError, ValueError):
    """The subject is in as many groups as it may be, or the group has as many channels."""


class UnknownID(SinapseError, ValueError):
    """This Redis never gave that id, or has lost its data since: nothing can be read after it."""


class TokenIsHashed(SinapseError, RuntimeError):
    """Redis has only the hash of a token: only the call that generated the token returned it."""


class RunOver(SinapseError, RuntimeError):
    """The run is over, or has not begun: nothing can be sent in it."""


class RunStopped(RunOver):
    """The run was stopped, from here or from a different process; its block is to be left."""


class RunLost(RunOver):
    """The run counts as lost, since its process gave no sign of life in time; pages know that."""


class BrokerUnavailable(SinapseError):
    """Redis could not be reached, or refused the command.

    ``delivered`` says whether the command can have been carried out all the same: ``False``
    when it was certainly not, ``None`` when that is not known (the answer was lost).
    """

    def __init__(self, message: str, delivered: bool | None = None) -> None:
        super().__init__(message)
        self.delivered = delivered


class Incomplete(BrokerUnavailable):
    """Of several operations that were sent together, some failed.

    ``results`` has one item for each, in their order: its result, or the exception that it would
    have raised alone. ``delivered`` is ``False`` if certainly none was carried out.
    """

    def __init__(self, results: Sequence[Any]) -> None:
        failures = [each for each in results if isinstance(each, SinapseError)]
        surely_none = len(failures) == len(results) and all(
            not isinstance(each, BrokerUnavailable) or each.delivered is False for each in failures
        )
        super().__init__(
            f"{len(failures)} of {len(results)} failed: {failures[0]}",
            False if surely_none else None,
        )
        self.results = results


class InvalidPayload(SinapseError):
    """Bytes on a channel that are not a message: see :mod:`sinapse.protocol.message`."""


class LimitReached(SinapseError):
    """A limit says no for now; `status` is that of an HTTP answer: 429 or 503."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class Unauthorized(SinapseError):
    """The token is unknown or has expired, or its subject may listen to nothing."""


class StreamEnded(SinapseError):
    """A stream that was listened to has ended for good: to come back as it is would not help.

    ``reason`` says why, in a few words; ``status`` is that of the HTTP answer that said so, None if
    none did. A new stream can resume from ``last_event_id``.
    """

    def __init__(
        self, message: str, reason: str, status: int | None, last_event_id: str | None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.last_event_id = last_event_id


class CloseReason(Enum):
    """Why an open stream was ended: WebSocket close code, and text.

    Codes below 4000 are those of RFC 6455 §7.4.1 and the IANA registry; an event stream has no
    close code, there the text is for logs and counters only.
    """

    CLIENT_GONE = (1006, "client gone")
    ANSWERED = (1000, "answered")
    SHUTDOWN = (1001, "server shutting down")
    DRAIN = (1001, "server draining")
    SLOW_CONSUMER = (1013, "slow consumer")
    TOO_MUCH_PENDING = (1013, "too much waits for slow consumers")
    REVOKED = (1008, "token revoked")
    EXPIRED = (4001, "token expired")
    NO_CHANNELS = (4002, "no channels left")
    PROTOCOL_ERROR = (1002, "protocol error")
    INVALID_DATA = (1007, "not UTF-8")
    NO_PONG = (4003, "no answer to a ping")
    REPLACED = (4004, "replaced by a newer stream")
    TOO_MANY_CHANNELS = (4005, "too many channels")
    MOVED_ON = (4006, "moved on")
    ENDED = (4007, "ended by the operator")

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


class ResetReason(StrEnum):
    """Why a stream is told that messages are missing: see ``docs/delivery.md``."""

    UNKNOWN_ID = "unknown-id"
    DATA_LOST = "data-lost"
    NOT_RETAINED = "not-retained"
