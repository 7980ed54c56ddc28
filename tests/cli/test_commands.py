"""The commands that speak to a real Redis and a real daemon."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from sinapse.cli import main
from sinapse.cli.publishing import Unavailable, in_one_line
from sinapse.errors import BrokerUnavailable, Incomplete
from sinapse.protocol.keys import hashed_token, session_id
from sinapse.protocol.message import unpack
from sinapse.protocol.names import PLAIN
from sinapse.publisher import Publisher
from sinapse.publisher.operations.groups import PAGE
from tests.support import (
    EVENT_TIMEOUT,
    PYTHON,
    RedisServer,
    eventually,
    free_port,
    running_redis,
)
from tests.support.commands import diagnosis, run
from tests.support.daemon import ROOT, Daemon, running_daemon
from tests.support.listening import Listener
from tests.support.proxy import running_proxy
from tests.support.subscribing import subscribe


@pytest.fixture(autouse=True)
def _redis(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)


def url_of(daemon: Daemon) -> str:
    return f"http://127.0.0.1:{daemon.port}/"


class TestTokens:
    def test_one_is_made_shown_replaced_and_revoked(self, publisher: Publisher) -> None:
        made = run("token", "new", "1").stdout.strip()
        assert made == publisher.tokens.get("1")
        assert run("token", "show", "1").stdout == f"{made}\n"
        assert "has a token" in run("token", "new", "1", code=1).stderr
        assert run("token", "obtain", "1").stdout == f"{made}\n"
        other = run("token", "reset", "1", "--expires-in", "60").stdout.strip()
        assert other == publisher.tokens.get("1") != made
        assert run("token", "revoke", "1").stdout == ""
        assert publisher.tokens.get("1") is None
        assert run("token", "show", "1", code=1).stderr == "Error: User 1 has no token\n"
        assert "has no token" in run("token", "revoke", "1", code=1).stderr
        obtained = run("token", "obtain", "1", "--expires-in", "60").stdout.strip()
        assert obtained == publisher.tokens.get("1")

    def test_kinds_have_tokens_of_their_own(self, publisher: Publisher) -> None:
        token = run("token", "new", "1", "--kind", "Admin").stdout.strip()
        assert publisher.tokens.get("1", "Admin") == token
        assert publisher.tokens.get("1") is None


class TestSessions:
    def test_they_are_opened_listed_renewed_and_ended(self, publisher: Publisher) -> None:
        assert run("session", "list", "1").stdout == ""
        options = ("--device", "Ada's phone", "--expires-in", "60", "--only", "b", "--only", "a:*")
        opened = run("session", "open", "1", *options)
        [phone] = publisher.sessions.list("1")
        assert session_id(opened.stdout.strip().encode()) == phone.id
        assert opened.stderr == f"session {phone.id}\n"
        assert (phone.device, phone.only) == ("Ada's phone", frozenset({"a:*", "b"}))
        laptop = publisher.sessions.open("1")
        head, first, second = run("session", "list", "1").stdout.splitlines()
        time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        assert head.split() == ["id", "device", "opened", "seen", "expires", "only"]
        assert re.fullmatch(rf"{phone.id}  Ada's phone  {time}  never  {time}  a:\* b", first), (
            first
        )
        assert re.fullmatch(rf"{laptop.id}  -            {time}  never  never {{16}}-", second), (
            second
        )
        assert run("session", "renew", "1", phone.id).output == ""
        assert publisher.sessions.list("1")[0].expires is None
        assert run("session", "end", "1", phone.id).output == ""
        missing = f"Error: 1 has no session {phone.id}\n"
        assert run("session", "end", "1", phone.id, code=1).stderr == missing
        assert run("session", "renew", "1", phone.id, code=1).stderr == missing
        publisher.sessions.open("1")
        assert run("session", "end-all", "1", "--but", laptop.id).output == "1 ended\n"
        assert [each.id for each in publisher.sessions.list("1")] == [laptop.id]
        assert run("session", "end-all", "1").output == "1 ended\n"

    def test_it_is_told_which_had_to_end(
        self, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SINAPSE_MAX_SESSIONS", "1")
        first = publisher.sessions.open("1")
        opened = run("session", "open", "1")
        last = session_id(opened.stdout.strip().encode())
        assert opened.stderr == (
            f"session {last}\nsession {first.id} has ended: there were too many\n"
        )

    def test_where_tokens_are_hashed_too_and_no_token_is_listed(
        self, publisher: Publisher, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
        token = run("session", "open", "1").stdout.strip()
        assert redis_client.exists(PLAIN.token_key(hashed_token(token)))
        listed = run("session", "list", "1").output
        assert str(session_id(token.encode())) in listed
        assert not any(part in listed for part in (token, token[2:], hashed_token(token)))
        assert run("session", "end", "1", str(session_id(token.encode()))).output == ""

    def test_what_a_terminal_takes_for_a_command_is_shown(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        session = publisher.sessions.open("1", only="a")
        for field, wrong in (("device", "x\x1b[2J\ny"), ("opened", "9" * 30), ("only", "a\x07")):
            redis_client.hset(PLAIN.session_key(session.id), field, wrong)
        _, line = run("session", "list", "1").stdout.splitlines()
        assert line.split()[1:] == [r"x\x1b[2J", "y", "?", "never", "never", r"a\x07"]

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("open", "1", "--device", ""), "a device is 1 to 256 printable characters: ''"),
            (("open", "1", "--only", "sinapse:x"), "names that begin with 'sinapse:'"),
            (("open", "1", "--only", "*"), "only has '*'"),
            (("open", "1", "--expires-in", "0"), "expires_in is seconds"),
            (("renew", "1", "x"), "a session's id is 32 hexadecimal digits, not 'x'"),
            (("end", "1", "x"), "a session's id is 32 hexadecimal digits, not 'x'"),
            (("end-all", "1", "--but", ""), "a session's id is 32 hexadecimal digits, not ''"),
            (("list", ""), "subject id ''"),
        ],
    )
    def test_what_is_none_is_refused_in_a_line(
        self, publisher: Publisher, arguments: tuple[str, ...], error: str
    ) -> None:
        publisher.sessions.open("1")
        [line] = run("session", *arguments, code=1).stderr.splitlines()
        assert error in line
        assert len(publisher.sessions.list("1")) == 1


class TestChannels:
    def test_they_are_added_listed_and_removed(self, publisher: Publisher) -> None:
        run("channels", "add", "1", "room:2", "room:1")
        assert run("channels", "list", "1").stdout == "room:1\nroom:2\n"
        run("channels", "remove", "1", "room:2")
        assert publisher.channels.list("1") == {"room:1"}

    def test_they_are_added_for_some_time(self, publisher: Publisher) -> None:
        run("channels", "add", "1", "room:1", "room:2", "--expires-in", "0.05")
        run("channels", "add", "1", "room:2", "--expires-in", "60")
        eventually(lambda: publisher.channels.list("1") == {"room:2"})
        error = run("channels", "add", "1", "room:1", "--expires-in", "0", code=1).stderr
        assert error == "Error: expires_in is seconds, over 0 and up to 10000000000: 0.0\n"

    def test_a_name_that_is_none_is_refused(self) -> None:
        error = run("channels", "add", "1", "sinapse:x", code=1).stderr
        assert error == (
            "Error: channel 'sinapse:x': names that begin with 'sinapse:' are reserved\n"
        )


class TestGroups:
    def test_subjects_join_and_leave(self, publisher: Publisher) -> None:
        assert run("group", "of", "1").output == ""
        assert run("group", "add", "1", "team:3", "all").output == ""
        assert run("group", "of", "1").stdout == "all\nteam:3\n"
        assert publisher.groups.of("1") == {"all", "team:3"}
        assert run("group", "remove", "1", "team:3", "none").output == ""
        assert publisher.groups.of("1") == {"all"}
        assert run("group", "clear", "1").stderr == "1 left\n"
        assert publisher.groups.of("1") == set()

    def test_members_are_printed_in_their_order(
        self, publisher: Publisher, redis_client: redis.Redis
    ) -> None:
        assert run("group", "members", "all").output == ""
        ids = [f"{number:04}" for number in range(PAGE + 1)]
        redis_client.zadd("sinapse:members:all", dict.fromkeys(ids, 0))
        assert run("group", "members", "all").stdout.splitlines() == ids
        assert run("group", "members", "all", "--limit", "2").stdout == "0000\n0001\n"
        some = run("group", "members", "all", "--after", "0005", "--limit", "1")
        assert some.stdout == "0006\n"
        assert run("group", "members", "all", "--after", ids[-1]).output == ""
        assert "--limit" in run("group", "members", "all", "--limit", "0", code=2).stderr

    def test_their_channels_change(self, publisher: Publisher) -> None:
        assert run("group", "channels", "list", "all").output == ""
        assert run("group", "channels", "add", "all", "room:1", "news", "a b").output == ""
        assert run("group", "channels", "list", "all").stdout == "a b\nnews\nroom:1\n"
        assert run("group", "channels", "remove", "all", "news", "none").output == ""
        assert publisher.groups.channels("all").list() == {"a b", "room:1"}
        assert run("group", "channels", "clear", "all").stderr == "2 removed\n"
        assert publisher.groups.channels("all").list() == set()

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("add", "1", "role editor"), "group 'role editor': has white space"),
            (("add", "", "all"), "subject id ''"),
            (("remove", "1", "a\n"), "group 'a\\n': "),
            (("members", "a b"), "group 'a b': has white space"),
            (("members", "all", "--after", ""), "subject id ''"),
            (("channels", "add", "all", "sinapse:x"), "names that begin with 'sinapse:'"),
            (("channels", "clear", "a b"), "group 'a b': has white space"),
        ],
    )
    def test_what_is_none_is_refused_in_a_line(
        self, arguments: tuple[str, ...], error: str, redis_client: redis.Redis
    ) -> None:
        [line] = run("group", *arguments, code=1).stderr.splitlines()
        assert line.startswith("Error: ")
        assert error in line
        assert not redis_client.keys("sinapse:g*")

    def test_a_bound_that_is_reached_is_told_in_a_line(self, redis_client: redis.Redis) -> None:
        redis_client.hset("sinapse:groups:1", mapping={f"team:{n}": 0 for n in range(100)})
        assert run("group", "add", "1", "more", code=1).stderr == (
            "Error: subject '1' is in 100 groups already: it cannot join 'more'\n"
        )


class TestPublish:
    def test_a_message_is_published(self, daemon: Daemon, publisher: Publisher) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            result = run("publish", "room:1", "hello", "--event", "chat", "--retain", "60")
            assert result.stderr == "1 daemon had listeners\n"
            event = stream.next()
            assert (event.data, event.event) == ("hello", "chat")
            assert event.id

    def test_without_one_each_line_is(self, daemon: Daemon, publisher: Publisher) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            lines = "".join(f"line {number}\n" for number in range(200))
            assert run("publish", "room:1", given=lines).stderr == "200 published\n"
            assert [stream.next().data for _ in range(200)] == lines.splitlines()

    def test_a_line_that_is_not_utf_8_is_named(self) -> None:
        result = CliRunner().invoke(main, ["publish", "room:1"], input=b"fine\na\xffb\n")
        assert result.exit_code == 1
        assert result.stderr == "Error: line 2 of standard input is not UTF-8\n"

    def test_a_message_id_counts_once(self, daemon: Daemon, publisher: Publisher) -> None:
        with daemon.stream(subscribe(publisher)).opened() as stream:
            for _ in range(2):
                run("publish", "room:1", "once", "--message-id", "x")
            run("publish", "room:1", "end")
            assert [stream.next().data for _ in range(2)] == ["once", "end"]
        assert "--message-id" in run("publish", "room:1", "--message-id", "x", code=2).stderr

    def test_how_much_is_kept_and_what_new_streams_get_is_said(
        self, redis_client: redis.Redis
    ) -> None:
        for replay, noted in (("2", b"2"), ("all", b"all"), ("3", b"all"), ("0", None)):
            for given in (None, "a\nb\n"):
                message = ["a"] if given is None else []
                options = ("--replay", replay, "--retain-messages", "3")
                run("publish", "room:1", *message, *options, given=given)
                assert redis_client.hget("sinapse:replay", "room:1") == noted
        assert redis_client.xlen("sinapse:retained:room:1") == 3
        for wrong in ("some", "-1", "1.5", ""):
            error = run("publish", "room:1", "a", "--replay", wrong, code=1).stderr
            assert error.startswith("Error: replay is a whole number")
        error = run("publish", "room:1", "a", "--replay", "1", "--retain", "0", code=1).stderr
        assert error == "Error: replay is for messages that are retained, and this one is not\n"

    def test_whom_it_is_not_for_is_said(self, listener: Listener) -> None:
        run("publish", "room:1", "a", "--but", "mine")
        run("publish", "room:1", "--but", "mine", given="a\nb\n")
        assert [unpack(payload).but for _, payload in listener.heard()] == ["mine"] * 3
        error = run("publish", "room:1", "a", "--but", "a b", code=1).stderr
        assert error == "Error: stream 'a b': a name is 1 to 64 of A-Z a-z 0-9 _ -\n"


class TestHistory:
    def test_it_is_printed_oldest_first(self, publisher: Publisher) -> None:
        ids = [publisher.publish("room:1", data, "e").id for data in ("a", "\x1b[2J", "é")]
        assert run("history", "room:1").output == (
            f"{ids[0]} e: a\n{ids[1]} e: \\x1b[2J\n{ids[2]} e: é\n"
        )
        result = run("history", "room:1", "--limit", "1")
        assert result.stderr == f"There are more: --after {ids[0]}\n"
        [line] = run("history", "room:1", "--after", str(ids[1]), "--json").stdout.splitlines()
        assert json.loads(line) == {"data": "é", "event": "e", "id": ids[2]}
        publisher.publish("room:1", "last", retain_messages=1)
        result = run("history", "room:1")
        assert result.stdout == f"{publisher.position()} message: last\n"
        assert result.stderr == "Others are no longer retained.\n"

    def test_what_cannot_be_read_after_is_told_in_a_line(self, publisher: Publisher) -> None:
        publisher.publish("room:1", "a")
        for after, why in (("x", "after is an id"), ("ab-5", "was never given")):
            error = run("history", "room:1", "--after", after, code=1).stderr
            assert (error.count("\n"), why in error) == (1, True)


class TestPosition:
    def test_a_stream_that_begins_there_misses_nothing_since(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        publisher.publish("room:1", "before")
        position = run("position").stdout.strip()
        assert position == publisher.position()
        publisher.publish("room:1", "after")
        with daemon.stream(token, after=position).opened() as stream:
            assert stream.next().data == "after"


class TestErrors:
    """One line, and the code that says what kind."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ("token", "new", "1"),
            ("session", "open", "1"),
            ("channels", "list", "1"),
            ("group", "of", "1"),
            ("publish", "a", "b"),
            ("position",),
            ("ping",),
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_no_redis(self, arguments: tuple[str, ...]) -> None:
        result = run(*arguments, "--redis", f"redis://127.0.0.1:{free_port()}", code=69)
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: Redis at redis://127.0.0.1:")

    @pytest.mark.parametrize(
        "arguments",
        [("token", "new", "1"), ("token", "show", "1"), ("listen", "--subject", "1")],
        ids=" ".join,
    )
    def test_where_tokens_are_hashed_it_is_said_what_makes_one(
        self, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("SINAPSE_HASH_TOKENS", "1")
        (line,) = run(*arguments, code=1).stderr.splitlines()
        assert line.startswith("Error: tokens are hashed, so the current one cannot be read: ")
        assert "'sinapse token reset' makes another" in line

    def test_a_url_that_is_none_is_not_quoted(self) -> None:
        result = run("token", "new", "1", "--redis", "http://:secret@x", code=1)
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: --redis: the scheme must be one of")
        assert "secret" not in line


class TestListen:
    def test_json_lines(self, daemon: Daemon, publisher: Publisher) -> None:
        publisher.channels.add("1", "room:1")
        publisher.tokens.generate("1")
        arguments = ("listen", url_of(daemon), "--subject", "1", "--json", "--count", "2")
        with listening(daemon, *arguments) as process:
            publisher.publish("room:1", "two\nlines", event="chat")
            publisher.publish("room:1", "plain", retain=0)
            out, err = process.communicate(timeout=EVENT_TIMEOUT)
        first, second = map(json.loads, out.splitlines())
        assert (first["data"], first["event"]) == ("two\nlines", "chat")
        assert first["id"]
        assert second == {"data": "plain"}
        assert err == "Listening.\n"
        assert process.returncode == 0

    def test_plain_when_it_is_piped_and_resumed(self, daemon: Daemon, publisher: Publisher) -> None:
        token = subscribe(publisher)
        with daemon.stream(token).opened() as stream:
            position = str(stream.position)
        publisher.publish("room:1", "missed", event="chat")
        address = f"{url_of(daemon)}?access_token={token}"
        result = run("listen", address, "--last-event-id", position, "--count", "1")
        assert result.stdout == "chat: missed\n"

    def test_messages_that_are_called_as_the_servers_own_are_shown(
        self, daemon: Daemon, publisher: Publisher
    ) -> None:
        arguments = ("listen", url_of(daemon), "--token", subscribe(publisher), "--count", "2")
        with listening(daemon, *arguments) as process:
            publisher.publish("room:1", "48.1", event="position")
            publisher.publish("room:1", "ok", event="authentication")
            out, err = process.communicate(timeout=EVENT_TIMEOUT)
        assert out == "position: 48.1\nauthentication: ok\n"
        assert err == "Listening.\n"

    def test_it_comes_back(
        self, tmp_path: Path, redis_server: RedisServer, publisher: Publisher
    ) -> None:
        token = subscribe(publisher)
        with running_daemon(tmp_path, redis_server.url, "--retry", "0.1") as daemon:
            arguments = ("listen", url_of(daemon), "--token", token, "--count", "3")
            with listening(daemon, *arguments) as process:
                publisher.publish("room:1", "1")
                assert process.stdout is not None
                assert process.stdout.readline() == "message: 1\n"
                daemon.stop()
                publisher.publish("room:1", "2")
                daemon.start()
                publisher.publish("room:1", "3")
                out, _ = process.communicate(timeout=EVENT_TIMEOUT)
            assert out == "message: 2\nmessage: 3\n"

    def test_for_people(self, daemon: Daemon, publisher: Publisher) -> None:
        arguments = ("listen", url_of(daemon), "--token", subscribe(publisher), "--count", "1")

        def say() -> None:
            publisher.publish("room:1", {"text": "hello"}, event="chat")

        shown = on_a_terminal(daemon, say, *arguments)
        assert "\x1b[1;36mchat" in shown
        assert '"text"' in shown

    @pytest.mark.parametrize("to_people", [True, False])
    def test_json_is_shown_without_what_a_terminal_takes_for_a_command(
        self, daemon: Daemon, publisher: Publisher, to_people: bool
    ) -> None:
        arguments = ["listen", url_of(daemon), "--token", subscribe(publisher), "--count", "2"]
        if not to_people:
            arguments.append("--json")

        def say() -> None:
            publisher.publish("room:1", '["\x9b2J", "\\u009b2J"]')
            publisher.publish("room:1", '["\u00e9"]')

        shown = on_a_terminal(daemon, say, *arguments)
        assert "\x9b" not in shown
        assert r"\u009b2J" in shown
        assert "\u00e9" in shown

    @pytest.mark.parametrize("to_people", [True, False])
    def test_what_a_terminal_takes_for_a_command_is_shown(
        self, daemon: Daemon, publisher: Publisher, to_people: bool
    ) -> None:
        arguments = ("listen", url_of(daemon), "--token", subscribe(publisher), "--count", "1")

        def say() -> None:
            publisher.publish("room:1", "a\x1b]52;c;aGk=\x07\x9b2J\tb\nc", event="e\x1b[2J")

        if to_people:
            shown = on_a_terminal(daemon, say, *arguments)
        else:
            with listening(daemon, *arguments) as process:
                say()
                shown, _ = process.communicate(timeout=EVENT_TIMEOUT)
        assert r"e\x1b[2J" in shown
        assert r"a\x1b]52;c;aGk=\x07\x9b2J" in shown
        for command in ("\x1b]", "\x1b[2J", "\x07", "\x9b"):
            assert command not in shown

    @pytest.mark.parametrize("url", ["ftp://localhost", "http://", "http://x:y/", "http://a b/"])
    def test_what_is_no_url_is_a_wrong_command_line(self, url: str) -> None:
        for command in (("listen", "--token", "x"), ("doctor",), ("ping",)):
            said = run(command[0], url, *command[1:], code=2).stderr
            assert f"{url!r} is no URL of a daemon: write it like http://localhost:9000/" in said

    def test_a_host_and_a_port_will_do_and_the_variable_too(
        self, daemon: Daemon, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = subscribe(publisher)
        with daemon.stream(token).opened() as stream:
            position = str(stream.position)
        publisher.publish("room:1", "missed")
        place = f"127.0.0.1:{daemon.port}"
        arguments = ("--token", token, "--last-event-id", position, "--count", "1")
        assert run("listen", place, *arguments).stdout == "message: missed\n"
        monkeypatch.setenv("SINAPSE_URL", place)
        assert run("listen", *arguments).stdout == "message: missed\n"

    def test_a_refusal_and_nobody_there(self, daemon: Daemon) -> None:
        refused = run("listen", url_of(daemon), "--token", "unknown", code=1)
        assert refused.stderr == f"Error: {url_of(daemon)} answers 401 unknown token\n"
        nobody = run("listen", f"http://127.0.0.1:{free_port()}/", "--token", "x", code=69)
        assert "Connection refused" in nobody.stderr
        assert "whose stream?" in run("listen", code=2).stderr


class listening:  # noqa: N801  # A context manager.
    """Run ``sinapse listen`` as a process, and return when it is open."""

    def __init__(self, daemon: Daemon, *arguments: str, stdout: int = subprocess.PIPE) -> None:
        self._daemon = daemon
        self._before = daemon.metrics()["sinapse_streams_opened_total"]
        self._process = subprocess.Popen(
            [PYTHON, "-m", "sinapse", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        eventually(lambda: self._daemon.metrics()["sinapse_streams_opened_total"] > self._before)
        return self._process

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def on_a_terminal(daemon: Daemon, say: Callable[[], object], *arguments: str) -> str:
    """Return what a listener shows on a terminal of what is said while it listens."""
    ours, theirs = pty.openpty()
    with listening(daemon, *arguments, stdout=theirs) as process:
        say()
        process.communicate(timeout=EVENT_TIMEOUT)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    return shown.replace("\r\n", "\n")


class TestPing:
    def test_it_says_how_long_messages_take_and_leaves_nothing(
        self, daemon: Daemon, redis_server: RedisServer
    ) -> None:
        result = run("ping", url_of(daemon), "--count", "3")
        assert len(re.findall(r"^\d+\.\d\d ms$", result.stdout, re.MULTILINE)) == 3
        assert re.search(r"^3 of 3: [\d.]+ / [\d.]+ / [\d.]+ ms$", result.stderr, re.MULTILINE)
        with redis_server.client() as client:
            assert client.keys("sinapse:*trial*") == []
            assert client.keys("sinapse:tokens:*") == []

    def test_nobody_there(self) -> None:
        assert "refused" in run("ping", f"http://127.0.0.1:{free_port()}/", code=69).stderr


@contextlib.contextmanager
def answering(status: int, body: str, fields: dict[str, str]) -> Iterator[str]:
    """Run a server that gives one answer to all, for the length of a with block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # So it is called.
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class TestDoctor:
    def test_all_is_well(self, daemon: Daemon, redis_server: RedisServer) -> None:
        found = diagnosis(url_of(daemon))
        name = f"Redis {redis_server.url}"
        assert found[name][0] == "ok"
        assert re.fullmatch(r"(Redis|Valkey) [\d.]+", found[name][1])
        assert found[f"{name}, append-only file"][0] == "warning"
        assert "appendonly yes" in found[f"{name}, append-only file"][2]
        assert found[f"{name}, clock"][0] == "ok"
        assert found[f"{name}, output buffer of subscribers"][:2] == ("ok", "32 MiB")
        assert found[f"{url_of(daemon)} ready"][0] == "ok"
        path = found[f"from Redis through {url_of(daemon)}"]
        assert path[0] == "ok"
        assert re.fullmatch(r"a message takes [\d.]+ ms", path[1])

    def test_a_relay_that_is_none(self, daemon: Daemon, redis_server: RedisServer) -> None:
        nobody = f"127.0.0.1:{free_port()}"
        asked = [nobody, f"127.0.0.1:{redis_server.port}", f"{url_of(daemon)}status"]
        options = [each for url in asked for each in ("--relay", url)]
        found = diagnosis(url_of(daemon), *options, code=1)
        of_relays = [found[what] for what in found if what.startswith("relay ")]
        assert [verdict for verdict, _, _ in of_relays] == ["wrong"] * 3
        assert "refused" in found[f"relay http://{nobody}/"][1]
        assert found[f"relay {url_of(daemon)}status"][1] == "answers, but not as a relay"
        assert all("sinapse_relay --metrics" in advice for _, _, advice in of_relays)

    def test_a_relay_whose_url_is_none(self) -> None:
        said = run("doctor", "--relay", "http://", code=2).stderr
        assert "'http://' is no URL of a relay: write it like http://localhost:9110/" in said

    def test_it_is_shown_in_words(self, daemon: Daemon) -> None:
        shown = run("doctor", url_of(daemon)).stdout
        assert re.search(r"^warning  Redis .*, append-only file: off$", shown, re.MULTILINE)
        assert "         A restart takes tokens" in shown

    def test_what_is_wrong_with_redis(self, daemon: Daemon, redis_server: RedisServer) -> None:
        name = f"Redis {redis_server.url}"
        with redis_server.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", 2**30)
            client.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 60")
            try:
                found = diagnosis(url_of(daemon), code=1)
            finally:
                client.config_set("maxmemory", 0)
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")
        assert found[f"{name}, maxmemory-policy"][:2] == ("wrong", "allkeys-lru")
        assert found[f"{name}, output buffer of subscribers"][:2] == ("warning", "1 MiB")

    def test_a_redis_whose_owner_has_taken_commands_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Services that host Redis refuse some, or give them other names."""
        options = [each for name in ("ROLE", "CONFIG") for each in ("--rename-command", name, "")]
        with running_redis(tmp_path, *options) as server:
            monkeypatch.setenv("REDIS_URL", server.url)
            with running_daemon(tmp_path, server.url) as daemon:
                found = diagnosis(url_of(daemon))
                assert found[f"Redis {server.url}, scripts"][0] == "ok"
                assert found[f"{url_of(daemon)} ready"][0] == "ok"
        (folder := tmp_path / "without").mkdir()
        with running_redis(folder, "--rename-command", "EVAL", "") as server:
            found = diagnosis(f"http://127.0.0.1:{free_port()}/", "--redis", server.url, code=1)
            assert found[f"Redis {server.url}, scripts"][0] == "wrong"

    def test_a_cluster(self, tmp_path: Path) -> None:
        with running_redis(tmp_path, "--cluster-enabled", "yes") as server:
            found = diagnosis(f"http://127.0.0.1:{free_port()}/", "--redis", server.url, code=1)
            assert found[f"Redis {server.url}"][:2] == ("wrong", "a cluster")

    def test_somebody_else_in_another_database(
        self, daemon: Daemon, redis_server: RedisServer
    ) -> None:
        name = f"Redis {redis_server.url}, other databases"
        with Publisher(f"redis://127.0.0.1:{redis_server.port}/5") as other:
            assert diagnosis(url_of(daemon))[name][:2] == ("ok", "without Sinapse")
            other.publish("news", "hello")
            found = diagnosis(url_of(daemon))[name]
        assert found[:2] == ("warning", "Sinapse is in 5 as well")

    def test_daemons_of_other_prefixes(self, tmp_path: Path) -> None:
        with running_redis(tmp_path) as server, contextlib.ExitStack() as stack:

            def began(*options: str) -> Daemon:
                (folder := tmp_path / "".join(options[1:])[:1]).mkdir(exist_ok=True)
                return stack.enter_context(running_daemon(folder, server.url, *options))

            def found(daemon: Daemon, prefix: str, code: int = 0) -> tuple[str, str, str]:
                arguments = ("--redis", server.url, "--prefix", prefix)
                under = f"?prefix={prefix}" if prefix != "none" else ""
                found = diagnosis(url_of(daemon), *arguments, code=code)
                return found[f"Redis {server.url}{under}, daemons"]

            plain = began()
            assert found(plain, "none") == ("ok", "without a prefix", "")
            verdict, what, advice = found(plain, "a:", code=1)
            assert (verdict, what) == ("wrong", "none with prefix 'a:', but without a prefix")
            assert "SINAPSE_PREFIX" in advice
            one = began("--prefix", "a:")
            verdict, what, advice = found(one, "a:")
            expected = "with prefix 'a:'; of other applications: without a prefix"
            assert (verdict, what) == ("ok", expected)
            assert advice.endswith("may begin like 'a:'.")
            began("--prefix", "b:")
            began("--prefix", "a:b:")
            verdict, what, advice = found(one, "a:")
            assert verdict == "warning"
            assert what.endswith("without a prefix, with prefix 'a:b:', with prefix 'b:'")
            assert advice.endswith("may begin like 'a:' or 'a:b:'.")
            verdict, _, advice = found(plain, "none")
            assert verdict == "ok"
            assert advice.endswith("may begin like 'a:' or 'a:b:' or 'b:'.")

    def test_nobody_there(self) -> None:
        address = f"http://127.0.0.1:{free_port()}/"
        nowhere = f"redis://127.0.0.1:{free_port()}"
        found = diagnosis(address, "--redis", nowhere, code=1)
        assert found[f"Redis {nowhere}/0"][0] == "wrong"
        assert found[f"{address} status"][0] == "wrong"

    def test_a_path_that_is_passed_on(self, daemon: Daemon) -> None:
        """As by a proxy that leaves the path as it is; with the last slash or without it."""
        for path in ("push/", "push"):
            address = f"{url_of(daemon)}{path}"
            found = diagnosis(address, code=1)
            verdict, what, advice = found[f"{address} status"]
            assert (verdict, what) == ("wrong", "answers 404")
            assert "the proxy passes the path on, and the daemon answers at / only" in advice
            assert found[f"from Redis through {address}"][1:] == (
                "answers 404 Not Found",
                "See above.",
            )

    @pytest.mark.parametrize(
        ("status", "body", "is_said", "of_the_stream"),
        [
            (404, "<h1>Not found</h1>", "answers 404", "answers 404 Not Found"),
            (
                200,
                "<h1>Welcome</h1>",
                "answers, but not as a daemon",
                "answers 200 with text/html, which is no event stream",
            ),
        ],
    )
    def test_another_server_at_that_path(
        self, status: int, body: str, is_said: str, of_the_stream: str
    ) -> None:
        with answering(status, body, {"Content-Type": "text/html"}) as address:
            found = diagnosis(address, code=1)
        verdict, what, advice = found[f"{address} status"]
        assert (verdict, what) == ("wrong", is_said)
        assert "not the daemon" in advice
        assert found[f"from Redis through {address}"][1] == of_the_stream

    def test_a_detour(self) -> None:
        with answering(301, "", {"Location": "/push/"}) as address:
            found = diagnosis(address, code=1)
        verdict, what, advice = found[f"from Redis through {address}"]
        assert (verdict, what) == ("wrong", "answers 301 and leads to /push/; ask there")
        assert "slash" in advice

    def test_a_proxy_that_holds_streams_back(
        self, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sinapse.cli.checks.daemon.ANSWER_TIMEOUT", 2.0)
        with running_proxy(daemon.port) as proxy:
            held = bytearray()
            lock = threading.Lock()

            def hold(_link: object, data: bytes) -> bytes:
                with lock:
                    held.extend(data)
                    # The opening passes, what follows waits for more.
                    return data if b"authentication" in data or b"Content-Length" in data else b""

            proxy.down = hold
            address = f"http://127.0.0.1:{proxy.port}/"
            found = diagnosis(address, code=1)
            verdict, what, advice = found[f"from Redis through {address}"]
            assert (verdict, what) == ("wrong", "nothing arrives within 2 s")
            assert "proxy_buffering off" in advice


class TestPrefix:
    def test_commands_use_it(
        self, tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running_daemon(tmp_path, redis_server.url, "--prefix", "staging:") as daemon:
            prefix = ("--prefix", "staging:")
            run("channels", "add", "ada", "news", *prefix)
            assert run("channels", "list", "ada").stdout == ""
            with listening(daemon, "listen", url_of(daemon), "--subject", "ada", *prefix) as heard:
                run("publish", "news", "unheard")
                run("publish", "news", "hello", *prefix)
                assert heard.stdout is not None
                assert "hello" in heard.stdout.readline()
            run("ping", url_of(daemon), "--count", "1", *prefix)
            monkeypatch.setenv("SINAPSE_PREFIX", "staging:")
            assert run("channels", "list", "ada").stdout == "news\n"
            assert run("channels", "list", "ada", "--prefix", "none").stdout == ""

    def test_what_is_none_is_refused_in_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = run("channels", "list", "ada", "--prefix", "a{b}", code=1).stderr
        assert said.startswith("Error: prefix 'a{b}': must be 1 to 64 printable ASCII characters")
        assert said.count("\n") == 1
        monkeypatch.setenv("SINAPSE_PREFIX", "a b")
        said = run("doctor", code=1).stderr
        assert said.startswith("Error: SINAPSE_PREFIX 'a b': must be 1 to 64 printable ASCII")


def test_bench_measures_a_daemon_of_its_own() -> None:
    shown = run("bench", "--streams", "20").stdout
    units = re.findall(r"^(\S.*\S) +([\d.,]+) (\S.*)$", shown, re.MULTILINE)
    assert [unit for _, _, unit in units] == ["µs", "KiB", "µs", "a second", "µs", "ms"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    assert "_SINAPSE_COMPLETE" in run("completion", shell).stdout
    words = {"COMP_WORDS": "sinapse tok", "COMP_CWORD": "1"}
    result = CliRunner().invoke(
        main, env={"_SINAPSE_COMPLETE": "bash_complete", **words}, prog_name="sinapse"
    )
    assert result.output == "plain,token\n"


def test_nothing_is_written_if_one_of_several_names_is_none(publisher: Publisher) -> None:
    for words in (
        ("group", "add", "42", "a", "b c"),
        ("group", "channels", "add", "a", "news", "sinapse:x"),
        ("channels", "add", "42", "news", "sinapse:x"),
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 1
        assert re.fullmatch("Error: (group|channel) .+\n", result.stderr)
    assert publisher.groups.of("42") == set()
    assert publisher.groups.channels("a").list() == set()
    assert publisher.channels.list("42") == set()


def test_of_several_failures_of_redis_it_is_told_how_many_they_are() -> None:
    with pytest.raises(Unavailable, match=r"^1 of 2 failed: away$"), in_one_line():
        raise Incomplete([1, BrokerUnavailable("away")])
