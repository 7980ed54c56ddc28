"""Whether a Redis is the master, as a real one says it."""

from __future__ import annotations

from pathlib import Path

from redis import Connection

from sinapse.protocol.role import QUESTION, is_master
from tests.support import RedisServer, free_port, running_redis


def answer(server: RedisServer) -> bytes:
    connection = Connection(host="127.0.0.1", port=server.port)
    try:
        connection.send_command(*QUESTION)
        answered: bytes = connection.read_response()
        return answered
    finally:
        connection.disconnect()


def test_a_redis_is_the_master_until_it_is_a_replica_and_when_it_is_none_any_more(
    tmp_path: Path,
) -> None:
    with running_redis(tmp_path) as server, server.client() as client:
        assert is_master(answer(server))
        client.replicaof("127.0.0.1", free_port())
        assert not is_master(answer(server))
        client.replicaof("NO", "ONE")
        assert is_master(answer(server))


def test_only_the_role_decides() -> None:
    assert not is_master(b"# Replication\r\nrole:slave\r\nmaster_host:role:master\r\n")
    assert not is_master(b"")
