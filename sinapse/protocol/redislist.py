"""A list of Redis, as ``REDIS_URL`` and ``--redis`` have it: URLs with spaces between.

Either all of them have a name, as in ``a=redis://a.example b=redis://b.example``, or none has: see
:mod:`sinapse.protocol.sharding`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sinapse.protocol.redisurl import EMBEDDED, ONLY_ONE, RedisURL, split_name
from sinapse.protocol.sharding import Shards


def parse_all(texts: Iterable[str]) -> tuple[RedisURL, ...]:
    """Read URLs, of which a text may have several with spaces between; raises ``ValueError``.

    What is several has to be several: the same Redis twice would hear everything twice. All of
    them have names, or none has.
    """
    urls: list[RedisURL] = []
    for text in texts:
        # The folder of an embedded server may have spaces in its name.
        is_one = split_name(text.strip())[1].startswith(EMBEDDED)
        parts = [text] if is_one else text.split() or [text]
        urls += map(RedisURL.parse, parts)
    if len(urls) > 1 and any(url.embedded for url in urls):
        raise ValueError(ONLY_ONE)
    return _all_different(urls)


def all_under(prefix: str, urls: Iterable[RedisURL]) -> tuple[RedisURL, ...]:
    """Return `urls`, with `prefix` for those that have none of their own.

    Raises ``ValueError`` as :func:`parse_all`.
    """
    return _all_different([each if each.prefix else replace(each, prefix=prefix) for each in urls])


def shards_of(urls: Sequence[RedisURL]) -> Shards:
    """Return which of the Redis of a list has what: one without a name has its place as that."""
    names = [url.name or str(number) for number, url in enumerate(urls)]
    states = [url.state for url in urls if url.state is not None]
    return Shards(
        names,
        state=states[0] if states else None,
        moving=[url.name for url in urls if url.state is not None],
        without_tokens=[
            name for name, url in zip(names, urls, strict=True) if not url.keeps_tokens
        ],
    )


def _all_different(urls: Sequence[RedisURL]) -> tuple[RedisURL, ...]:
    if len({str(replace(url, name="")) for url in urls}) < len(urls):
        raise ValueError("the same Redis is there twice")
    names = [url.name for url in urls if url.name]
    if names and len(names) < len(urls):
        raise ValueError("some Redis have a name, and some have none: name all or none of them")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two Redis are called {twice}")
    _check_states(urls)
    return tuple(urls)


def _check_states(urls: Sequence[RedisURL]) -> None:
    """Raise ``ValueError`` if they cannot be in these states together."""
    if urls and not any(url.keeps_tokens for url in urls):
        raise ValueError("no Redis keeps tokens: tokens=no is for some of several")
    moving = [url for url in urls if url.state is not None]
    if any(not url.name for url in moving):
        raise ValueError("a Redis with a state needs a name, and so do the others")
    if len({url.state for url in moving}) > 1:
        raise ValueError("all that join or leave have the same state, and one after the other")
    if moving and not any(url.keeps_tokens and url.state is None for url in urls):
        raise ValueError("all that keep tokens join or leave: one that stays has to keep some")
