"""Several clients on one connection: to each it is as if it had its own, whatever happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sinapse.ear import answers
from sinapse.ear.interest import Client
from sinapse.ear.multiplexer import NAMES_PER_COMMAND, Broken, Multiplexer, NotUnderstood

CHANNELS = (b"a", b"b", b"c", b"secret")
PATTERNS = (b"a*", b"[bc]")
DENIED = b"secret"
DENIAL = "NOPERM No permissions to access a channel"

COUNT = 3


class Redis:
    """One connection in subscriber mode, as Redis handles it; messages are numbered."""

    def __init__(self) -> None:
        self.commands: deque[tuple[bytes, ...]] = deque()
        self.replies: deque[object] = deque()
        self.subscribed: set[bytes] = set()
        #: How many replies there were, and how many are read.
        self.written = self.read = 0

    def handle(self) -> None:
        """Carry out the next command."""
        if self.commands:
            for reply in self._carry_out(*self.commands.popleft()):
                self._reply(reply)

    def _carry_out(self, verb: bytes, *names: bytes) -> Iterable[object]:
        if verb == b"PING":
            yield [b"pong", b""] if self.subscribed else b"PONG"
        elif DENIED in names and verb == b"SUBSCRIBE":
            yield hiredis.ReplyError(DENIAL)
        else:
            for name in names:
                if verb.endswith(b"UNSUBSCRIBE"):
                    self.subscribed.discard(name)
                else:
                    self.subscribed.add(name)
                yield [verb.lower(), name, len(self.subscribed)]

    def publish(self, channel: bytes, payload: bytes) -> None:
        if channel in self.subscribed:
            self._reply([b"message", channel, payload])
        for pattern in PATTERNS:
            if pattern in self.subscribed and fnmatchcase(channel.decode(), pattern.decode()):
                self._reply([b"pmessage", pattern, channel, payload])

    def _reply(self, reply: object) -> None:
        self.written += 1
        self.replies.append(reply)


class Worker:
    """A client, and what it must get: the answers to its commands in order."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.parser = hiredis.Reader()
        self.subscribed: set[bytes] = set()
        #: Commands without their whole answer, with how much of Redis' had to be read before.
        self.asked: deque[tuple[bytes, list[bytes], int]] = deque()
        self.messages: list[object] = []

    def take(self, read: int) -> None:
        """Check what has come, `read` being how much of Redis is read by now."""
        parts, self.client.out = self.client.out, []
        self.parser.feed(b"".join(parts))
        while (reply := self.parser.gets()) is not False:
            if isinstance(reply, list) and reply[0] in (b"message", b"pmessage"):
                assert reply[1] in self.subscribed
                self.messages.append(reply)
            else:
                self._answered(reply, read)

    def _answered(self, reply: object, read: int) -> None:
        verb, names, barrier = self.asked[0]
        if verb == b"PING":
            assert reply == ([b"pong", b""] if self.subscribed else b"PONG")
            assert read >= barrier
            self.asked.popleft()
        elif verb == b"SUBSCRIBE" and DENIED in names:
            assert isinstance(reply, hiredis.ReplyError)
            assert str(reply) == DENIAL
            self.asked.popleft()
        else:
            name = names.pop(0)
            if verb.endswith(b"UNSUBSCRIBE"):
                self.subscribed.discard(name)
            else:
                self.subscribed.add(name)
            assert reply == [verb.lower(), name, len(self.subscribed)]
            if not names:
                self.asked.popleft()


