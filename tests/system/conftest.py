"""What tests of the whole share: a second node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import RedisServer, eventually
from tests.support.daemon import Daemon, running_daemon


@pytest.fixture(scope="module")
def _second(
    redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("second"), redis_process.url) as daemon:
        yield daemon
        assert "Traceback" not in daemon.log


@pytest.fixture
def nodes(daemon: Daemon, _second: Daemon) -> list[Daemon]:
    eventually(_second.is_ready)
    return [daemon, _second]
