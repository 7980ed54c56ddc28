"""The publisher that the mixins use."""

from sinapse.publisher.client import Publisher

_chosen: dict[str, Publisher] = {}


def default() -> Publisher:
    """Return the publisher of this process: the one that was set, or one made of ``REDIS_URL``.

    Raises ``ValueError`` if ``REDIS_URL`` cannot be read.
    """
    publisher = _chosen.get("publisher")
    if publisher is None:
        # No lock, which a fork could copy while it is held: of two threads that come here at
        # once, setdefault gives both the same publisher, and the other has opened nothing yet.
        publisher = _chosen.setdefault("publisher", Publisher())
    return publisher


def use(publisher: Publisher | None) -> Publisher | None:
    """Make `publisher` the default, or with None go back to ``REDIS_URL``; return the former one.

    The former one, None if there was none yet, is left open.
    """
    former = _chosen.get("publisher")
    if publisher is None:
        _chosen.pop("publisher", None)
    else:
        _chosen["publisher"] = publisher
    return former
