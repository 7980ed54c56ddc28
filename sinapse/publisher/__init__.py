"""Publish messages, and say who may receive them: the library for applications.

Synchronous, thread-safe and fork-safe; it needs Redis only, never the daemon, and never imports
Twisted::

    from sinapse.publisher import Publishable, Publisher, Subject

    class User(Subject): ...

    class Room(Publishable): ...

    token = user.sinapse.auth.generate()
    user.sinapse.add_channel(room)
    room.publish({"text": "hello"}, event="message")

    Publisher("redis://localhost:6379/0").publish("room:1", "hello")

What goes to Redis is written down in ``docs/protocol.md``.
"""

from sinapse.publisher.client import Publisher
from sinapse.publisher.mixins import Publishable, Subject
from sinapse.publisher.operations.messages import Outgoing
from sinapse.publisher.shared import default, use

__all__ = ["Outgoing", "Publishable", "Publisher", "Subject", "default", "use"]
