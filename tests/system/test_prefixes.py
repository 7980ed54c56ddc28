"""Several applications on one Redis: each has its prefix, and neither hears the other."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinapse import __version__
from sinapse.errors import BrokerUnavailable, InvalidPrefix
from sinapse.protocol.keys import RESERVED
from sinapse.protocol.message import Message
from sinapse.protocol.names import names_under
from sinapse.protocol.runs import RunState
from sinapse.protocol.sharding import numbered
from sinapse.publisher import Publisher
from sinapse.publisher.operations.channels import (
    AddChannel,
    ClearChannels,
    HasChannel,
    ListChannels,
    ReadGrant,
    RemoveChannel,
)
from sinapse.publisher.operations.groups import (
    AddToGroup,
    ClearGroup,
    JoinGroup,
    LeaveGroup,
    LeaveGroups,
    ListGroupChannels,
    ListGroups,
    ListMembers,
    RemoveFromGroup,
)
from sinapse.publisher.operations.history import ReadHistory
from sinapse.publisher.operations.messages import (
    Messages,
    PublishAll,
    PublishPlain,
)
from sinapse.publisher.operations.operation import Operation, Plain
from sinapse.publisher.operations.position import Position
from sinapse.publisher.operations.presence import IsOnline, OnlineIn, ReadAudience
from sinapse.publisher.operations.runs import BeginRun, GetRun, HoldRuns, StopRun, TellRun
from sinapse.publisher.operations.sent import Claim
from sinapse.publisher.operations.sessions import (
    EndSession,
    EndSessions,
    ListSessions,
    OpenSession,
    RenewSession,
)
from sinapse.publisher.operations.step import NoteUse, ReadMove
from sinapse.publisher.operations.tokens import (
    ClearToken,
    GenerateToken,
    GetToken,
    ObtainToken,
    RenewToken,
)
from tests.support import RedisServer, eventually, free_port, running_redis, running_several
from tests.support.daemon import Daemon, refusal, running_daemon
from tests.support.flavours import Flavour
from tests.support.monitoring import Monitor
from tests.support.prefixes import PREFIXES

#: The prefixes of the applications, of which one has none.
APPLICATIONS = ("", "staging:", "prod/2:")


class Application(NamedTuple):
    """One of several applications on a Redis."""

    prefix: str
    publisher: Publisher
    daemon: Daemon


@pytest.fixture(scope="module")
def applications(
    redis_of_module: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Application]]:
    """Run a daemon for each of the applications, on one Redis."""
    with contextlib.ExitStack() as stack:
        made = []
        for prefix in APPLICATIONS:
            folder = tmp_path_factory.mktemp("application")
            options = ("--presence", *(("--prefix", prefix) if prefix else ()))
            daemon = stack.enter_context(running_daemon(folder, redis_of_module.url, *options))
            publisher = stack.enter_context(Publisher(redis_of_module.url, prefix=prefix))
            made.append(Application(prefix, publisher, daemon))
        yield made
        for each in made:
            assert "Traceback" not in each.daemon.log


class TestSeveralApplications:
    def test_each_hears_its_own_and_nothing_else(self, applications: list[Application]) -> None:
        with contextlib.ExitStack() as stack:
            streams = []
            for each in applications:
                each.publisher.channels.add("1", "room:1")
                token = each.publisher.tokens.generate("1")
                streams.append(stack.enter_context(each.daemon.stream(token).opened()))
            for each in applications:
                assert each.publisher.publish("room:1", f"plain {each.prefix}", retain=0) == 1
                assert each.publisher.publish("room:1", f"kept {each.prefix}") == 1
                assert each.publisher.publish("room:1", "once", retain=0, message_id="x") == 1
                sent = each.publisher.publish_many([("room:1", "one"), ("room:1", "two")])
                assert sent == [1, 1]
            for each, stream in zip(applications, streams, strict=True):
                texts = [stream.next().data for _ in range(5)]
                assert texts == [
                    f"plain {each.prefix}",
                    f"kept {each.prefix}",
                    "once",
                    "one",
                    "two",
                ]
                kept = each.publisher.history("room:1").messages
                assert [message.data for message in kept] == [texts[1], "one", "two"]

    def test_a_token_is_good_for_one(self, applications: list[Application]) -> None:
        for each in applications:
            each.publisher.channels.add("2", "room:2")
            token = each.publisher.tokens.generate("2")
            session = each.publisher.sessions.open("2").token
            for other in applications:
                for known in (token, session):
                    with other.daemon.stream(known) as stream:
                        assert stream.status == (200 if other is each else 401)

    def test_grants_and_revocations_concern_one(self, applications: list[Application]) -> None:
        one, two, three = applications
        with contextlib.ExitStack() as stack:
            streams = []
            for each in applications:
                each.publisher.channels.add("3", "common")
                session = each.publisher.sessions.open("3")
                stream = stack.enter_context(each.daemon.stream(session.token).opened())
                streams.append((stream, session))
            for change in (
                lambda: two.publisher.channels.add("3", "room:3"),
                lambda: one.publisher.channels.remove("3", "room:3"),
                lambda: three.publisher.channels.add("3", "short", expires_in=0.05),
                lambda: one.publisher.sessions.end("3", streams[0][1].id),
            ):
                change()
            streams[0][0].wait_for_end()
            assert two.publisher.channels.list("3") == {"common", "room:3"}
            eventually(lambda: three.publisher.channels.list("3") == {"common"})
            for each, (stream, _) in zip((two, three), streams[1:], strict=True):
                each.publisher.publish("room:3", "for two")
                each.publisher.publish("common", "for both")
                texts = [stream.next().data]
                while texts[-1] != "for both":
                    texts.append(stream.next().data)
                assert texts == (["for two"] if each is two else []) + ["for both"]

    def test_a_stream_resumes_and_gets_the_past_of_its_own(
        self, applications: list[Application]
    ) -> None:
        for each in applications:
            each.publisher.channels.add("4", "room:4")
            token = each.publisher.tokens.generate("4")
            with each.daemon.stream(token).opened() as stream:
                position = stream.position
            each.publisher.publish("room:4", f"missed {each.prefix}", replay="all")
            with each.daemon.stream(token, after=position).opened() as stream:
                assert stream.next().data == f"missed {each.prefix}"
            with each.daemon.stream(token).opened() as stream:
                assert stream.next().data == f"missed {each.prefix}"

    def test_who_is_online_is_so_in_one(self, applications: list[Application]) -> None:
        one, *others = applications[1:] + applications[:1]
        with contextlib.ExitStack() as stack:
            for each in applications:
                each.publisher.channels.add("5", "room:5")
                token = each.publisher.tokens.generate("5")
                if each is one:
                    stack.enter_context(each.daemon.stream(token).opened())
            eventually(lambda: one.publisher.online("5"))
            assert one.publisher.online_in("room:5") == {"5"}
            assert one.publisher.audience("room:5") == (1, 1)
            for each in others:
                assert not each.publisher.online("5")
                assert each.publisher.online_in("room:5") == set()
                assert each.publisher.audience("room:5") == (0, 0)

    def test_a_run_is_known_to_one_and_is_lost_there(
        self, applications: list[Application], redis_of_module: RedisServer
    ) -> None:
        for each in applications:
            each.publisher._connections.run(BeginRun("lost", "answer", "6", "{}", 60_000))
        with redis_of_module.client() as client:
            client.zadd(names_under("staging:").runs, {"lost": 1})

        def states() -> list[RunState]:
            found = [each.publisher.runs.get("lost") for each in applications]
            return [each.state for each in found if each is not None]

        eventually(lambda: RunState.LOST in states())
        assert states() == [RunState.RUNNING, RunState.LOST, RunState.RUNNING]
        for each in applications:
            each.publisher.runs.stop("lost")

    def test_groups_are_those_of_one(self, applications: list[Application]) -> None:
        one, two, three = applications
        with contextlib.ExitStack() as stack:
            streams = []
            for each in applications:
                each.publisher.channels.add("7", "common")
                token = each.publisher.tokens.generate("7")
                streams.append(stack.enter_context(each.daemon.stream(token).opened()))
            for each in (one, two):
                each.publisher.groups.add("7", "team")
            two.publisher.groups.channels("team").add("room:7")
            one.publisher.groups.remove("7", "team")
            assert two.publisher.groups.of("7") == {"team"}
            assert three.publisher.groups.of("7") == set()
            assert one.publisher.groups.channels("team").list() == set()
            for each, stream in zip(applications, streams, strict=True):
                each.publisher.publish("room:7", "for two")
                each.publisher.publish("common", "for all")
                texts = [stream.next().data]
                while texts[-1] != "for all":
                    texts.append(stream.next().data)
                assert texts == (["for two"] if each is two else []) + ["for all"]

    def test_a_daemon_shows_its_prefix(self, applications: list[Application]) -> None:
        for each in applications:
            assert each.daemon.admin("/status").text.count(f'"prefix": "{each.prefix}"') == 1  # type: ignore[attr-defined]
            assert f"sinapse_build_info {each.prefix} {__version__}" in each.daemon.metrics()

    def test_all_kinds_of_publishers_know_it(
        self, applications: list[Application], redis_of_module: RedisServer, flavour: Flavour
    ) -> None:
        two = applications[1]
        two.publisher.channels.add("8", "room:8")
        token = two.publisher.tokens.generate("8")
        with two.daemon.stream(token).opened() as stream:
            for url, prefix in (
                (redis_of_module.url, "staging:"),
                (f"{redis_of_module.url}?prefix=staging:", None),
                (f"{redis_of_module.url}?prefix=staging:", "overridden:"),
            ):
                with flavour(url, prefix=prefix) as publisher:
                    publisher.publish("room:8", "hello")
                assert stream.next().data == "hello"


@pytest.fixture(scope="module")
def _unused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("quiet")) as server:
        yield server


@pytest.fixture
def quiet(_unused: RedisServer) -> RedisServer:
    """Return an empty Redis that nobody uses but the test."""
    with _unused.client() as client:
        client.flushall()
    return _unused


def all_operations() -> list[Operation[Any]]:
    """Return one of each kind at least, in an order in which most find something to do."""
    messages = Messages({}, None, None, None)
    kept: Any = [
        messages.publish("news", "hello", replay=1),
        messages.publish("news", "hello", message_id="a", replay=0),
        messages.publish("other", "hello", message_id="a"),
    ]
    plain: Any = [messages.publish("news", "hello", retain=0)]
    clear = ClearToken("1", "User")
    clear.former = [b"former"]
    opened = OpenSession("1", only="news", expires_in=60)
    return [
        *(*plain, *kept, messages.publish("news", "hello", retain=0, message_id="b")),
        *(AddChannel("1", "news"), AddChannel("1", "other", 0.001), AddChannel("1", "third", 60)),
        *(HasChannel("1", "news"), ListChannels("1"), RemoveChannel("1", "third")),
        *(ReadGrant("1", "news"), Claim("a", 1000), ReadMove(numbered(1))),
        NoteUse(numbered(1)),
        *(AddToGroup("team", "news"), JoinGroup("1", "team"), JoinGroup("2", "team")),
        *(ListGroups("1"), ListMembers("team"), ListGroupChannels("team"), LeaveGroup("2", "team")),
        *(GenerateToken("1", "User", 60), ObtainToken("1", "User", 60), GetToken("1", "User")),
        *(GenerateToken("1", "User", None), RenewToken("1", "User", 600)),
        *(opened, OpenSession("1", most=1), ListSessions("1")),
        *(RenewSession("1", opened.session, 60), EndSession("1", opened.session)),
        *(IsOnline("1"), OnlineIn("news"), ReadAudience("news"), Position()),
        ReadHistory("news", None, 10),
        *(BeginRun("r", "run", "1", "{}", 60_000), HoldRuns(["r"]), GetRun("r")),
        *(TellRun("r", 1, Message("hello", "piece"), RunState.RUNNING), StopRun("r")),
        *(EndSessions("1"), clear, *clear.announcements()),
        *(LeaveGroups("1"), RemoveFromGroup("team", "news"), ClearGroup("team")),
        *(ClearChannels("1"), ClearChannels("1").left, ClearGroup("team").left),
    ]


def kinds(base: type[Operation[Any]] = Operation) -> set[type[Operation[Any]]]:
    """Return the classes of operations of the library."""
    found = set().union(*map(kinds, base.__subclasses__()))
    is_one = not inspect.isabstract(base) and base.__module__.startswith("sinapse.")
    return found | {base} if is_one else found


def test_those_are_all_operations() -> None:
    # What is private is a base of others, or announces what another one has done.
    public = {kind for kind in kinds() if not kind.__name__.startswith("_")}
    assert {type(each) for each in all_operations()} >= public - {Plain, PublishPlain, PublishAll}


@given(PREFIXES | st.just(""))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_name_of_every_operation_begins_with_the_prefix(
    quiet: RedisServer, prefix: str
) -> None:
    with quiet.client() as client, Publisher(quiet.url, prefix=prefix) as used:
        with Monitor(quiet) as monitor:
            for operation in all_operations():
                used._connections.run(operation)
            for retain in (0, 60):  # Together.
                used.publish_many([("news", "one", None, retain), ("other", "two", None, retain)])
        found = {name for name in monitor.names(client) if not name.startswith(prefix)}
        own = {name for name in monitor.names(client) if name.startswith(prefix + RESERVED)}
        channels = {name.removeprefix(prefix) for name in monitor.names(client) - own}
        assert found == set()
        assert channels == {"news", "other", "run:r"}
        client.flushall()


def test_every_name_of_a_daemon_begins_with_its_prefix(quiet: RedisServer, tmp_path: Path) -> None:
    options = ("--presence", "--prefix", "staging:")
    with (
        quiet.client() as client,
        Publisher(quiet.url, prefix="staging:") as publisher,
        Monitor(quiet) as monitor,
        running_daemon(tmp_path, quiet.url, *options) as daemon,
    ):
        publisher.channels.add("1", "news")
        publisher.publish("news", "past", replay=1)
        session = publisher.sessions.open("1")
        with daemon.stream(session.token).opened() as stream:
            stream.wait_for_message("past")
            position = publisher.position()
            publisher.publish("news", "hello")
            eventually(lambda: publisher.online("1"))
            publisher.channels.add("1", "other", expires_in=0.05)
            eventually(lambda: publisher.channels.list("1") == {"news"})
        with daemon.stream(session.token, after=position) as stream:
            stream.wait_for_message("hello")
        eventually(lambda: daemon.metrics()["sinapse_redis_probe_seconds_count"] >= 1)
        eventually(lambda: publisher.sessions.list("1")[0].seen is not None)
    found = monitor.names(client)
    assert [name for name in found if not name.startswith("staging:")] == []
    names = names_under("staging:")
    assert {names.nodes, names.retention, names.presence, names.occupancy} <= found
    assert names.session_key(session.id) in found


def test_each_redis_of_several_may_have_its_own(tmp_path: Path) -> None:
    with running_several(tmp_path, 2) as (servers, _), contextlib.ExitStack() as stack:
        one, two = (server.url for server in servers)
        urls = [f"{one}?prefix=staging:", two]
        (folder := tmp_path / "daemon").mkdir()
        options = ("--redis", urls[1], "--prefix", "second:")
        daemon = stack.enter_context(running_daemon(folder, urls[0], *options))
        publisher = stack.enter_context(Publisher(urls, prefix="second:"))
        for number in range(20):
            publisher.channels.add("1", f"room:{number}")
        token = publisher.tokens.generate("1")
        with daemon.stream(token).opened() as stream:
            for number in range(20):
                publisher.publish(f"room:{number}", str(number))
            assert {stream.next().data for _ in range(20)} == set(map(str, range(20)))
        for server, prefix in zip(servers, ("staging:", "second:"), strict=True):
            with server.client() as client:
                keys = client.keys("*")
                assert isinstance(keys, list)
                assert keys
                assert all(key.startswith(prefix.encode()) for key in keys)
        assert '"prefix": "staging: second:"' in daemon.admin("/status").text  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_uses_the_api_publishes_with_that_of_its_daemon(
    quiet: RedisServer, tmp_path: Path, workers: str
) -> None:
    key, port = "k" * 32, free_port()
    (keys := tmp_path / "keys").write_text(key)
    options = ("--api", f"tcp:{port}:interface=127.0.0.1", "--api-keys", str(keys))
    environment = {"SINAPSE_PREFIX": "other:"}  # The command line wins, for the API as well.
    for prefix in ("staging:", "none"):
        with (
            running_daemon(
                *(tmp_path, quiet.url, *options, "--prefix", prefix, "--workers", workers),
                environment=environment,
            ) as daemon,
            Publisher(f"http+sinapse://{key}@127.0.0.1:{port}/") as publisher,
        ):
            publisher.channels.add("1", "news")
            with daemon.stream(publisher.tokens.generate("1")).opened() as stream:
                publisher.publish("news", f"hello {prefix}")
                assert stream.next().data == f"hello {prefix}"
                kept = publisher.history("news").messages
                assert [message.data for message in kept] == [f"hello {prefix}"]
    with quiet.client() as client:
        assert client.keys("other:*") == []


def test_workers_have_it_and_show_it(quiet: RedisServer, tmp_path: Path) -> None:
    environment = {"SINAPSE_PREFIX": "staging:"}
    with (
        Publisher(quiet.url, prefix="staging:") as publisher,
        running_daemon(tmp_path, quiet.url, "--workers", "2", environment=environment) as daemon,
    ):
        publisher.channels.add("1", "news")
        with daemon.stream(publisher.tokens.generate("1")).opened() as stream:
            publisher.publish("news", "hello")
            assert stream.next().data == "hello"
        assert '"prefix": "staging:"' in daemon.admin("/status").text  # type: ignore[attr-defined]
        assert f"sinapse_build_info staging: {__version__}" in daemon.metrics()


@pytest.mark.parametrize("prefix", ["a{b}:", "a*", "a b", "sinapse:x", "é", "a" * 65])
class TestWhatIsNone:
    """It is refused in one sentence, before anything is written."""

    def test_by_publishers(self, flavour: Flavour, prefix: str) -> None:
        with pytest.raises(InvalidPrefix, match=r"\Aprefix '.*': must [^\n]+\Z"):
            flavour("redis://127.0.0.1:1/0", prefix=prefix)

    def test_in_the_environment(self, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SINAPSE_PREFIX", prefix)
        with pytest.raises(InvalidPrefix, match=r"\ASINAPSE_PREFIX '.*': must [^\n]+\Z"):
            Publisher("redis://127.0.0.1:1/0")

    def test_by_the_daemon(self, tmp_path: Path, prefix: str) -> None:
        for options, environment in (
            (("--prefix", prefix), {}),
            ((), {"SINAPSE_PREFIX": prefix}),
        ):
            said = refusal(tmp_path, *options, environment=environment)
            source = "--prefix" if options else "SINAPSE_PREFIX"
            assert said.startswith(f"sinapse: {source} {prefix!r}: must ")


def test_an_api_has_that_of_its_daemon() -> None:
    with pytest.raises(InvalidPrefix, match="the daemon that serves it has one"):
        Publisher("http+sinapse://key@localhost/", prefix="staging:")


def test_the_environment_decides_where_nothing_else_does(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINAPSE_PREFIX", "staging:")
    for given_prefix, url, expected in (
        (None, redis_server.url, "staging:"),
        ("", redis_server.url, ""),
        ("none", redis_server.url, ""),
        ("other:", redis_server.url, "other:"),
        (None, f"{redis_server.url}?prefix=own:", "own:"),
    ):
        with Publisher(url, prefix=given_prefix) as publisher:
            assert publisher.urls[0].prefix == expected
    assert Publisher("http+sinapse://key@localhost/").urls == ()


def test_two_that_become_one_are_refused() -> None:
    urls = ["redis://localhost:1/0", "redis://localhost:1/0?prefix=a:"]
    with pytest.raises(ValueError, match="the same Redis is there twice"):
        Publisher(urls, prefix="a:")
    assert [url.prefix for url in Publisher(urls, prefix="b:").urls] == ["b:", "a:"]


def test_where_redis_is_away_the_error_has_it_too() -> None:
    with (
        Publisher("redis://127.0.0.1:1/0", prefix="staging:") as publisher,
        pytest.raises(BrokerUnavailable, match=r"redis://127.0.0.1:1/0\?prefix=staging:"),
    ):
        publisher.publish("room:1", "hello")
