"""Something that speaks Redis' protocol, and has no Redis behind it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from socketserver import StreamRequestHandler, ThreadingTCPServer

#: Returns what is answered to a command, whose words are these; nothing to leave it without answer.
Answer = Callable[[list[bytes]], bytes]


@contextlib.contextmanager
def running_impostor(answer: Answer) -> Iterator[str]:
    """Run one on a free port, and give its URL."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                while head := self.rfile.readline():
                    words = []
                    for _ in range(int(head[1:])):
                        size = int(self.rfile.readline()[1:])
                        words.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.wfile.write(answer(words))

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()
            thread.join()


def refusing(words: list[bytes]) -> bytes:
    """Answer PING, and say of all else what a proxy says whose Redis is away."""
    return b"+PONG\r\n" if words[0] == b"PING" else b"-ERR upstream failure\r\n"


def agreeing(_words: list[bytes]) -> bytes:
    """Answer everything as if it were PING."""
    return b"+PONG\r\n"


def silent(words: list[bytes]) -> bytes:
    """Answer PING and nothing else; redis-py says who it is before it asks."""
    if words[0] == b"CLIENT":
        return b"+OK\r\n"
    return b"+PONG\r\n" if words[0] == b"PING" else b""
