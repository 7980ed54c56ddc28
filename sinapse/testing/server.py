"""A real daemon for tests, with an embedded Valkey of its own."""

import contextlib
import json
import os
import queue
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sinapse.child import Child, ChildFailed, daemon_command, free_port
from sinapse.errors import StreamEnded
from sinapse.listening import Message
from sinapse.listening.background import BackgroundStream
from sinapse.protocol.keys import RESERVED
from sinapse.protocol.names import PLAIN
from sinapse.protocol.redisurl import EMBEDDED
from sinapse.publisher import Publisher
from sinapse.publisher.base import ANSWER_TIMEOUT, CONNECT_TIMEOUT
from sinapse.publisher.connections import Connections
from sinapse.publisher.operations import standin
from sinapse.publisher.operations.identity import ChannelLike, SubjectId

#: Seconds that a test waits for a message: a bound for slow machines, it takes milliseconds.
MESSAGE_TIMEOUT = 30.0

#: Why there is none.
_NO_MESSAGE = (queue.Empty, StreamEnded, ConnectionError)

#: Attempts to find a port that nobody else takes between the look and the use.
ATTEMPTS = 5


class Server:
    """A running daemon.

    `url` is where its streams are, `redis_url` is its Redis, `publisher` publishes there.
    """

    def __init__(self, url: str, redis_url: str, publisher: Publisher) -> None:
        self.url = url
        self.redis_url = redis_url
        self.publisher = publisher
        self._listeners: list[Listener] = []

    def token(
        self, subject: SubjectId, *channels: ChannelLike, expires_in: float | None = None
    ) -> str:
        """Let `subject` listen to `channels` too, and return a token for it."""
        with standin.nobody():
            for channel in channels:
                self.publisher.channels.add(subject, channel)
            return self.publisher.tokens.obtain(subject, expires_in=expires_in)

    def listen(self, subject: SubjectId, *channels: ChannelLike) -> "Listener":
        """Return an open stream of `subject`, which may listen to `channels` too.

        What is published from here on arrives. It is closed after the test at the latest.
        """
        listener = Listener(self.url, self.token(subject, *channels))
        self._listeners.append(listener)
        return listener.opened()

    def clear(self) -> None:
        """Close the streams, and forget tokens, lists of channels and retained messages."""
        self.close()
        url = self.publisher.urls[0]
        own = Connections(url, size=1, connect_timeout=CONNECT_TIMEOUT, timeout=ANSWER_TIMEOUT)
        with contextlib.closing(own) as redis, standin.nobody():
            lists = PLAIN.channels_key("")
            for key in redis.execute("KEYS", f"{lists}*"):
                self.publisher.channels.clear(key.decode().removeprefix(lists))  # Ends the streams.
            # The counter of the ids stays: those that were given are not to be given again.
            kept = {PLAIN.retention.encode(), PLAIN.epochs.encode()}
            rest = [key for key in redis.execute("KEYS", f"{RESERVED}*") if key not in kept]
            if rest:
                redis.execute("DEL", *rest)

    def close(self) -> None:
        """Close the streams."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()


class Listener:
    """An open stream, whose messages are read as they come."""

    def __init__(self, url: str, token: str) -> None:
        self._stream = BackgroundStream(url, token)
        self._seen: list[Message] = []

    def opened(self) -> Self:
        """Wait until the stream is open."""
        try:
            self._stream.opened(MESSAGE_TIMEOUT)
        except _NO_MESSAGE as error:
            raise self._failure(error, MESSAGE_TIMEOUT) from error
        return self

    def next(self, timeout: float = MESSAGE_TIMEOUT) -> Message:
        """Return the next message: its data, event type and id.

        Raises ``AssertionError`` if none comes within `timeout` seconds, or the stream is refused.
        """
        try:
            arrived = self._stream.next(timeout)
        except _NO_MESSAGE as error:
            raise self._failure(error, timeout) from error
        self._seen.append(arrived)
        return arrived

    def json(self, timeout: float = MESSAGE_TIMEOUT) -> Any:
        """Return the data of the next message, read as JSON."""
        return json.loads(self.next(timeout).data)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _failure(self, error: Exception, timeout: float) -> AssertionError:
        came = f"no message came within {timeout:g} s"
        text = came if isinstance(error, queue.Empty) else f"the stream has ended: {error}"
        seen = ", ".join(repr(each.data) for each in self._seen)
        return AssertionError(f"{text}; before that: {seen or 'nothing'}")


@contextlib.contextmanager
def running_server(*options: str) -> Iterator[Server]:
    """Run a daemon for the length of a ``with`` block; `options` are those of ``sinapse serve``.

    What is published there is sent, also in tests that Django would capture. Raises
    ``RuntimeError`` with the end of its log if it does not start.
    """
    with started_server(*options) as server, standin.nobody():
        yield server


@contextlib.contextmanager
def started_server(*options: str) -> Iterator[Server]:
    """Do the same, but leave it to each test whether what it publishes is sent."""
    # Not in pytest's folder, whose path may be too long for a UNIX socket.
    with (
        tempfile.TemporaryDirectory(prefix="sinapse-", ignore_cleanup_errors=True) as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        redis_url = f"{EMBEDDED}{folder}"
        port = _started(stack, folder, redis_url, options)
        publisher = stack.enter_context(Publisher(redis_url, prefix=""))
        server = Server(f"http://127.0.0.1:{port}/", redis_url, publisher)
        # While the daemon is there: a stream that it ends would come back for ever.
        yield stack.enter_context(contextlib.closing(server))


def _started(
    stack: contextlib.ExitStack, folder: Path, redis_url: str, options: tuple[str, ...]
) -> int:
    # What is set for the application is not meant for this daemon.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SINAPSE_") and name != "REDIS_URL"
    }
    attempt = 0
    while True:
        attempt += 1
        port = free_port()
        # Streams that break off are back soon: tests wait for them.
        command = daemon_command(port, "--redis", redis_url, "--retry", "1", *options)
        with contextlib.ExitStack() as attempting:
            child = Child("The daemon", command, environment, folder / "daemon.log")
            attempting.enter_context(child)
            try:
                child.wait_until_answers(port, "/ready")
            except ChildFailed as error:
                if attempt < ATTEMPTS and "in use" in str(error):
                    continue
                raise
            stack.push(attempting.pop_all())
            return port
