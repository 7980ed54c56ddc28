"""The connections of a stream, for ``for`` and for ``async for``."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Generator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from sinapse.errors import StreamEnded
from sinapse.listening.course import AUTHENTICATION, POSITION, REFUSAL_SIZE, Course
from sinapse.listening.parser import Message

Kind = TypeVar("Kind")

#: Seconds to connect, TLS included.
CONNECT_TIMEOUT = 10.0

#: Seconds without a byte after which a connection is lost: four keep-alives of the daemon.
SILENCE = 60.0

#: Seconds, a day: the most that a connection is waited for, or a byte on it.
LONGEST_WAIT = 24 * 3600.0

#: Characters of the longest message: four times what a daemon sends by default (``--max-pending``).
MAX_MESSAGE = 16 * 1024 * 1024

#: What httpcore says when it has a socket: TLS makes another one of it.
CONNECTED = (
    "connection.connect_tcp.complete",
    "connection.connect_unix_socket.complete",
    "connection.start_tls.complete",
)


def listen(
    url: str,
    *,
    token: str,
    last_event_id: str | None = None,
    timeout: float = CONNECT_TIMEOUT,
    silence: float = SILENCE,
    max_message: int = MAX_MESSAGE,
    client: httpx.Client | httpx.AsyncClient | None = None,
) -> "Stream":
    """Return the messages for `token` at `url`, for ``for`` and for ``async for``.

    A stream that breaks off is opened again, and resumes; with `last_event_id` it begins after that
    message, or at that position. `timeout` is the time in seconds to connect, `silence` that
    without a byte after which a connection is lost: more than the daemon's ``--keep-alive``, which
    is 15. A message of more than `max_message` characters ends the stream.

    A `client` of httpx of your own has what is special: a proxy, certificates, a UNIX socket. By
    default proxies are those of the environment, certificates those of the system. A redirect is
    not followed: the token is sent to `url` only, in a header field.

    Raises ``ValueError`` for an argument that cannot be what it is for.
    """
    for name, seconds in (("timeout", timeout), ("silence", silence)):
        if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_WAIT:
            raise ValueError(f"{name} is seconds, above 0 and up to {LONGEST_WAIT:g}: {seconds!r}")
    course = Course(url, token, last_event_id, max_message=max_message)
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None
    return Stream(_Connecting(course, timeout, silence), client)


class _Connecting:
    """What all connections of a stream have in common; any thread may :meth:`close` it."""

    def __init__(self, course: Course, timeout: float, silence: float) -> None:
        self.course = course
        self.timeout = httpx.Timeout(timeout, read=silence)
        self.is_closed = threading.Event()
        self.is_closed_here = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._socket: Any = None

    def request(self, client: httpx.Client | httpx.AsyncClient, trace: object) -> httpx.Request:
        return client.build_request(
            "GET",
            self.course.url,
            headers=self.course.begin(),
            timeout=self.timeout,
            extensions={"trace": trace},
        )

    def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Keep the socket: only its end wakes a thread that reads from it."""
        if name in CONNECTED:
            self._socket = info["return_value"].get_extra_info("socket")
            if self.is_closed.is_set():
                self._shut()

    async def trace_here(self, name: str, info: Mapping[str, Any]) -> None:
        self.trace(name, info)

    def lost(self, error: httpx.RequestError) -> None:
        if not self.is_closed.is_set():
            is_final = _is_about_a_certificate(error)
            try:
                self.course.lost(_told(error, self.timeout), is_final=is_final)
            except (ConnectionError, StreamEnded) as end:
                raise end from error

    def close(self) -> None:
        self.is_closed.set()
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # It may have ended.
                self.loop.call_soon_threadsafe(self.is_closed_here.set)
        self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not the method of an SSLSocket, which would forget its TLS in the midst of a read.
                if isinstance(self._socket, socket.socket):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                else:
                    self._socket.shutdown(socket.SHUT_RDWR)


