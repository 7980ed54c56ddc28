"""A list that is emptied while somebody adds to it: both places of a channel stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from sinapse.protocol.names import PLAIN
from sinapse.publisher.operations.channels import AddChannel, ClearChannels
from sinapse.publisher.operations.groups import AddToGroup, ClearGroup
from sinapse.publisher.operations.operation import Operation
from tests.support.steps import MOVES, Caller, Place, interleave, running_place

#: Round trips of both, in any order; then one of them goes on to its end, as it has to: two that
#: answer each other for ever do not return.
TRIPS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running_place(tmp_path_factory.mktemp("left")) as found:
        yield found


def of_subject(place: Place) -> tuple[Operation[Any], Operation[Any]]:
    return AddChannel("1", place.channel), ClearChannels("1")


def of_group(place: Place) -> tuple[Operation[Any], Operation[Any]]:
    return AddToGroup("team", place.channel), ClearGroup("team")


def there(place: Place) -> list[set[bytes]]:
    """Return which channels each of them has."""
    found: Any = [
        {*client.smembers(PLAIN.channels_key("1")), *client.hkeys(PLAIN.group_key("team"))}
        for client in place.clients.values()
    ]
    return list(found)


@pytest.mark.parametrize(
    ("move", "make"), [*((move, of_subject) for move in MOVES), (MOVES[0], of_group)]
)
def test_in_every_order_both_places_have_it_or_none(
    place: Place, move: tuple[str, str], make: Any
) -> None:
    outcomes = set()
    for adding, clearing in product(move, repeat=2):
        for order in product((0, 1), repeat=TRIPS):
            for client in place.clients.values():
                client.delete(PLAIN.channels_key("1"), PLAIN.group_key("team"))
            add, clear = make(place)
            callers = [Caller(place, adding, [add]), Caller(place, clearing, [clear])]
            interleave(callers, order)
            for caller in callers:
                caller.finish()
            one, other = there(place)
            assert one == other, (adding, clearing, order)
            outcomes.add(len(one))
    assert outcomes == {0, 1}


def test_what_somebody_else_has_written_does_not_matter(place: Place) -> None:
    client = place.clients["b"]
    client.delete(PLAIN.channels_key("1"))
    caller = Caller(place, "joining", [ClearChannels("1")])
    interleave([caller], [0, 0])  # Both are empty.
    client.sadd(PLAIN.channels_key("1"), "sinapse:nodes", b"\xff", "two\nlines", place.channel)
    assert caller.finish() == 0
    left: Any = client.smembers(PLAIN.channels_key("1"))
    assert left == {b"sinapse:nodes", b"\xff", b"two\nlines"}
