"""The publisher that the mixins use."""

from collections.abc import Callable

from sinapse.publisher.client import Publisher

_chosen: dict[str, Publisher] = {}
_made: dict[str, Publisher] = {}
_maker: dict[str, Callable[[], Publisher]] = {}


def default() -> Publisher:
    """Return the publisher of this process: the one that was set, or one made when first needed.

    It is made of ``REDIS_URL``, or of the settings of a web framework: see `configure`. Raises
    ``ValueError``, or what the framework has for it, if those cannot be read.
    """
    publisher = _chosen.get("publisher") or _made.get("publisher")
    if publisher is None:
        # No lock, which a fork could copy while it is held: of two threads that come here at
        # once, setdefault gives both the same publisher, and the other has opened nothing yet.
        publisher = _made.setdefault("publisher", _maker.get("make", Publisher)())
    return publisher


def use(publisher: Publisher | None) -> Publisher | None:
    """Make `publisher` the default, or with None have one made again; return the former one.

    The former one, None if there was none yet, is left open.
    """
    made = _made.get("publisher")
    former = _chosen.get("publisher") or made
    if publisher is None:
        _chosen.pop("publisher", None)
        _made.pop("publisher", None)
    elif publisher is made:  # Put back: it still goes with the settings.
        _chosen.pop("publisher", None)
    else:
        _chosen["publisher"] = publisher
    return former


def configure(make: Callable[[], Publisher] | None) -> None:
    """Have the default made by `make` from now on, or with None of ``REDIS_URL``.

    For the integrations, which know of settings. One that `use` has set stays the default.
    """
    if make is None:
        _maker.pop("make", None)
    else:
        _maker["make"] = make
    if (former := _made.pop("publisher", None)) is not None:
        former.close()