class Stream:
    """An event stream over all its connections, as :func:`listen` returns it.

    Iterating raises :class:`~sinapse.errors.StreamEnded` when the stream has ended for good; after
    :meth:`close` it is simply over. An exception that comes from outside, as Ctrl-C and the
    cancellation of a task do, closes the connection at once; who goes on afterwards resumes.

    In a ``with`` block (``async with``) the stream is open: what is published from there on comes.
    To enter it raises StreamEnded too, and ``ConnectionError`` if nobody can be reached. Without
    it, whoever iterates waits for the server for as long as it takes.
    """

    def __init__(
        self, connecting: _Connecting, client: httpx.Client | httpx.AsyncClient | None
    ) -> None:
        self._connecting = connecting
        self._course = connecting.course
        self._client = client
        # They do not refer to this object, so that they end with it.
        self._source: Generator[Message, None, None] | None = None
        self._source_here: AsyncGenerator[Message, None] | None = None

    @property
    def last_event_id(self) -> str | None:
        """The id to resume after, as of the last message that was handed out; None without any."""
        return self._course.last_event_id

    def __repr__(self) -> str:
        return f"<Stream of {self._course.url}>"

    # Without a loop

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """Return the next message."""
        while True:
            message = self._next()
            if not _is_about_the_stream(message):
                return message

    def _next(self) -> Message:
        if self._source is None:
            self._source = _messages(self._connecting, _of_kind(self._client, httpx.Client))
        try:
            return next(self._source)
        except StreamEnded:
            self._connecting.close()
            raise
        except StopIteration:
            raise
        except BaseException:
            self._source = None
            raise

    def __enter__(self) -> Self:
        """Wait until the stream is open."""
        self._course.opening = True
        try:
            while self._next().event != AUTHENTICATION:
                pass
        except StopIteration:
            raise ConnectionError(f"{self._course.url}: closed before it was open") from None
        finally:
            self._course.opening = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection, and open no other; any thread may do this."""
        self._connecting.close()
        if self._source is not None:
            # Who reads in another thread, ends there.
            with contextlib.suppress(ValueError):
                self._source.close()

    # On asyncio

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message."""
        while True:
            message = await self._next_here()
            if not _is_about_the_stream(message):
                return message

    async def _next_here(self) -> Message:
        if self._source_here is None:
            client = _of_kind(self._client, httpx.AsyncClient)
            self._source_here = _messages_here(self._connecting, client)
        try:
            return await anext(self._source_here)
        except StreamEnded:
            self._connecting.close()
            raise
        except StopAsyncIteration:
            raise
        except BaseException:
            self._source_here = None
            raise

    async def __aenter__(self) -> Self:
        """Wait until the stream is open."""
        self._course.opening = True
        try:
            while (await self._next_here()).event != AUTHENTICATION:
                pass
        except StopAsyncIteration:
            raise ConnectionError(f"{self._course.url}: closed before it was open") from None
        finally:
            self._course.opening = False
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, and open no other."""
        self._connecting.close()
        if self._source_here is not None:
            # Who reads in another task, ends there.
            with contextlib.suppress(RuntimeError):
                await self._source_here.aclose()


def _messages(
    connecting: _Connecting, client: httpx.Client | None
) -> Generator[Message, None, None]:
    """Yield all messages, those of the server too, over one connection after the other."""
    course, is_closed = connecting.course, connecting.is_closed
    with contextlib.ExitStack() as stack:
        if client is None:
            client = stack.enter_context(httpx.Client(verify=ssl.create_default_context()))
        while not is_closed.is_set():
            try:
                request = connecting.request(client, connecting.trace)
                answer = client.send(request, stream=True, auth=None, follow_redirects=False)
                with contextlib.closing(answer):
                    if course.is_stream(answer.status_code, answer.headers):
                        for data in answer.iter_bytes():
                            yield from course.read(data)
                    else:
                        first = next(answer.iter_bytes(REFUSAL_SIZE), b"")
                        course.refused(answer.status_code, answer.headers, first)
            except httpx.RequestError as error:
                connecting.lost(error)
            is_closed.wait(course.pause())


async def _messages_here(
    connecting: _Connecting, client: httpx.AsyncClient | None
) -> AsyncGenerator[Message, None]:
    """Do the same on asyncio."""
    course, is_closed = connecting.course, connecting.is_closed
    connecting.loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        if client is None:
            made = httpx.AsyncClient(verify=ssl.create_default_context())
            client = await stack.enter_async_context(made)
        while not is_closed.is_set():
            try:
                request = connecting.request(client, connecting.trace_here)
                answer = await client.send(request, stream=True, auth=None, follow_redirects=False)
                async with contextlib.aclosing(answer):
                    if course.is_stream(answer.status_code, answer.headers):
                        async for data in answer.aiter_bytes():
                            for message in course.read(data):
                                yield message
                    else:
                        first = await anext(answer.aiter_bytes(REFUSAL_SIZE), b"")
                        course.refused(answer.status_code, answer.headers, first)
            except httpx.RequestError as error:
                connecting.lost(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connecting.is_closed_here.wait(), course.pause())


def _of_kind(client: object, kind: type[Kind]) -> Kind | None:
    if client is None or isinstance(client, kind):
        return client
    raise TypeError(f"client must be an httpx.{kind.__name__} here: {client!r}")


def _is_about_the_stream(message: Message) -> bool:
    return message.by is not None and message.event in (AUTHENTICATION, POSITION)


def _is_about_a_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _told(error: httpx.RequestError, timeout: httpx.Timeout) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {timeout.connect:g} s"
    if isinstance(error, httpx.ReadTimeout):
        return f"nothing came for {timeout.read:g} s"
    return str(error) or type(error).__name__
