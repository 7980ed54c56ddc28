"""Where clients run: in a process, in a page of Chromium, or here; tests handle them all alike."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import json
import os
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
from httpx_sse import connect_sse

from sinapse.errors import StreamEnded
from sinapse.listening import Message, listen
from tests.support import EVENT_TIMEOUT, end, eventually
from tests.support.browser import Browser, program
from tests.support.npm import CLIENT

FOLDER = Path(__file__).parent

#: Types of events that only carry the id to resume from.
FOR_THE_CLIENT = ("authentication", "position")


class Event(NamedTuple):
    """What a client tells the application that it has heard."""

    type: str
    data: str
    id: str


class State(NamedTuple):
    """How a connection stands: open, reconnecting, or closed for good; with what status."""

    state: str
    status: int | None = None


def url(port: int) -> str:
    """Return where streams are on a port of this machine."""
    return f"http://127.0.0.1:{port}/"


class Client(ABC):
    """A client of one event stream, by its name in ``clients.js``; it reports in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._reports: deque[dict[str, Any]] = deque()

    @abstractmethod
    def connect(self, port: int, token: str, **options: object) -> Self:
        """Begin to connect to a port of this machine."""

    @abstractmethod
    def _take(self) -> list[dict[str, Any]]:
        """Return what was reported since the last call."""

    def close(self) -> None:  # noqa: B027  # a page is left by the next test
        """End the client."""

    def _what(self, port: int, token: str, options: dict[str, object]) -> dict[str, object]:
        return {"client": self.name, "url": url(port), "token": token, **options}

    def report(self) -> Event | State:
        """Return what is reported next."""
        if not self._reports:
            # Some make pauses of up to 30 s.
            what = "the client reports something"
            self._reports.extend(eventually(self._take, what, EVENT_TIMEOUT + 30))
        report = self._reports.popleft()
        if "event" in report:
            return Event(report["event"], report["data"], report["id"])
        return State(report["state"], report.get("status"))

    def opened(self) -> Event:
        """Return the first event of a stream, which nothing may come before."""
        assert self.report() == State("open")
        first = self.report()
        assert isinstance(first, Event)
        assert first[:2] == ("authentication", "ok")
        return first

    def next(self) -> Event:
        """Return the next event that is for the application."""
        while True:
            report = self.report()
            assert report[0] != "closed", report
            if isinstance(report, Event) and report.type not in FOR_THE_CLIENT:
                return report

    def data(self, count: int) -> list[str]:
        """Return the data of the next messages, which no reset may be among."""
        events = [self.next() for _ in range(count)]
        assert all(event.type == "message" for event in events), events
        return [event.data for event in events]

    def closed(self) -> int | None:
        """Wait until the client gives up, at its first attempt to come back; return the status."""
        report = self.report()
        if report == State("reconnecting"):
            report = self.report()
        assert isinstance(report, State), report
        assert report.state == "closed", report
        return report.status

    def reconnecting(self) -> None:
        """Wait until the client has lost its connection, hearing nothing more."""
        assert self.report() == State("reconnecting")


