"""Messages that are published once by their ids, also while their channel moves.

Publishers of both steps go on one round trip at a time, in every order, and die anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest

from sinapse.errors import BrokerUnavailable
from sinapse.protocol.names import PLAIN
from sinapse.protocol.redislist import parse_all
from sinapse.publisher import Outgoing, Publisher
from sinapse.publisher.operations.conversation import converse
from sinapse.publisher.operations.messages import Messages, Publish
from sinapse.publisher.operations.published import Published
from sinapse.publisher.operations.sent import Claim
from tests.support import eventually, running_redis
from tests.support.flavours import FLAVOURS
from tests.support.steps import MOVES, Caller, Place, interleave, running_place

#: Round trips that a publisher takes at most.
TRIPS = 3

_ids = map("message {}".format, count())
_messages = Messages({}, None, None, None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running_place(tmp_path_factory.mktemp("sent")) as found:
        yield found


def message(place: Place, retain: float, name: str) -> Publish:
    return _messages.publish(place.channel, name, retain=retain, message_id=name)


def check(place: Place, name: str, results: Sequence[Published]) -> None:
    """Check that a message was published once, and that whoever is answered knows its id."""
    [published] = place.published()
    assert published.data == name
    assert {each.id for each in results} == {published.id}


@pytest.mark.parametrize("retain", [0, 60])
@pytest.mark.parametrize("move", MOVES)
def test_in_every_order_a_message_is_published_once(
    place: Place, move: tuple[str, str], retain: float
) -> None:
    seen = set()
    for states in product(move, repeat=2):
        for order in product((0, 1), repeat=2 * TRIPS):
            name = next(_ids)
            callers = [Caller(place, state, [message(place, retain, name)]) for state in states]
            interleave(callers, order)
            results = [caller.finish() for caller in callers]
            check(place, name, results)
            where = [
                each.exists(PLAIN.sent_key(name)) and each.get(PLAIN.sent_key(name)) != b"-"
                for each in place.clients.values()
            ]
            seen.add((states, tuple(where)))
    # Publishers of different steps that come together: either may be first.
    assert {each for each in seen if len(set(each[0])) == 2} == {
        (states, where) for states in (move, move[::-1]) for where in ((True, False), (False, True))
    }


@pytest.mark.parametrize("move", MOVES)
def test_wherever_a_publisher_dies_a_message_is_published_once(
    place: Place, move: tuple[str, str]
) -> None:
    for dying, other, again in product(move, repeat=3):
        for trips in range(TRIPS + 1):
            for order in product((0, 1), repeat=TRIPS + 1):
                name = next(_ids)
                victim = Caller(place, dying, [message(place, 60, name)])
                beside = Caller(place, other, [message(place, 60, name)])
                left = trips
                for which in order:
                    if which == 1:
                        interleave([victim, beside], [1])
                    elif left:
                        left -= 1
                        interleave([victim, beside], [0])
                results = [beside.finish()]
                results.append(Caller(place, again, [message(place, 60, name)]).finish())
                check(place, name, results)


@pytest.mark.parametrize("move", MOVES)
def test_who_dies_alone_loses_nothing_if_it_is_tried_again(
    place: Place, move: tuple[str, str]
) -> None:
    after = f"{'b' if move[0] == 'joining' else 'a'}"
    for dying, again in product(move, (*move, None)):
        for trips in range(TRIPS + 1):
            name = next(_ids)
            victim = Caller(place, dying, [message(place, 60, name)])
            interleave([victim], [0] * trips)
            if again is not None:
                results = [Caller(place, again, [message(place, 60, name)]).finish()]
                check(place, name, results)
            elif dying == move[1]:  # By one of the last step, which knows one place.
                with Publisher(place.servers[after].url) as publisher:
                    result = publisher.publish(place.channel, name, retain=60, message_id=name)
                    check(place, name, [result])
            else:
                place.published()


def test_of_several_messages_each_is_published_where_it_is_claimed(place: Place) -> None:
    names = [next(_ids) for _ in range(4)]
    for name in names[::2]:  # Whoever has claimed them is dead.
        interleave([Caller(place, "joined", [message(place, 60, name)])], [0])
    caller = Caller(place, "joining", [message(place, 60, name) for name in names])
    while caller.results is None:
        caller.step()
    published = {each.data: each.id for each in place.published()}
    assert [each.id for each in caller.results] == [published[name] for name in names]
    for name, client in zip(names, ["b", "a"] * 2, strict=True):
        sent: Any = place.clients[client].get(PLAIN.sent_key(name))
        assert sent.decode() == published[name]


@pytest.mark.parametrize("states", [("joining", "joined"), ("joined", "joining")])
def test_the_right_to_an_inbox_is_where_its_message_is(
    place: Place, states: tuple[str, str]
) -> None:
    """Whoever has published dies before the right is in the other place, too."""
    for trips in range(1, 8):
        for client in place.clients.values():
            client.delete(f"sinapse:channels:{place.subject}", f"sinapse:grants:{place.subject}")
        name = next(_ids)
        operation = _messages.publish(f"inbox@{place.subject}", "x", message_id=name)
        interleave([Caller(place, states[0], [operation])], [0] * trips)
        Caller(place, states[1], [operation]).finish()
        for client in place.clients.values():
            assert client.smembers(f"sinapse:channels:{place.subject}") == {
                f"inbox@{place.subject}".encode()
            }


@pytest.mark.parametrize("kind", FLAVOURS)
def test_every_kind_of_publisher_finishes_what_another_one_has_claimed(
    place: Place, kind: str
) -> None:
    place.note()
    for state in MOVES[0]:
        first, second = next(_ids), next(_ids)
        for name in (first, second):
            interleave([Caller(place, "joined", [message(place, 60, name)])], [0])
        with FLAVOURS[kind](place.url(state)) as publisher:
            result = publisher.publish(place.channel, first, message_id=first)
            many: Any = publisher.publish_many(
                [Outgoing(place.channel, each, message_id=each) for each in (first, second)]
            )
            [one, other] = place.published()
            assert (one.id, [each.id for each in many]) == (result.id, [one.id, other.id])


def test_a_claim_is_forgotten_as_the_message_is(place: Place) -> None:
    name = next(_ids)
    interleave([Caller(place, "joined", [message(place, 60, name)])], [0])
    client: Any = place.clients["a"]
    assert 7_100_000 < client.pttl(PLAIN.sent_key(name)) <= 7_200_000
    # In the very moment between the claim that fails and the look at why.
    talk = converse(parse_all([place.url("joined")])[0], [Claim(name, 60_000)])
    assert next(talk)[0][0] == "SET"
    assert talk.send([None])[0][0] == "GET"
    assert talk.send([None])[0][0] == "SET"
    with pytest.raises(StopIteration) as ended:
        talk.send([b"OK"])
    assert ended.value.value == [None]


def test_what_cannot_be_claimed_is_not_published(place: Place, tmp_path: Path) -> None:
    with running_redis(tmp_path) as gone:
        url = place.url("joined").replace(place.servers["a"].url, gone.url)
        with gone.client() as client:
            client.hset("sinapse:move", "done", "a + b")
        place.note()
        with Publisher(url) as publisher:
            publisher.publish(place.channel, "x")
            place.published()
            gone.stop()
            with pytest.raises(BrokerUnavailable):
                publisher.publish(place.channel, "y", message_id="y")
            eventually(lambda: publisher.publish(place.channel, "z") >= 1)
    assert [each.data for each in place.published()] == ["z"]
