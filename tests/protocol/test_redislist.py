"""Lists of Redis: several are several, and all of them have names or none has."""

from __future__ import annotations

import pytest

from sinapse.protocol.redislist import all_under, parse_all, shards_of
from sinapse.protocol.redisurl import RedisURL
from sinapse.protocol.sharding import State


def test_a_prefix_is_for_those_that_have_none() -> None:
    urls = parse_all(["redis://a redis://b?prefix=own: redis://a?prefix=own:"])
    assert [url.prefix for url in all_under("", urls)] == ["", "own:", "own:"]
    assert [url.prefix for url in all_under("x:", urls)] == ["x:", "own:", "own:"]
    with pytest.raises(ValueError, match="the same Redis is there twice"):
        all_under("own:", urls)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["a=redis://a redis://b"], "some Redis have a name, and some have none: name all or none"),
        (["redis://a", "b=redis://b"], "some Redis have a name"),
        (["a=redis://a b=redis://b a=redis://c"], "two Redis are called a"),
        (["a=redis://a b=redis://a:6379/0"], "the same Redis is there twice"),
    ],
)
def test_names_are_those_of_all_and_different(texts: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_all(texts)
    urls = [RedisURL.parse(each) for text in texts for each in text.split()]
    with pytest.raises(ValueError, match=reason):  # As of a publisher that is given each.
        all_under("", urls)


def test_which_has_what_goes_by_names_or_numbers() -> None:
    assert shards_of(parse_all(["b=redis://b a=redis://a"])).names == ("b", "a")
    assert shards_of(parse_all(["redis://b redis://a"])).names == ("0", "1")
    assert shards_of(()).names == ()


@pytest.mark.parametrize("state", State)
def test_one_that_moves_and_keeps_no_tokens_is_told_apart(state: State) -> None:
    shards = shards_of(parse_all([f"b=redis://b a=redis://h?tokens=no&state={state}"]))
    assert (shards.state, shards.moving) == (state, frozenset({1}))
    assert {shards.home(b"%d" % number) for number in range(20)} == {0}
