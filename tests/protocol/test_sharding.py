"""Which of several Redis has what."""

from __future__ import annotations

from collections import Counter

from sinapse.protocol.sharding import shard_of

NAMES = [f"room:{number}".encode() for number in range(3000)]


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
