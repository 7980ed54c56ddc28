"""Commands over one connection: answered in order, and given up when an answer is late."""

from typing import Any

import pytest
import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from sinapse.txredis.link import Link

TIMEOUT = 5


@pytest.fixture
def link() -> Link:
    """A connection whose other side is the test."""
    link = Link(charset=None, convertNumbers=False, replyTimeout=TIMEOUT)
    link.clock = Clock()
    link.makeConnection(StringTransport())
    return link


def outcome(answer: "Deferred[Any]") -> list[Any]:
    """Return a list that gets what becomes of `answer`."""
    found: list[Any] = []
    answer.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


def test_commands_are_sent_at_once_and_answered_in_order(link: Link) -> None:
    first = outcome(link.execute_command("GET", b"a\xff"))
    second = outcome(link.execute_command("INCRBY", "b", 7))
    assert link.transport.value() == (
        b"*2\r\n$3\r\nGET\r\n$2\r\na\xff\r\n*3\r\n$6\r\nINCRBY\r\n$1\r\nb\r\n$1\r\n7\r\n"
    )
    link.dataReceived(b"$3\r\none\r\n:")
    assert (first, second) == ([b"one"], [])
    link.dataReceived(b"8\r\n")
    assert second == [8]
    assert link.waiting is None


def test_what_redis_refuses_fails_that_command_only(link: Link) -> None:
    first, second = outcome(link.execute_command("GET", "a")), outcome(link.execute_command("PING"))
    link.dataReceived(b"-NOPERM no\r\n+PONG\r\n")
    assert isinstance(first[0], txredisapi.ResponseError)
    assert str(first[0]) == "NOPERM no"
    assert second == [b"PONG"]


def test_one_timer_does_for_all_and_runs_from_the_oldest_question(link: Link) -> None:
    clock: Clock = link.clock
    early = outcome(link.execute_command("GET", "early"))
    clock.advance(TIMEOUT - 1)
    late = outcome(link.execute_command("GET", "late"))
    assert len(clock.getDelayedCalls()) == 1
    link.dataReceived(b"+in time\r\n")
    clock.advance(TIMEOUT - 1)
    assert (early, late) == ([b"in time"], [])
    assert not link.transport.disconnected
    clock.advance(1)
    assert isinstance(late[0], txredisapi.TimeoutError)
    assert link.transport.disconnected


def test_a_late_answer_ends_all_that_was_asked(link: Link) -> None:
    both = [outcome(link.execute_command("GET", name)) for name in "ab"]
    link.clock.advance(TIMEOUT)
    assert all(isinstance(each[0], txredisapi.TimeoutError) for each in both)
    assert not link.clock.getDelayedCalls()


def test_nobody_is_waited_for_when_all_were_answered(link: Link) -> None:
    answered = outcome(link.execute_command("PING"))
    link.dataReceived(b"+PONG\r\n")
    link.clock.advance(TIMEOUT)
    assert answered == [b"PONG"]
    assert not link.transport.disconnected
    assert not link.clock.getDelayedCalls()


def test_the_answer_to_what_was_cancelled_is_not_that_of_another(link: Link) -> None:
    given_up, kept = link.execute_command("GET", "a"), outcome(link.execute_command("GET", "b"))
    found = outcome(given_up)
    given_up.cancel()
    link.dataReceived(b"+of a\r\n+of b\r\n")
    assert len(found) == 1
    assert kept == [b"of b"]


def test_what_is_no_redis_is_left(link: Link) -> None:
    asked = outcome(link.execute_command("PING"))
    link.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert link.transport.disconnected
    assert asked == []


def test_what_was_asked_fails_when_the_connection_is_lost(link: Link) -> None:
    again: list[Any] = []
    asked = link.execute_command("PING")

    def ask_again(_: object) -> None:
        with pytest.raises(txredisapi.ConnectionError):
            link.execute_command("PING")
        again.append("refused")

    asked.addErrback(ask_again)
    link.connectionLost()
    assert again == ["refused"]
    assert not link.clock.getDelayedCalls()


def test_an_error_that_nobody_asked_for_is_passed_over(link: Link) -> None:
    link.dataReceived(b"-ERR max number of clients reached\r\n")
    asked = outcome(link.execute_command("PING"))
    link.dataReceived(b"+PONG\r\n")
    assert asked == [b"PONG"]
