"""Two daemons on one Redis, behind HAProxy and nginx with the files that are shipped for it.

Each is restarted in turn, under load: no client is refused, and none misses a message.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sinapse.publisher import Publisher
from tests.streams.test_drain import wait_for_end
from tests.support import RedisServer, eventually
from tests.support.crowd import Crowd
from tests.support.daemon import Daemon, Stream, running_daemon
from tests.support.subscribing import subscribe
from tests.system.test_proxies import CONTRIB, PROGRAMS, SHIPPED, HAProxy, Nginx, Proxy

#: That many connections at once are more than a process may have by default, in some places.
CLIENTS = 200

#: Messages a second.
RATE = 50

#: Seconds; and what part of the time that they are told the clients wait.
DRAIN = "1.5"
HASTE = 0.2


class Nodes(Proxy):
    """A proxy before several daemons, over plain HTTP."""

    #: The file for several daemons, and where that for one has what it replaces.
    several: str
    replaced: re.Pattern[str]
    nodes: tuple[Daemon, ...] = ()

    def shipped(self, file: str, places: dict[str, str]) -> str:
        text = super().shipped(file, places)
        part = (CONTRIB / self.name / self.several).read_text()
        for number, node in enumerate(self.nodes, 1):
            address = f" 10.0.0.{number}:9000"
            assert address in part
            part = part.replace(address, f" 127.0.0.1:{node.port}")
        assert " 10." not in part
        text, count = self.replaced.subn(lambda _: part, text)
        assert count == 1
        return re.sub(r" ssl (http2|crt \S+ alpn \S+)", "", text)

    def request(self, path: str, **headers: str) -> Stream:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Stream(self.port, path, {**named, "Host": f"127.0.0.1:{self.port}"})


class HAProxyOfNodes(Nodes, HAProxy):
    several = "nodes.cfg"
    replaced = re.compile(r"^backend sinapse$.*\Z", re.MULTILINE | re.DOTALL)


class NginxOfNodes(Nodes, Nginx):
    several = "nodes.conf"
    replaced = re.compile(r"^upstream sinapse \{.*?^\}$", re.MULTILINE | re.DOTALL)


PROXIES = {proxy.name: proxy for proxy in (HAProxyOfNodes, NginxOfNodes)}


@contextlib.contextmanager
def running_nodes(name: str, folder: Path, redis_url: str, *options: str) -> Iterator[Nodes]:
    """Run two daemons, and a proxy before them."""
    if shutil.which(name, path=PROGRAMS) is None:
        pytest.skip(f"there is no {name}")
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(2):
            own = folder / str(number)
            own.mkdir()
            nodes.append(stack.enter_context(running_daemon(own, redis_url, *options)))
        proxy = PROXIES[name](folder, nodes[0], folder, SHIPPED)
        proxy.nodes = tuple(nodes)
        stack.callback(proxy.stop)
        proxy.start()
        yield proxy


def restart(proxy: Nodes, number: int, wait: Callable[[Callable[[], object]], None]) -> None:
    """Restart a node as an operator does, and return when the proxy sends clients to it."""
    node = proxy.nodes[number]
    assert node.process is not None
    node.process.terminate()
    wait(lambda: node.process is not None and node.process.poll() is not None)
    wait_for_end(node)
    node.launch()

    def is_used() -> bool:
        with contextlib.suppress(OSError), proxy.request("/?access_token=nobody") as stream:
            assert stream.status == 401
            return "sinapse_requests_refused_total unknown token" in node.metrics()
        return False

    wait(is_used)


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
