"""A stream that is read in a thread, for a wait that has a bound."""

from __future__ import annotations

import queue
import socket
import threading

import pytest

from sinapse.errors import StreamEnded
from sinapse.listening.background import BackgroundStream
from sinapse.publisher import Publisher
from tests.support import EVENT_TIMEOUT, eventually, free_port
from tests.support.daemon import Daemon
from tests.support.subscribing import subscribe


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


def test_what_is_published_once_it_is_open_comes(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    with BackgroundStream(url_of(daemon.port), token).opened(EVENT_TIMEOUT) as stream:
        with pytest.raises(queue.Empty):
            stream.next(0.01)
        publisher.publish("room:1", "1", retain=0)
        publisher.publish("room:1", "2", retain=0)
        assert [stream.next(EVENT_TIMEOUT).data for _ in range(2)] == ["1", "2"]


def test_why_there_is_nothing_is_raised_where_it_is_waited_for(
    daemon: Daemon, publisher: Publisher
) -> None:
    refused = pytest.raises(StreamEnded, match="unknown token")
    with BackgroundStream(url_of(daemon.port), "unknown") as stream, refused:
        stream.opened(EVENT_TIMEOUT)
    nobody = pytest.raises(ConnectionError, match="refused")
    with BackgroundStream(url_of(free_port()), "unknown") as stream, nobody:
        stream.opened(EVENT_TIMEOUT)


def test_it_leaves_no_connection_and_no_thread(daemon: Daemon, publisher: Publisher) -> None:
    before = threading.active_count()
    stream = BackgroundStream(url_of(daemon.port), subscribe(publisher)).opened(EVENT_TIMEOUT)
    stream.close()
    assert threading.active_count() == before
    eventually(lambda: daemon.metrics()["sinapse_streams"] == 0)


def test_nor_where_nobody_answers() -> None:
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url, nothing = url_of(server.getsockname()[1]), pytest.raises(queue.Empty)
        with BackgroundStream(url, "token") as stream, nothing:
            stream.opened(0.1)
        assert threading.active_count() == before
