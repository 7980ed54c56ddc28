"""Listen to event streams in Python: in a script, a service, or on asyncio.

::

    from sinapse.listening import listen

    for message in listen("https://push.example/", token=token):
        if message.by is None:
            print(message.event, message.json())
        elif message.event == "reset":
            load()                      # messages are missing: fetch the state again

and with ``async for`` on asyncio. A stream that breaks off is opened again, after a time that the
server says, and resumes after the last message that was handed out. It ends with
:class:`~sinapse.errors.StreamEnded`, which says why.

``parser``      the bytes of an event stream become messages
``course``      a stream over all its connections: where it is, when it comes back, why it ends
``stream``      the connections themselves, for ``for`` and for ``async for``
``background``  a stream that is read in a thread, for those who wait with a timeout
"""

from sinapse.listening.parser import Message
from sinapse.listening.stream import Stream, listen

__all__ = ["Message", "Stream", "listen"]
