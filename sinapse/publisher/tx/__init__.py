"""The library for applications on Twisted: the same names, each returns a Deferred.

::

    from sinapse.publisher.tx import Publisher

    publisher = Publisher("redis://localhost:6379/0")

    async def greet() -> None:
        await publisher.channels.add("42", "news")
        token = await publisher.tokens.generate("42")
        await publisher.publish("news", "hello")

What each operation does, takes, gives and fails with is written at its namesake in
:mod:`sinapse.publisher`. There are no mixins for Twisted; those of :mod:`sinapse.publisher` name
the channel of an object, which can be published to.

``client``       the publisher: what is in ``sinapse.publisher.awaiting``, in Deferreds
``connections``  one connection to each Redis, made as the daemon makes its own
"""

from sinapse.publisher.tx.client import Publisher

__all__ = ["Publisher"]
