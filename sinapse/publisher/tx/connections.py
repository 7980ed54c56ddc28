"""Connections to Redis on Twisted: one to each Redis, with pipelined commands."""

import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from weakref import WeakMethod

import txredisapi
from twisted.internet.defer import CancelledError, Deferred, DeferredList

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.scripts import Script
from sinapse.publisher.operations.batches import AwaitedSend, are_messages
from sinapse.publisher.operations.conversation import converse
from sinapse.publisher.operations.master import Master, Unknown
from sinapse.publisher.operations.operation import (
    Command,
    Lost,
    Operation,
    Plain,
    Refused,
    unavailable,
    without_arguments,
)
from sinapse.publisher.operations.runner import AwaitedRunner
from sinapse.publisher.process import OfThisProcess
from sinapse.publisher.tx.batching import Batching
from sinapse.txredis.dial import dial
from sinapse.txredis.link import Link


class _Link(Link):
    """One connection, to `node`."""

    node: RedisURL

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: The scripts that were sent on this connection.
        self.known: set[Script] = set()
        self._held: list[Deferred[None]] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether it is closed, even if the reactor has not seen that yet."""
        if not self.connected:
            return True
        if self.waiting is not None:
            return False
        poll = select.poll()
        poll.register(self.transport.fileno(), select.POLLIN)
        return bool(poll.poll(0))  # No answer is due: only the end can be there to read.

    @property
    def is_held(self) -> bool:
        """Whether operations must wait before they send: see :meth:`hold`."""
        return self._held is not None

    def hold(self) -> None:
        """Let new operations wait until all answers have come.

        Redis has forgotten a script. The refused commands are sent again, in the order of the
        answers, and before new ones.
        """
        if self._held is None and (waiting := self.waiting) is not None:
            self._held = []
            waiting.addBoth(self._release)

    async def released(self) -> None:
        """Return when operations need not wait any more."""
        if self._held is not None:
            waiting: Deferred[None] = Deferred()
            self._held.append(waiting)
            await waiting

    def _release(self, answer: Any) -> Any:
        held, self._held = self._held, None
        for each in held or ():
            each.callback(None)
        return answer

    async def check_role(self) -> None:
        """Close the connection and raise ``txredisapi.ConnectionError`` if this is not a master."""
        if not await self.is_master():
            self.transport.abortConnection()
            raise txredisapi.ConnectionError(f"{self.node.host}:{self.node.port} is no master")

    async def check_answer(self) -> None:
        """Raise ``txredisapi.RedisError`` if Redis does not answer, or refuses."""
        try:
            await self.ping()
        except txredisapi.ResponseError as error:
            if not str(error).startswith("NOPERM"):
                raise

    async def leave(self) -> None:
        """Close the connection after the answers to all commands."""
        if self.connected:
            with suppress(txredisapi.RedisError):
                await self.execute_command("QUIT")
            self.transport.abortConnection()


class _Own:
    """The connection of a process, and the operations that wait for it."""

    def __init__(self, batching: Batching) -> None:
        self.link: _Link | None = None
        self.waiting: list[Deferred[_Link]] = []
        self.batching = batching


class Connections(AwaitedRunner):
    """One connection to one Redis, opened when needed, for the thread of the reactor.

    `connect_timeout` and `timeout` are seconds, as in :mod:`sinapse.publisher.connections`. With
    `batch`, what is published in one turn of the reactor is sent together.
    """

    def __init__(
        self,
        url: RedisURL,
        *,
        connect_timeout: float,
        timeout: float,
        reactor: Any,
        batch: bool = False,
    ) -> None:
        self._url = url
        self._is_batching = batch
        self._timeouts = connect_timeout, timeout
        self._reactor = reactor
        self._sentinels = [
            Connections(
                url.sentinel(*address),
                connect_timeout=connect_timeout,
                timeout=timeout,
                reactor=reactor,
            )
            for address in url.sentinels
        ]
        self._master = Master(url.master, len(url.sentinels))
        send: WeakMethod[AwaitedSend] = WeakMethod(self._converse)
        self._own = OfThisProcess(lambda: _Own(Batching(url, send, reactor)))

    async def carry_out(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Return the result of each: one round trip, once Redis knows their scripts."""
        batching = self._own().batching
        if self._is_batching and are_messages(operations):
            return await batching.publish(operations)
        batching.begin()  # What was published before goes before it.
        return await self._converse(operations)

    async def _converse(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        link = await self._connected()
        while link.is_held:
            await link.released()
            link = await self._connected()
        conversation = converse(self._url, operations, link.known)
        commands = next(conversation)
        while True:
            try:
                commands = conversation.send(await self._ask(link, commands))
            except StopIteration as end:
                return cast(list[Any], end.value)

    async def execute(self, *command: str | bytes) -> Any:
        """Return the answer to `command`; strings in it are bytes."""
        return await self.run(Plain(command))

    async def close(self) -> None:
        """Close the connection after the answers to all commands."""
        own = self._own()
        await own.batching.finish()
        link, own.link = own.link, None
        if link is not None:
            await link.leave()
        for sentinel in self._sentinels:
            await sentinel.close()

    async def _connected(self) -> _Link:
        node = await self._node()
        own = self._own()
        link = own.link
        if link is not None:
            if link.node == node and not link.is_lost:
                return link
            self._leave(link)
        first = not own.waiting
        waiting: Deferred[_Link] = Deferred()
        own.waiting.append(waiting)
        if first:
            Deferred.fromCoroutine(self._dial(node)).addBoth(self._dialled)
        return await waiting

    async def _dial(self, node: RedisURL) -> _Link:
        connect_timeout, timeout = self._timeouts
        try:
            link = await dial(_Link, node, self._reactor, connect_timeout, timeout)
            link.node = node
            if self._sentinels:
                await link.check_role()
            else:
                await link.check_answer()
        except Exception as error:  # noqa: BLE001  # Whatever it was, nothing was sent yet.
            if self._sentinels:
                self._master.doubt()
            text = without_arguments(error) or type(error).__name__
            raise unavailable(self._url, text) from None
        self._own().link = link
        return link

    def _leave(self, link: _Link) -> None:
        self._own().link = None
        Deferred.fromCoroutine(link.leave())

    def _dialled(self, outcome: Any) -> None:
        """Give the connection, or the failure, to all operations that wait for it."""
        own = self._own()
        waiting, own.waiting = own.waiting, []
        for each in waiting:
            each.callback(outcome)

    async def _node(self) -> RedisURL:
        """Return the node to connect to; with Sentinels, they are asked each time."""
        if not self._sentinels:
            return self._url
        finding = self._master.find()
        try:
            number, command = next(finding)
            while True:
                try:
                    answer = await self._sentinels[number].execute(*command)
                except BrokerUnavailable:
                    answer = None
                number, command = finding.send(answer)
        except StopIteration as end:
            return self._url.node(*end.value)
        except Unknown as error:
            raise unavailable(self._url, str(error)) from None

    async def _ask(self, link: _Link, commands: Sequence[Command]) -> list[Any]:
        try:
            asked = [link.execute_command(*command) for command in commands]
        except txredisapi.ConnectionError as error:
            return [Lost(str(error), error)] * len(commands)
        outcomes: Any = DeferredList(asked, consumeErrors=True)
        answers = []
        for succeeded, outcome in await outcomes:
            if succeeded:
                answers.append(outcome)
            elif outcome.check(txredisapi.ResponseError):
                text = without_arguments(outcome.value)
                refused = Refused(text, text.startswith("NOSCRIPT"))
                if refused.is_unknown_script:
                    link.hold()
                answers.append(refused)
                if text.startswith("READONLY") and self._own().link is link:
                    # This is no longer the master: find the new one.
                    self._leave(link)
            elif outcome.check(CancelledError):
                raise outcome.value
            else:
                answers.append(Lost(str(outcome.value), outcome.value))
                if self._own().link is link:  # It is being closed, if it is not yet.
                    self._own().link = None
        return answers
