"""Redis over TLS, and by name and password: for the daemon and the publisher alike."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sinapse.errors import BrokerUnavailable
from sinapse.publisher import Publisher
from tests.support import RedisServer, end, eventually, free_port, running_redis
from tests.support.daemon import Daemon, running_daemon
from tests.support.flavours import FLAVOURS
from tests.support.sentinel import MASTER, Sentinel
from tests.support.workers import running_workers


class Certificate:
    """A key and a certificate for 127.0.0.1 and localhost, signed by itself."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        now = dt.datetime.now(dt.UTC)
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        folder.mkdir()
        self.key = folder / "key.pem"
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.file = folder / "certificate.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class SecureRedis(RedisServer):
    """A Redis with a TLS port, and a plain one for the tests."""

    def __init__(self, folder: Path, certificate: Certificate, *options: str) -> None:
        self.tls_port = free_port()
        super().__init__(
            folder,
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(certificate.file), "--tls-key-file", str(certificate.key)),
            *options,
        )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls") / "right")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls") / "another")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[SecureRedis]:
    server = SecureRedis(tmp_path_factory.mktemp("redis"), certificate)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def tell(daemon: Daemon, url: str) -> None:
    """Send a message all the way from publisher to stream."""
    for flavour in FLAVOURS.values():
        with flavour(url) as publisher:
            publisher.channels.add("1", "room:1")
            with daemon.stream(publisher.tokens.generate("1")).opened() as stream:
                for number in range(50):
                    publisher.publish("room:1", f"{number} " + "x" * 20_000)
                for number in range(50):
                    assert stream.message().data.startswith(f"{number} ")


def refuse(folder: Path, url: str, reason: str) -> str:
    """Check that neither side connects, and that the daemon says why, once; return its log."""
    for flavour in FLAVOURS.values():
        with flavour(url, timeout=2, connect_timeout=2) as publisher:
            with pytest.raises(BrokerUnavailable) as raised:
                publisher.publish("room:1", "hello")
            assert raised.value.delivered is False
    with running_daemon(folder, url, ready=False) as daemon:
        eventually(lambda: reason in daemon.log, reason)
        attempts = daemon.log.count("Redis redis")
        assert daemon.get("/ready").status == 503
        assert attempts == 1
        assert "Traceback" not in daemon.log
        assert "Unhandled" not in daemon.log
        return daemon.log


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_messages_travel_over_tls(
    tmp_path: Path, server: SecureRedis, certificate: Certificate, host: str
) -> None:
    url = f"rediss://{host}:{server.tls_port}/1?ssl_ca_certs={certificate.file}"
    with running_daemon(tmp_path, url) as daemon:
        tell(daemon, url)
        with contextlib.closing(server.client()) as client:
            client.client_kill_filter(_type="pubsub")
        eventually(lambda: daemon.log.count(": connected") == 2, "connected again")
        tell(daemon, url)


def test_the_workers_of_a_node_share_a_connection_over_tls(
    tmp_path: Path, server: SecureRedis, certificate: Certificate
) -> None:
    url = f"rediss://127.0.0.1:{server.tls_port}/1?ssl_ca_certs={certificate.file}"
    with (
        running_workers(tmp_path, url) as workers,
        Publisher(url) as publisher,
        contextlib.closing(server.client()) as client,
    ):
        publisher.channels.add("1", "room:1")
        with workers.one_of_each(publisher.tokens.generate("1")) as streams:

            def travel() -> None:
                for number in range(50):
                    publisher.publish("room:1", f"{number} " + "x" * 20_000, retain=60)
                for stream in streams.values():
                    for number in range(50):
                        assert stream.message().data.startswith(f"{number} ")

            travel()
            assert client.client_kill_filter(_type="pubsub") == 1
            eventually(lambda: workers.daemon.log.count("for the workers") == 2, "heard again")
            travel()


