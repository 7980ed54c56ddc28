"""The real daemon, through twistd, and a real client of its event streams."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.support import EVENT_TIMEOUT, PYTHON, end, eventually, free_port

ROOT = Path(__file__).parents[2]

#: What Python runs as twistd.
TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")

#: The first bytes of every stream, as Ruby's Sinapse has them.
OPENING = b"retry: 5000\nevent: authentication\ndata: ok\n\n"

#: The last block of a stream whose client is to come back, with the time.
COME_BACK = rb"retry: (\d+)\nby: server\nevent: position\ndata: ok\n\n"


class Event(NamedTuple):
    """One block of an event stream, its fields joined as a browser joins them."""

    data: str = ""
    event: str | None = None
    id: str | None = None
    retry: str | None = None
    comment: str | None = None


class Ended(Exception):
    """The stream has ended."""


def _connect(address: int | str, timeout: float) -> socket.socket:
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), timeout)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


class Stream:
    """A client of one event stream: http.client beneath, block by block."""

    def __init__(
        self,
        address: int | str,
        path: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: str | None = None,
        *,
        timeout: float = EVENT_TIMEOUT,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=timeout)
        self.socket = _connect(address, timeout)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.connection.sock = self.socket
        self.connection.request(
            method, path, body=body, headers={"Accept": "text/event-stream", **(headers or {})}
        )
        #: Id of the last retained message when the stream opened.
        self.position: str | None = None

    @cached_property
    def response(self) -> http.client.HTTPResponse:
        """The answer, waited for when it is first looked at."""
        return self.connection.getresponse()

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> http.client.HTTPMessage:
        return self.response.headers

    def block(self) -> bytes:
        """Return the next block, its empty line included; raises Ended."""
        lines = []
        while True:
            try:
                line = self.response.readline()
            except (ConnectionError, http.client.IncompleteRead) as error:
                raise Ended from error
            if not line:
                raise Ended
            lines.append(line)
            if line == b"\n":
                return b"".join(lines)

    def next(self) -> Event:
        """Return the next event with all its fields, keep-alives left out; raises Ended."""
        while True:
            fields: dict[str, str] = {}
            for line in self.block().decode().split("\n"):
                name, colon, value = line.partition(":")
                if name:
                    value = value.removeprefix(" ") if colon else ""
                    fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            fields.pop("by", None)  # No browser shows it.
            if fields:
                return Event(**fields)

    def opened(self) -> Self:
        """Read the opening, and return the stream."""
        assert self.status == 200, self.response.read()
        first = self.next()
        assert first._replace(id=None) == Event("ok", "authentication", retry="5000")
        self.position = first.id
        return self

    def message(self) -> Event:
        """Return the next event as :meth:`next` does, but for its id."""
        return self.next()._replace(id=None)

    def wait_for_message(self, data: str) -> None:
        """Read until a message arrives."""
        while self.next().data != data:
            pass

    def wait_for_end(self) -> None:
        """Read until the stream has ended."""
        with contextlib.suppress(Ended):
            while True:
                self.block()

    def close(self) -> None:
        """Close the connection, whether it was answered or not."""
        if "response" in self.__dict__:
            self.response.close()
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _get(
    address: int | str, path: str, method: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with Stream(address, path, {"Accept": "*/*", **named}, method) as stream:
        stream.response.text = stream.response.read().decode()  # type: ignore[attr-defined]
        return stream.response


class Daemon:
    """A daemon on a free port; `address` is where its streams are."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        *options: str,
        port: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.address: int | str = self.port
        self.admin_path = str(folder / f"{self.port}.sock")
        endpoint = port or f"tcp:{self.port}:interface=127.0.0.1"
        if endpoint.startswith("unix:"):
            self.address = endpoint.removeprefix("unix:")
        self.command = [
            *(PYTHON, "-W", "error", "-W", "ignore:Passing pyOpenSSL:DeprecationWarning"),
            *TWISTD,
            *("--nodaemon", "--pidfile=", "sinapse"),
            *("--port", endpoint, "--redis", redis_url),
            *("--admin", f"unix:{self.admin_path}", "--drain", "0", *options),
        ]
        self.environment = {
            **{name: value for name, value in os.environ.items() if "SINAPSE" not in name},
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }
        #: Descriptors that the process inherits.
        self.pass_fds: tuple[int, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self._logs = 0

    @property
    def log(self) -> str:
        """What the daemon has logged since it was started last."""
        return (self.folder / f"daemon-{self._logs}.log").read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process, and do not wait for anything."""
        self._logs += 1
        with (self.folder / f"daemon-{self._logs}.log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.pass_fds,
            )
        return self.process

    def start(self, *, ready: bool = True) -> Daemon:
        """Start, and return when it answers, and when it is ready if that is asked for."""
        process = self.launch()
        path = "/ready" if ready else "/status"

        def answers() -> bool:
            assert process.poll() is None, self.log
            try:
                return self.get(path).status == 200
            except OSError:
                return False

        eventually(answers, f"{path} answers 200")
        return self

    def stop(self) -> None:
        """End the process as an operator does; twistd then ends by that very signal."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(EVENT_TIMEOUT) == -signal.SIGTERM

    def get(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """Make a request that is not for an event stream, and read the answer whole."""
        return _get(self.address, path, method, headers)

    def admin(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """Make a request to the administration endpoint, and read the answer whole."""
        return _get(self.admin_path, path, method, headers)

    def is_ready(self) -> bool:
        """Whether the administration endpoint is there, and says that it is ready."""
        with contextlib.suppress(OSError):
            return self.admin("/ready").status == 200
        return False

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name and labels; by the name alone, the sum of those with any."""
        text = self.admin("/metrics").text  # type: ignore[attr-defined]
        metrics: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                metrics[sample.name] = metrics.get(sample.name, 0) + sample.value
                if sample.labels:
                    metrics[" ".join([sample.name, *sample.labels.values()])] = sample.value
        return metrics

    def stream(
        self, token: str, headers: Mapping[str, str] | None = None, after: str | None = None
    ) -> Stream:
        """Open an event stream, or resume one; the answer may be any."""
        headers = {**(headers or {}), **({} if after is None else {"Last-Event-ID": after})}
        return Stream(self.address, f"/?access_token={token}", headers)


@contextlib.contextmanager
def running_daemon(
    folder: Path,
    redis_url: str,
    *options: str,
    port: str | None = None,
    environment: Mapping[str, str] | None = None,
    ready: bool = True,
) -> Iterator[Daemon]:
    """Run a daemon for the length of a with block."""
    daemon = Daemon(folder, redis_url, *options, port=port, environment=environment)
    try:
        yield daemon.start(ready=ready)
    finally:
        if daemon.process is not None:
            end(daemon.process)


def twistd(
    *arguments: str, cwd: Path, check: bool = True, capture_output: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run twistd until it returns, which it does when the daemon is in the background."""
    return subprocess.run(
        [PYTHON, *TWISTD, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{cwd}"},
        capture_output=capture_output,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=check,
    )


def refusal(
    folder: Path,
    *options: str,
    environment: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
) -> str:
    """Start a daemon that must not start, and return what it says: one line."""
    ended = subprocess.run(
        [
            *(*prefix, PYTHON, *TWISTD),
            *("--nodaemon", "--pidfile=", "sinapse", *options),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EVENT_TIMEOUT,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    return lines[0]


def servers_in(folder: Path) -> list[int]:
    """Return the process numbers of servers whose socket is in `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
                executable = (process / "exe").readlink().name
            except OSError:
                continue
            if str(folder).encode() in command and executable in ("valkey-server", "redis-server"):
                found.append(int(process.name))
    return found


def wait_for_end(daemon: Daemon, number: int = signal.SIGTERM) -> None:
    """Wait until the process has ended by a signal that it got, as twistd does."""
    assert daemon.process is not None
    assert daemon.process.wait(EVENT_TIMEOUT) == -number
    assert "Traceback" not in daemon.log
    assert "Unhandled" not in daemon.log
