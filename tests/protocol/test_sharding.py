"""Which of several Redis has what."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinapse.protocol.sharding import Shards, State, name_fault, numbered, shard_of

NAMES = [f"room:{number}".encode() for number in range(3000)]

redis_names = st.from_regex(r"\A(0|[1-9][0-9]{0,5}|[A-Za-z][A-Za-z0-9]{0,15})\Z")
lists = st.lists(redis_names, unique=True, min_size=1, max_size=6)


def test_each_has_its_part_of_the_names() -> None:
    counts = Counter(shard_of(name, 3) for name in NAMES)
    assert set(counts) == {0, 1, 2}
    assert all(800 < count < 1200 for count in counts.values())
    assert {shard_of(name, 1) for name in NAMES} == {0}


def test_another_one_takes_its_part_and_moves_nothing_else() -> None:
    moved = [(shard_of(name, 3), shard_of(name, 4)) for name in NAMES]
    assert all(after in (before, 3) for before, after in moved)
    assert 600 < sum(after == 3 for _, after in moved) < 900


def test_where_a_name_is_does_not_change_from_release_to_release() -> None:
    assert [shard_of(name, 3) for name in NAMES[:12]] == [0, 0, 1, 2, 1, 1, 2, 0, 2, 0, 0, 1]
    named = Shards(["a", "Berlin7", "16"])
    assert [named.of(name) for name in NAMES[:12]] == [2, 1, 2, 1, 1, 2, 2, 1, 0, 2, 2, 0]


@given(lists, st.data(), st.binary())
def test_the_order_of_a_list_with_names_does_not_matter(
    names: list[str], data: st.DataObject, channel: bytes
) -> None:
    one, other = Shards(names), Shards(data.draw(st.permutations(names)))
    assert one.names[one.of(channel)] == other.names[other.of(channel)]


@given(st.integers(1, 12), st.binary())
def test_numbers_as_names_are_as_no_names(count: int, channel: bytes) -> None:
    names = [str(number) for number in range(count)]
    assert Shards(names).of(channel) == shard_of(channel, count)
    assert not Shards(names).are_named
    backwards = Shards(names[::-1])
    assert backwards.names[backwards.of(channel)] == str(shard_of(channel, count))
    assert backwards.are_named == (count > 1)


@given(lists, redis_names, st.binary())
def test_a_name_that_is_added_takes_its_part_and_moves_nothing_else(
    names: list[str], added: str, channel: bytes
) -> None:
    if added in names:
        names.remove(added)
    before, after = Shards(names or ["x"]), Shards([added, *(names or ["x"])])
    assert after.names[after.of(channel)] in (added, before.names[before.of(channel)])


@given(st.lists(redis_names, unique=True, min_size=2, max_size=2))
def test_no_two_names_are_hashed_as_the_same(names: list[str]) -> None:
    shards = Shards(names)
    assert {shards.of(name) for name in NAMES[:200]} == {0, 1}


def test_one_redis_needs_no_spreading_unless_ids_say_its_name() -> None:
    assert not numbered(1).are_spread
    assert not Shards(["0"]).are_spread
    assert Shards(["a"]).are_spread
    assert numbered(2).are_spread
    assert not Shards([]).are_spread
    assert repr(Shards("ab")) == "<Shards a b>"


@pytest.mark.parametrize("name", ["0", "7", "999999", "a", "A", "redis1", "1a", "0a", "a" * 16])
def test_what_can_be_a_name(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "00", "01", "1000000", "a" * 17, "a-b", "a_b", "a.b", "a b", "ä", "²", "\u0667", "a\n"],
)
def test_what_cannot(name: str) -> None:
    assert "1 to 16 letters and digits" in (name_fault(name) or "")


@given(lists, redis_names, st.binary())
def test_while_one_moves_a_channel_has_the_place_before_and_the_one_after(
    names: list[str], moving: str, channel: bytes
) -> None:
    settled = [name for name in names if name != moving] or [f"{moving}x"[-16:]]
    before, after = Shards(settled), Shards([moving, *settled])
    places = before.names[before.of(channel)], after.names[after.of(channel)]
    for state in State:
        shards = Shards([moving, *settled], state=state, moving=[moving], without_tokens=[moving])
        other = shards.other(channel)
        place = shards.names[shards.of(channel)]
        both = {place, *([] if other is None else [shards.names[other]])}
        assert both == set(places)
        assert place == places[0 if state.is_out else 1]
        # The tokens of a subject do not move to one that keeps none, and to others as channels do.
        assert shards.names[shards.home(channel)] == places[0]
        assert shards.other_home(channel) is None
        assert not shards.homes_move
        keeping = Shards([moving, *settled], state=state, moving=[moving])
        assert keeping.home(channel) == shards.of(channel)
        assert keeping.other_home(channel) == other
        assert keeping.homes_move
        assert (0 in keeping.homes) is not state.is_out


def test_a_move_is_called_the_same_before_and_after() -> None:
    def move(names: str, state: State) -> str:
        return Shards(names, state=state, moving="d").move

    assert move("dba", State.JOINING) == move("abd", State.JOINED) == "a b + d"
    assert move("dba", State.LEAVING) == move("abd", State.LEFT) == "a b - d"
    assert Shards("ab").other(b"room:1") is None
