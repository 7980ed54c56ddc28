"""The library for applications on Twisted: the same names, each returns a Deferred.

::

    from sinapse.publisher.tx import Publisher

    publisher = Publisher("redis://localhost:6379/0")

    async def greet() -> None:
        await publisher.channels.add("42", "news")
        token = await publisher.tokens.generate("42")
        await publisher.publish("news", "hello")

The operation of the same name in :mod:`sinapse.publisher` documents arguments, results and errors.
There are no mixins for Twisted; with those of :mod:`sinapse.publisher` an object has a channel to
publish to.

``client``       the publisher: that of ``sinapse.publisher.awaiting``, in Deferreds
``connections``  one connection to each Redis, made like those of the daemon
``batching``     messages of one turn of the reactor, sent together
``turns``        what runs need of the reactor
"""

from sinapse.publisher.tx.client import Publisher

__all__ = ["Publisher"]