class Sharing(RuleBasedStateMachine):
    """Workers that come, ask and go, and a Redis that answers when it likes."""

    @initialize()
    def begin(self) -> None:
        self.redis = Redis()
        self.multiplexer = Multiplexer()
        self.workers = [Worker(self.multiplexer.join()) for _ in range(COUNT)]
        self.number = 0

    def ask(self, who: int, verb: bytes, names: Sequence[bytes]) -> None:
        worker = self.workers[who]
        worker.asked.append((verb, list(names), self.redis.written))
        self.multiplexer.ask(worker.client, [verb, *names])
        worker.take(self.redis.read)

    @rule(
        who=st.integers(0, COUNT - 1),
        verb=st.sampled_from([b"SUBSCRIBE", b"SUBSCRIBE", b"UNSUBSCRIBE"]),
        names=st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4),
    )
    def ask_for_channels(self, who: int, verb: bytes, names: list[bytes]) -> None:
        self.ask(who, verb, names)

    @rule(
        who=st.integers(0, COUNT - 1),
        verb=st.sampled_from([b"PSUBSCRIBE", b"PUNSUBSCRIBE"]),
        names=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2),
    )
    def ask_for_patterns(self, who: int, verb: bytes, names: list[bytes]) -> None:
        self.ask(who, verb, names)

    @rule(who=st.integers(0, COUNT - 1))
    def ping(self, who: int) -> None:
        self.ask(who, b"PING", [])

    @rule(who=st.integers(0, COUNT - 1))
    def leave_and_come_back(self, who: int) -> None:
        former = self.workers[who].client
        self.multiplexer.leave(former)
        former.out.clear()
        self.workers[who] = Worker(self.multiplexer.join())

    @rule(channel=st.sampled_from(CHANNELS))
    def publish(self, channel: bytes) -> None:
        # Whoever was told that it is subscribed misses nothing from here on.
        told = set().union(*(worker.subscribed for worker in self.workers))
        assert told <= self.redis.subscribed
        self.number += 1
        self.redis.publish(channel, b"%d" % self.number)

    @rule()
    def turn(self) -> None:
        self.redis.commands += self.multiplexer.commands()

    @rule(count=st.integers(1, 4))
    def redis_handles(self, count: int) -> None:
        for _ in range(count):
            self.redis.handle()

    @rule(count=st.integers(1, 6))
    def hear(self, count: int) -> None:
        for _ in range(min(count, len(self.redis.replies))):
            reply = self.redis.replies.popleft()
            self.redis.read += 1
            due = [worker for worker in self.workers if _is_due(worker, reply)]
            before = [len(worker.messages) for worker in self.workers]
            self.multiplexer.hear(reply)
            for worker in self.workers:
                worker.take(self.redis.read)
            for worker, count_before in zip(self.workers, before, strict=True):
                got = worker.messages[count_before:]
                assert got == ([reply] if worker in due else [])

    def come_to_rest(self) -> None:
        """Let everything happen that is under way."""
        self.turn()
        while self.redis.commands or self.redis.replies:
            self.redis.handle()
            self.hear(len(self.redis.replies))
            self.turn()

    @invariant()
    def each_has_taken_what_came(self) -> None:
        if hasattr(self, "redis"):
            assert all(not worker.client.out for worker in self.workers)

    def teardown(self) -> None:
        if not hasattr(self, "redis"):
            return
        self.come_to_rest()
        assert [list(worker.asked) for worker in self.workers] == [[]] * COUNT
        # Redis is asked for no channel that nobody wants.
        wanted = set().union(*(each.subscribed for each in self.workers))
        assert wanted <= self.redis.subscribed <= wanted.union(PATTERNS)
        for worker in self.workers:
            self.multiplexer.leave(worker.client)
        self.come_to_rest()
        assert self.redis.subscribed <= set(PATTERNS)


def _is_due(worker: Worker, reply: object) -> bool:
    is_message = isinstance(reply, list) and reply[0] in (b"message", b"pmessage")
    return is_message and reply[1] in worker.subscribed  # type: ignore[index]


TestSharing = Sharing.TestCase


def confirmed(kind: bytes, *names: bytes) -> list[list[object]]:
    return [[kind, name, count] for count, name in enumerate(names, 1)]


def heard(client: Client) -> list[object]:
    """Return what a client gets, read as it reads."""
    parser = hiredis.Reader()
    parser.feed(b"".join(client.out))
    client.out.clear()
    return list(iter(parser.gets, False))


def test_a_channel_is_asked_for_once_and_given_up_with_the_last() -> None:
    multiplexer = Multiplexer()
    one, other = multiplexer.join(), multiplexer.join()
    multiplexer.ask(one, [b"SUBSCRIBE", b"a"])
    multiplexer.ask(other, [b"SUBSCRIBE", b"a", b"b"])
    assert multiplexer.commands() == [(b"SUBSCRIBE", b"a"), (b"SUBSCRIBE", b"b")]
    assert one.out == other.out == []
    multiplexer.hear([b"subscribe", b"a", 1])
    assert heard(one) == confirmed(b"subscribe", b"a")
    multiplexer.hear([b"subscribe", b"b", 2])
    assert heard(other) == confirmed(b"subscribe", b"a", b"b")
    multiplexer.leave(other)
    assert multiplexer.commands() == [(b"UNSUBSCRIBE", b"b")]
    multiplexer.hear([b"unsubscribe", b"b", 1])
    multiplexer.ask(one, [b"unsubscribe", b"a"])
    # Somebody else comes in the same turn.
    late = multiplexer.join()
    multiplexer.ask(late, [b"SUBSCRIBE", b"a"])
    assert multiplexer.commands() == []
    assert heard(late) == confirmed(b"subscribe", b"a")