class Process(Client):
    """A client in a process of its own, which writes a line of JSON for each report."""

    _process: subprocess.Popen[bytes] | None = None
    _partial = b""

    def _start(
        self, command: list[str], folder: Path, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def _take(self) -> list[dict[str, Any]]:
        assert self._process is not None
        assert self._process.stdout is not None
        has_ended = self._process.poll() is not None
        *lines, self._partial = (self._partial + (self._process.stdout.read() or b"")).split(b"\n")
        assert lines or not has_ended, f"{self.name} has ended"
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        if self._process is not None:
            end(self._process)


class Node(Process):
    """A client in a Node of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._start([program("node"), "node.js"], FOLDER)
        assert self.report() == State("ready")

    def connect(self, port: int, token: str, **options: object) -> Self:
        assert self._process is not None
        assert self._process.stdin is not None
        what = self._what(port, token, options)
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()
        return self


class Page(Client):
    """A client in a page; `server` is where the page is."""

    def __init__(self, name: str, browser: Browser, server: str) -> None:
        super().__init__(name)
        self.browser = browser
        browser.open(f"{server}/page.html")

    def connect(self, port: int, token: str, **options: object) -> Self:
        self.browser.run("return start(arguments[0])", self._what(port, token, options))
        return self

    def _take(self) -> list[dict[str, Any]]:
        reports: list[dict[str, Any]] = self.browser.run("return take()")
        return reports


class Here(Client):
    """httpx-sse, in a thread. It does not come back by itself, so this does, as it advises to."""

    def __init__(self) -> None:
        super().__init__("httpx-sse")
        self._heard: deque[dict[str, Any]] = deque()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._socket: socket.socket | None = None

    def connect(self, port: int, token: str, **_: object) -> Self:
        self._thread = threading.Thread(target=self._run, args=(url(port), token), daemon=True)
        self._thread.start()
        return self

    def _take(self) -> list[dict[str, Any]]:
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def _run(self, address: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        pause = 1.0
        # By default httpx gives up what has been quiet for 5 s: say more than the keep-alive.
        with httpx.Client(timeout=httpx.Timeout(5, read=45), trust_env=False) as client:
            while not self._ending.is_set():
                with (
                    contextlib.suppress(httpx.TransportError),
                    connect_sse(client, "GET", address, headers=headers) as source,
                ):
                    status = source.response.status_code
                    if status in (204, 401):
                        self._heard.append({"state": "closed", "status": status})
                        return
                    stream = source.response.extensions["network_stream"]
                    self._socket = stream.get_extra_info("socket")
                    self._heard.append({"state": "open"})
                    for event in source.iter_sse():
                        if event.id:
                            headers["Last-Event-ID"] = event.id
                        if event.retry is not None:
                            pause = event.retry / 1000
                        # Once there is an id, it makes an event of every empty line.
                        if event.data:
                            self._heard.append(
                                {"event": event.event, "data": event.data, "id": event.id}
                            )
                self._heard.append({"state": "reconnecting"})
                self._ending.wait(pause)

    def close(self) -> None:
        self._ending.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()


class Listening(Client):
    """Our own library, in a thread."""

    def __init__(self) -> None:
        super().__init__("sinapse.listening")
        self._heard: deque[dict[str, Any]] = deque()
        self._thread: threading.Thread | None = None

    def connect(self, port: int, token: str, **_: object) -> Self:
        self._listen(url(port), token)
        return self

    def _listen(self, address: str, token: str) -> None:
        self._stream = listen(address, token=token)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _take(self) -> list[dict[str, Any]]:
        return [self._heard.popleft() for _ in range(len(self._heard))]

    def _run(self) -> None:
        try:
            with self._stream as stream:
                self._opened()
                for message in stream:
                    self._hear(message)
        except StreamEnded as error:
            self._heard.append({"state": "closed", "status": error.status})

    def _opened(self) -> None:
        # It tells that it is open by going on, and then has an id.
        first = {"event": "authentication", "data": "ok", "id": self._stream.last_event_id}
        self._heard.extend([{"state": "open"}, first])

    def _hear(self, message: Message) -> None:
        event = message.event or "message"
        self._heard.append({"event": event, "data": message.data, "id": message.id})

    def close(self) -> None:
        if self._thread is not None:
            self._stream.close()
            self._thread.join()


class ListeningOnAsyncio(Listening):
    """The same, with ``async for``."""

    def _run(self) -> None:
        asyncio.run(self._run_on_asyncio())

    async def _run_on_asyncio(self) -> None:
        try:
            async with self._stream as stream:
                self._opened()
                async for message in stream:
                    self._hear(message)
        except StreamEnded as error:
            self._heard.append({"state": "closed", "status": error.status})


class _Pages(http.server.SimpleHTTPRequestHandler):
    """Serves this folder, in ``/sinapse-client/`` what is built of that, and tokens."""

    def __init__(self, *arguments: Any, token: Callable[[], str], **options: Any) -> None:
        self._token = token
        super().__init__(*arguments, directory=str(FOLDER), **options)

    def do_GET(self) -> None:
        if self.path != "/token":
            super().do_GET()
            return
        token = self._token().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(token)))
        self.end_headers()
        self.wfile.write(token)

    def translate_path(self, path: str) -> str:
        _, found, name = path.partition("/sinapse-client/")
        return str(CLIENT / "dist" / name) if found else super().translate_path(path)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving_pages(token: Callable[[], str] = str) -> Iterator[str]:
    """Serve this folder for the length of a with block, on an origin that is not the daemon's.

    `token` makes what is at ``/token``.
    """
    handler = functools.partial(_Pages, token=token)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
