"""Streams over TLS: the same, by way of the transport."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sinapse.publisher import Publisher
from tests.daemon import Daemon, Ended, Event, Stream, running_daemon
from tests.support import RedisServer, eventually, free_port


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


class SecureDaemon:
    """A daemon on a TLS port, and how to reach it."""

    def __init__(self, daemon: Daemon, port: int, certificate: Path) -> None:
        self.daemon = daemon
        self.port = port
        self.context = ssl.create_default_context(cafile=certificate)

    def stream(self, token: str) -> Stream:
        return Stream(self.port, f"/?access_token={token}", context=self.context)


def test_messages_travel_and_ends_are_noticed(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, certificate: Path
) -> None:
    port = free_port()
    endpoint = f"ssl:{port}:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    with running_daemon(tmp_path, redis_server.url, "--port", endpoint) as daemon:
        secure = SecureDaemon(daemon, port, certificate)
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        with secure.stream("unknown") as stream:
            assert stream.status == 401
        with secure.stream(token).opened() as stream, daemon.stream(token).opened() as plain:
            for number in range(200):
                publisher.publish("room:1", f"{number} " + "x" * 20_000)
                assert stream.next().data.startswith(f"{number} ")
                assert plain.next().data.startswith(f"{number} ")
        eventually(lambda: publisher.publish("room:1", "nobody") == 0)
        with secure.stream(token).opened() as stream:
            publisher.tokens.clear("1")
            with pytest.raises(Ended):
                stream.next()
        assert "Traceback" not in daemon.log


def test_one_that_stalls_catches_up_or_is_cut_off_at_the_bound(
    tmp_path: Path, redis_server: RedisServer, publisher: Publisher, certificate: Path
) -> None:
    port = free_port()
    endpoint = f"ssl:{port}:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    bound = 32 * 1024 * 1024
    options = ("--port", endpoint, "--max-pending", str(bound))
    with running_daemon(tmp_path, redis_server.url, *options) as daemon:
        secure = SecureDaemon(daemon, port, certificate)
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        with secure.stream(token).opened() as stream:
            text = "x" * 100_000
            for number in range(200):  # 20 MB
                publisher.publish("room:1", f"{number} {text}")
            for number in range(200):
                assert stream.message() == Event(f"{number} {text}")
            publisher.publish("room:1", "live again")
            assert stream.message() == Event("live again")
            for number in range(600):  # 60 MB
                publisher.publish("room:1", f"{number} {text}")
            eventually(lambda: publisher.publish("room:1", "nobody") == 0)
            with pytest.raises(Ended):
                stream.wait_for_message("nobody")
        assert "Traceback" not in daemon.log
