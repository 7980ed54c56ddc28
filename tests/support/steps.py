"""Publishers that go on one round trip at a time, while a Redis joins another one, or leaves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

from sinapse.protocol.message import Message, pack, unpack
from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.publisher import Publisher
from sinapse.publisher.operations.conversation import converse
from sinapse.publisher.operations.moving import carry_while_moving
from sinapse.publisher.operations.operation import Command, Operation, Refused
from tests.support import RedisServer, running_named

#: The states of publishers of two steps, of a Redis that joins and of one that leaves.
MOVES = [("joining", "joined"), ("leaving", "left")]


class Place:
    """Two Redis, `b` of which joins or leaves; what moves, and all that is published to it."""

    def __init__(self, servers: dict[str, RedisServer]) -> None:
        self.servers = servers
        shards = shards_of(parse_all([self.url("joining")]))
        self.channel = next(
            name for name in map("room:{}".format, range(99)) if shards.other(name.encode())
        )
        self.subject = next(
            each for each in map(str, range(99)) if shards.other(f"inbox@{each}".encode())
        )
        self.clients: dict[str, redis.Redis] = {
            name: server.client() for name, server in servers.items()
        }
        self._heard = {name: client.pubsub() for name, client in self.clients.items()}
        for pubsub in self._heard.values():
            pubsub.subscribe(self.channel)
        with Publisher(servers["a"].url) as one, Publisher(servers["b"].url) as other:
            for publisher in (one, other):  # So that both know the scripts.
                publisher.publish("x", "x", message_id="x")
                publisher.publish("x", "x", retain=0, message_id="y")
        self.published()

    def url(self, state: str) -> str:
        return f"a={self.servers['a'].url} b={self.servers['b'].url}?tokens=no&state={state}"

    def note(self) -> None:
        """Note that all is copied, whether it joins or leaves."""
        for client in self.clients.values():
            client.hset("sinapse:move", "done", "a + b")

    def published(self) -> list[Message]:
        """Return what has been published to the channel since the last time."""
        found = []
        for name, pubsub in self._heard.items():
            self.clients[name].publish(self.channel, pack(Message("that is all")))
            while True:
                got: Any = pubsub.get_message(timeout=10)
                assert got is not None
                if got["type"] != "message":
                    continue
                message = unpack(got["data"])
                if message.data == "that is all":
                    break
                found.append(message)
        return found

    def close(self) -> None:
        for each in (*self._heard.values(), *self.clients.values()):
            each.close()


@contextlib.contextmanager
def running_place(folder: Path) -> Iterator[Place]:
    """Run both Redis for the length of a with block."""
    with running_named(folder, "ab") as servers, contextlib.ExitStack() as stack:
        found = Place(servers)
        stack.callback(found.close)
        yield found


class Caller:
    """A publisher that carries operations out, one round trip at a time."""

    def __init__(self, place: Place, state: str, operations: Sequence[Operation[Any]]) -> None:
        urls = parse_all([place.url(state)])
        shards = shards_of(urls)
        self._urls = urls
        self._clients = [place.clients[name] for name in shards.names]
        self._asking = carry_while_moving(operations, shards)
        self.results: list[Any] | None = None
        self._begin(next(self._asking))

    def _begin(self, asked: Any) -> None:
        self._outcomes: dict[int, Any] = {}
        self._talks = {shard: converse(self._urls[shard], part) for shard, part in asked.items()}
        self._said = {shard: next(talk) for shard, talk in self._talks.items()}

    def step(self) -> None:
        """Take one round trip with one Redis."""
        shard, commands = next(iter(self._said.items()))
        answers = [_answer(self._clients[shard], each) for each in commands]
        try:
            self._said[shard] = self._talks[shard].send(answers)
        except StopIteration as end:
            self._outcomes[shard] = end.value
            del self._said[shard]
        if self._said:
            return
        try:
            self._begin(self._asking.send(self._outcomes))
        except StopIteration as end:
            self.results = end.value

    def finish(self) -> Any:
        """Go on to the end; return what becomes of the only operation."""
        while self.results is None:
            self.step()
        [result] = self.results
        if isinstance(result, Exception):
            raise result
        return result


def _answer(client: redis.Redis, command: Command) -> Any:
    try:
        return client.execute_command(*command)
    except NoScriptError as error:
        return Refused(str(error), is_unknown_script=True)


def interleave(callers: Sequence[Caller], order: Sequence[int]) -> None:
    """Let callers go on in this order, as long as they have something to do."""
    for which in order:
        if callers[which].results is None:
            callers[which].step()
