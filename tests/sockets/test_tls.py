"""Streams over TLS: the same, by way of the transport; and whom clients find that they talk to."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from websockets.exceptions import ConnectionClosed

from sinapse.errors import StartError
from sinapse.publisher import Publisher
from sinapse.sockets.listener import Listener
from sinapse.web.limits import FRAMES_PER_SECOND
from tests.support import EVENT_TIMEOUT, RedisServer, eventually
from tests.support.certificates import Authority, root
from tests.support.daemon import Ended, Event, Stream, refusal, running_daemon
from tests.support.subscribing import subscribe
from tests.support.tls import SecureDaemon, secure_daemon, shaken_hands
from tests.support.websocket import HANDSHAKE, received


@pytest.fixture(scope="session")
def authority() -> Authority:
    return root()


@pytest.fixture(scope="session")
def context(authority: Authority) -> ssl.SSLContext:
    """Return what a client needs who trusts the authority and nobody else."""
    return authority.client()


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    redis_process: RedisServer,
    certificate: Path,
    context: ssl.SSLContext,
) -> Iterator[SecureDaemon]:
    """One daemon for those tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("daemon")
    with secure_daemon(folder, redis_process, context, f"ssl:privateKey={certificate}") as secure:
        yield secure


@pytest.fixture
def secure(shared: SecureDaemon, redis_server: RedisServer) -> SecureDaemon:
    """Return the shared daemon, on an empty Redis."""
    return shared