def test_a_file_may_have_several_certificates(
    tmp_path: Path, server: SecureRedis, certificate: Certificate, another: Certificate
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(another.file.read_bytes() + certificate.file.read_bytes())
    url = f"rediss://127.0.0.1:{server.tls_port}?ssl_ca_certs={bundle}"
    with running_daemon(tmp_path, url) as daemon:
        tell(daemon, url)


def test_a_certificate_that_the_machine_does_not_trust_is_refused(
    tmp_path: Path, server: SecureRedis
) -> None:
    url = f"rediss://:secret@127.0.0.1:{server.tls_port}"
    log = refuse(tmp_path, url, "unavailable: TLS: certificate verify failed")
    assert "secret" not in log
    with contextlib.closing(server.client()) as client:
        assert all(each["laddr"].endswith(f":{server.port}") for each in client.client_list())


def test_a_certificate_that_another_has_signed_is_refused(
    tmp_path: Path, server: SecureRedis, another: Certificate
) -> None:
    url = f"rediss://127.0.0.1:{server.tls_port}?ssl_ca_certs={another.file}"
    refuse(tmp_path, url, "unavailable: TLS: certificate verify failed")


def test_a_certificate_for_another_host_is_refused(
    tmp_path: Path, server: SecureRedis, certificate: Certificate
) -> None:
    url = f"rediss://127.0.0.2:{server.tls_port}?ssl_ca_certs={certificate.file}"
    with contextlib.closing(server.client()) as client:
        client.config_set("bind", "127.0.0.1 127.0.0.2")
    refuse(tmp_path, url, "unavailable: TLS: the certificate is not for 127.0.0.2")


def test_a_port_without_tls_is_refused(
    tmp_path: Path, server: SecureRedis, certificate: Certificate
) -> None:
    url = f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={certificate.file}"
    refuse(tmp_path, url, "unavailable: TLS: no answer")


def test_a_file_that_is_no_certificate_is_said_to_be_none(
    tmp_path: Path, server: SecureRedis, certificate: Certificate
) -> None:
    url = f"rediss://127.0.0.1:{server.tls_port}?ssl_ca_certs={certificate.key}"
    refuse(tmp_path, url, f"unavailable: TLS: {certificate.key} holds no certificates")


def test_a_user_gets_in_with_the_password_and_not_without(
    tmp_path: Path, server: SecureRedis, certificate: Certificate
) -> None:
    place = f"127.0.0.1:{server.tls_port}/2?ssl_ca_certs={certificate.file}"
    with contextlib.closing(server.client()) as client:
        client.execute_command("ACL SETUSER bob on >p%40 ~sinapse:* &* +@all -@admin")
        # A user of its own, so that the password cannot be that of the default one.
        url = f"rediss://bob:p%2540@{place}"
        with running_daemon(tmp_path, url) as daemon:
            tell(daemon, url)
            assert {each["user"] for each in client.client_list()} == {"default", "bob"}
            assert "p%" not in daemon.log
        log = refuse(tmp_path, f"rediss://bob:wrong@{place}", "unavailable: WRONGPASS")
        assert "wrong@" not in log


def test_a_redis_that_knows_no_passwords_does_not_make_us_tell_ours(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis", "--rename-command", "AUTH", "") as server:
        url = f"redis://bob:hush@127.0.0.1:{server.port}/0"
        with running_daemon(tmp_path, url, ready=False) as daemon:
            eventually(lambda: "unknown command" in daemon.log)
            assert "hush" not in daemon.log
            assert "bob" not in daemon.log


def test_a_user_who_is_shut_out_is_let_in_again(
    tmp_path: Path, server: SecureRedis, certificate: Certificate
) -> None:
    url = f"rediss://eve:secret@127.0.0.1:{server.tls_port}/2?ssl_ca_certs={certificate.file}"
    with contextlib.closing(server.client()) as client:
        client.execute_command("ACL SETUSER eve on >secret ~* &* +@all")
        with running_daemon(tmp_path, url) as daemon:
            client.execute_command("ACL SETUSER eve off")
            client.client_kill_filter(user="eve")
            eventually(lambda: "unavailable: WRONGPASS" in daemon.log, "the daemon is shut out")
            client.execute_command("ACL SETUSER eve on")
            eventually(lambda: daemon.get("/ready").status == 200, "the daemon is let in")
            tell(daemon, url)
            assert daemon.log.count("WRONGPASS") == 1


def test_sentinels_and_nodes_may_both_be_over_tls(
    tmp_path: Path, server: SecureRedis, certificate: Certificate
) -> None:
    port = free_port()
    settings = f"""\
tls-port {port}
tls-cert-file {certificate.file}
tls-key-file {certificate.key}
tls-ca-cert-file {certificate.file}
tls-auth-clients no
tls-replication yes
"""
    sentinel = Sentinel(tmp_path, server.tls_port, 1, settings)
    try:
        url = f"rediss+sentinel://127.0.0.1:{port}/{MASTER}?ssl_ca_certs={certificate.file}"
        with running_daemon(tmp_path, url) as daemon:
            tell(daemon, url)
    finally:
        end(sentinel.process)
