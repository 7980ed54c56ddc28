"""Two daemons on one Redis, behind HAProxy and nginx with the files that are shipped for it.

Each is restarted in turn, under load: no client is refused, and none misses a message.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from tests.support import RedisServer, eventually
from tests.support.crowd import Crowd
from tests.support.nodes import PROXIES, restart, running_nodes
from tests.support.subscribing import subscribe

#: That many connections at once are more than a process may have by default, in some places.
CLIENTS = 200

#: Messages a second.
RATE = 50

#: Seconds; and what part of the time that they are told the clients wait.
DRAIN = "1.5"
HASTE = 0.2


@pytest.mark.parametrize("name", PROXIES)
def test_nodes_are_restarted_in_turn_under_load(
    name: str, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    with running_nodes(name, tmp_path, redis_server.url, "--drain", DRAIN) as proxy:
        crowd = Crowd(publisher, proxy.port, CLIENTS, RATE, HASTE)
        with contextlib.closing(crowd):
            crowd.open()
            crowd.begin()
            for number in range(2):
                restart(proxy, number, crowd.until)
            crowd.settle()
        assert crowd.faults == []
        # All of them, and those of the first node a second time.
        assert crowd.totals["ended"] == crowd.totals["resumed"] > CLIENTS
        assert not crowd.totals["cut"]
        assert crowd.totals["received"] > crowd.published


@pytest.mark.parametrize("name", PROXIES)
def test_without_any_node_clients_are_told_to_come_back(
    name: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    with running_nodes(name, tmp_path, redis_server.url) as proxy:
        for node in proxy.nodes:
            node.stop()
        with proxy.request("/?access_token=any", Origin="https://app.example") as stream:
            assert stream.status == 200
            assert stream.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert re.fullmatch(rb"retry: \d{4}\n\n", stream.response.read())
        with proxy.request("/?access_token=any", Accept="application/json") as stream:
            assert stream.status == 503


def test_haproxy_sends_nobody_to_a_node_without_redis(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher
) -> None:
    token = subscribe(publisher)
    with running_nodes("haproxy", tmp_path, redis_server.url) as proxy:
        cut_off = proxy.nodes[1]
        cut_off.stop()
        cut_off.command[cut_off.command.index(redis_server.url)] = "redis://127.0.0.1:1/0"
        cut_off.start(ready=False)

        def is_left_alone() -> bool:
            """Whether streams open now, whichever node's turn it would be."""
            with contextlib.ExitStack() as stack:
                streams = [stack.enter_context(proxy.stream(token)) for _ in range(4)]
                return all(stream.next().event == "authentication" for stream in streams)

        eventually(is_left_alone)
        assert is_left_alone()
