"""Sinapse for SQLAlchemy: mixins for models, and messages that wait for the commit.

::

    class Room(Publishable, Base): ...

    room.publish({"text": "hello"})            # once the session of the room has committed
    publish(session, "news", "hello")          # by name

    messages = outbox(Base.metadata)           # from now on they are rows until Redis has them

What is published in a savepoint that is rolled back, or in a session that is, is never heard of. To
read begins a transaction as well. If it has written nothing there is nothing to commit, and its
messages are sent when it ends, by ``commit()`` or ``close()``; without a commit of what was
written they are dropped, with a line in the log. What is deleted after they were published, and
never flushed, is not seen, and neither is what a function writes that a query calls.

A message is checked when it is published. When it cannot be sent after the commit, that is logged
and raises nothing: the data are saved. It is sent when the session has given its connections to
the database back; for an ``AsyncSession`` in a thread, so that the event loop does not wait.

With an outbox it is a row of the transaction, so that it is sent whatever is killed when: what the
process cannot send after its commit is sent by ``sinapse relay``.

``mixins``    models that one publishes to, subjects and groups
``commit``    messages that wait for the commit
``table``     the table of an outbox
``put``       what a transaction has put into it, and its process sends
``store``     what is in it
``database``  the database of a URL, for a relay
"""

from sinapse.publisher.sqlalchemy.commit import AnySession, publish
from sinapse.publisher.sqlalchemy.mixins import Group, Publishable, Subject
from sinapse.publisher.sqlalchemy.table import outbox

__all__ = ["AnySession", "Group", "Publishable", "Subject", "outbox", "publish"]
