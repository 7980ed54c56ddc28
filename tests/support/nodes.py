"""Two daemons on one Redis, behind HAProxy or nginx with the files that are shipped for it."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, Stream, running_daemon, wait_for_end
from tests.support.proxies import CONTRIB, PROGRAMS, SHIPPED, HAProxy, Nginx, Proxy


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
