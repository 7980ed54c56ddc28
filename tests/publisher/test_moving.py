"""Rights to channels that move: the same in both places, whoever changes them at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.names import Names
from sinapse.protocol.redislist import parse_all, shards_of
from sinapse.protocol.sharding import Shards, State
from sinapse.publisher import Publisher
from sinapse.publisher.operations.moving import MAX_ROUNDS, carry_while_moving, mirror
from sinapse.publisher.operations.operation import Entry, Operation, Request
from sinapse.publisher.operations.spread import Asking
from tests.support import RedisServer, free_port, running_named
from tests.support.flavours import FLAVOURS

#: A Redis that joins, and one that has joined: what others publish to is where it is not yet.
JOINING = Shards("ab", state=State.JOINING, moving="b", without_tokens="b")
JOINED = Shards("ba", state=State.JOINED, moving="b", without_tokens="b")

#: It moves from `a` to `b`.
MOVED = next(name for name in map("room:{}".format, range(99)) if JOINING.other(name.encode()))


class Right(NamedTuple):
    channel: str

    def read(self) -> Operation[bool]:
        return Read(self.channel)

    def write(self, state: bool) -> Operation[bool]:
        return Write(self.channel, state)


class Read(Operation[bool]):
    def __init__(self, channel: str) -> None:
        self.channel = channel

    def request(self, names: Names) -> Request:
        raise NotImplementedError

    def result(self, answer: Any) -> bool:
        raise NotImplementedError


class Write(Read):
    def __init__(self, channel: str, state: bool) -> None:
        super().__init__(channel)
        self.state = state

    @property
    def spread_by(self) -> str:
        return self.channel

    @property
    def entries(self) -> Sequence[Right]:
        return (Right(self.channel),)


class Left(Operation[Mapping[str, Entry]]):
    """What a Redis has after that."""

    def request(self, names: Names) -> Request:
        raise NotImplementedError

    def result(self, answer: Any) -> Mapping[str, Entry]:
        raise NotImplementedError


class Clear(Operation[int]):
    """What all Redis do."""

    @property
    def left(self) -> Left:
        return Left()

    def combine(self, results: Sequence[int]) -> int:
        return sum(results)

    request = Read.request
    result = Read.result


class World:
    """Redis by their names, each with the channels that somebody may listen to."""

    def __init__(self) -> None:
        self.there: dict[str, set[str]] = {"a": set(), "b": set()}

    def ask(self, name: str, operation: Operation[Any]) -> Any:
        there = self.there[name]
        match operation:
            case Write(channel=channel, state=True):
                there.add(channel)
            case Write(channel=channel):
                there.discard(channel)
            case Clear():
                there.clear()
                return 0
            case Left():
                return {each: Right(each) for each in there}
            case Read(channel=channel):
                return channel in there
        return True


class Caller:
    """A publisher that carries an operation out, one step in one Redis at a time."""

    def __init__(self, world: World, shards: Shards, operation: Operation[Any]) -> None:
        self._world = world
        self._names = shards.names
        self._asking: Asking = carry_while_moving([operation], shards)
        self._outcomes: dict[int, Any] = {}
        self._asked = dict(next(self._asking))
        self.results: list[Any] | None = None

    def step(self, which: int) -> bool:
        """Ask one more Redis; returns whether that was the last step."""
        shard = [*self._asked][which % len(self._asked)]
        part = self._asked.pop(shard)
        self._outcomes[shard] = [self._world.ask(self._names[shard], each) for each in part]
        if not self._asked:
            outcomes, self._outcomes = self._outcomes, {}
            try:
                self._asked = dict(self._asking.send(outcomes))
            except StopIteration as end:
                self.results = end.value
        return self.results is not None


calls = st.tuples(st.sampled_from([JOINING, JOINED]), st.booleans())


@given(st.lists(calls, min_size=2, max_size=4), st.lists(st.integers(0, 40), max_size=80))
def test_whoever_changes_a_right_at_once_both_places_are_the_same(
    changes: list[tuple[Shards, bool]], order: list[int]
) -> None:
    world = World()
    callers = [Caller(world, shards, Write(MOVED, state)) for shards, state in changes]
    turns = iter([*order, *[0] * 10_000])
    while callers:
        turn = next(turns)
        caller = callers[turn % len(callers)]
        if caller.step(turn // 7):
            assert caller.results == [True]
            callers.remove(caller)
    assert world.there["a"] == world.there["b"]
    if len({state for _, state in changes}) == 1:
        assert (MOVED in world.there["a"]) == changes[0][1]


@given(st.booleans(), st.lists(st.integers(0, 40), max_size=40))
def test_a_copy_that_was_read_before_a_removal_is_taken_back(
    is_clear: bool, order: list[int]
) -> None:
    """Whatever of the copy comes before what of the removal."""
    world = World()
    world.there["a"].add(MOVED)
    operation = Clear() if is_clear else Write(MOVED, False)
    caller = Caller(world, JOINING, operation)
    copy = mirror({Right(MOVED): (0, 1)})
    asked: Any = next(copy)
    copies, failures = True, None
    turns = iter([*order, *[0, 1] * 100])
    while copies or caller.results is None:
        if next(turns) % 2 and caller.results is None:
            caller.step(0)
        elif copies:
            answers = {
                shard: [world.ask("ab"[shard], each) for each in part]
                for shard, part in asked.items()
            }
            try:
                asked = copy.send(answers)
            except StopIteration as end:
                copies, failures = False, end.value
    assert failures == {}
    assert world.there == {"a": set(), "b": set()}


def test_what_others_change_without_end_is_an_error() -> None:
    writing = mirror({Right(MOVED): (0, 1)})
    asked, state, failures = next(writing), False, {}
    for _ in range(4 * MAX_ROUNDS):
        if 0 in asked:
            state = not state
        try:
            asked = writing.send({shard: [state] * len(part) for shard, part in asked.items()})
        except StopIteration as end:
            failures = end.value
            break
    [error] = failures.values()
    assert isinstance(error, BrokerUnavailable)
    assert error.delivered is None


def test_of_what_has_been_done_in_one_place_it_is_known_that_it_may_have_been() -> None:
    asking = carry_while_moving([Write(MOVED, True)], JOINING)
    assert list(next(asking)) == [0]
    assert list(asking.send({0: [True]})) == [0]
    assert list(asking.send({0: [True]})) == [1]
    asking.send({1: BrokerUnavailable("away", delivered=False)})
    with pytest.raises(StopIteration) as ended:
        asking.send({0: [True]})
    [error] = ended.value.value
    assert error.delivered is None


def test_all_that_concerns_every_redis_is_done_last_where_is_copied_to() -> None:
    assert [*next(carry_while_moving([Clear()], JOINING))] == [0]
    assert [*next(carry_while_moving([Clear()], JOINED))] == [0]
    leaving = Shards("ab", state=State.LEAVING, moving="b", without_tokens="b")
    left = Shards("ab", state=State.LEFT, moving="b", without_tokens="b")
    assert [*next(carry_while_moving([Clear()], leaving))] == [1]
    assert [*next(carry_while_moving([Clear()], left))] == [0]


class Place(NamedTuple):
    servers: dict[str, RedisServer]

    def url(self, query: str, names: str = "abcd", last: str = "d") -> str:
        parts = [f"{name}={self.servers[name].url}" for name in names if name != last]
        return " ".join([*parts, f"{last}={self.servers[last].url}?tokens=no{query}"])

    def has(self, name: str, subject: str) -> set[str]:
        with contextlib.closing(self.servers[name].client()) as client:
            found: Any = client.smembers(f"sinapse:channels:{subject}")
            return {each.decode() for each in found}


@pytest.fixture(scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("moving")
    with running_named(folder, "abcd") as servers:
        yield Place(servers)


@pytest.fixture
def place(_place: Place) -> Place:
    for server in _place.servers.values():
        with contextlib.closing(server.client()) as client:
            client.flushall()
    return _place


def moved_by(url: str) -> dict[str, tuple[str, str]]:
    """Return channels that move, with where they are published and the other place."""
    shards = shards_of(parse_all([url]))
    return {
        name: (shards.names[shards.of(name.encode())], shards.names[other])
        for name in map("room:{}".format, range(60))
        if (other := shards.other(name.encode())) is not None
    }


@pytest.mark.parametrize("state", ["joining", "leaving"])
@pytest.mark.parametrize("kind", FLAVOURS)
def test_every_change_is_in_both_places_when_it_returns(
    place: Place, kind: str, state: str
) -> None:
    url = place.url(f"&state={state}")
    channels = moved_by(url)
    assert {other == "d" for _, other in channels.values()} == {state == "joining"}
    with FLAVOURS[kind](url) as publisher:
        for channel, places in channels.items():
            assert publisher.channels.add("1", channel) is True
            assert publisher.channels.add("1", channel, 60) is False
            assert publisher.channels.has("1", channel)
            for name in places:
                assert channel in place.has(name, "1")
                with contextlib.closing(place.servers[name].client()) as client:
                    assert client.zscore("sinapse:ends", f"1\n{channel}") is not None
        assert publisher.channels.list("1") == set(channels)
        for channel, places in channels.items():
            assert publisher.channels.remove("1", channel) is True
            assert all(channel not in place.has(name, "1") for name in places)
        channel, places = next(iter(channels.items()))
        assert publisher.groups.channels("team").add(channel)
        assert publisher.groups.add("1", "team")
        for name in places:
            with contextlib.closing(place.servers[name].client()) as client:
                assert client.hexists("sinapse:group:team", channel)
                assert client.hexists("sinapse:groups:1", "team")
        assert publisher.groups.channels("team").list() == {channel}
        assert publisher.groups.channels("team").remove(channel)
        assert publisher.groups.channels("team").list() == set()
        for name in places:
            with contextlib.closing(place.servers[name].client()) as client:
                assert not client.exists("sinapse:group:team")
        publisher.channels.add("1", channel)
        publisher.channels.clear("1")
        assert [place.has(name, "1") for name in places] == [set()] * 2


def test_a_pipeline_does_the_same(place: Place) -> None:
    url = place.url("&state=joining")
    channel, places = next(iter(moved_by(url).items()))
    with Publisher(url) as publisher:
        with publisher.pipeline() as pipeline:
            pipeline.channels.add("2", channel)
            pipeline.channels.add("1", channel)
            pipeline.channels.remove("2", channel)
        assert [place.has(name, "1") for name in places] == [{channel}] * 2
        assert [place.has(name, "2") for name in places] == [set()] * 2


@pytest.mark.parametrize("kind", FLAVOURS)
def test_an_inbox_is_in_both_places(place: Place, kind: str) -> None:
    url = place.url("&state=joining")
    shards = shards_of(parse_all([url]))
    subject = next(
        each for each in map(str, range(99)) if shards.other(f"inbox@{each}".encode()) is not None
    )
    inbox = f"inbox@{subject}"
    home, other = shards.of(inbox.encode()), shards.other(inbox.encode())
    with FLAVOURS[kind](url) as publisher:
        publisher.publish_to(subject, "x")
        for number in (home, other):
            assert place.has(shards.names[number or 0], subject) == {inbox}


def test_a_group_with_the_name_of_a_subject_is_another_right(place: Place) -> None:
    url = place.url("&state=joining")
    channel = next(iter(moved_by(url)))
    with Publisher(url) as publisher, publisher.pipeline() as pipeline:
        pipeline.channels.add("same", channel)
        pipeline.groups.channels("same").add(channel)
    assert place.has("d", "same") == {channel}
    with contextlib.closing(place.servers["d"].client()) as client:
        assert client.hexists("sinapse:group:same", channel)


@pytest.mark.parametrize("kind", FLAVOURS)
def test_what_is_published_where_a_channel_was_is_not_forgotten(place: Place, kind: str) -> None:
    note(place)
    channel = next(iter(moved_by(place.url("&state=joining"))))
    with (
        FLAVOURS[kind](place.url("&state=joining")) as before,
        FLAVOURS[kind](place.url("&state=joined")) as after,
    ):
        for publisher in (before, after):
            publisher.publish(channel, "zero", retain=0.001)
        position = before.position()
        first = before.publish(channel, "one", message_id="first")
        again = after.publish(channel, "one", message_id="first")
        assert (again, again.id) == (0, first.id)
        second = after.publish(channel, "two", message_id="second")
        assert before.publish(channel, "two", message_id="second").id == second.id
        page = after.history(channel, position)
        assert [each.data for each in page.messages] == ["two"]
        assert page.missing
        assert before.history(channel).missing
        assert not after.history(channel, after.position()).missing


def note(place: Place) -> None:
    """Note that all is copied."""
    for server in place.servers.values():
        with contextlib.closing(server.client()) as client:
            client.hset("sinapse:move", "done", "a b c + d")


@pytest.mark.parametrize("kind", FLAVOURS)
def test_nobody_publishes_to_one_that_has_not_joined(place: Place, kind: str) -> None:
    with FLAVOURS[kind](place.url("&state=joined")) as publisher:
        with pytest.raises(BrokerUnavailable, match="run 'sinapse reshard' first") as raised:
            publisher.channels.add("1", "room:1")
        assert raised.value.delivered is False
        note(place)
        assert publisher.channels.add("1", "room:1")
    nowhere = place.url("&state=joined").replace(
        place.servers["a"].url, f"redis://127.0.0.1:{free_port()}"
    )
    with FLAVOURS[kind](nowhere, connect_timeout=1) as publisher:
        far = next(name for name, (home, _) in moved_by(nowhere).items() if home == "d")
        assert publisher.publish(far, "x") == 0
