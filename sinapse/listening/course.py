"""A stream over all its connections: where it is, when it comes back, and why it ends.

It does no I/O: what connects and reads asks it before, and tells it after.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from sinapse.errors import StreamEnded
from sinapse.listening.parser import Message, MessageTooLong, Parser
from sinapse.printable import printable

log = logging.getLogger("sinapse.listening")

#: Seconds before coming back, until the server says something else: what it says by default.
RETRY_TIME = 5.0

#: The least that a server can ask for: nobody means that clients should come without end.
SHORTEST_PAUSE = 0.1

#: The longest pause between two attempts that fail, unless the server asks for more.
LONGEST_PAUSE = 30.0

#: The most that a server can ask for.
LONGEST_WISH = 3600.0

#: A pause is up to so many times as long, at random: clients that lost a node together do not
#: come back together.
JITTER = 1.5

#: Attempts that fail after which the pause is not doubled any more: it is the longest by then.
MOST_DOUBLINGS = 10

#: Seconds: the server says how long a token has left in whole ones.
ROUNDING = 1.0

#: Bytes of a refusal that are read: it is one line.
REFUSAL_SIZE = 200

#: Statuses, besides those of 500 and more, after which the same request may be good later.
PASSING = (408, 425, 429)

#: Statuses that say that the token is no good: 204 is how servers stop an EventSource that way.
UNAUTHORIZED = (204, 401)

#: Events by which the server says how the stream stands; they are for no application.
AUTHENTICATION = "authentication"
POSITION = "position"

EVENT_STREAM = "text/event-stream"

#: What can stand in a field of an HTTP request: visible characters of ASCII.
_TOKEN = re.compile(r"[!-~]+")
#: The same and more, as UTF-8, but no spaces around it, and nothing that controls.
_ID = re.compile(r"[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?")


class Course:
    """What `url` and `token` stand for, and all that is known of the stream.

    A message of more than `max_message` characters is not taken. Raises ``ValueError`` for what no
    request can be made with; its text does not have the token.
    """

    def __init__(
        self,
        url: str,
        token: str,
        last_event_id: str | None,
        *,
        max_message: int,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        _check_url(url)
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ValueError("token must be visible characters of ASCII, and not empty")
        if last_event_id and not (isinstance(last_event_id, str) and _ID.fullmatch(last_event_id)):
            raise ValueError(f"last_event_id is none: {last_event_id!r:.80}")
        if not isinstance(max_message, int) or max_message < 1:
            raise ValueError(f"max_message is a number of characters, above 0: {max_message!r}")
        self.url = url
        self._token = token
        self._max_message = max_message
        self._clock = clock
        self._jitter = jitter
        self._parser = Parser(last_event_id or "", max_message)
        self._is_first_message = True
        self._retry = RETRY_TIME
        self._wish = 0.0
        self._failures = 0
        self._was_open = False
        self._expires: float | None = None
        self._is_open = False
        self._ended_at = 0.0
        self.opening = False
        """Whether somebody waits for the stream to open, and wants to know why it does not."""

    @property
    def last_event_id(self) -> str | None:
        """The id to resume after, as of the last message that was handed out; None without any."""
        return self._parser.last_event_id or None

    def begin(self) -> dict[bytes, bytes]:
        """Begin another connection; returns the fields of its request."""
        last = self._parser.last_event_id
        self._parser = Parser(last, self._max_message)
        self._is_first_message = True
        self._wish = 0.0
        fields = {
            b"Accept": EVENT_STREAM.encode(),
            b"Accept-Encoding": b"identity",
            b"Cache-Control": b"no-store",
            b"Authorization": f"Bearer {self._token}".encode(),
        }
        if _ID.fullmatch(last):  # What another server gives may be impossible to send back.
            fields[b"Last-Event-ID"] = last.encode()
        return fields

    def read(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that come with the next bytes, those of the server among them.

        Raises :class:`~sinapse.errors.StreamEnded`.
        """
        if self._expires is not None and self._clock() > self._expires + ROUNDING:
            self._expires = None  # It was renewed: there would be no stream.
        try:
            for each in self._parser.feed(data):
                message = self._as_of_the_server(each)
                self._failures = 0
                if message.by is not None:
                    self._note(message)
                yield message
        except MessageTooLong:
            # Who came back would be sent the same again, for ever.
            reason = f"a message has more than {self._max_message} characters"
            raise self._end(f"{self.url}: {reason}", reason) from None
        finally:
            if self._parser.retry is not None:
                self._retry = self._parser.retry

    def _as_of_the_server(self, message: Message) -> Message:
        """Return the first event with its mark: it has none on the wire, as in the beginning."""
        is_first, self._is_first_message = self._is_first_message, False
        if is_first and message.event == AUTHENTICATION:
            return message._replace(by="server")
        return message

    def _note(self, message: Message) -> None:
        """Take note of what the server says of the stream."""
        if message.event == AUTHENTICATION:
            self._is_open = self._was_open = True
            self.opening = False
            self._expires = None
            log.debug("%s: the stream is open", self.url)
        elif message.event == "token-expiring" and message.data.isdecimal():
            self._expires = self._clock() + float(message.data)
        elif message.event == "replaced":
            # Who came back would take the place of the newer one in turn.
            reason = "replaced by a newer stream"
            raise self._end(f"{self.url}: {reason}", reason)

    def is_stream(self, status: int, fields: Mapping[str, str]) -> bool:
        """Whether an answer is an event stream; what is not goes to :meth:`refused`."""
        kind = fields.get("Content-Type", "").partition(";")[0].strip().lower()
        return status == HTTPStatus.OK and kind == EVENT_STREAM

    def refused(self, status: int, fields: Mapping[str, str], body: bytes) -> None:
        """Take note of an answer that is no stream: `body` is its beginning.

        Raises :class:`~sinapse.errors.StreamEnded`, unless the trouble may pass. Then it raises
        ``ConnectionError`` if the server does not say when, and the stream is to open now.
        """
        said, wish = _said(status, fields, body), _retry_after(fields)
        if status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            if wish is not None:
                self._wish = wish
                self._report(f"answers {status} {said}")
            else:
                self.lost(f"answers {status} {said}")
            return
        reason = said
        if status in UNAUTHORIZED and self._was_open and said != "no channels":
            expires = self._expires
            has_expired = expires is not None and self._ended_at >= expires - ROUNDING
            reason = "token expired" if has_expired else "token revoked"
        raise self._end(f"{self.url} answers {status} {reason}", reason, status)

    def lost(self, why: str, *, is_final: bool = False) -> None:
        """Take note of a connection that failed: to come back will help, unless it `is_final`.

        Raises ``ConnectionError`` if the stream is to open now, and
        :class:`~sinapse.errors.StreamEnded` if it is final and the stream was never open.
        """
        if self.opening:
            raise ConnectionError(f"{self.url}: {why}")
        if is_final and not self._was_open:
            raise self._end(f"{self.url}: {why}", why)
        self._report(why)

    def _report(self, why: str) -> None:
        # Nodes are restarted, and networks change: the first attempt to come back mostly succeeds.
        level = logging.WARNING if self._failures == 1 or not self._was_open else logging.INFO
        log.log(level, "%s: %s; the stream is opened again", self.url, why)

    def pause(self) -> float:
        """Return the seconds until the next connection."""
        retry = min(max(self._retry, SHORTEST_PAUSE), LONGEST_WISH)
        longer = retry * float(2 ** min(self._failures, MOST_DOUBLINGS))
        self._failures += 1
        if self._is_open:
            self._is_open, self._ended_at = False, self._clock()
        pause = min(longer, max(retry, LONGEST_PAUSE))
        return max(pause, min(self._wish, LONGEST_WISH)) * self._jitter(1, JITTER)

    def _end(self, text: str, reason: str, status: int | None = None) -> StreamEnded:
        return StreamEnded(text, reason, status, self.last_event_id)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # No port, or no address.
        is_one = False
    if not is_one or not url.isprintable() or " " in url:
        raise ValueError(f"{url!r} is no URL of a daemon")
    if parts.username is not None or any(
        key == "access_token" for key, _ in parse_qsl(parts.query)
    ):
        raise ValueError("url must not have a token or a password: it is logged; token= is not")


def _said(status: int, fields: Mapping[str, str], body: bytes) -> str:
    """Return what an answer says: in the words of a daemon, or in those of the standard."""
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        # The token goes to nobody that it was not meant for.
        where = printable(fields.get("Location", "nowhere")[:REFUSAL_SIZE])
        return f"and leads to {where}; ask there"
    if status == HTTPStatus.OK:
        kind = printable(fields.get("Content-Type", "no type")[:REFUSAL_SIZE])
        return f"with {kind}, which is no event stream"
    first, *_ = body[:REFUSAL_SIZE].decode(errors="replace").splitlines() or [""]
    code, _, words = first.partition(" ")
    if code == str(status) and words:
        return printable(words)
    if status in UNAUTHORIZED:
        return "unknown token"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "without a word"


def _retry_after(fields: Mapping[str, str]) -> float | None:
    """Return the seconds of a field Retry-After (RFC 9110 §10.2.3), or None."""
    value = fields.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
