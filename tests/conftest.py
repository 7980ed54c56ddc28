"""Fixtures: a real Redis for the session, emptied for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually, running_redis
from tests.support.certificates import root
from tests.support.daemon import Daemon, running_daemon
from tests.support.flavours import FLAVOURS, Flavour, stop_reactor
from tests.support.listening import Listener, listening
from tests.support.proxy import Proxy, running_proxy

HERE = Path(__file__).parent

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

#: Modules that take a minute or more, the longest first.
LONG_MODULES = (
    "system/test_walkthroughs.py",
    "system/test_resharding.py",
    "system/test_faults.py",
    "system/test_clients.py",
    "daemon/test_start.py",
    "system/test_delivery.py",
    "daemon/test_workers.py",
    "listening/test_stream.py",
    "system/test_jspackage.py",
    "system/test_notes.py",
    "system/test_clock.py",
    "system/test_container.py",
    "project/test_packaging.py",
    "project/test_examples.py",
    "sockets/test_tls.py",
    "cli/test_cli.py",
    "system/test_nodes.py",
    "system/test_jsclient.py",
    "project/test_snippets.py",
    "system/test_outbox.py",
    "broker/test_occupancy.py",
    "system/test_token_life.py",
    "system/test_ear.py",
    "system/test_degraded.py",
    "project/test_workflows.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is long: no process is to be at it when all the others have ended."""
    place = {HERE / name: number for number, name in enumerate(LONG_MODULES)}
    items.sort(key=lambda item: place.get(item.path, len(LONG_MODULES)))


def pytest_sessionfinish() -> None:
    """End what the kinds of publishers have started."""
    stop_reactor()


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the whole run; tests that break theirs start their own."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def redis_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for a module that ruins the data or cuts off the clients of what it uses."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def emptied_redis(redis_of_module: RedisServer) -> RedisServer:
    """Return the Redis of the module with nothing in it, not even what ids rest on."""
    with redis_of_module.client() as client:
        client.flushall()
    return redis_of_module


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """Return the session's Redis, empty but for what ids rest on: its data are not lost."""
    with redis_process.client() as client:
        for key in client.scan_iter(count=1000):
            if key not in (PLAIN.retention.encode(), PLAIN.epochs.encode()):
                client.delete(key)
    return redis_process


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key, a certificate for 127.0.0.1, and that of its authority."""
    issued = root().issue("127.0.0.1", "localhost")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(issued.key + issued.certificate + root().certificate)
    return path


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Return a client of the session's Redis."""
    client = redis_server.client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def shared_daemon(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """One daemon with all defaults for the whole run; tests that break theirs start their own."""
    folder = tmp_path_factory.mktemp("daemon")
    with running_daemon(folder, redis_process.url) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def daemon(shared_daemon: Daemon, redis_server: RedisServer) -> Daemon:
    """Return the session's daemon, on an empty Redis."""
    eventually(shared_daemon.is_ready)  # The test before may have cut it off.
    return shared_daemon


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """Return a network on the way to the session's Redis, that breaks as networks do."""
    with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def distant(tmp_path: Path, proxy: Proxy) -> Iterator[Daemon]:
    """Return a daemon that reaches Redis through the proxy."""
    with running_daemon(tmp_path, proxy.url) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def publisher(redis_server: RedisServer) -> Iterator[Publisher]:
    """Return a publisher to the session's Redis."""
    with Publisher(redis_server.url) as publisher:
        yield publisher


@pytest.fixture
def listener(redis_server: RedisServer) -> Iterator[Listener]:
    """Return somebody who hears all that is published there."""
    with listening(redis_server) as listener:
        yield listener


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """Return each kind of publisher in turn."""
    return FLAVOURS[request.param]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a folder whose path is short enough for UNIX sockets, of some 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="sinapse-") as folder:
        yield Path(folder)
