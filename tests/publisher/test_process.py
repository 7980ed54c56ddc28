"""The publisher in real processes: threads, forks, and a Redis that fails in every way."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from sinapse import publisher as library
from sinapse.errors import BrokerUnavailable
from sinapse.protocol.message import unpack
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Published, Publisher, aio, tx
from sinapse.publisher.operations.channels import AddChannel
from sinapse.publisher.operations.messages import PublishAll
from sinapse.publisher.operations.operation import Operation, Plain
from sinapse.publisher.operations.presence import OnlineIn
from sinapse.publisher.operations.tokens import GenerateToken, ObtainToken, RenewToken
from tests.support import (
    EVENT_TIMEOUT,
    PYTHON,
    RedisServer,
    eventually,
    free_port,
    redis_binary,
    running_redis,
)
from tests.support.flavours import Flavour, running_reactor, wait_for_deferred
from tests.support.listening import listening
from tests.support.publishing import FORKS, exit_status, forks, in_child, in_own_process


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis that the test may break."""
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def own_client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    """Return a client that was connected before anything was broken."""
    with contextlib.closing(own_redis.client()) as client:
        client.ping()
        yield client


@pytest.fixture
def publisher(flavour: Flavour, own_redis: RedisServer) -> Iterator[Publisher]:
    with flavour(own_redis.url) as publisher:
        yield publisher


def failure(operation: Callable[[], object]) -> BrokerUnavailable:
    """Return how `operation` fails, which must be with BrokerUnavailable."""
    with pytest.raises(BrokerUnavailable) as raised:
        operation()
    return raised.value


def operations(publisher: Publisher) -> dict[str, Callable[[], object]]:
    """Return every operation that asks Redis."""
    return {
        "publish": lambda: publisher.publish("room:1", "hello"),
        "publish plainly": lambda: publisher.publish("room:1", "hello", retain=0),
        "add": lambda: publisher.channels.add("7", "room:1"),
        "remove": lambda: publisher.channels.remove("7", "room:1"),
        "has": lambda: publisher.channels.has("7", "room:1"),
        "list": lambda: publisher.channels.list("7"),
        "clear channels": lambda: publisher.channels.clear("7"),
        "generate": lambda: publisher.tokens.generate("7"),
        "reset": lambda: publisher.tokens.reset("7"),
        "position": publisher.position,
        "get": lambda: publisher.tokens.get("7"),
        "clear token": lambda: publisher.tokens.clear("7"),
    }


WRITES = (
    *("publish", "publish plainly", "add", "remove", "clear channels"),
    *("generate", "reset", "clear token"),
)


@contextlib.contextmanager
def unanswered(
    client: redis.Redis, publisher: Publisher, retain: int = 300
) -> Iterator[Future[Published]]:
    """Publish in another thread: within the with block Redis has it, and does not answer."""
    with ThreadPoolExecutor(1) as pool:
        client.client_pause(60_000, all=False)
        try:
            future = pool.submit(publisher.publish, "room:1", "hello", retain=retain)
            eventually(lambda: asking(client), "Redis has the command")
            yield future
        finally:
            client.client_unpause()


def asking(client: redis.Redis) -> list[str]:
    """Return the ids of the clients whose message was not answered."""
    clients = client.client_list()
    return [each["id"] for each in clients if each["cmd"] in ("publish", "evalsha", "eval")]


def test_the_import_loads_nothing_of_the_daemon() -> None:
    program = (
        "import sys, sinapse.publisher\n"
        "print(sorted({'twisted', 'txredisapi', 'click', 'OpenSSL'} & set(sys.modules)))"
    )
    result = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_import_opens_nothing_and_needs_no_redis() -> None:
    environment = os.environ | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
    program = (
        "from sinapse.publisher import Publisher, default\n"
        "assert str(default().url) == str(Publisher().url)"
    )
    subprocess.run([PYTHON, "-W", "error", "-c", program], env=environment, check=True)


