"""The fixtures for pytest, in a run of its own as an application has it."""

from __future__ import annotations

import sys
import threading

import pytest

from sinapse.testing.server import running_server
from tests.support.modules import loaded_by

pytest_plugins = ["pytester"]

# They start a pytest of their own, and a daemon.
pytestmark = pytest.mark.timeout(180)


def test_pytest_starts_without_all_that_sinapse_needs() -> None:
    loaded = loaded_by("import sinapse.pytest_plugin")
    libraries = {"redis", "twisted", "msgpack", "click", "txredisapi"}
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(libraries)
    assert "sinapse.publisher" not in loaded
    assert "sinapse.testing" not in loaded


def run(pytester: pytest.Pytester, program: str, *options: str) -> pytest.RunResult:
    """Run tests where warnings are errors."""
    pytester.makepyfile(program)
    return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *options)


def test_messages_of_a_test_are_captured(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        from sinapse.publisher import Publisher
        from sinapse.testing import captured

        publisher = Publisher("redis://127.0.0.1:1")

        def test_one(sinapse_messages):
            publisher.publish("room:1", "hello", event="note")
            sinapse_messages.assert_published(1, channel="room:1", event="note", message="hello")
            assert captured() is sinapse_messages

        def test_nothing_of_the_other_is_left(sinapse_messages):
            sinapse_messages.refute_published()

        def test_a_failure_says_what_there_is(sinapse_messages):
            publisher.publish("room:1", "hello")
            sinapse_messages.assert_published(2)
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*expected 2 messages, but 1 was published:", "*'room:1': hello"])


def test_a_real_daemon_delivers_and_is_as_new_for_each_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import asyncio
        from dataclasses import dataclass

        import pytest

        from sinapse.publisher import Publishable, Subject, aio

        started = []

        @dataclass
        class Room(Publishable):
            id: int

        @dataclass
        class User(Subject):
            id: int

        def test_a_message_arrives(sinapse_server):
            started.append(sinapse_server.url)
            with sinapse_server.listen("7", Room(1)) as listener:
                assert Room(1).publish({"text": "hello"}, event="note") == 1
                received = listener.next()
                assert (received.data, received.event) == ('{"text":"hello"}', "note")
                asyncio.run(aio.default().publish("room:1", [1, 2]))
                assert listener.json() == [1, 2]
                with pytest.raises(AssertionError) as raised:
                    listener.next(timeout=0.01)
                assert "no message came within 0.01 s; before that: '{" in str(raised.value)

        def test_nothing_of_the_other_is_left(sinapse_server):
            assert started == [sinapse_server.url]
            assert sinapse_server.publisher.channels.list("7") == set()
            assert sinapse_server.publisher.tokens.get("7") is None
            assert Room(1).publish("nobody") == 0

        def test_a_token_is_enough(sinapse_server):
            user = User(8)
            assert sinapse_server.token(8, "news") == user.sinapse.auth.token
            listener = sinapse_server.listen(8)
            user.sinapse.destroy()
            with pytest.raises(AssertionError, match="the stream has ended: .*401"):
                listener.next(timeout=60)

        def test_one_excludes_the_other(sinapse_server, sinapse_messages):
            pass
        """,
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*sinapse_messages captures what sinapse_server should send*"])


def test_a_daemon_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)has ended unexpectedly.*--max-pending"),
        running_server("--max-pending", "much"),
    ):
        raise AssertionError("it runs")


def test_it_needs_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINAPSE_PORT", "nonsense")
    monkeypatch.setenv("REDIS_URL", "nonsense")
    monkeypatch.setattr(sys, "stdin", None)
    with running_server("--retain", "0") as server:
        listener = server.listen("1", "news")
        assert server.publisher.publish("news", "hello", retain=0) == 1
        assert listener.next()[:2] == ("hello", None)


def test_its_streams_end_with_it() -> None:
    before = set(threading.enumerate())
    with running_server() as server:
        server.listen("1", "news")
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) <= before
