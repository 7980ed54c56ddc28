"""What a handshake of TLS 1.3 costs the server: whole, and resumed by a ticket.

Usage: python bench/handshakes.py [HANDSHAKES]

Both ends are in this process and talk in memory. What is counted is what the server's end computes.
"""

import ssl
import sys
import tempfile
import time
from pathlib import Path

from certificate import Key, write_certificate
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from machine import description
from OpenSSL import SSL

HANDSHAKES = 1000
SIZE = 64 * 1024


def contexts(certificate: Path, *, tickets: bool) -> tuple[SSL.Context, ssl.SSLContext]:
    """Return what a server and a client work with."""
    server = SSL.Context(SSL.TLS_METHOD)
    server.use_certificate_file(str(certificate))
    server.use_privatekey_file(str(certificate))
    server.set_session_id(b"bench")
    server.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if not tickets:
        server.set_options(SSL.OP_NO_TICKET)
    client = ssl.create_default_context(cafile=str(certificate))
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    return server, client


def shake_hands(
    server: SSL.Context, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[float, ssl.SSLObject]:
    """Return the seconds that the server has computed, and the client's end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1", session=session)
    ours = SSL.Connection(server, None)
    ours.set_accept_state()
    seconds = 0.0
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
        if not is_done:
            incoming.write(ours.bio_read(SIZE))
    ours.send(b"x")  # Tickets come with it.
    incoming.write(ours.bio_read(SIZE))
    theirs.read(1)
    return seconds, theirs


def mean(certificate: Path, count: int, *, tickets: bool) -> float:
    """Return the mean of so many, in milliseconds."""
    server, client = contexts(certificate, tickets=tickets)
    _, end = shake_hands(server, client, None)
    seconds = 0.0
    for _ in range(count):
        session = end.session if tickets else None
        more, end = shake_hands(server, client, session)
        if end.session_reused is not tickets:
            raise SystemExit("a ticket was not taken, or nobody had given one")
        seconds += more
    return 1000 * seconds / count


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
            whole, resumed = (mean(certificate, count, tickets=each) for each in (False, True))
            print(f"{name:16}whole {whole:.2f} ms, resumed {resumed:.2f} ms")


if __name__ == "__main__":
    main()
