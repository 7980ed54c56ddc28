"""Retention: how long Redis keeps messages, how many per channel, and for which streams.

That is for streams that come back; and for new ones, if a message says how much of the past of its
channel they get.
"""

from typing import Literal, TypeAlias, cast

from sinapse.protocol.keys import plain
from sinapse.protocol.message import MAX_RETAIN
from sinapse.publisher.operations.numbers import is_number, is_whole, shown

#: Seconds; the default. A phone in a tunnel, a laptop that is carried to a meeting.
RETAIN = 300.0

#: Messages of a channel; the default, and the most.
RETAIN_MESSAGES = 1000
MAX_RETAIN_MESSAGES = 1_000_000

#: Milliseconds for which a message id is remembered at least, two hours: after one hour, Celery's
#: brokers give the task of a dead worker to a different worker.
_REMEMBERED = 2 * 3600 * 1000

_MAX_MESSAGE_ID_LENGTH = 128

#: How many of the last messages of a channel a new stream gets, 0 for none; or all that are
#: retained.
Replay: TypeAlias = int | Literal["all"]


def milliseconds(seconds: object, name: str = "retain") -> int:
    """Return a time to retain messages, 0 for not at all; raises ``ValueError`` for no such time.

    `name` is the caller's name for it, used in the error.
    """
    if not is_number(seconds) or not 0 <= seconds <= MAX_RETAIN:
        raise ValueError(
            f"{name} is seconds, 0 (off) up to {MAX_RETAIN} (30 days): {shown(seconds)}"
        )
    return max(1, round(seconds * 1000)) if seconds else 0


def message_count(count: object, name: str = "retain_messages") -> int:
    """Return how many messages of a channel to retain; raises ``ValueError`` for no such number."""
    if not is_whole(count) or not 1 <= count <= MAX_RETAIN_MESSAGES:
        raise ValueError(f"{name} is a whole number, 1 to {MAX_RETAIN_MESSAGES}: {shown(count)}")
    return count


def checked_replay(replay: object, retain_messages: int) -> Replay:
    """Return how much of its past a new stream gets of a channel that keeps `retain_messages`.

    As many as are kept are all. Raises ``ValueError`` for what is neither a number nor ``all``.
    """
    if replay == "all" and isinstance(replay, str):
        return "all"
    if not is_whole(replay) or replay < 0:
        raise ValueError(f"replay is a whole number, 0 (none) or more, or 'all': {shown(replay)}")
    return "all" if replay >= retain_messages else int(replay)


def read_replay(text: str) -> Replay:
    """Return what stands in a command line for a `replay`, whether that is one or not."""
    return int(text) if text.isascii() and text.isdigit() else cast(Replay, text)


def checked_message_id(message_id: object) -> str:
    """Return `message_id` if it can be one; raises ``ValueError``."""
    if not isinstance(message_id, str):
        raise ValueError(f"message_id is a str, not {type(message_id).__name__}")  # noqa: TRY004
    message_id = plain(message_id)
    if not 1 <= len(message_id) <= _MAX_MESSAGE_ID_LENGTH or not message_id.isprintable():
        raise ValueError(
            f"message_id is 1 to {_MAX_MESSAGE_ID_LENGTH} printable characters: {message_id[:80]!r}"
        )
    return message_id


def remembered(retain: int) -> int:
    """Return how long to remember a message's id, for its `retain`; both in milliseconds."""
    return max(retain, _REMEMBERED)