def test_those_who_ping_in_one_turn_share_an_answer() -> None:
    multiplexer = Multiplexer()
    clients = [multiplexer.join() for _ in range(3)]
    for client in clients:
        multiplexer.ask(client, [b"PING"])
    assert multiplexer.commands() == [(b"PING",)]
    multiplexer.hear(b"PONG")
    assert [heard(client) for client in clients] == [[b"PONG"]] * 3


def test_who_waits_for_a_name_beside_one_that_is_denied_gets_it() -> None:
    multiplexer = Multiplexer()
    one, other = multiplexer.join(), multiplexer.join()
    multiplexer.ask(one, [b"SUBSCRIBE", b"a", b"secret"])
    multiplexer.ask(other, [b"SUBSCRIBE", b"a"])
    assert multiplexer.commands() == [(b"SUBSCRIBE", b"a", b"secret")]
    multiplexer.hear(hiredis.ReplyError(DENIAL))
    (denial,) = heard(one)
    assert str(denial) == DENIAL
    assert heard(other) == []
    assert multiplexer.commands() == [(b"SUBSCRIBE", b"a")]
    multiplexer.hear([b"subscribe", b"a", 1])
    assert heard(other) == confirmed(b"subscribe", b"a")
    assert heard(one) == []


def test_a_pattern_stays_for_the_next_who_wants_it() -> None:
    multiplexer = Multiplexer()
    one, other = multiplexer.join(), multiplexer.join()
    multiplexer.ask(one, [b"PSUBSCRIBE", b"a*"])
    assert multiplexer.commands() == [(b"PSUBSCRIBE", b"a*")]
    multiplexer.hear([b"psubscribe", b"a*", 1])
    multiplexer.leave(one)
    assert multiplexer.commands() == []
    multiplexer.hear([b"pmessage", b"a*", b"ab", b"for nobody"])
    multiplexer.ask(other, [b"PSUBSCRIBE", b"a*"])
    assert multiplexer.commands() == []
    assert heard(other) == confirmed(b"psubscribe", b"a*")


def test_many_names_are_given_up_in_several_commands() -> None:
    multiplexer = Multiplexer()
    client = multiplexer.join()
    names = [b"%d" % number for number in range(NAMES_PER_COMMAND + 1)]
    multiplexer.ask(client, [b"SUBSCRIBE", *names])
    multiplexer.commands()
    for number, name in enumerate(names):
        multiplexer.hear([b"subscribe", name, number])
    multiplexer.leave(client)
    assert [len(words) for words in multiplexer.commands()] == [NAMES_PER_COMMAND + 1, 2]


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        ([b"PING"], "LOADING Redis is loading the dataset in memory"),
        ([b"SUBSCRIBE", b"a"], "ERR unknown command"),
        ([], "ERR max number of clients reached"),
    ],
)
def test_what_nobody_can_do_without_is_the_end(asked: list[bytes], reply: str) -> None:
    multiplexer = Multiplexer()
    if asked:
        multiplexer.ask(multiplexer.join(), asked)
        multiplexer.commands()
    with pytest.raises(Broken, match=reply):
        multiplexer.hear(hiredis.ReplyError(reply))


@pytest.mark.parametrize(
    "words", [[b"GET", b"a"], [b"SUBSCRIBE"], [b"PING", b"a"], [b"PPING"], [b""]]
)
def test_other_commands_are_not_understood(words: list[bytes]) -> None:
    multiplexer = Multiplexer()
    client = multiplexer.join()
    with pytest.raises(NotUnderstood):
        multiplexer.ask(client, words)
    assert not client.out


@given(st.binary(), st.binary(), st.binary())
def test_messages_are_written_as_redis_writes_them(
    pattern: bytes, channel: bytes, payload: bytes
) -> None:
    assert answers.message(channel, payload) == hiredis.pack_command(
        (b"message", channel, payload)  # type: ignore[arg-type]
    )
    assert answers.message_of_pattern(pattern, channel, payload) == hiredis.pack_command(
        (b"pmessage", pattern, channel, payload)  # type: ignore[arg-type]
    )
