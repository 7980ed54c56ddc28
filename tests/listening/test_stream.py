"""Streams that are listened to, with ``for`` and with ``async for``, through all that happens."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from sinapse.errors import StreamEnded
from sinapse.listening import Message, Stream, listen
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, free_port
from tests.support.certificates import Authority
from tests.support.daemon import Daemon, running_daemon
from tests.support.flavours import wait_for_coroutine
from tests.support.proxy import Proxy, running_proxy
from tests.support.subscribing import position, subscribe
from tests.support.tls import secure_daemon

#: What a server of a test says first, and how soon it wants to be asked again.
OPENING = b"retry: 10\nid: 1-1\nevent: authentication\ndata: ok\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


class OnAsyncio:
    """A stream that ``async for`` reads, used like one that ``for`` reads."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.stream = listen(*arguments, **options)

    @property
    def last_event_id(self) -> str | None:
        return self.stream.last_event_id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        async def following() -> Message | None:
            async for message in self.stream:
                return message
            return None

        message: Message | None = wait_for_coroutine(following)
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        wait_for_coroutine(self.stream.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        wait_for_coroutine(self.stream.aclose)


Listen = Callable[..., Stream]


@pytest.fixture(params=[listen, OnAsyncio], ids=["for", "async for"])
def listening(request: pytest.FixtureRequest) -> Iterator[Listen]:
    """Return what listens, in one way or the other; streams are closed after the test."""
    streams: list[Stream] = []

    def opened(*arguments: Any, **options: Any) -> Stream:
        stream: Stream = request.param(*arguments, **options)
        streams.append(stream)
        return stream

    yield opened
    for stream in streams:
        stream.close()


def url_of(server: Daemon | Proxy) -> str:
    return f"http://127.0.0.1:{server.port}/"


def data(stream: Stream, count: int) -> list[str]:
    """Return the data of so many messages, which nothing of the server's may be among."""
    messages = [*islice(stream, count)]
    assert all(message.by is None for message in messages), messages
    return [message.data for message in messages]


def ended(stream: Stream) -> StreamEnded:
    """Return why a stream ends, with which it is over."""
    with pytest.raises(StreamEnded) as caught:
        next(stream)
    assert [*stream] == []
    return caught.value


def open_streams(daemon: Daemon) -> float:
    return daemon.metrics()["sinapse_streams"]


@contextmanager
def serving(*answers: bytes | Callable[[socket.socket], None]) -> Iterator[tuple[str, list[str]]]:
    """Answer a connection after the other with these bytes, and then with the last of them.

    Yields the URL, and the heads of the requests. What can be called does the rest itself.
    """
    heads: list[str] = []
    rest = list(answers)

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    if not (more := client.recv(1000)):
                        break
                    head += more
                if not head:
                    continue
                heads.append(head.decode())
                answer = rest.pop(0) if len(rest) > 1 else rest[0]
                if callable(answer):
                    answer(client)
                else:
                    client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/", heads
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def until_it_goes(client: socket.socket) -> None:
    """Wait until a client closes its connection."""
    while client.recv(1000):
        pass


@pytest.fixture
def quick(tmp_path: Path, redis_server: RedisServer) -> Iterator[Daemon]:
    """Run a daemon that clients come back to soon."""
    with running_daemon(tmp_path, redis_server.url, "--retry", "0.1") as daemon:
        yield daemon


class TestMessages:
    def test_a_message_has_what_it_was_published_with(
        self, daemon: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        with listening(url_of(daemon), token=subscribe(publisher)) as stream:
            publisher.publish("room:1", {"text": "é☃😀"}, event="chat")
            publisher.publish("room:1", "two\nlines", retain=0)
            first, second = islice(stream, 2)
            assert (first.json(), first.event, first.by) == ({"text": "é☃😀"}, "chat", None)
            assert first.id == stream.last_event_id
            assert second == Message("two\nlines")

    def test_messages_that_are_called_as_the_servers_own_are_messages(
        self, daemon: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        names = ["authentication", "position", "reset", "replaced"]
        with listening(url_of(daemon), token=subscribe(publisher)) as stream:
            for name in names:
                publisher.publish("room:1", "x", event=name)
            assert [(each.event, each.by) for each in islice(stream, 4)] == [
                (name, None) for name in names
            ]

    def test_it_begins_after_an_id(
        self, daemon: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        token = subscribe(publisher)
        before = position(daemon, token)
        publisher.publish("room:1", "missed")
        stream = listening(url_of(daemon), token=token, last_event_id=before)
        assert data(stream, 1) == ["missed"]
        after = publisher.position()
        publisher.publish("room:1", "since")
        stream = listening(url_of(daemon), token=token, last_event_id=after)
        assert data(stream, 1) == ["since"]

    def test_bytes_come_as_they_like(self, listening: Listen) -> None:
        stream = OPENING + "event: \u2603\r\ndata: é\r\ndata: 😀\r\n\r\n".encode()
        chunks = b"".join(b"1\r\n%b\r\n" % stream[i : i + 1] for i in range(len(stream)))
        by_length = b"Content-Length: %d\r\n\r\n" % len(stream)
        for body in (
            b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
            b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n",
            by_length + stream,
            b"Connection: close\r\n\r\n" + stream,
        ):
            with serving(HEAD + body) as (url, _):
                (message,) = islice(listening(url, token="x"), 1)
                assert message == Message("é\n😀", "\u2603")


class TestResuming:
    """Every message once, and in order."""

    def test_a_restart_loses_nothing(
        self, quick: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        with listening(url_of(quick), token=subscribe(publisher)) as stream:
            for number in range(0, 9, 3):
                publisher.publish("room:1", str(number))
                assert data(stream, 1) == [str(number)]
                quick.stop()
                publisher.publish("room:1", str(number + 1))
                quick.start()
                publisher.publish("room:1", str(number + 2))
                assert data(stream, 2) == [str(number + 1), str(number + 2)]

    def test_a_break_before_the_first_message_loses_nothing(
        self, quick: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        with listening(url_of(quick), token=subscribe(publisher)) as stream:
            quick.stop()
            publisher.publish("room:1", "1")
            quick.start()
            assert data(stream, 1) == ["1"]

    def test_a_network_that_is_cut_anywhere_loses_nothing(
        self, quick: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        token = subscribe(publisher, "room:1", "room:2")
        with running_proxy(quick.port) as proxy, listening(url_of(proxy), token=token) as stream:
            for size in (1, 130, 777, 2001, 3000):
                texts = [f"{size} {number} é☃" for number in range(60)]
                proxy.cut_midway(lambda size=size: size)  # type: ignore[misc]
                for number, text in enumerate(texts):
                    publisher.publish(f"room:{1 + number % 2}", text)
                assert data(stream, 60) == texts
            assert proxy.connections == 6

    def test_a_node_that_drains_hands_over(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, listening: Listen
    ) -> None:
        with (
            running_daemon(tmp_path, redis_server.url, "--drain", "1") as daemon,
            listening(url_of(daemon), token=subscribe(publisher)) as stream,
        ):
            daemon.stop()
            publisher.publish("room:1", "meanwhile")
            daemon.start()
            publisher.publish("room:1", "after")
            assert data(stream, 2) == ["meanwhile", "after"]

    def test_a_slow_consumer_gets_everything_all_the_same(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        publisher: Publisher,
    ) -> None:
        small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)]
        text = "x" * 50_000
        options = ("--retry", "0.1", "--max-pending", "200000")
        with (
            running_daemon(tmp_path, redis_server.url, *options) as daemon,
            httpx.Client(transport=httpx.HTTPTransport(socket_options=small)) as client,
            listen(url_of(daemon), token=subscribe(publisher), client=client) as stream,
        ):
            for number in range(100):
                publisher.publish("room:1", f"{number} {text}")
            closed = "sinapse_streams_closed_total slow consumer"
            eventually(lambda: daemon.metrics().get(closed), "the stream is closed")
            seen = [message.data.partition(" ")[0] for message in islice(stream, 100)]
            assert seen == [str(number) for number in range(100)]

    def test_it_is_told_what_it_cannot_have(
        self, quick: Daemon, redis_server: RedisServer, listening: Listen
    ) -> None:
        with (
            Publisher(redis_server.url, retain_messages=2) as publisher,
            listening(url_of(quick), token=subscribe(publisher)) as stream,
        ):
            quick.stop()
            for number in range(5):
                publisher.publish("room:1", str(number))
            quick.start()
            reset, *rest = islice(stream, 3)
            assert (reset.event, reset.by) == ("reset", "server")
            assert reset.json() == {"reason": "not-retained", "channels": ["room:1"]}
            assert [each.data for each in rest] == ["3", "4"]

    def test_silence_is_the_end_of_a_connection(
        self, quick: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        token = subscribe(publisher)
        with (
            running_proxy(quick.port) as proxy,
            listening(url_of(proxy), token=token, silence=1) as stream,
        ):
            proxy.stall()
            proxy.forget()
            publisher.publish("room:1", "1")
            assert data(stream, 1) == ["1"]
            assert proxy.connections == 2

    def test_keep_alives_are_no_silence(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, listening: Listen
    ) -> None:
        options = ("--keep-alive", "0.2")
        with running_daemon(tmp_path, redis_server.url, *options) as daemon:
            with listening(url_of(daemon), token=subscribe(publisher), silence=2) as stream:
                threading.Timer(3, publisher.publish, ["room:1", "1"]).start()
                assert data(stream, 1) == ["1"]
            assert daemon.metrics()["sinapse_streams_opened_total"] == 1

    def test_a_passing_trouble_passes(self, listening: Listen) -> None:
        stream = HEAD + b"Connection: close\r\n\r\n"
        later = stream + b"retry: 10\nby: server\nevent: position\ndata: ok\n\n"
        busy = b"Connection: close\r\nContent-Length: 4\r\n\r\nbusy"
        with serving(
            later,
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n" + busy,
            b"HTTP/1.1 429 Too Many Requests\r\n" + busy,
            later,  # So that pauses do not become long.
            b"HTTP/1.1 502 Bad Gateway\r\n" + busy,
            b"nonsense",
            later,
            b"",
            HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\nnot that",
            stream + OPENING + b"id: 1-2\ndata: a\n\nid: 1-3\ndata: torn",
            stream + OPENING + b"data: b\n\n",
        ) as (url, heads):
            assert data(listening(url, token="x"), 2) == ["a", "b"]
        ids = [re.findall("last-event-id: (.*)\r\n", head, re.IGNORECASE) for head in heads]
        assert ids == [*([[]] * 10), ["1-2"]]


class TestEnd:
    """It says why."""

    def test_a_token_that_is_unknown(self, daemon: Daemon, listening: Listen) -> None:
        for opened in (False, True):
            stream = listening(url_of(daemon), token="unknown")
            if opened:
                with pytest.raises(StreamEnded), stream:
                    pass
            else:
                error = ended(stream)
                assert (error.reason, error.status) == ("unknown token", 401)
                assert str(error) == f"{url_of(daemon)} answers 401 unknown token"

    def test_a_token_that_is_revoked(
        self, quick: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        with listening(url_of(quick), token=subscribe(publisher)) as stream:
            publisher.publish("room:1", "last")
            publisher.tokens.clear("1")
            assert data(stream, 1) == ["last"]
            last = stream.last_event_id
            error = ended(stream)
            assert (error.reason, error.status) == ("token revoked", 401)
            assert error.last_event_id == last

    def test_a_token_that_expires(
        self, quick: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1", expires_in=3)
        with listening(url_of(quick), token=token) as stream:
            warning = next(stream)
            assert (warning.event, warning.by) == ("token-expiring", "server")
            assert ended(stream).reason == "token expired"

    def test_the_last_channel(self, quick: Daemon, publisher: Publisher, listening: Listen) -> None:
        with listening(url_of(quick), token=subscribe(publisher)) as stream:
            publisher.channels.remove("1", "room:1")
            assert ended(stream).reason == "no channels"

    def test_a_daemon_that_stops_streams_with_204(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, listening: Listen
    ) -> None:
        options = ("--stop-status", "204", "--retry", "0.1")
        with running_daemon(tmp_path, redis_server.url, *options) as daemon:
            assert ended(listening(url_of(daemon), token="unknown")).status == 204
            with listening(url_of(daemon), token=subscribe(publisher)) as stream:
                publisher.tokens.clear("1")
                error = ended(stream)
                assert (error.reason, error.status) == ("token revoked", 204)

    def test_a_newer_stream_in_its_place(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, listening: Listen
    ) -> None:
        options = ("--max-streams-per-subject", "1", "--subject-overflow", "replace")
        with running_daemon(tmp_path, redis_server.url, *options) as daemon:
            token = subscribe(publisher)
            with (
                listening(url_of(daemon), token=token) as first,
                listening(url_of(daemon), token=token) as second,
            ):
                assert ended(first).reason == "replaced by a newer stream"
                publisher.publish("room:1", "1")
                assert data(second, 1) == ["1"]

    def test_another_place(self, daemon: Daemon, listening: Listen) -> None:
        assert ended(listening(f"{url_of(daemon)}status", token="x")).status == 200
        assert ended(listening(f"{url_of(daemon)}nowhere", token="x")).status == 404

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_does_not_get_the_token(self, status: int, listening: Listen) -> None:
        """Neither elsewhere nor on the same host, where another path may be somebody else's."""
        answer = b"HTTP/1.1 %d Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status
        with serving(answer) as (url, heads):
            error = ended(listening(url, token="secret"))
        assert error.reason == "and leads to /elsewhere; ask there"
        assert [head.partition("\r\n")[0] for head in heads] == ["GET / HTTP/1.1"]

    def test_a_message_without_an_end(self, listening: Listen) -> None:
        body = HEAD + b"Connection: close\r\n\r\n" + OPENING + b"data: a\n\ndata: " + b"x" * 10**6
        with serving(body) as (url, heads):
            stream = listening(url, token="x", max_message=1000)
            assert data(stream, 1) == ["a"]
            assert "more than 1000 characters" in ended(stream).reason
        assert len(heads) == 1


class TestOpening:
    """Who enters a ``with`` block is told; who iterates waits."""

    def test_nobody_there(self, listening: Listen) -> None:
        stream = listening(f"http://127.0.0.1:{free_port()}/", token="secret")
        with pytest.raises(ConnectionError) as caught, stream:
            pass
        assert "secret" not in str(caught.value)

    def test_who_iterates_waits_for_the_server(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher, listening: Listen
    ) -> None:
        with running_daemon(tmp_path, redis_server.url, "--retry", "0.1") as daemon:
            token = subscribe(publisher)
            last = publisher.position()
            daemon.stop()
            stream = listening(url_of(daemon), token=token, last_event_id=last)
            with pytest.raises(ConnectionError), stream:
                pass
            stream = listening(url_of(daemon), token=token, last_event_id=last)
            threading.Timer(0.5, daemon.start).start()
            publisher.publish("room:1", "1")
            assert data(stream, 1) == ["1"]

    @pytest.mark.parametrize(
        "options",
        [
            {"url": "push.example"},
            {"url": "http://[::1/"},
            {"token": "a b"},
            {"last_event_id": "\n"},
        ],
    )
    def test_what_cannot_be_is_refused_at_once(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"is no|must be|is none"):
            listen(**{"url": "http://x/", "token": "x", **options})

    def test_a_client_is_of_the_kind_that_the_loop_is(self) -> None:
        with httpx.Client() as client, pytest.raises(TypeError, match="AsyncClient here"):
            wait_for_coroutine(lambda: anext(listen("http://x/", token="x", client=client)))
        wrong = httpx.AsyncClient()
        with pytest.raises(TypeError, match=r"x\.Client here"):
            next(listen("http://x/", token="x", client=wrong))


class TestClosing:
    """Nothing is left: no connection, no thread."""

    @pytest.fixture(autouse=True)
    def _no_thread_is_left(self) -> Iterator[None]:
        wait_for_coroutine(lambda: asyncio.sleep(0))  # The loop of the tests has one.
        before = set(threading.enumerate())
        yield
        eventually(lambda: set(threading.enumerate()) <= before)

    def test_a_block_that_is_left_closes_it(
        self, daemon: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        with listening(url_of(daemon), token=subscribe(publisher)) as stream:
            assert open_streams(daemon) == 1
        eventually(lambda: open_streams(daemon) == 0)
        assert [*stream] == []

    def test_a_loop_that_is_left_closes_it(self, daemon: Daemon, publisher: Publisher) -> None:
        gc.disable()
        try:
            token, last = subscribe(publisher), publisher.position()
            publisher.publish("room:1", "1")
            for _ in listen(url_of(daemon), token=token, last_event_id=last):
                assert open_streams(daemon) == 1
                break
            eventually(lambda: open_streams(daemon) == 0)
        finally:
            gc.enable()

    @pytest.mark.parametrize("where", ["reading", "pausing", "asking"])
    def test_another_thread_closes_it(
        self, where: str, daemon: Daemon, publisher: Publisher, listening: Listen
    ) -> None:
        silent: AbstractContextManager[Any] = serving(until_it_goes)
        again = serving(HEAD + b"Connection: close\r\n\r\nretry: 3000000\n\n")
        with silent as (silent_url, asked), again as (again_url, came):
            url = {"reading": url_of(daemon), "pausing": again_url, "asking": silent_url}[where]
            stream = listening(url, token=subscribe(publisher))
            seen: list[Message] = []
            thread = threading.Thread(target=lambda: seen.extend(stream))
            thread.start()
            eventually(lambda: open_streams(daemon) or asked or came)
            time.sleep(0.05)  # It may be a little before or after that moment: all is well.
            stream.close()
            thread.join()
            assert seen == []
            stream.close()
        eventually(lambda: open_streams(daemon) == 0)

    def test_a_task_that_is_cancelled_closes_it_at_once_and_may_go_on(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)

        async def main() -> list[str]:
            async with listen(url_of(daemon), token=token) as stream:
                task = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                # At once: the loop gets no turn, and the daemon sees the end.
                eventually(lambda: open_streams(daemon) == 0)
                publisher.publish("room:1", "meanwhile")
                first = await asyncio.wait_for(anext(stream), 30)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(stream), 0.05)
                publisher.publish("room:1", "again")
                return [first.data, (await anext(stream)).data]

        assert wait_for_coroutine(main) == ["meanwhile", "again"]
        eventually(lambda: open_streams(daemon) == 0)

    def test_many_read_at_once_on_one_loop(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)

        async def one() -> list[str]:
            async with listen(url_of(daemon), token=token) as stream:
                await opened.wait()
                return [(await anext(stream)).data for _ in range(3)]

        async def main() -> list[list[str]]:
            tasks = [asyncio.ensure_future(one()) for _ in range(20)]
            await opened.wait()
            for number in range(3):
                publisher.publish("room:1", str(number))
            return await asyncio.gather(*tasks)

        opened = asyncio.Barrier(21)
        assert wait_for_coroutine(main) == [["0", "1", "2"]] * 20


class TestNetwork:
    def test_a_certificate_that_nobody_vouches_for_is_the_end(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        publisher: Publisher,
        listening: Listen,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        authority = Authority()
        issued = authority.issue("127.0.0.1")
        (tmp_path / "key.pem").write_bytes(issued.key)
        (tmp_path / "certificate.pem").write_bytes(issued.certificate)
        (tmp_path / "authority.pem").write_bytes(authority.certificate)
        files = f"privateKey={tmp_path}/key.pem:certKey={tmp_path}/certificate.pem"
        with secure_daemon(tmp_path, redis_server, authority.client(), f"ssl:{files}") as secure:
            url, token = f"https://127.0.0.1:{secure.port}/", subscribe(publisher)
            assert "CERTIFICATE_VERIFY_FAILED" in ended(listening(url, token=token)).reason
            with pytest.raises(ConnectionError), listening(url, token=token):
                pass
            # The system's are those of OpenSSL, which this variable names.
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
            with listening(url, token=token) as stream:
                publisher.publish("room:1", "1")
                assert data(stream, 1) == ["1"]
                threading.Timer(0.1, stream.close).start()
                assert [*stream] == []
            monkeypatch.delenv("SSL_CERT_FILE")
            with (
                httpx.Client(verify=authority.client()) as client,
                listen(url, token=token, client=client),
            ):
                pass

    def test_a_unix_socket(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        path = str(tmp_path / "s")
        with running_daemon(tmp_path, redis_server.url, port=f"unix:{path}"):
            token = subscribe(publisher)
            with (
                httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client,
                listen("http://sinapse/", token=token, client=client) as stream,
            ):
                publisher.publish("room:1", "1")
                assert data(stream, 1) == ["1"]
                threading.Timer(0.1, stream.close).start()
                assert [*stream] == []

    def test_a_proxy_of_the_environment(
        self, listening: Listen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = HEAD + b"Connection: close\r\n\r\n" + OPENING + b"data: a\n\n"
        with serving(body) as (url, heads):
            monkeypatch.setenv("HTTP_PROXY", url)
            assert data(listening("http://push.example/", token="x"), 1) == ["a"]
        assert heads[0].startswith("GET http://push.example/ HTTP/1.1\r\n")

    def test_the_token_is_in_no_log_and_no_text(
        self,
        quick: Daemon,
        publisher: Publisher,
        listening: Listen,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        token = subscribe(publisher)
        with listening(url_of(quick), token=token) as stream:
            publisher.publish("room:1", "1")
            assert data(stream, 1) == ["1"]
            assert token not in repr(stream)
            quick.stop()
            quick.start()
            publisher.tokens.clear("1")
            error = ended(stream)
        assert token not in f"{error!r} {error.__dict__} {error.__cause__!r} {caplog.text}"
        assert "sinapse.listening" in {record.name for record in caplog.records}


def test_json_and_names_for_those_who_print(daemon: Daemon, publisher: Publisher) -> None:
    with closing(listen(url_of(daemon), token=subscribe(publisher))) as stream:
        assert repr(stream) == f"<Stream of {url_of(daemon)}>"
    with pytest.raises(json.JSONDecodeError):
        Message("{").json()
