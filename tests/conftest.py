"""Fixtures: a real Redis for the session, emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.support import RedisServer, running_redis


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the whole run; tests that break theirs start their own."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """Return the session's Redis, empty."""
    client = redis_process.client()
    client.flushall()
    client.close()
    return redis_process


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Return a client of the session's Redis."""
    client = redis_server.client()
    yield client
    client.close()