class TestStreams:
    """Event streams and WebSockets."""

    def test_messages_travel_and_ends_are_noticed(
        self, secure: SecureDaemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with secure.stream("unknown") as stream:
            assert stream.status == 401
        with secure.stream(token).opened() as stream, secure.daemon.stream(token).opened() as plain:
            for number in range(200):
                publisher.publish("room:1", f"{number} " + "x" * 20_000)
                assert stream.next().data.startswith(f"{number} ")
                assert plain.next().data.startswith(f"{number} ")
        eventually(lambda: publisher.publish("room:1", "nobody") == 0)
        with secure.stream(token).opened() as stream:
            publisher.tokens.clear("1")
            with pytest.raises(Ended):
                stream.next()

    def test_one_that_stalls_catches_up_or_is_cut_off_at_the_bound(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        publisher: Publisher,
        certificate: Path,
        context: ssl.SSLContext,
    ) -> None:
        token = subscribe(publisher, "room:1")
        bound = ("--max-pending", str(32 * 1024 * 1024))
        arguments = f"ssl:privateKey={certificate}"
        with (
            secure_daemon(tmp_path, redis_server, context, arguments, *bound) as secure,
            secure.stream(token).opened() as stream,
        ):
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
            assert secure.daemon.metrics()["sinapse_streams_closed_total slow consumer"] == 1

    def test_a_websocket_gets_messages_and_closes_in_good_order(
        self, secure: SecureDaemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with secure.websocket(token) as client:
            for number in range(100):
                publisher.publish("room:1", f"{number} " + "x" * 20_000)
                assert received(client)["data"].startswith(f"{number} ")
            assert client.ping("well?").wait(EVENT_TIMEOUT)
            client.close(1000)
            assert client.close_code == 1000
        with secure.websocket(token) as client:
            publisher.tokens.clear("1")
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(EVENT_TIMEOUT)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008

    def test_a_websocket_is_answered_all_that_it_asks(
        self, secure: SecureDaemon, publisher: Publisher
    ) -> None:
        with secure.websocket(subscribe(publisher, "room:1")) as client:
            for _ in range(FRAMES_PER_SECOND + 100):  # Some of it has to wait.
                client.send("")
            for _ in range(FRAMES_PER_SECOND + 100):
                assert received(client) == {}
            publisher.publish("room:1", "hello")
            assert received(client)["data"] == "hello"

    def test_a_slow_websocket_is_closed_and_misses_nothing(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        publisher: Publisher,
        certificate: Path,
        context: ssl.SSLContext,
    ) -> None:
        token = subscribe(publisher, "room:1")
        bound = ("--max-pending", "65536")
        arguments = f"ssl:privateKey={certificate}"
        with secure_daemon(tmp_path, redis_server, context, arguments, *bound) as secure:
            with secure.stream(token).opened() as stream:
                start = stream.position
            published = 0
            with Stream(secure.port, f"/?access_token={token}", HANDSHAKE, context=context) as slow:
                assert slow.status == 101
                while "sinapse_streams_closed_total slow consumer" not in secure.daemon.metrics():
                    publisher.publish("room:1", f"{published:06} {'x' * 20_000}")
                    published += 1
            with secure.websocket(token, start) as client:
                seen = [received(client)["data"][:6] for _ in range(published)]
                assert seen == [f"{number:06}" for number in range(published)]

    def test_what_is_quiet_is_kept_alive(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        publisher: Publisher,
        certificate: Path,
        context: ssl.SSLContext,
    ) -> None:
        path = f"/?access_token={subscribe(publisher)}"
        arguments = f"ssl:privateKey={certificate}"
        with (
            secure_daemon(tmp_path, redis_server, context, arguments, "-k", "0.2") as secure,
            Stream(secure.port, path, context=context).opened() as stream,
            Stream(secure.port, path, HANDSHAKE, context=context) as socket,
        ):
            assert [stream.block() for _ in range(3)] == [b":\n\n"] * 3
            said = b""
            while not said.endswith(b"\x89\x00"):  # A ping.
                said += socket.socket.recv(1)


class TestHandshake:
    """What is spoken with whom."""

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_modern_versions_are_spoken(
        self, secure: SecureDaemon, authority: Authority, version: ssl.TLSVersion
    ) -> None:
        with shaken_hands(secure.port, client_of(authority, version)) as client:
            assert client.version() == version.name.replace("_", ".")

    # Python says so of TLS 1.1.
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
    def test_tls_1_1_is_not(self, secure: SecureDaemon, authority: Authority) -> None:
        context = client_of(authority, ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="protocol version"):
            shaken_hands(secure.port, context).__enter__()

    @pytest.mark.parametrize(
        "cipher",
        [
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ],
    )
    def test_modern_ciphers_are_taken(
        self, secure: SecureDaemon, authority: Authority, cipher: str
    ) -> None:
        context = client_of(authority, ssl.TLSVersion.TLSv1_2, cipher)
        with shaken_hands(secure.port, context) as client:
            assert (client.cipher() or ("",))[0] == cipher

    @pytest.mark.parametrize(
        "cipher",
        ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-CCM", "RSA"],
    )
    def test_others_are_not(self, secure: SecureDaemon, authority: Authority, cipher: str) -> None:
        context = client_of(authority, ssl.TLSVersion.TLSv1_2, f"{cipher}:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="handshake failure"):
            shaken_hands(secure.port, context).__enter__()

    def test_of_those_that_both_have_aes_with_128_bits_is_taken(
        self, secure: SecureDaemon, authority: Authority
    ) -> None:
        with shaken_hands(secure.port, authority.client()) as client:
            assert (client.cipher() or ("",))[0] == "TLS_AES_128_GCM_SHA256"
        context = client_of(authority, ssl.TLSVersion.TLSv1_2)
        with shaken_hands(secure.port, context) as client:
            assert (client.cipher() or ("",))[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"

    def test_http_2_is_agreed_upon_or_1_1(self, secure: SecureDaemon, authority: Authority) -> None:
        context = client_of(authority)
        for offered, agreed in (
            (["h2", "http/1.1"], "h2"),
            (["http/1.1", "h2"], "h2"),
            (["http/1.1"], "http/1.1"),
        ):
            context.set_alpn_protocols(offered)
            with shaken_hands(secure.port, context) as client:
                assert client.selected_alpn_protocol() == agreed
        context.set_alpn_protocols(["spdy/3"])
        with pytest.raises(ssl.SSLError):
            shaken_hands(secure.port, context).__enter__()

    def test_without_http_2_it_is_1_1(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        certificate: Path,
        authority: Authority,
    ) -> None:
        context = client_of(authority)
        arguments = f"ssl:privateKey={certificate}"
        off = ("--http2", "off")
        with secure_daemon(tmp_path, redis_server, context, arguments, *off) as secure:
            context.set_alpn_protocols(["h2", "http/1.1"])
            with shaken_hands(secure.port, context) as client:
                assert client.selected_alpn_protocol() == "http/1.1"
            context.set_alpn_protocols(["h2"])
            with pytest.raises(ssl.SSLError):
                shaken_hands(secure.port, context).__enter__()


def client_of(
    authority: Authority, version: ssl.TLSVersion | None = None, ciphers: str | None = None
) -> ssl.SSLContext:
    """Return what a client needs that speaks one version only, with some ciphers."""
    context = authority.client()
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TestCertificates:
    """What clients are shown."""

    @pytest.mark.parametrize("is_apart", [False, True])
    def test_the_chain_is_sent(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        authority: Authority,
        context: ssl.SSLContext,
        is_apart: bool,
    ) -> None:
        middle = Authority("middle", authority)
        key, certificate = middle.issue("127.0.0.1")
        (tmp_path / "key.pem").write_bytes(key)
        (tmp_path / "chain.pem").write_bytes(middle.certificate)
        (tmp_path / "own.pem").write_bytes(certificate + (b"" if is_apart else middle.certificate))
        arguments = f"ssl:privateKey={tmp_path}/key.pem:certKey={tmp_path}/own.pem"
        if is_apart:
            arguments += f":extraCertChain={tmp_path}/chain.pem"
        with secure_daemon(tmp_path, redis_server, context, arguments) as secure:
            assert secure.certificate() == certificate.decode()

    def test_a_renewed_one_is_for_new_connections_and_open_streams_stay(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        publisher: Publisher,
        authority: Authority,
        context: ssl.SSLContext,
    ) -> None:
        token = subscribe(publisher, "room:1")
        former, renewed = authority.issue("127.0.0.1"), authority.issue("127.0.0.1")
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        key.write_bytes(former.key)
        certificate.write_bytes(former.certificate)
        arguments = f"ssl:privateKey={key}:certKey={certificate}"
        with (
            secure_daemon(tmp_path, redis_server, context, arguments) as secure,
            secure.stream(token).opened() as stream,
            secure.websocket(token) as client,
        ):
            assert secure.certificate() == former.certificate.decode()

            # It is caught in the middle: there is another certificate, and not yet its key.
            certificate.write_bytes(renewed.certificate)
            secure.hang_up()
            secure.said(
                f"privateKey {key}: is not the key of the first certificate in {certificate};"
                " the former stays in use"
            )
            assert secure.certificate() == former.certificate.decode()

            key.write_bytes(renewed.key)
            secure.hang_up()
            secure.said("certificates read again")
            assert secure.certificate() == renewed.certificate.decode()

            certificate.unlink()
            secure.hang_up()
            secure.said(
                f"certKey {certificate}: No such file or directory; the former stays in use"
            )
            assert secure.certificate() == renewed.certificate.decode()

            publisher.publish("room:1", "still here")
            assert stream.message() == Event("still here")
            assert received(client)["data"] == "still here"

    def test_a_folder_has_one_for_each_name(
        self,
        tmp_path: Path,
        redis_server: RedisServer,
        authority: Authority,
    ) -> None:
        folder = tmp_path / "certificates"
        folder.mkdir()
        context = authority.client()
        context.check_hostname = False

        def issue(file: str, *names: str) -> str:
            key, certificate = authority.issue(*names)
            (folder / file).write_bytes(key + certificate)
            return certificate.decode()

        first = issue("a.pem", "push.example", "127.0.0.1")
        both = issue("b.pem", "other.example", "*.other.example")
        issue("c.pem.bak", "push.example")
        with secure_daemon(tmp_path, redis_server, context, f"tls:path={folder}") as secure:
            assert secure.certificate("push.example") == first
            assert secure.certificate("PUSH.example") == first
            assert secure.certificate("other.example") == both
            assert secure.certificate("a.other.example") == both
            assert secure.certificate("b.a.other.example") == first
            assert secure.certificate("unknown.example") == first
            assert secure.certificate() == first

            added = issue("c.pem", "added.example")
            renewed = issue("b.pem", "other.example")
            assert secure.certificate("added.example") == first
            secure.hang_up()
            secure.said("certificates read again")
            assert secure.certificate("added.example") == added
            assert secure.certificate("other.example") == renewed
            assert secure.certificate("a.other.example") == first

            (folder / "d.pem").write_bytes(b"nonsense")
            issue("a.pem", "push.example")
            secure.hang_up()
            secure.said(f"path {folder}/d.pem: holds no private key in PEM format; the former")
            assert secure.certificate("push.example") == first

    def test_without_any_a_hang_up_is_survived(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher, "room:1")
        with (
            running_daemon(tmp_path, redis_server.url) as daemon,
            daemon.stream(token).opened() as stream,
        ):
            os.kill(daemon.pid, signal.SIGHUP)
            publisher.publish("room:1", "still here")
            assert stream.message() == Event("still here")
            daemon.stop()
            assert "Traceback" not in daemon.log


class TestStart:
    """What is said of an endpoint that cannot be: the argument, the file, and why."""

    @pytest.fixture
    def files(self, tmp_path: Path, authority: Authority) -> Path:
        issued, other = authority.issue("127.0.0.1"), authority.issue("127.0.0.1")
        encrypted = load_pem_private_key(issued.key, None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        for name, content in {
            "key": issued.key,
            "certificate": issued.certificate,
            "both": issued.certificate + issued.key,
            "other": other.certificate,
            "encrypted": encrypted,
            "broken": issued.certificate.replace(b"M", b"!", 1),
            "nonsense": b"\xff\0nonsense",
            "empty": b"",
        }.items():
            (tmp_path / f"{name}.pem").write_bytes(content)
        (tmp_path / "folder").mkdir()
        return tmp_path

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ("ssl:0", "privateKey: is missing"),
            ("ssl:0:certKey={}/both.pem", "privateKey: is missing"),
            ("ssl:privateKey={}/both.pem", "port: is missing"),
            ("ssl:0:privateKey={}/no.pem", "privateKey {}/no.pem: No such file or directory"),
            ("ssl:0:privateKey={}/folder", "privateKey {}/folder: Is a directory"),
            ("ssl:0:{}/key.pem:{}/no.pem", "certKey {}/no.pem: No such file or directory"),
            (
                "ssl:0:privateKey={}/both.pem:extraCertChain={}/no.pem",
                "extraCertChain {}/no.pem: No such file or directory",
            ),
            (
                "ssl:0:privateKey={}/both.pem:extraCertChain={}/empty.pem",
                "extraCertChain {}/empty.pem: holds no certificate in PEM format",
            ),
            (
                "ssl:0:privateKey={}/certificate.pem",
                "privateKey {}/certificate.pem: holds no private key in PEM format",
            ),
            (
                "ssl:0:privateKey={}/nonsense.pem",
                "privateKey {}/nonsense.pem: holds no private key in PEM format",
            ),
            (
                "ssl:0:privateKey={}/encrypted.pem",
                "privateKey {}/encrypted.pem: the private key is encrypted",
            ),
            (
                "ssl:0:privateKey={}/key.pem",
                "privateKey {}/key.pem: holds no certificate in PEM format",
            ),
            (
                "ssl:0:privateKey={}/key.pem:certKey={}/broken.pem",
                "certKey {}/broken.pem: holds no certificate in PEM format",
            ),
            (
                "ssl:0:privateKey={}/key.pem:certKey={}/other.pem",
                "privateKey {}/key.pem: is not the key of the first certificate in {}/other.pem",
            ),
            (
                "ssl:0:privateKey={}/both.pem:sslmethod=TLSv1_METHOD",
                "sslmethod TLSv1_METHOD: it is TLS 1.2 and newer that is spoken",
            ),
            ("ssl:0:privateKey={}/both.pem:color=blue", "color: there is no such argument"),
            ("ssl:many:privateKey={}/both.pem", "invalid literal for int() with base 10: 'many'"),
            ("tls:{}/no", "path {}/no: No such file or directory"),
            ("tls:{}/key.pem", "path {}/key.pem: Not a directory"),
            ("tls:{}/folder", "path {}/folder: holds no file whose name ends in .pem"),
            ("tls:{}", "path {}/broken.pem: holds no private key in PEM format"),
        ],
    )
    def test_what_is_wrong_is_named(self, files: Path, arguments: str, reason: str) -> None:
        reactor: Any = MemoryReactor()
        description = arguments.replace("{}", str(files))
        with pytest.raises(StartError) as caught:
            Listener(description, Factory(), reactor)
        line = f"sinapse: --port {description!r}: {reason.replace('{}', str(files))}"
        assert str(caught.value) == line

    def test_it_is_one_line(self, files: Path) -> None:
        description = f"ssl:0:privateKey={files}/nonsense.pem"
        line = refusal(files, "--port", description)
        assert line.endswith(f"privateKey {files}/nonsense.pem: holds no private key in PEM format")
