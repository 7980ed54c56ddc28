"""The event stream that commands read."""

from __future__ import annotations

import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from sinapse.client import EventSource
from sinapse.publisher import Publisher
from tests.support import RedisServer, free_port
from tests.support.daemon import Daemon, running_daemon
from tests.support.subscribing import subscribe


def test_it_comes_back_to_where_it_was(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    with running_daemon(tmp_path, redis_server.url, "--retry", "0.1") as daemon:
        stream = iter(EventSource(f"http://127.0.0.1:{daemon.port}/", token))
        assert next(stream).event == "authentication"
        publisher.publish("room:1", "1")
        assert next(stream).data == "1"
        daemon.stop()
        publisher.publish("room:1", "2")
        daemon.start()
        publisher.publish("room:1", "3")
        rest = (each for each in stream if each.event is None)
        assert [each.data for each in islice(rest, 2)] == ["2", "3"]
        stream.close()


def test_it_resumes_after_an_id_that_is_known(daemon: Daemon, publisher: Publisher) -> None:
    token = subscribe(publisher)
    with daemon.stream(token).opened() as stream:
        position = stream.position
    publisher.publish("room:1", "two\nlines", event="chat")
    url = f"http://127.0.0.1:{daemon.port}/"
    stream_again = iter(EventSource(url, token, position or ""))
    assert next(stream_again).event == "authentication"
    message = next(stream_again)
    assert message[:2] == ("two\nlines", "chat")
    assert message.id
    stream_again.close()


def test_a_message_is_told_from_what_is_the_servers_own(
    daemon: Daemon, publisher: Publisher
) -> None:
    stream = iter(EventSource(f"http://127.0.0.1:{daemon.port}/", subscribe(publisher)))
    assert next(stream).by == "server"
    for event in ("authentication", "position", "reset", "replaced"):
        publisher.publish("room:1", "x", event=event)
        message = next(stream)
        assert (message.event, message.by) == (event, None)
    stream.close()


def test_a_refusal_and_nobody_there_are_told_apart(daemon: Daemon) -> None:
    with pytest.raises(HTTPError):
        next(iter(EventSource(f"http://127.0.0.1:{daemon.port}/", "unknown")))
    with pytest.raises(OSError, match="refused"):
        next(iter(EventSource(f"http://127.0.0.1:{free_port()}/", "unknown")))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_does_not_get_the_token(status: int) -> None:
    """Neither elsewhere nor on the same host, where another path may be somebody else's."""
    asked = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        stream = iter(EventSource(f"{address}/", "secret"))
        with closing(stream), pytest.raises(URLError) as caught:
            next(stream)
        server.shutdown()
        thread.join()
    assert caught.value.reason == f"answers {status} and leads to {address}/elsewhere; ask there"
    assert asked == [("/", "Bearer secret")]
