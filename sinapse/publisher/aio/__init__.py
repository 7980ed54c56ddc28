"""The library for applications on asyncio: the same names, to be awaited.

::

    from sinapse.publisher.aio import Publisher

    async with Publisher("redis://localhost:6379/0") as publisher:
        await publisher.channels.add("42", "news")
        token = await publisher.tokens.generate("42")
        await publisher.publish("news", "hello")

The operation of the same name in :mod:`sinapse.publisher` documents arguments, results and errors.

``client``       the publisher: that of ``sinapse.publisher.awaiting``, on asyncio
``mixins``       the library for the classes of an application
``defaults``     the publisher that they use
``connections``  a pool of connections for each event loop
``pool``         the connections that its tasks share
``batching``     messages of one turn of a loop, sent together
``sentinel``     connections that follow the master
``turns``        what runs need of an event loop
"""

from sinapse.publisher.aio.client import Publisher
from sinapse.publisher.aio.defaults import default, use
from sinapse.publisher.aio.mixins import Group, Publishable, Subject

__all__ = ["Group", "Publishable", "Publisher", "Subject", "default", "use"]