class TestThreads:
    def test_many_threads_share_a_few_connections(
        self, flavour: Flavour, redis_server: RedisServer
    ) -> None:
        with (
            contextlib.closing(redis_server.client()) as client,
            listening(redis_server) as listener,
            flavour(redis_server.url, max_connections=3) as publisher,
        ):
            before = len(client.client_list())
            with ThreadPoolExecutor(24) as pool:
                results = list(pool.map(lambda n: publisher.publish("room:1", n), range(600)))
            assert results == [1] * 600
            assert len(client.client_list()) - before <= 3
            heard = [unpack(payload).data for _, payload in listener.heard()]
        assert sorted(heard, key=int) == [str(number) for number in range(600)]

    def test_of_tokens_made_at_once_one_is_left_and_the_others_are_revoked(
        self, flavour: Flavour, redis_server: RedisServer
    ) -> None:
        with (
            contextlib.closing(redis_server.client()) as client,
            listening(redis_server) as listener,
            flavour(redis_server.url) as publisher,
        ):
            with ThreadPoolExecutor(8) as pool:
                tokens = set(pool.map(lambda _: publisher.tokens.generate("7"), range(80)))
            current = str(publisher.tokens.get("7"))
            assert client.keys("sinapse:tokens:*") == [f"sinapse:tokens:{current}".encode()]
            revoked = [payload.decode() for _, payload in listener.heard()]
        assert len(tokens) == 80
        assert sorted([*revoked, current]) == sorted(tokens)

    def test_the_last_change_told_of_a_channel_is_what_the_list_says(
        self, flavour: Flavour, redis_server: RedisServer
    ) -> None:
        with listening(redis_server) as listener, flavour(redis_server.url) as publisher:

            def change(number: int) -> object:
                channel = f"room:{number % 5}"
                if number % 3 == 0:
                    return publisher.channels.remove("7", channel)
                return publisher.channels.add("7", channel)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(change, range(300)))
            told: set[str] = set()
            for control, payload in listener.heard():
                if control.endswith(":add"):
                    told.add(payload.decode())
                else:
                    told.discard(payload.decode())
            assert publisher.channels.list("7") == told


