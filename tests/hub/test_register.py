"""What is known by ids: whole, and in parts."""

from __future__ import annotations

import pytest

from sinapse.hub.register import Register, part_key
from sinapse.hub.subscribers import Group
from sinapse.protocol.only import Only


@pytest.fixture
def register() -> Register[Group]:
    return Register()


def test_an_id_has_what_is_whole_and_each_part_of_it(register: Register[Group]) -> None:
    whole, part, other = Group(b"g"), Group(b"g", Only(b"a")), Group(b"g", Only(b"b*"))
    foreign = Group(b"h", Only(b"a"))
    for group in (part, other, foreign):
        register.add(group)
    assert set(register.of(b"g")) == {part, other}
    assert register.id_count == 2
    register.add(whole)
    assert register.of(b"g")[0] is whole
    assert set(register.of(b"g")) == {whole, part, other}
    assert register.id_count == 2
    assert register[part_key(b"g", Only(b"a"))] is part
    assert register.of(b"nobody") == ()


def test_what_is_discarded_leaves_nothing_behind(register: Register[Group]) -> None:
    groups = [Group(b"g"), Group(b"g", Only(b"a")), Group(b"g", Only(b"b"))]
    for group in groups:
        register.add(group)
    for group in groups:
        register.discard(group)
        register.discard(group)
    assert register == {}
    assert register.of(b"g") == ()
    assert register.id_count == 0


def test_another_one_in_the_same_place_is_not_discarded(register: Register[Group]) -> None:
    former, current = Group(b"g", Only(b"a")), Group(b"g", Only(b"a"))
    register.add(current)
    register.discard(former)
    assert register.of(b"g") == (current,)


def test_no_part_is_in_the_place_of_a_whole() -> None:
    """Neither ids nor names have a line feed in them."""
    assert part_key(b"g", None) == b"g"
    assert part_key(b"g", Only(b"a")) != part_key(b"g", Only(b"b"))
    assert b"\n" in part_key(b"g", Only(b"a"))
