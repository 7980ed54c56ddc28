"""A TCP proxy in threads: a network between two processes that breaks as networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator


class Link:
    """One connection through the proxy; `sent` is all that its client has sent."""

    def __init__(
        self, client: socket.socket, server: socket.socket, flows: dict[str, threading.Event]
    ) -> None:
        self.client = client
        self.server = server
        self.flows = flows
        self.sent = b""

    @property
    def is_subscriber(self) -> bool:
        """Whether it is the one that messages arrive on."""
        return b"PSUBSCRIBE" in self.sent

    def cut(self) -> None:
        """Reset both sides."""
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                side.shutdown(socket.SHUT_RD)  # Wakes the thread that reads it.
            side.close()


#: What the proxy does with bytes on their way: returns what is to be forwarded, and may wait.
Filter = Callable[[Link, bytes], bytes]


def unchanged(_link: Link, data: bytes) -> bytes:
    """Forward everything."""
    return data


class Proxy:
    """Forwards connections to a port of this machine, through filters that can be replaced.

    `up` is the filter towards the server, `down` the one towards the client.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.links: list[Link] = []
        self._flows = _flowing()
        self.up: Filter = unchanged
        self.down: Filter = unchanged
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self.links)

    def stall(self, *directions: str) -> None:
        """Forward nothing more in these directions, both by default, and tell nobody."""
        for direction in directions or self._flows:
            self._flows[direction].clear()

    def flow(self) -> None:
        """Forward everything again, what was held back too."""
        for flow in self._flows.values():
            flow.set()

    def forget(self) -> None:
        """Forward new connections, and leave those that there are as they are, for ever."""
        self._flows = _flowing()

    def cut(self) -> None:
        """Reset all connections; what was held back is lost."""
        for link in self.links:
            link.cut()

    def cut_midway(self, size: Callable[[], int]) -> None:
        """Reset each connection that there is after `size()` more bytes for its client."""
        left = {link: size() for link in self.links}

        def count(link: Link, data: bytes) -> bytes:
            if link not in left:
                return data
            left[link] -= len(data)
            if left[link] > 0:
                return data
            link.client.sendall(data[: len(data) + left[link]])
            link.cut()
            return b""

        self.down = count

    def close(self) -> None:
        """End."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for link in self.links:
            for flow in link.flows.values():
                flow.set()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                link = Link(client, server, self._flows)
                self.links.append(link)
                self._start(self._pump, link, "up")
                self._start(self._pump, link, "down")

    def _pump(self, link: Link, direction: str) -> None:
        source, sink = (link.client, link.server)[:: 1 if direction == "up" else -1]
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if direction == "up":
                    link.sent += data
                    data = self.up(link, data)
                else:
                    data = self.down(link, data)
                link.flows[direction].wait()
                sink.sendall(data)
        link.cut()


def _flowing() -> dict[str, threading.Event]:
    flows = {"up": threading.Event(), "down": threading.Event()}
    for flow in flows.values():
        flow.set()
    return flows


@contextlib.contextmanager
def running_proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy for the length of a with block."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


@contextlib.contextmanager
def away(proxy: Proxy) -> Iterator[None]:
    """Keep clients from the daemon for the length of a with block."""
    proxy.stall()
    proxy.cut()
    yield
    proxy.flow()
