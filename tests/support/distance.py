"""A daemon for pages in a browser, behind a network that can break: fixtures for whom they help."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import RedisServer, eventually
from tests.support.daemon import Daemon, running_daemon
from tests.support.proxy import Proxy, running_proxy


@pytest.fixture(scope="module")
def _daemon(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """Run a daemon that clients come back to soon."""
    folder = tmp_path_factory.mktemp("daemon")
    with running_daemon(folder, redis_process.url, "--retry", "0.2") as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def daemon(_daemon: Daemon, redis_server: RedisServer) -> Daemon:
    """Return the daemon, which nobody is connected to any more."""
    eventually(lambda: _daemon.metrics()["sinapse_streams"] == 0, "the last test's tabs are gone")
    return _daemon


@pytest.fixture
def proxy(daemon: Daemon) -> Iterator[Proxy]:
    """Return a network between browser and daemon that can break."""
    with running_proxy(daemon.port) as proxy:
        yield proxy