@forks
class TestForks:
    @pytest.mark.parametrize("how", FORKS)
    @in_own_process
    def test_parent_and_child_publish_at_once_on_connections_of_their_own(
        self, redis_server: RedisServer, how: str
    ) -> None:
        with (
            listening(redis_server) as listener,
            Publisher(redis_server.url, max_connections=1) as publisher,
        ):
            publisher.publish("room:1", "before")

            def publish(who: str) -> None:
                for number in range(200):
                    assert publisher.publish("room:1", f"{who} {number}") == 1

            children = [in_child(partial(publish, who), FORKS[how]) for who in ("one", "two")]
            publish("parent")
            assert [exit_status(child) for child in children] == [0, 0]
            publisher.publish("room:1", "after")
            heard = [unpack(payload).data for _, payload in listener.heard()]
        assert (heard[0], heard[-1]) == ("before", "after")
        for who in ("one", "two", "parent"):
            of_one = [text for text in heard if text.startswith(who)]
            assert of_one == [f"{who} {number}" for number in range(200)]

    @pytest.mark.parametrize("how", FORKS)
    @in_own_process
    def test_a_child_has_no_connection_of_its_parent(
        self, redis_server: RedisServer, how: str
    ) -> None:
        with Publisher(redis_server.url) as publisher:
            of_parent = publisher._connections.run(Plain(("CLIENT", "ID")))

            def look() -> None:
                assert publisher._connections.run(Plain(("CLIENT", "ID"))) != of_parent

            child = in_child(look, FORKS[how])
            assert exit_status(child) == 0
            assert publisher._connections.run(Plain(("CLIENT", "ID"))) == of_parent

    @pytest.mark.parametrize("how", FORKS)
    @in_own_process
    def test_nor_has_one_that_goes_on_with_the_event_loop(
        self, redis_server: RedisServer, how: str
    ) -> None:
        publisher = aio.Publisher(redis_server.url)
        with contextlib.closing(asyncio.new_event_loop()) as loop:

            def own() -> int:
                found: int = loop.run_until_complete(
                    publisher._connections.run(Plain(("CLIENT", "ID")))
                )
                return found

            def look() -> None:
                assert own() != of_parent

            of_parent = own()
            child = in_child(look, FORKS[how])
            assert exit_status(child) == 0
            loop.run_until_complete(publisher.close())

    @pytest.mark.parametrize("how", FORKS)
    def test_nor_has_one_of_twisted(self, redis_server: RedisServer, how: str) -> None:
        publisher = tx.Publisher(redis_server.url, reactor=running_reactor())
        wait_for_deferred(lambda: publisher.publish("room:1", "hello"))
        own = publisher._connections._own  # type: ignore[attr-defined]
        assert own().link is not None

        def look() -> None:
            assert own().link is None  # There is no reactor to connect with.

        child = in_child(look, FORKS[how])
        assert exit_status(child) == 0
        wait_for_deferred(publisher.close)

    @pytest.mark.parametrize("how", FORKS)
    @in_own_process
    def test_a_child_works_while_its_parent_used_every_connection(
        self, own_client: redis.Redis, own_redis: RedisServer, how: str
    ) -> None:
        with Publisher(own_redis.url, max_connections=1, timeout=60) as publisher:
            with unanswered(own_client, publisher) as future:
                child = in_child(publisher.position, FORKS[how])
                assert exit_status(child) == 0
                assert not future.done()
            assert future.result() == 0

    def test_the_default_is_of_each_process(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        former = library.use(None)
        try:
            with listening(redis_server) as listener, library.default() as publisher:
                publisher.publish("room:1", "parent")
                process = multiprocessing.get_context("fork").Process(
                    target=lambda: library.default().publish("room:1", "child")
                )
                process.start()
                process.join(60)
                assert process.exitcode == 0
                publisher.publish("room:1", "parent")
                heard = [unpack(payload).data for _, payload in listener.heard()]
                assert heard == ["parent", "child", "parent"]
        finally:
            library.use(former)


#: Publishes and looks things up while signals interrupt it, at any moment.
INTERRUPTED = """
import random, signal, sys, time
from sinapse.publisher import Publisher

class Interruption(Exception):
    pass

def interrupt(*_):
    raise Interruption

signal.signal(signal.SIGALRM, interrupt)
publisher = Publisher(sys.argv[1], max_connections=2)
publisher.channels.add("7", "room:1")
interruptions, deadline = 0, time.monotonic() + 30
while interruptions < 2000 and time.monotonic() < deadline:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.0006))
        for number in range(20):
            assert publisher.channels.list("7") == {"room:1"}
            assert publisher.publish("room:1", "hello", retain=number % 2) == 0
            assert publisher.tokens.get("7") is None
    except Interruption:
        interruptions += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
assert interruptions > 100
assert publisher._connections._pool._places.qsize() == 2
"""


class TestSignals:
    def test_they_lose_no_place_and_mix_up_no_answers(self, redis_server: RedisServer) -> None:
        command = [PYTHON, "-c", INTERRUPTED, redis_server.url]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr

    def test_no_number_is_left_to_hiredis_to_write(self, redis_server: RedisServer) -> None:
        with Publisher(redis_server.url) as publisher:
            messages = [
                publisher.messages.publish("room:1", "a", None, retain, message_id)
                for retain in (0, 60)
                for message_id in (None, "x")
            ]
        every: list[Operation[Any]] = [*messages, PublishAll(messages)]
        every += [GenerateToken("7", "User", 60), ObtainToken("7", "User", 60)]
        every += [RenewToken("7", "User", 60), OnlineIn("room:1"), AddChannel("7", "room:1")]
        for each in every:
            assert {type(part) for part in each.request(PLAIN).whole()} <= {str, bytes}


class TestRestart:
    def test_the_next_publish_after_a_restart_succeeds_on_every_pooled_connection(
        self, flavour: Flavour, own_redis: RedisServer
    ) -> None:
        with flavour(own_redis.url, max_connections=3) as publisher:
            with ThreadPoolExecutor(3) as pool:
                barrier = threading.Barrier(3)

                def publish(_: int) -> int:
                    barrier.wait(60)
                    return publisher.publish("room:1", "hello")

                list(pool.map(publish, range(30)))
                own_redis.stop()
                error = failure(lambda: publisher.publish("room:1", "hello"))
                assert error.delivered is False
                own_redis.start()
                assert list(pool.map(publish, range(30))) == [0] * 30
            assert publisher.channels.add("7", "room:1")

    def test_scripts_are_known_to_the_restarted_redis_when_needed(
        self, own_redis: RedisServer, publisher: Publisher
    ) -> None:
        publisher.tokens.generate("7")
        own_redis.stop()
        own_redis.start()
        assert publisher.tokens.generate("7") == publisher.tokens.get("7")


class TestFailures:
    def test_a_stopped_redis_fails_every_operation_before_it_is_sent(
        self, own_redis: RedisServer, publisher: Publisher
    ) -> None:
        publisher.publish("room:1", "hello")
        own_redis.stop()
        for operation in operations(publisher).values():
            error = failure(operation)
            assert error.delivered is False
            assert f"127.0.0.1:{own_redis.port}" in str(error)

    @pytest.mark.parametrize("url", ["redis://a..b", "redis://nowhere.invalid", "unix:///no/where"])
    def test_an_address_that_cannot_be_one(self, flavour: Flavour, url: str) -> None:
        assert failure(lambda: flavour(url).publish("room:1", "hello")).delivered is False

    def test_a_wrong_password(
        self, flavour: Flavour, own_client: redis.Redis, own_redis: RedisServer
    ) -> None:
        own_client.config_set("requirepass", "p@ss/word")
        right = own_redis.url.replace("//", f"//:{quote('p@ss/word', safe='')}@")
        with flavour(right) as publisher:
            publisher.publish("room:1", "hello")
        for url in (own_redis.url, own_redis.url.replace("//", "//:mistaken@")):
            with flavour(url) as publisher:
                for operation in operations(publisher).values():
                    error = failure(operation)
                    assert error.delivered is False
                    assert "mistaken" not in "".join(traceback.format_exception(error))

    def test_a_user_with_a_password(
        self, flavour: Flavour, own_client: redis.Redis, own_redis: RedisServer
    ) -> None:
        own_client.acl_setuser(
            "bob", True, passwords=["+p@ss"], keys=["*"], channels=["*"], categories=["+@all"]
        )
        own_client.config_set("requirepass", "for others")
        with flavour(own_redis.url.replace("//", "//bob:p%40ss@")) as publisher:
            assert publisher.channels.add("7", "room:1")

    def test_a_database_that_does_not_exist(self, flavour: Flavour, own_redis: RedisServer) -> None:
        with flavour(own_redis.url.removesuffix("0") + "99") as publisher:
            assert failure(lambda: publisher.publish("room:1", "hello")).delivered is False

    def test_no_room_for_another_client(
        self, own_client: redis.Redis, publisher: Publisher
    ) -> None:
        own_client.config_set("maxclients", 1)
        assert failure(lambda: publisher.publish("room:1", "hello")).delivered is False
        own_client.config_set("maxclients", 100)
        assert publisher.publish("room:1", "hello") == 0

    def test_no_memory(
        self, own_client: redis.Redis, own_redis: RedisServer, publisher: Publisher
    ) -> None:
        token = publisher.tokens.generate("7")
        publisher.channels.add("7", "room:1")
        own_client.config_set("maxmemory", 1)
        every = operations(publisher)
        for name in ("generate", "reset", "add", "publish", "publish plainly"):
            error = failure(every[name])
            assert error.delivered is False
            assert "maxmemory" in str(error)
        assert publisher.tokens.get("7") == token
        # What takes away must work even then.
        assert publisher.channels.remove("7", "room:1")
        assert publisher.tokens.clear("7")
        own_client.config_set("maxmemory", 0)
        # Nothing was written, not even that the message id was used.
        with listening(own_redis):
            assert publisher.publish("room:1", "hello", message_id="a") == 1
        assert own_client.xlen("sinapse:retained:room:1") == 1

    def test_a_replica(self, own_client: redis.Redis, publisher: Publisher) -> None:
        publisher.tokens.generate("7")
        own_client.replicaof("127.0.0.1", str(free_port()))
        for name in WRITES:
            error = failure(operations(publisher)[name])
            assert error.delivered is False
            assert "read only replica" in str(error)

    def test_a_disk_that_cannot_be_written(
        self, own_client: redis.Redis, own_redis: RedisServer, publisher: Publisher
    ) -> None:
        publisher.tokens.generate("7")
        own_client.config_set("save", "3600 1")
        shutil.rmtree(own_redis.folder)
        own_client.bgsave()

        def failed() -> bool:
            return bool(own_client.info("persistence")["rdb_last_bgsave_status"] == "err")

        eventually(failed, "Redis noticed")
        for name in WRITES:
            error = failure(operations(publisher)[name])
            assert error.delivered is False
            assert "MISCONF" in str(error)
        own_client.config_set("save", "")  # Or it would not end without having saved.

    def test_a_redis_that_loads_its_data(
        self, own_client: redis.Redis, own_redis: RedisServer, publisher: Publisher
    ) -> None:
        own_client.execute_command("DEBUG", "POPULATE", "3000")
        own_client.config_set("loading-process-events-interval-bytes", 1024)
        own_client.config_set("key-load-delay", 500)
        with (
            contextlib.closing(own_redis.client()) as another,
            ThreadPoolExecutor(1) as pool,
        ):
            reload = pool.submit(another.execute_command, "DEBUG", "RELOAD")
            errors: dict[str, BrokerUnavailable] = {}

            every = operations(publisher)

            def all_failed() -> bool:
                for name, operation in every.items():
                    try:
                        operation()
                    except BrokerUnavailable as error:
                        errors[name] = error
                return errors.keys() == every.keys() or reload.done()

            eventually(all_failed, "Redis loads")
            reload.result(EVENT_TIMEOUT)
        assert errors.keys() == every.keys()
        assert {error.delivered for error in errors.values()} == {False}
        publisher.channels.clear("7")
        assert publisher.channels.list("7") == set()

    def test_a_user_who_may_not(
        self, flavour: Flavour, own_client: redis.Redis, own_redis: RedisServer
    ) -> None:
        own_client.acl_setuser(
            "bob", True, passwords=["+p"], keys=["*"], reset_channels=True, categories=["+@all"]
        )
        with flavour(own_redis.url.replace("//", "//bob:p@")) as publisher:
            every = operations(publisher)
            assert failure(every["publish plainly"]).delivered is False
            assert failure(every["publish"]).delivered is None
            # The scripts fail at their last command: the list has changed, and nobody was told.
            assert failure(every["add"]).delivered is None
            own_client.acl_setuser("bob", True, commands=["-evalsha"], reset=False)
            for name in ("add", "publish"):
                assert failure(every[name]).delivered is False

    def test_a_key_of_another_kind(self, own_client: redis.Redis, publisher: Publisher) -> None:
        own_client.set("sinapse:channels:7", "text")
        own_client.lpush("sinapse:User:7", "list")
        for name, operation in operations(publisher).items():
            if not name.startswith(("publish", "position")):
                assert failure(operation).delivered is False
        assert own_client.keys("sinapse:tokens:*") == []

    def test_no_error_has_a_token(self, flavour: Flavour, tmp_path: Path) -> None:
        # Redis quotes the arguments of commands that it does not know.
        unknown = [part for name in ("EVAL", "EVALSHA") for part in ("--rename-command", name, "")]
        with (
            running_redis(tmp_path, *unknown) as server,
            flavour(server.url) as publisher,
        ):
            error = failure(lambda: publisher.tokens.generate("7"))
        assert error.delivered is False
        assert "unknown command" in str(error)
        assert "sinapse:" not in "".join(traceback.format_exception(error))

    def test_a_redis_that_hangs_costs_the_timeout_and_is_not_asked_twice(
        self, flavour: Flavour, own_redis: RedisServer
    ) -> None:
        with (
            listening(own_redis) as listener,
            flavour(own_redis.url, timeout=1) as publisher,
        ):
            publisher.publish("room:1", "before")
            assert own_redis.process is not None
            own_redis.process.send_signal(signal.SIGSTOP)
            try:
                error = failure(lambda: publisher.publish("room:1", "hello", message_id="a"))
                assert error.delivered is None
                # On a new connection it fails before anything is sent.
                assert failure(lambda: publisher.publish("room:1", "no")).delivered is False
            finally:
                own_redis.process.send_signal(signal.SIGCONT)
            eventually(lambda: answers(publisher), "Redis goes on")
            assert publisher.publish("room:1", "hello", message_id="a") == 0
            heard = [unpack(payload).data for _, payload in listener.heard()]
            assert heard == ["before", "hello"]

    @pytest.mark.parametrize("retain", [0, 300])
    def test_a_connection_lost_before_the_answer(
        self, flavour: Flavour, own_client: redis.Redis, own_redis: RedisServer, retain: int
    ) -> None:
        with flavour(own_redis.url, timeout=60) as publisher:
            with unanswered(own_client, publisher, retain) as future:
                [client] = asking(own_client)
                own_client.client_kill_filter(_id=client)
                assert failure(lambda: future.result(EVENT_TIMEOUT)).delivered is None
            assert publisher.publish("room:1", "hello") == 0


class Interruption(BaseException):
    """What a signal handler raises, as task queues do when a task takes too long."""


class TestInterruptions:
    """No answer to an interrupted command may be taken for the answer to the next one."""

    @pytest.fixture
    def paused(self, own_client: redis.Redis, own_redis: RedisServer) -> Iterator[Publisher]:
        """Return a publisher with one connection, to a Redis that answers no PUBLISH for now."""
        with Publisher(own_redis.url, max_connections=1) as publisher:
            publisher.channels.add("7", "room:1")
            own_client.client_pause(60_000, all=False)
            yield publisher
            own_client.client_unpause()

    def test_while_waiting_for_the_answer(self, paused: Publisher) -> None:
        def interrupt(*_: object) -> None:
            raise Interruption

        former = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Interruption):
                paused.publish("room:1", "hello")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
        assert paused.position() == "0-0"

    def test_between_command_and_answer(
        self, paused: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(_: object) -> None:
            raise Interruption

        with monkeypatch.context() as patch:
            patch.setattr("redis.connection.Connection.read_response", interrupt)
            with pytest.raises(Interruption):
                paused.publish("room:1", "hello")
        assert paused.position() == "0-0"


def answers(publisher: Publisher) -> bool:
    """Whether Redis can be asked."""
    try:
        publisher.channels.list("7")
    except BrokerUnavailable:
        return False
    return True


class TestAddresses:
    def test_a_unix_socket(
        self, flavour: Flavour, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("s")
        with running_redis(folder, "--unixsocket", str(folder / "valkey.sock")) as server:
            for url in (f"unix://{folder}/valkey.sock?db=2", f"embedded:{folder}"):
                with listening(server) as listener, flavour(url, retain=0) as publisher:
                    assert publisher.publish("room:1", "hello") == 1
                    assert listener.heard() == [("room:1", b"\xa5hello")]
            with flavour(f"unix://{folder}/valkey.sock?db=2") as publisher:
                publisher.channels.add("7", "room:1")
            with contextlib.closing(server.client()) as client:
                assert client.info("keyspace").keys() == {"db2"}

    def test_tls_with_a_certificate_that_is_checked(
        self, flavour: Flavour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if b"SSL_CTX_new" not in Path(redis_binary()).read_bytes():
            pytest.skip("this Redis was built without TLS")
        port = free_port()
        certificate, key = make_certificate(tmp_path, "localhost")
        options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
        options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        with running_redis(tmp_path, *options, "--tls-ca-cert-file", str(certificate)):
            unknown = failure(lambda: flavour(f"rediss://localhost:{port}").publish("a", "b"))
            assert unknown.delivered is False
            assert "certificate verify failed" in str(unknown)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            with flavour(f"rediss://localhost:{port}") as publisher:
                assert publisher.publish("room:1", "hello") == 0
            other = failure(lambda: flavour(f"rediss://127.0.0.1:{port}").publish("a", "b"))
            assert other.delivered is False
            assert "127.0.0.1" in str(other)
            assert "certificate" in str(other)


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate for `name`, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths
