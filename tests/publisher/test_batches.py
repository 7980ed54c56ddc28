"""What is published at one moment is sent together, by each kind of publisher."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any
from weakref import WeakMethod

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.names import PLAIN
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.sharding import shard_of
from sinapse.publisher import Publisher, aio
from sinapse.publisher.base import CONNECT_TIMEOUT
from sinapse.publisher.batching import Batching
from sinapse.publisher.operations.batches import (
    MAX_CALLS,
    Batches,
    Call,
    are_messages,
    fail,
    messages_of,
    settle,
)
from sinapse.publisher.operations.messages import Messages
from sinapse.publisher.operations.position import Position
from tests.support import (
    EVENT_TIMEOUT,
    PYTHON,
    RedisServer,
    eventually,
    running_redis,
    running_several,
)
from tests.support.flavours import running_reactor, wait_for_deferred
from tests.support.listening import Listener, heard, listening
from tests.support.proxy import Link, Proxy
from tests.support.publishing import calls, exit_status, forks, in_child

MESSAGES = Messages({}, None, None, None)

#: Publishes each on a publisher of asyncio or Twisted at the same moment: results and errors.
Gather = Callable[..., list[Any]]


def on_asyncio(url: Any, *work: Callable[[Any], Any], **options: Any) -> list[Any]:
    async def run() -> list[Any]:
        async with aio.Publisher(url, **options) as publisher:
            with contextlib.suppress(BrokerUnavailable):
                await publisher.publish("nothing", "so that it is connected", retain=0)
            return await asyncio.gather(*(each(publisher) for each in work), return_exceptions=True)

    return asyncio.run(run())


def on_twisted(url: Any, *work: Callable[[Any], Any], **options: Any) -> list[Any]:
    from twisted.internet.defer import DeferredList

    from sinapse.publisher import tx

    async def run() -> list[Any]:
        publisher = tx.Publisher(url, reactor=running_reactor(), **options)
        with contextlib.suppress(BrokerUnavailable):
            await publisher.publish("nothing", "so that it is connected", retain=0)
        begun = [each(publisher) for each in work]
        outcomes: Any = await DeferredList(begun, consumeErrors=True)
        await publisher.close()
        return [each if succeeded else each.value for succeeded, each in outcomes]

    found: list[Any] = wait_for_deferred(run)
    return found


def in_threads(url: Any, *work: Callable[[Any], Any], **options: Any) -> list[Any]:
    """Let threads meet: the first one is held until the others wait for it."""

    def outcome(future: Future[Any]) -> Any:
        error = future.exception(20)
        return error if error is not None else future.result()

    with Publisher(url, **options) as publisher, ThreadPoolExecutor(len(work)) as threads:
        with contextlib.suppress(BrokerUnavailable):
            publisher.publish("nothing", "so that it is connected", retain=0)
        return [outcome(each) for each in [threads.submit(each, publisher) for each in work]]


@pytest.fixture(params=[on_asyncio, on_twisted])
def gather(request: pytest.FixtureRequest) -> Gather:
    """Return what publishes at the same moment, on asyncio and on Twisted."""
    found: Gather = request.param
    return found


@pytest.fixture(params=[on_asyncio, on_twisted, in_threads])
def all_at_once(request: pytest.FixtureRequest) -> Gather:
    """The same, and in threads; their order is then any."""
    found: Gather = request.param
    return found


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis whose users a test may change."""
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def listener(redis_server: RedisServer) -> Iterator[Listener]:
    with listening(redis_server) as found:
        yield found


def publishing(channel: str, text: object, **options: Any) -> Callable[[Any], Any]:
    return lambda publisher: publisher.publish(channel, text, **options)


def scripts(client: redis.Redis) -> int:
    """Return how often a script was called."""
    found = calls(client)
    return found.get("evalsha", 0) + found.get("eval", 0)


def texts(listener: Listener) -> list[str]:
    """Return what was heard, without what no test has published."""
    return [text for channel, text in heard(listener) if channel.startswith("room:")]


class Waiting(RuleBasedStateMachine):
    """Callers come and go, and conversations begin and end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = Batches()
        self.number = 0
        self.waiting: list[Call] = []
        self.under_way: list[list[Call]] = []
        self.begun: dict[str, list[int]] = {}

    @rule(channels=st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
    def put(self, channels: list[str]) -> None:
        self.number += 1
        call = Call([MESSAGES.publish(each, str(self.number)) for each in channels])
        self.batches.put(call)
        self.waiting.append(call)

    @rule(dice=st.randoms())
    def withdraw(self, dice: Any) -> None:
        known = [*self.waiting, *(each for batch in self.under_way for each in batch)]
        if known:
            call = dice.choice(known)
            self.batches.withdraw(call)
            if call in self.waiting:
                self.waiting.remove(call)

    @rule()
    def take(self) -> None:
        taken: list[Call] = []
        self.batches.take(taken)
        busy = {message.channel for batch in self.under_way for message in messages_of_all(batch)}
        for call in taken:
            self.waiting.remove(call)
            for message in call.messages:
                # Nothing of its channel is under way, and nothing of it was called before.
                assert message.channel not in busy
                self.begun.setdefault(message.channel, []).append(int(message.message.data))
        free = {message.channel for call in self.waiting for message in call.messages} - busy
        taken_channels = {message.channel for message in messages_of_all(taken)}
        is_whole = [len(call.channels) < len(call.messages) for call in taken]
        assert not any(is_whole) or len(taken) == 1
        if not self.under_way and not any(is_whole):
            # All that wait go; only such a one is left for the next batch, and what is behind it.
            rest = self.waiting[:1]
            assert all(len(call.channels) < len(call.messages) for call in rest)
        assert taken or not free or self.under_way
        assert not taken_channels & busy
        if taken:
            self.under_way.append(taken)

    @rule(dice=st.randoms())
    def end(self, dice: Any) -> None:
        if self.under_way:
            batch = dice.choice(self.under_way)
            self.under_way.remove(batch)
            self.batches.end(batch)

    @invariant()
    def the_order_of_each_channel_is_kept(self) -> None:
        for numbers in self.begun.values():
            assert numbers == sorted(numbers)
        assert len(self.batches) == len(self.waiting)
        assert self.batches.is_idle == (not self.waiting and not self.under_way)
        assert self.batches.first() is (self.waiting[0] if self.waiting else None)


def messages_of_all(calls: list[Call]) -> list[Any]:
    return list(messages_of(calls)) if calls else []


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


class TestBatches:
    @given(st.lists(st.integers(1, 4), min_size=1, max_size=20))
    def test_each_call_gets_its_own_results(self, sizes: list[int]) -> None:
        made = [
            Call([MESSAGES.publish("room:1", str(number)) for number in range(size)])
            for size in sizes
        ]
        messages = messages_of(made)
        assert list(messages) == [each for call in made for each in call.messages]
        settle(made, list(messages))
        assert [call.results() for call in made] == [call.messages for call in made]

    def test_only_messages_are_sent_together(self) -> None:
        message = MESSAGES.publish("room:1", "hello")
        assert are_messages([message, message])
        assert not are_messages([message, Position()])

    def test_each_call_gets_an_error_of_its_own(self) -> None:
        made = [Call([]) for _ in range(3)]
        made[2].settle([])
        fail(made, BrokerUnavailable("away", delivered=False))
        errors = []
        for call in made[:2]:
            with pytest.raises(BrokerUnavailable, match="away") as raised:
                call.results()
            assert raised.value.delivered is False
            errors.append(raised.value)
        assert errors[0] is not errors[1]
        assert made[2].results() == []

    def test_a_batch_has_an_end(self) -> None:
        batches = Batches()
        large = [Call([MESSAGES.publish(str(n), "x" * 500_000)]) for n in range(4)]
        small = [Call([MESSAGES.publish(f"small:{n}", "x")]) for n in range(MAX_CALLS + 1)]
        for call in (*large, *small):
            batches.put(call)
        sizes = []
        while batches:
            taken: list[Call] = []
            batches.take(taken)
            sizes.append(len(taken))
        assert sizes == [3, MAX_CALLS, 2]


class TestOneTurn:
    def test_messages_are_one_call_in_their_order(
        self, gather: Gather, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        gather(redis_server.url, *[publishing("room:1", "before")] * 2)  # Redis knows the scripts.
        with listening(redis_server) as listener:
            before = scripts(redis_client)
            results = gather(
                redis_server.url, *(publishing(f"room:{n % 3}", str(n)) for n in range(100))
            )
            # The first one opens the connection; a node that is there may look whether it hears.
            assert 2 <= scripts(redis_client) - before <= 3
            assert texts(listener) == [str(n) for n in range(100)]
        assert len({each.id for each in results}) == 100

    def test_without_batch_each_is_a_call(
        self, gather: Gather, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        gather(redis_server.url, publishing("room:1", "before"))
        before = scripts(redis_client)
        gather(redis_server.url, *(publishing("room:1", str(n)) for n in range(10)), batch=False)
        assert scripts(redis_client) - before >= 10

    def test_a_change_after_a_message_comes_after_it(
        self, redis_server: RedisServer, listener: Listener
    ) -> None:
        """On Twisted, where all goes on one connection as it is called."""
        on_twisted(
            redis_server.url,
            publishing("room:1", "hello"),
            lambda publisher: publisher.channels.add("7", "room:1"),
            publishing("room:1", "hello"),
        )
        channels = [channel for channel, _ in listener.heard() if channel != "nothing"]
        assert len(channels) > 2
        assert channels[0] == channels[-1] == "room:1"
        assert all(each.startswith("sinapse:channels:7:") for each in channels[1:-1])

    def test_the_order_is_kept_if_redis_forgets_the_scripts(
        self, redis_server: RedisServer, redis_client: redis.Redis, listener: Listener
    ) -> None:
        """On Twisted, where later commands are under way before the first one is refused."""
        from twisted.internet.defer import DeferredList

        from sinapse.publisher import tx

        async def run() -> None:
            publisher = tx.Publisher(redis_server.url, reactor=running_reactor())
            kinds = [("nothing", "known", None, 60), ("nothing", "known", None, 0)]
            await publisher.publish("nothing", "known")
            await publisher.publish_many(kinds)
            redis_client.script_flush()
            begun = [publisher.publish("room:1", "0")]
            publisher._connections._own().batching.begin()  # type: ignore[attr-defined]
            begun += [publisher.publish("room:1", str(n), retain=n % 2) for n in range(1, 5)]
            outcomes: Any = await DeferredList(begun)
            assert [result for _, result in outcomes] == [1] * 5
            await publisher.close()

        wait_for_deferred(run)
        assert texts(listener) == [str(n) for n in range(5)]

    def test_who_publishes_again_at_once_is_served(
        self, redis_server: RedisServer, listener: Listener
    ) -> None:
        async def run() -> None:
            async with aio.Publisher(redis_server.url) as publisher:

                async def publish(number: int) -> None:
                    for turn in range(20):
                        await publisher.publish(f"room:{number}", f"{turn:02}")

                await asyncio.gather(*map(publish, range(20)))

        asyncio.run(run())
        found = heard(listener)
        for number in range(20):
            mine = [text for channel, text in found if channel == f"room:{number}"]
            assert mine == [f"{turn:02}" for turn in range(20)]


class TestFailures:
    def test_who_is_refused_takes_nothing_from_others(
        self, all_at_once: Gather, redis_server: RedisServer, redis_client: redis.Redis
    ) -> None:
        key = PLAIN.retained_key("room:2")
        redis_client.set(key, "of another type")
        first, refused, last = all_at_once(
            redis_server.url, *(publishing(f"room:{n}", "hello") for n in (1, 2, 3))
        )
        redis_client.delete(key)
        assert isinstance(refused, BrokerUnavailable)
        assert refused.delivered is False
        assert first.id
        assert last.id

    @pytest.mark.parametrize("retain", [0, 60])
    def test_who_may_not_publish_takes_nothing_from_others(
        self, all_at_once: Gather, own_redis: RedisServer, retain: int
    ) -> None:
        rules = "on >p ~* resetchannels &room:* &nothing &sinapse:* +@all"
        with contextlib.closing(own_redis.client()) as client:
            client.execute_command(f"ACL SETUSER bob {rules}")
        with listening(own_redis) as listener:
            url = own_redis.url.replace("//", "//bob:p@")
            channels = ("room:1", "secret", "room:2")
            first, denied, last = all_at_once(
                url, *(publishing(each, each, retain=retain) for each in channels)
            )
            assert sorted(texts(listener)) == ["room:1", "room:2"]
        assert isinstance(denied, BrokerUnavailable)
        # What is retained may have been retained.
        assert denied.delivered is (None if retain else False)
        assert first == last == 1

    def test_who_may_not_use_a_key_takes_nothing_from_others(
        self, all_at_once: Gather, own_redis: RedisServer
    ) -> None:
        """Redis then refuses the whole call, before it begins."""
        shared = [
            "retention",
            "epochs",
            "last",
            "checkpoints",
            "replay",
            "nothing",
            "ends",
            "sent:*",
        ]
        keys = [f"~sinapse:{each}" for each in (*shared, "retained:room:*")]
        with contextlib.closing(own_redis.client()) as client:
            client.execute_command("ACL", "SETUSER", "bob", "on", ">p", *keys, "&*", "+@all")
        with listening(own_redis) as listener:
            url = own_redis.url.replace("//", "//bob:p@")
            channels = ("room:1", "secret", "room:2")
            first, denied, last = all_at_once(
                url, *(publishing(each, each, retain=60) for each in channels)
            )
            assert sorted(texts(listener)) == ["room:1", "room:2"]
        assert isinstance(denied, BrokerUnavailable)
        assert denied.delivered is False
        assert first == last == 1

    @pytest.mark.parametrize("heard_by_redis", [True, False])
    def test_a_break_tells_each_that_it_is_not_known(
        self,
        all_at_once: Gather,
        redis_server: RedisServer,
        proxy: Proxy,
        listener: Listener,
        heard_by_redis: bool,
    ) -> None:
        def cut(link: Link, data: bytes) -> bytes:
            if b"break" in (link.sent if heard_by_redis else data):
                link.cut()
                return b""
            return data

        with Publisher(redis_server.url) as publisher:  # Redis knows the scripts.
            publisher.publish("nothing", "before")
            publisher.publish_many([("nothing", "before")] * 2)
        setattr(proxy, "down" if heard_by_redis else "up", cut)
        results = all_at_once(proxy.url, *(publishing("room:1", f"break {n}") for n in range(5)))
        assert [each.delivered for each in results] == [None] * 5
        assert len(set(map(id, results))) == 5
        # In threads they meet or not; who was cut off sends nothing again.
        expected = [f"break {n}" for n in range(5)] if heard_by_redis else []
        assert sorted(texts(listener)) == expected

    def test_no_redis_tells_each_that_nothing_was_sent(self) -> None:
        async def run() -> list[Any]:
            publisher = aio.Publisher("redis://127.0.0.1:1")
            return await asyncio.gather(
                *(publisher.publish("room:1", "hello") for _ in range(5)), return_exceptions=True
            )

        results = asyncio.run(run())
        assert [each.delivered for each in results] == [False] * 5
        assert len(set(map(id, results))) == 5

    def test_one_of_several_redis_takes_nothing_from_the_others(
        self, all_at_once: Gather, tmp_path: Path
    ) -> None:
        with running_several(tmp_path, 2) as (servers, _):
            urls = [server.url for server in servers]
            channels = [f"room:{number}" for number in range(20)]
            of_first = [each for each in channels if shard_of(each.encode(), 2) == 0]
            assert 0 < len(of_first) < 20

            def work(publisher: Any, channel: str) -> Any:
                return publisher.publish(channel, "hello")

            both = all_at_once(urls, *(lambda p, c=each: work(p, c) for each in channels))
            assert all(each.id for each in both)
            servers[0].stop()
            some = all_at_once(urls, *(lambda p, c=each: work(p, c) for each in channels))
            for channel, result in zip(channels, some, strict=True):
                assert isinstance(result, BrokerUnavailable) == (channel in of_first), channel


class TestStalls:
    """A connection that nothing comes through holds up its own channels, and nothing else."""

    def test_others_go_on_and_the_order_of_its_channels_is_kept(
        self, redis_server: RedisServer, proxy: Proxy, listener: Listener
    ) -> None:
        async def run() -> None:
            async with aio.Publisher(proxy.url) as publisher:
                await publisher.publish("room:1", "before")
                proxy.stall()
                held = asyncio.create_task(publisher.publish("room:1", "1"))
                await asyncio.sleep(0.05)
                proxy.forget()
                assert await publisher.publish("room:2", "2") == 1
                later = asyncio.create_task(publisher.publish("room:1", "3"))
                assert await publisher.publish("room:2", "4") == 1
                assert not later.done()
                for link in proxy.links:
                    for flow in link.flows.values():
                        flow.set()
                assert await held == await later == 1

        asyncio.run(run())
        assert texts(listener) == ["before", "2", "4", "1", "3"]

    def test_what_did_not_fit_does_not_wait_for_answers(
        self, redis_server: RedisServer, proxy: Proxy
    ) -> None:
        """Batches that are full are followed by others, whatever becomes of them."""

        async def run() -> None:
            async with aio.Publisher(proxy.url) as publisher:
                await publisher.publish("room:0", "before")
                channels = [f"room:{number}" for number in range(8)]
                proxy.stall("down")
                tasks = [
                    asyncio.create_task(publisher.publish(each, "x" * 600_000)) for each in channels
                ]
                waiting = publisher._connections._opened[  # type: ignore[attr-defined]
                    asyncio.get_running_loop()
                ].batching._batches
                begun = time.monotonic()
                await asyncio.to_thread(eventually, lambda: not waiting and not waiting.is_idle)
                assert time.monotonic() - begun < 3  # An answer would be due after five.
                proxy.flow()
                assert await asyncio.gather(*tasks) == [0] * 8

        asyncio.run(run())

    def test_the_same_in_threads(
        self, redis_server: RedisServer, proxy: Proxy, listener: Listener
    ) -> None:
        with Publisher(proxy.url) as publisher, ThreadPoolExecutor(4) as threads:
            publisher.publish("room:1", "before")
            sent = threading.Event()

            def note(_link: Link, data: bytes) -> bytes:
                sent.set()
                return data

            proxy.stall()
            proxy.up = note
            held = threads.submit(publisher.publish, "room:1", "1")
            waiting = publisher._connections._batchings()._batches  # type: ignore[attr-defined]
            eventually(lambda: not waiting.is_idle)
            proxy.forget()
            assert publisher.publish("room:2", "2") == 1
            later = threads.submit(publisher.publish, "room:1", "3")
            eventually(lambda: len(waiting) == 1)
            assert publisher.publish("room:2", "4") == 1
            assert not later.done()
            for link in proxy.links:
                for flow in link.flows.values():
                    flow.set()
            assert held.result(10) == later.result(10) == 1
        assert texts(listener) == ["before", "2", "4", "1", "3"]

    def test_nobody_waits_longer_than_for_a_connection(self, own_redis: RedisServer) -> None:
        """Also where many batches of one channel would be waited for, each in vain."""
        options: Any = {"connect_timeout": 0.5, "timeout": 0.5}
        large = "x" * 700_000

        async def on_a_loop() -> list[Any]:
            async with aio.Publisher(own_redis.url, **options) as publisher:
                await publisher.publish("room:1", "before")
                with own_redis.suspended():
                    return await asyncio.gather(
                        *(publisher.publish("room:1", large) for _ in range(40)),
                        return_exceptions=True,
                    )

        def in_one(publisher: Publisher) -> Any:
            try:
                return publisher.publish("room:1", large)
            except BrokerUnavailable as error:
                return error

        began = time.monotonic()
        on_loop = asyncio.run(on_a_loop())
        with Publisher(own_redis.url, **options) as publisher, ThreadPoolExecutor(40) as threads:
            publisher.publish("room:1", "before")
            with own_redis.suspended():
                of_threads = list(threads.map(in_one, [publisher] * 40))
        assert time.monotonic() - began < EVENT_TIMEOUT
        for outcomes in (on_loop, of_threads):
            assert {each.delivered for each in outcomes} == {None, False}
            assert any("earlier messages of its channel" in str(each) for each in outcomes)


class TestCancellation:
    def test_when_all_are_gone_nothing_is_sent(
        self, redis_server: RedisServer, proxy: Proxy, listener: Listener
    ) -> None:
        """Also if they are under way, and wait for a connection."""

        async def run() -> None:
            async with aio.Publisher(proxy.url) as publisher:
                proxy.stall()
                tasks = [asyncio.create_task(publisher.publish("room:1", str(n))) for n in range(3)]
                await asyncio.to_thread(eventually, lambda: proxy.links)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                proxy.flow()
                await publisher.publish("room:1", "after")

        asyncio.run(run())
        assert texts(listener) == ["after"]

    @pytest.mark.parametrize("cancelled", [0, 2])
    def test_who_is_cancelled_before_it_is_sent_takes_it_back(
        self, redis_server: RedisServer, listener: Listener, cancelled: int
    ) -> None:
        async def run() -> list[Any]:
            async with aio.Publisher(redis_server.url) as publisher:
                await publisher.position()
                tasks = [asyncio.create_task(publisher.publish("room:1", str(n))) for n in range(4)]
                await asyncio.sleep(0)
                tasks[cancelled].cancel()
                return await asyncio.gather(*tasks, return_exceptions=True)

        results = asyncio.run(run())
        assert isinstance(results.pop(cancelled), asyncio.CancelledError)
        assert results == [1, 1, 1]
        assert texts(listener) == [str(n) for n in range(4) if n != cancelled]

    @pytest.mark.parametrize("cancelled", [0, 2])
    def test_who_is_cancelled_afterwards_takes_nothing_from_others(
        self, redis_server: RedisServer, proxy: Proxy, listener: Listener, cancelled: int
    ) -> None:
        async def run() -> list[Any]:
            async with aio.Publisher(proxy.url) as publisher:
                await publisher.publish("room:1", "before")
                sent = asyncio.Event()
                loop = asyncio.get_running_loop()

                def note(_link: Link, data: bytes) -> bytes:
                    loop.call_soon_threadsafe(sent.set)
                    return data

                proxy.stall("down")
                proxy.up = note
                tasks = [asyncio.create_task(publisher.publish("room:1", str(n))) for n in range(4)]
                await sent.wait()
                tasks[cancelled].cancel()
                await asyncio.wait([tasks[cancelled]])
                proxy.flow()
                return await asyncio.gather(*tasks, return_exceptions=True)

        results = asyncio.run(run())
        assert isinstance(results.pop(cancelled), asyncio.CancelledError)
        assert results == [1, 1, 1]
        assert texts(listener) == ["before", "0", "1", "2", "3"]

    def test_one_of_twisted_that_is_cancelled(
        self, redis_server: RedisServer, listener: Listener
    ) -> None:
        from twisted.internet.defer import CancelledError, DeferredList

        from sinapse.publisher import tx

        async def run() -> Any:
            publisher = tx.Publisher(redis_server.url, reactor=running_reactor())
            await publisher.position()
            first = [publisher.publish("room:1", str(n)) for n in range(3)]
            first[1].cancel()  # Before it is sent.
            sent = DeferredList(first, consumeErrors=True)
            publisher._connections._own().batching.begin()  # type: ignore[attr-defined]
            second = [publisher.publish("room:1", str(n)) for n in range(3, 6)]
            publisher._connections._own().batching.begin()  # type: ignore[attr-defined]
            second[1].cancel()  # Afterwards.
            outcomes: Any = [*await sent, *await DeferredList(second, consumeErrors=True)]
            await publisher.close()
            return outcomes

        outcomes = wait_for_deferred(run)
        assert [succeeded for succeeded, _ in outcomes] == [True, False, True, True, False, True]
        assert all(outcomes[place][1].check(CancelledError) for place in (1, 4))
        assert texts(listener) == ["0", "2", "3", "4", "5"]

    def test_a_loop_that_ends_leaves_nobody_waiting(
        self, redis_server: RedisServer, proxy: Proxy
    ) -> None:
        async def run() -> None:
            publisher = aio.Publisher(proxy.url)
            await publisher.publish("room:1", "before")
            proxy.stall("down")
            for number in range(4):
                task = asyncio.create_task(publisher.publish(f"room:{number}", "hello"))
                tasks.append(task)
            await asyncio.sleep(0.02)

        tasks: list[asyncio.Task[Any]] = []
        asyncio.run(run())
        assert all(task.cancelled() for task in tasks)


class TestOthers:
    def test_what_is_called_after_a_message_does_not_overtake_it(
        self, redis_server: RedisServer, listener: Listener
    ) -> None:
        async def run() -> None:
            async with aio.Publisher(redis_server.url) as publisher:
                await asyncio.gather(publisher.position(), publisher.position())
                for count in (1, 3):
                    await asyncio.gather(
                        *(publisher.publish("room:1", "hello") for _ in range(count)),
                        publisher.channels.add("7", f"room:{count}"),
                    )

        asyncio.run(run())
        channels = [channel.partition(":")[0] for channel, _ in listener.heard()]
        assert [name for name, _ in groupby(channels)] == ["room", "sinapse"] * 2


class TestClosing:
    def test_it_does_not_wait_for_what_comes_later(self, redis_server: RedisServer) -> None:
        async def run() -> None:
            publisher = aio.Publisher(redis_server.url)
            is_over = False

            async def publish(number: int) -> None:
                while not is_over:
                    with contextlib.suppress(BrokerUnavailable):
                        await publisher.publish(f"room:{number}", "hello", retain=0)

            tasks = [asyncio.create_task(publish(number)) for number in range(20)]
            await asyncio.sleep(0.01)
            async with asyncio.timeout(CONNECT_TIMEOUT):  # Which it would wait for, and more.
                await publisher.close()
            is_over = True
            await asyncio.gather(*tasks)
            await publisher.close()

        asyncio.run(run())

    def test_what_waits_is_sent(self, gather: Gather, redis_server: RedisServer) -> None:
        with listening(redis_server) as listener:
            *results, _ = gather(
                redis_server.url,
                *(publishing(f"room:{n}", str(n)) for n in range(5)),
                lambda publisher: publisher.close(),
            )
            assert results == [1] * 5
            assert texts(listener) == [str(n) for n in range(5)]

    def test_several_may_close_at_once(self, redis_server: RedisServer, proxy: Proxy) -> None:
        async def run() -> list[Any]:
            publisher = aio.Publisher(proxy.url)
            await publisher.publish("room:1", "before")
            proxy.stall("down")
            publishing = asyncio.create_task(publisher.publish("room:1", "hello"))
            await asyncio.sleep(0)
            closing = [asyncio.create_task(publisher.close()) for _ in range(3)]
            await asyncio.sleep(0.02)
            proxy.flow()
            return await asyncio.gather(publishing, *closing)

        assert asyncio.run(run()) == [0, None, None, None]


class TestThreads:
    def test_those_that_meet_are_one_call(
        self, redis_server: RedisServer, redis_client: redis.Redis, proxy: Proxy
    ) -> None:
        with Publisher(proxy.url) as publisher, ThreadPoolExecutor(9) as threads:
            publisher.publish("room:1", "before")
            publisher.publish_many([("room:1", "before")] * 2)
            before = scripts(redis_client)
            waiting = publisher._connections._batchings()._batches  # type: ignore[attr-defined]
            arrived = threading.Event()

            def note(_link: object, data: bytes) -> bytes:
                arrived.set()
                return data

            proxy.up = note
            proxy.stall("down")
            first = threads.submit(publisher.publish, "room:1", "first")
            assert arrived.wait(10)
            others = [threads.submit(publisher.publish, "room:1", str(n)) for n in range(8)]
            eventually(lambda: len(waiting) == 8, "all wait")
            proxy.flow()
            ids = {each.result(10).id for each in (first, *others)}
            assert len(ids) == 9
            assert scripts(redis_client) - before == 2

    def test_each_gets_its_own_result(self, redis_server: RedisServer) -> None:
        with Publisher(redis_server.url) as publisher, ThreadPoolExecutor(8) as threads:
            found = list(
                threads.map(lambda n: publisher.publish(f"room:{n}", str(n)).id, range(400))
            )
            for number in (0, 199, 399):
                [message] = publisher.history(f"room:{number}").messages
                assert message.id == found[number]

    @pytest.mark.parametrize("is_alone", [True, False])
    def test_two_signals_at_once_leave_nobody_waiting(self, is_alone: bool) -> None:
        """As of Ctrl-C, and of a parent that passes on SIGTERM: the second one meets the first."""

        class Stop(BaseException):
            pass

        class Interrupted(Batches):
            """A signal comes when something ends for the first time."""

            signals = 1

            def end(self, calls: Sequence[Call]) -> None:
                self.end_of(())
                super().end(calls)

            def end_of(self, messages: Sequence[Any]) -> None:
                if self.signals:
                    self.signals -= 1
                    raise Stop
                super().end_of(messages)

        class Sender:
            def send(self, operations: Sequence[Any]) -> list[Any]:
                if threading.current_thread() is threading.main_thread():
                    other.start()
                    eventually(lambda: len(batching._batches) == 1)
                    raise Stop
                return [1] * len(operations)

        sender = Sender()
        batching = Batching(RedisURL.parse("redis://localhost"), WeakMethod(sender.send), 10)
        batching._batches = Interrupted()
        if not is_alone:  # Something else is under way, for longer than one waits for that.
            batching._batches.begin([MESSAGES.publish("room:2", "hello")])
        message = MESSAGES.publish("room:1", "hello")
        answered: Future[Any] = Future()
        other = threading.Thread(
            target=lambda: answered.set_result(batching.publish([message])), daemon=True
        )
        with pytest.raises(Stop):
            batching.publish([message])
        assert answered.result(10) == [1]
        assert not batching._inside
        batching._batches.end_of([MESSAGES.publish("room:2", "hello")])
        assert batching._batches.is_idle

    @forks
    def test_a_child_that_is_forked_in_the_midst_waits_for_nobody(
        self, redis_server: RedisServer, proxy: Proxy
    ) -> None:
        with Publisher(proxy.url) as publisher, ThreadPoolExecutor(2) as threads:
            publisher.publish("room:1", "before")
            proxy.stall()
            waiting = publisher._connections._batchings()._batches  # type: ignore[attr-defined]
            held = threads.submit(publisher.publish, "room:1", "held")
            eventually(lambda: not waiting.is_idle)
            proxy.forget()
            child = in_child(lambda: publisher.publish("room:1", "child"))
            assert exit_status(child) == 0
            for link in proxy.links:
                for flow in link.flows.values():
                    flow.set()
            assert held.result(10).id


#: Publishes while signals interrupt it at any moment, as Ctrl-C and time limits of tasks do, beside
#: threads that nothing interrupts.
INTERRUPTED = """
import signal, sys, threading, time
from sinapse.errors import BrokerUnavailable
from sinapse.publisher import Publisher

class Interruption(Exception):
    pass

def interrupt(*_):
    raise Interruption

def publish(number):
    while not is_over:
        try:
            publisher.publish(f"room:{number}", "hello", retain=0)
        except BrokerUnavailable as error:
            assert error.delivered is None
        counts[number] += 1

publisher, is_over, counts = Publisher(sys.argv[1]), False, [0, 0, 0]
threads = [threading.Thread(target=publish, args=(each,), daemon=True) for each in range(3)]
for thread in threads:
    thread.start()
signal.signal(signal.SIGALRM, interrupt)
interruptions, deadline = 0, time.monotonic() + 20
while interruptions < 300 and time.monotonic() < deadline:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + interruptions % 17 / 10_000)
        for _ in range(20):  # What is raised in a finalizer is lost: so not for ever.
            publisher.publish("room:3", "hello", retain=0)
    except Interruption:
        interruptions += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
assert interruptions > 50
assert publisher.publish("room:3", "after") == 0
is_over = True
for thread in threads:
    thread.join(10)
    assert not thread.is_alive()
assert min(counts) > 10
assert publisher._connections._batchings()._batches.is_idle
"""


class TestSignals:
    def test_a_handler_publishes_in_the_midst(
        self, redis_server: RedisServer, proxy: Proxy, listener: Listener
    ) -> None:
        with Publisher(proxy.url) as publisher:
            publisher.publish("room:1", "before")

            def handle(*_: object) -> None:
                proxy.forget()
                publisher.publish("room:1", "handler")
                for link in proxy.links:
                    for flow in link.flows.values():
                        flow.set()

            former = signal.signal(signal.SIGUSR1, handle)
            try:
                proxy.stall()
                main = threading.main_thread().ident
                assert main is not None
                threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGUSR1)).start()
                publisher.publish("room:1", "main")
            finally:
                signal.signal(signal.SIGUSR1, former)
        assert texts(listener) == ["before", "handler", "main"]

    def test_who_is_interrupted_keeps_nobody_waiting(self, redis_server: RedisServer) -> None:
        command = [PYTHON, "-c", INTERRUPTED, redis_server.url]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def two_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with (
        running_redis(tmp_path_factory.mktemp("one")) as one,
        running_redis(tmp_path_factory.mktemp("other")) as other,
    ):
        yield [one, other]


ANY_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "channel": st.sampled_from(["room:1", "room:2", "room:3"]),
            "retain": st.sampled_from([0, 60, 3600]),
        },
        optional={
            "message_id": st.sampled_from(["a", "b", "c"]),
            "retain_messages": st.sampled_from([1, 3, 100]),
            "event": st.sampled_from(["news", "reset-me"]),
        },
    ),
    min_size=1,
    max_size=12,
)


@given(ANY_MESSAGES)
@settings(max_examples=40, deadline=None)
def test_together_they_do_what_they_do_one_after_the_other(
    two_redis: list[RedisServer], given_messages: list[dict[str, Any]]
) -> None:
    """Whatever is mixed: the same results, and the same is heard and kept."""

    def work(publisher: Any, number: int, options: dict[str, Any]) -> Any:
        return publisher.publish(message=str(number), **options)

    seen = []
    for server, batch in zip(two_redis, (True, False), strict=True):
        with contextlib.closing(server.client()) as client:
            client.flushall()
        with listening(server) as listener:
            if batch:
                results = on_asyncio(
                    server.url,
                    *(
                        lambda p, n=number, o=each: work(p, n, o)
                        for number, each in enumerate(given_messages)
                    ),
                )
            else:
                with Publisher(server.url, batch=False) as publisher:
                    results = [
                        work(publisher, number, each) for number, each in enumerate(given_messages)
                    ]
            found = [each for each in heard(listener) if each[0] != "nothing"]
        with Publisher(server.url) as publisher:
            kept = {
                channel: [message.data for message in publisher.history(channel).messages]
                for channel in ("room:1", "room:2", "room:3")
            }
        ids = [each.id for each in results]
        seen.append(
            (list(map(int, results)), [each and ids.index(each) for each in ids], found, kept)
        )
    assert seen[0] == seen[1]
