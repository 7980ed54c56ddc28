"""What a handshake of TLS 1.3 costs the server: whole, and resumed by a ticket.

Usage: python bench/handshakes.py [HANDSHAKES]

Both ends are in this process and talk in memory. What is counted is what the server's end computes
and sends, the tickets that it gives included. The code is in the processor's caches: among other
work a handshake takes longer, and a whole one more so, as it needs more code (scenarios ie and ir).
"""

import ssl
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT)]

from certificate import Key, write_certificate  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402
from machine import description  # noqa: E402
from OpenSSL import SSL  # noqa: E402

from sinapse.sockets.certificates import Certificates  # noqa: E402

HANDSHAKES = 1000
SIZE = 64 * 1024

#: Who Twisted would ask for more about a connection.
NOBODY: Any = None


class Cost(NamedTuple):
    """What the server's end has computed, and sent."""

    seconds: float
    bytes: float


def shake_hands(
    server: Certificates, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[Cost, ssl.SSLObject]:
    """Return what it costs the server, and the client's end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1", session=session)
    before = time.thread_time()
    ours = server.serverConnectionForTLS(NOBODY)
    ours.set_accept_state()
    seconds, size = time.thread_time() - before, 0
    is_done = False
    while not is_done:
        is_done = True
        try:
            theirs.do_handshake()
        except ssl.SSLWantReadError:
            is_done = False
        if data := outgoing.read():
            ours.bio_write(data)
        before = time.thread_time()
        try:
            ours.do_handshake()
        except SSL.WantReadError:
            is_done = False
        seconds += time.thread_time() - before
        said = ours.bio_read(SIZE)  # Tickets come at the end.
        size += len(said)
        incoming.write(said)
    ours.send(b"x")
    incoming.write(ours.bio_read(SIZE))
    theirs.read(1)
    return Cost(seconds, size), theirs


def cost(certificate: Path, count: int, *, resumed: bool) -> Cost:
    """Return the medians of so many."""
    server = Certificates("ssl", {"privateKey": str(certificate)})
    client = ssl.create_default_context(cafile=str(certificate))
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    _, end = shake_hands(server, client, None)
    costs = []
    for _ in range(count):
        one, end = shake_hands(server, client, end.session if resumed else None)
        if end.session_reused is not resumed:
            raise SystemExit("a ticket was not taken, or nobody had given one")
        costs.append(one)
    return Cost(*map(median, zip(*costs, strict=True)))


def main() -> None:
    """Measure both kinds with both kinds of keys."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else HANDSHAKES
    keys: dict[str, Key] = {
        "ECDSA, P-256": ec.generate_private_key(ec.SECP256R1()),
        "RSA, 2048 bits": rsa.generate_private_key(65537, 2048),
    }
    print(description())
    for name, key in keys.items():
        with tempfile.TemporaryDirectory() as folder:
            certificate = write_certificate(Path(folder), key)
            for kind, resumed in (("whole", False), ("resumed", True)):
                seconds, size = cost(certificate, count, resumed=resumed)
                print(f"{name:16}{kind:10}{1000 * seconds:.2f} ms, {size:,.0f} bytes")


if __name__ == "__main__":
    main()
