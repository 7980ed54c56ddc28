"""What `sinapse doctor` says of a Redis that will not do, as those of services may not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sinapse.protocol.names import PLAIN
from tests.support import RedisServer, free_port, running_redis
from tests.support.commands import diagnosis
from tests.support.daemon import ROOT
from tests.support.impostor import Answer, agreeing, refusing, running_impostor, silent
from tests.support.proxy import Link, running_proxy

Found = tuple[str, str, str]

USERS = re.findall(
    r"^    ACL SETUSER (sinapse-\w+) (reset .*)$",
    (ROOT / "docs" / "operations.md").read_text(),
    re.MULTILINE,
)


def examine(url: str, code: int = 1) -> dict[str, Found]:
    """Return what is found at a Redis, by what was looked at; there is no daemon."""
    found = diagnosis(f"http://127.0.0.1:{free_port()}/", "--redis", url, code=code)
    name = f"Redis {url}"
    return {what.removeprefix(f"{name}, "): each for what, each in found.items() if name in what}


def wrongs(found: dict[str, Found]) -> dict[str, str]:
    """Return what is wrong with Redis, but not with the way through a daemon."""
    return {
        what: text
        for what, (verdict, text, _) in found.items()
        if verdict == "wrong" and "through" not in what
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("doctor")) as server:
        yield server


@pytest.fixture
def user(server: RedisServer) -> Iterator[Callable[[str], str]]:
    """Return what makes a user with these rules, and returns the URL."""

    def made(rules: str) -> str:
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *rules.split())
        return f"redis://app:secret@127.0.0.1:{server.port}/0"

    yield made
    with server.client() as admin:
        admin.execute_command("ACL", "DELUSER", "app")


@pytest.fixture
def of_user(server: RedisServer, user: Callable[[str], str]) -> Callable[[str], dict[str, Found]]:
    """Return what examines a user with these rules."""

    def examined(rules: str) -> dict[str, Found]:
        url = user(rules)
        found = diagnosis(f"http://127.0.0.1:{free_port()}/", "--redis", url, code=1)
        name = f"Redis {server.url}, "
        return {what.removeprefix(name): each for what, each in found.items()}

    return examined


class TestPermissions:
    def test_the_users_of_the_page_lack_nothing(
        self, of_user: Callable[[str], dict[str, Found]]
    ) -> None:
        for (name, rules), role in zip(USERS, ("daemon", "publisher"), strict=True):
            found = of_user(rules.removeprefix("reset on >PASSWORD "))
            said = {what: each for what, each in found.items() if what.startswith("user ")}
            fine = ("ok", "may use all commands that it needs", "")
            assert said == {f"user 'app' as a {role}": fine}, name
            assert found["scripts"][:2] == ("ok", "run")
            assert ("what is published" in found) == (role == "daemon")

    def test_without_psubscribe(self, of_user: Callable[[str], dict[str, Found]]) -> None:
        found = of_user("~* &* +@all -psubscribe")
        verdict, said, advice = found["user 'app' as a daemon"]
        assert (verdict, said) == ("wrong", "may not PSUBSCRIBE")
        assert advice.startswith("ACL SETUSER 'app' +psubscribe")
        assert found["user 'app' as a publisher"][0] == "ok"
        assert "what is published" not in found

    @pytest.mark.parametrize("right", ["xadd", "hsetnx", "sadd", "evalsha", "pubsub", "time"])
    def test_without_what_a_publisher_needs(
        self, of_user: Callable[[str], dict[str, Found]], right: str
    ) -> None:
        found = of_user(f"~* &* +@all -{right} -subscribe -psubscribe")
        assert "user 'app' as a daemon" not in found
        verdict, said, advice = found["user 'app' as a publisher"]
        assert (verdict, said) == ("wrong", f"may not {right.upper()}")
        assert f" +{right}" in advice

    def test_without_its_keys(
        self, server: RedisServer, of_user: Callable[[str], dict[str, Found]]
    ) -> None:
        found = of_user("~cache:* &* +@all")
        assert found["user 'app'"][:2] == ("wrong", "may not use the keys sinapse:*")
        assert "~sinapse:*" in found["user 'app'"][2]
        assert "~sinapse:*" in found["scripts"][2]

    def test_without_its_channels(self, of_user: Callable[[str], dict[str, Found]]) -> None:
        verdict, said, advice = of_user("~* &news +@all")["user 'app'"]
        assert verdict == "wrong"
        assert said == "may not use the channels sinapse:* with PSUBSCRIBE, PUBLISH, SUBSCRIBE"
        assert "&sinapse:* &sinapse:channels:*" in advice

    def test_without_info(self, of_user: Callable[[str], dict[str, Found]]) -> None:
        found = of_user("~* &* +@all -info")
        for role in ("daemon", "publisher"):
            assert found[f"user 'app' as a {role}"][:2] == ("wrong", "may not INFO")
        assert found["maxmemory-policy"][:2] == ("ok", "noeviction")

    def test_with_next_to_nothing(self, of_user: Callable[[str], dict[str, Found]]) -> None:
        verdict, said, _ = of_user("~* &* +get +eval +ping")["user 'app'"]
        assert verdict == "wrong"
        assert said.startswith("is none for a daemon or a publisher: may not DEL, EVALSHA, EXISTS")

    def test_without_scripts(self, of_user: Callable[[str], dict[str, Found]]) -> None:
        found = of_user("~* &* +@all -eval")
        assert found["scripts"][0] == "wrong"
        assert found["scripts"][2] == "Allow EVAL and EVALSHA: all is done so."

    def test_nothing_is_left_behind(self, server: RedisServer) -> None:
        kept = []
        with server.client() as client:
            for _ in range(2):  # The way through a daemon makes the counter of ids.
                examine(server.url)
                kept.append(set(client.keys()))
        assert kept[0] == kept[1]
        assert PLAIN.nothing.encode() not in kept[1]


class TestSettings:
    def test_what_can_be_evicted(self, server: RedisServer) -> None:
        with server.client() as client:
            client.config_set("maxmemory", 2**30)
            try:
                said = {}
                for policy in ("volatile-ttl", "allkeys-random"):
                    client.config_set("maxmemory-policy", policy)
                    said[policy] = examine(server.url)["maxmemory-policy"]
            finally:
                client.config_set("maxmemory", 0)
                client.config_set("maxmemory-policy", "noeviction")
        assert said["volatile-ttl"][0] == "warning"
        assert "retained messages" in said["volatile-ttl"][2]
        assert said["allkeys-random"][0] == "wrong"
        assert "lists" in said["allkeys-random"][2]

    def test_what_a_service_hides(self, tmp_path: Path) -> None:
        """It refuses CONFIG, and leaves out of INFO what it likes."""
        hidden = (b"maxmemory_policy:", b"aof_enabled:")
        with (
            running_redis(tmp_path, "--rename-command", "CONFIG", "") as server,
            altered(server.port, *hidden) as url,
        ):
            found = examine(url)
        assert wrongs(found) == {}
        for what, setting in (
            ("maxmemory-policy", "maxmemory-policy. It must be noeviction"),
            ("append-only file", "appendonly"),
            ("output buffer of subscribers", "client-output-buffer-limit"),
        ):
            verdict, said, advice = found[what]
            assert verdict == "warning"
            assert said.startswith("cannot be seen")
            assert f"CONFIG GET {setting}" in advice

    def test_a_service_that_knows_other_settings_only(self, server: RedisServer) -> None:
        def up(link: Link, data: bytes) -> bytes:
            if b"CONFIG" not in data:
                return data
            link.client.sendall(b"*0\r\n")
            return b""

        with running_proxy(server.port) as proxy:
            proxy.up = up
            found = examine(f"redis://127.0.0.1:{proxy.port}/0")
        assert found["output buffer of subscribers"][0] == "warning"


@contextmanager
def altered(port: int, *parts: bytes, by: str = "x") -> Iterator[str]:
    """Forward to a Redis, with those parts of what it answers made unreadable."""

    def down(_link: Link, data: bytes) -> bytes:
        for part in parts:
            data = data.replace(part, part[:-2] + by.encode() + part[-1:])
        return data

    with running_proxy(port) as proxy:
        proxy.down = down
        yield f"redis://127.0.0.1:{proxy.port}/0"


class TestServer:
    def test_a_cluster_that_does_not_say_so(self, tmp_path: Path) -> None:
        with running_redis(tmp_path, "--cluster-enabled", "yes") as server:
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            with altered(server.port, b"redis_mode:cluster") as url:
                assert wrongs(examine(url)) == {f"Redis {url}": "a cluster"}

    def test_another_node_is_named(self, server: RedisServer) -> None:
        def up(link: Link, data: bytes) -> bytes:
            if b"EVAL" not in data:
                return data
            link.client.sendall(b"-MOVED 3999 127.0.0.1:6381\r\n")
            return b""

        with running_proxy(server.port) as proxy:
            proxy.up = up
            url = f"redis://127.0.0.1:{proxy.port}/0"
            assert wrongs(examine(url)) == {f"Redis {url}": "a cluster"}

    @pytest.mark.parametrize("answer", [refusing, agreeing, silent])
    def test_what_answers_ping_and_is_no_redis(
        self, answer: Answer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sinapse.cli.checks.server.ANSWER_TIMEOUT", 1.0)
        with running_impostor(answer) as url:
            found = examine(url)
        verdict, said, advice = found[f"Redis {url}"]
        assert verdict == "wrong"
        assert said.startswith("answers, but not as a Redis: INFO")
        assert "proxy" in advice
        assert len(found) == 1

    def test_what_says_info_and_is_no_redis(self) -> None:
        """As a proxy may that answers from what it knows."""
        told = b"redis_version:7.2.4\r\nrole:master\r\n"

        def answer(words: list[bytes]) -> bytes:
            if words[0] == b"INFO":
                return b"$%d\r\n%b\r\n" % (len(told), told)
            return b"+OK\r\n"

        with running_impostor(answer) as url:
            verdict, said, advice = examine(url)["scripts"]
        assert (verdict, said) == ("wrong", "a script answers b'OK', and not what it should")
        assert "name Redis itself" in advice

    def test_publishing_that_reaches_nobody(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sinapse.cli.checks.server.ANSWER_TIMEOUT", 1.0)

        def down(link: Link, data: bytes) -> bytes:
            return b"" if link.is_subscriber and b"message\r\n" in data else data

        with running_proxy(server.port) as proxy:
            proxy.down = down
            verdict, said, advice = examine(f"redis://127.0.0.1:{proxy.port}/0")[
                "what is published"
            ]
        assert verdict == "wrong"
        assert said.startswith("is not heard by a subscriber")
        assert "one Redis" in advice

    def test_one_that_is_too_old(self, tmp_path: Path) -> None:
        """It says so, and knows less."""
        without = [each for name in ("ZMSCORE", "XADD") for each in ("--rename-command", name, "")]
        with running_redis(tmp_path, *without) as server:

            def down(_link: Link, data: bytes) -> bytes:
                return re.sub(rb"(redis_version:)(\d)", rb"\g<1>4", data)

            with running_proxy(server.port) as proxy:
                proxy.down = down
                found = examine(f"redis://127.0.0.1:{proxy.port}/0")
        assert found["commands"][:2] == ("wrong", "does not know XADD, ZMSCORE")
        assert "6.2" in found["commands"][2]

    def test_one_that_does_not_say_that_it_is_a_master(self, server: RedisServer) -> None:
        with altered(server.port, b"role:master") as url:
            verdict, said, advice = examine(url)[f"Redis {url}"]
        assert (verdict, said) == ("wrong", "does not say that it is a master")
        assert "role:master" in advice

    @pytest.mark.parametrize(
        ("said", "is_found", "advised"),
        [
            (
                b"-ERR script tried accessing undeclared key\r\n",
                "not with keys that they build: script tried accessing undeclared key",
                "--default_lua_flags=allow-undeclared-keys",
            ),
            (
                b"-ERR This Redis command is not allowed from script\r\n",
                "INFO is refused to them: This Redis command is not allowed from script",
                "will not do",
            ),
            (b"$0\r\n\r\n", "INFO tells them no run_id", "will not do"),
            (
                b"-ERR Script attempted to access nonexistent global variable 'unpack'\r\n",
                "Script attempted to access nonexistent global variable 'unpack'",
                "will not do",
            ),
        ],
    )
    def test_scripts_that_get_less(
        self, server: RedisServer, said: bytes, is_found: str, advised: str
    ) -> None:
        """As in Dragonfly, and in Redis Software."""
        telling = {b"undeclared": b"'EXISTS', ARGV[1]", b"unpack": b"(unpack(ARGV))"}
        sign = next((sign for word, sign in telling.items() if word in said), b"run_id:(")

        def up(link: Link, data: bytes) -> bytes:
            if sign not in data:
                return data
            link.client.sendall(said)
            return b""

        with running_proxy(server.port) as proxy:
            proxy.up = up
            verdict, text, advice = examine(f"redis://127.0.0.1:{proxy.port}/0")["scripts"]
        assert (verdict, text) == ("wrong", is_found)
        assert advised in advice
